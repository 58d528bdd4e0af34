"""Three times as many frames as the server can compute, and one camera that floods beside one that does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.soak.camera import RudeCamera, Tally, run_all
from benchmarks.soak.report import Report, percentile
from benchmarks.soak.server import MemoryWatch, ServerProcess
from clients.python import AsyncStreamClient, FrameResult, StreamOptions
from clients.wire import Policy

STREAMS = 8
FACTOR = 3.0
SLACK_MS = 100.0
FLAT = 0.05
WARM_S = 60.0
FLOOD_FPS, QUIET_FPS = 60.0, 5.0
FAIR = 0.9


async def capacity(server: ServerProcess, frames: Sequence[bytes], seconds: float, streams: int = STREAMS) -> float:
    """Results a second of so many clients that keep to their credits and drop nothing."""
    count = 0

    async def client(number: int) -> None:
        nonlocal count
        async with AsyncStreamClient(server.url, f"capacity-{number}", StreamOptions(policy=Policy.ALL)) as stream:
            end, sent = time.monotonic() + seconds, 0

            def supply():  # type: ignore[no-untyped-def]
                nonlocal sent
                while time.monotonic() < end:
                    sent += 1
                    yield frames[sent % len(frames)]

            async for event in stream.stream(supply()):
                count += isinstance(event, FrameResult)

    begun = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(streams)))
    return count / (time.monotonic() - begun)


def overload(server: ServerProcess, frames: Sequence[bytes], seconds: float) -> Report:
    """Eight cameras that offer `FACTOR` times the capacity, whatever their credits."""
    asyncio.run(capacity(server, frames, min(5.0, seconds)))  # the first frames of a server are not its usual ones
    able = asyncio.run(capacity(server, frames, min(10.0, seconds)))
    fps = FACTOR * able / STREAMS
    cameras = [RudeCamera(server.url, f"rude-{n}", frames, fps, Policy.LATEST) for n in range(STREAMS)]
    with MemoryWatch(server) as memory:
        asyncio.run(run_all(cameras, seconds))
    tallies = [camera.tally for camera in cameras]
    ages = [age for tally in tallies for age in tally.ages_ms]
    busy = [took for tally in tallies for took in tally.busy_ms]
    service, p99 = percentile(busy, 0.5), percentile(ages, 0.99)
    grown = memory.growth(min(WARM_S, seconds / 3))
    return Report(
        "overload",
        {
            "seconds": seconds, "streams": STREAMS,
            "capacity_fps": round(able, 1), "offered_fps": round(fps * STREAMS, 1),
            "sent": sum(tally.sent for tally in tallies), "results": sum(tally.results for tally in tallies),
            "dropped": sum(tally.dropped for tally in tallies), "service_ms_p50": round(service, 2),
            "service_ms_p99": round(percentile(busy, 0.99), 2), "age_ms_p50": round(percentile(ages, 0.5), 1),
            "age_ms_p99": round(p99, 1), "age_ms_max": round(max(ages, default=0.0), 1),
            "memory_mb": round(memory.samples[-1][1] / 1e6, 1), "memory_growth": round(grown, 4),
        },
        {
            f"p99 age <= 2 x service time + {SLACK_MS:g} ms": p99 <= 2 * service + SLACK_MS,
            f"memory grows by less than {FLAT:.0%} after {min(WARM_S, seconds / 3):.0f} s": grown < FLAT,
            "every frame is a result, a drop or a refusal": all(tally.settled for tally in tallies),
            "the server still answers": server.status("/readyz") == 200,
        },
    )  # fmt: skip


def fairness(server: ServerProcess, frames: Sequence[bytes], seconds: float) -> Report:
    """Cameras of 60 frames a second, as many as fill the server twice, beside one of 5."""
    able = asyncio.run(capacity(server, frames, min(5.0, seconds)))
    floods = max(1, round(2 * able / FLOOD_FPS))

    def quiet_alone() -> Tally:
        camera = RudeCamera(server.url, "quiet-alone", frames, QUIET_FPS, Policy.LATEST)
        asyncio.run(run_all([camera], seconds))
        return camera.tally

    def quiet_beside() -> Tally:
        quiet = RudeCamera(server.url, "quiet", frames, QUIET_FPS, Policy.LATEST)
        others = [RudeCamera(server.url, f"flood-{n}", frames, FLOOD_FPS, Policy.LATEST) for n in range(floods)]
        asyncio.run(run_all([quiet, *others], seconds))
        return quiet.tally

    alone, beside = quiet_alone(), quiet_beside()
    return Report(
        "fairness",
        {
            "seconds": seconds, "capacity_fps": round(able, 1), "floods": floods, "alone": alone.results,
            "beside": beside.results, "age_ms_p99_alone": round(percentile(alone.ages_ms, 0.99), 1),
            "age_ms_p99_beside": round(percentile(beside.ages_ms, 0.99), 1),
        },
        {f"beside floods a camera keeps {FAIR:.0%} of its rate": beside.results >= FAIR * alone.results},
    )  # fmt: skip
