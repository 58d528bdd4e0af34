"""`afterimage bench streams`: how many cameras one machine serves, by the server's own lanes, workers and pipelines.

Paced cameras hand JPEGs to the scheduler as a connection does; the age of a result is the time from the moment its
frame was due to the moment its boxes were there. A frame that was dropped for a newer one has no result: it counts
as older than any limit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clients.wire import Flags, FrameMessage, Op, Policy
from service import codec
from service.bench.errors import BenchError
from service.bench.machine import Bystanders, machine, usable_cores, use_threads
from service.jobs import Answer, Computed, FrameJob, compute
from service.pipeline import FramePipeline
from service.registry import Model
from service.scheduler import Lane, Scheduler

AGE_LIMIT_MS = 200.0
MAX_STREAMS = 1024
_DRAIN_S = 5.0
_WARM_SHARE = 0.2
_BEHIND_S = 0.1


class StreamsError(BenchError):
    """The measurement itself failed: a frame was refused, or a worker did not end."""


@dataclass
class Camera:
    """One paced stream. ages_ms : of its results, in order of arrival."""

    number: int
    lane: Lane[FrameJob]
    pipeline: FramePipeline
    offered: int = 0
    dropped: int = 0
    ages_ms: list[float] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    activity: list[float] = field(default_factory=list)
    refused: str | None = None

    def take(self, job: FrameJob, answer: Answer) -> None:
        """Count an answer; called by the worker that made it."""
        if isinstance(answer, Computed):
            self.ages_ms.append((time.perf_counter_ns() - job.received_ns) / 1e6)
            self.fractions.append(answer.outcome.compute_fraction)
            self.activity.append(answer.outcome.changed_tiles / len(self.pipeline.session.grid))
        else:
            self.refused = answer.detail


def there_and_back(count: int) -> list[int]:
    """0, 1 ... count - 1 ... 1: a clip that goes on for ever without a cut that is not its own."""
    return [*range(count), *range(count - 2, 0, -1)]


def run(model: Model, jpegs: Sequence[bytes], count: int, fps: float, seconds: float, workers: int) -> dict[str, Any]:
    """Serve `count` cameras for so many seconds; the figures of `measured`.

    Each begins at another frame of the clip, and their frames are due evenly over the interval. Every stream's first
    frame, a keyframe, and the first fifth of the time are left out: cameras do not all start at once.
    Raises StreamsError.
    """
    scheduler = Scheduler(workers)
    cameras = []
    for number in range(count):
        lane: Lane[FrameJob] = scheduler.lane(compute, policy=Policy.LATEST, capacity=1)
        pipeline = FramePipeline(model, model.open_session(), codec.DEFAULT_LIMITS)
        order = there_and_back(len(jpegs))
        pipeline.run(jpegs[order[_first(number, count, len(order))]])
        cameras.append(Camera(number, lane, pipeline))
    scheduler.start()
    try:
        _pace(scheduler, cameras, jpegs, fps, seconds * _WARM_SHARE, 0)
        _drain(cameras)
        for camera in cameras:
            camera.offered = camera.dropped = 0
            camera.ages_ms.clear()
            camera.fractions.clear()
            camera.activity.clear()
        turn = round(fps * seconds * _WARM_SHARE)
        used, begun = time.process_time(), time.perf_counter()
        _pace(scheduler, cameras, jpegs, fps, seconds, turn)
        _drain(cameras)
        wall = time.perf_counter() - begun
        cpu = (time.process_time() - used) / wall
    finally:
        stopped = scheduler.stop(_DRAIN_S)
    if not stopped:
        raise StreamsError(f"a worker was still busy {_DRAIN_S:g} s after the last frame")
    refused = next((camera.refused for camera in cameras if camera.refused), None)
    if refused is not None:
        raise StreamsError(f"a frame was refused: {refused}")
    return measured(cameras, fps, wall, cpu)


def measured(cameras: Sequence[Camera], fps: float, wall_s: float, cpu_cores: float) -> dict[str, Any]:
    """What a run of cameras gave.

    age_ms : {p50, p99, max} over results. p99_ms_all : over all frames, one that was dropped being older than any
    limit; null then means that more than 1% were dropped. fits : p99_ms_all is at most 200 ms. fps : results a second
    and camera. cpu : cores that were busy on average. compute_fraction : mean. activity :
    {mean, peak} of the share of tiles that changed, peak being the mean of squares over the square of the mean.
    """
    ages = np.sort(np.concatenate([np.asarray(camera.ages_ms, np.float64) for camera in cameras]))
    offered = sum(camera.offered for camera in cameras)
    worst = p99_of_all(ages.tolist(), offered)
    fractions = [value for camera in cameras for value in camera.fractions]
    shares = np.percentile(ages, [50, 99, 100]).tolist() if ages.size else [None] * 3
    return {
        "streams": len(cameras),
        "fps_asked": fps,
        "fps": round(ages.size / wall_s / len(cameras), 3),
        "seconds": round(wall_s, 3),
        "offered": offered,
        "results": int(ages.size),
        "dropped": sum(camera.dropped for camera in cameras),
        "age_ms": dict(zip(("p50", "p99", "max"), (value and round(value, 3) for value in shares), strict=True)),
        "p99_ms_all": worst,
        "fits": worst is not None and worst <= AGE_LIMIT_MS,
        "cpu": round(cpu_cores, 3),
        "compute_fraction": round(float(np.mean(fractions)), 5) if fractions else None,
        "activity": activity([share for camera in cameras for share in camera.activity]),
        "ages_ms": [round(age, 2) for age in ages.tolist()],
    }


def activity(shares: Sequence[float]) -> dict[str, float] | None:
    """{mean, peak} of shares of tiles that changed; None where nothing did."""
    mean = float(np.mean(shares)) if shares else 0.0
    if not mean:
        return None
    return {"mean": round(mean, 5), "peak": round(float(np.mean(np.square(shares))) / mean**2, 4)}


def p99_of_all(ages_ms: Sequence[float], offered: int) -> float | None:
    """The age that 99% of all offered frames' results do not pass, ms; None where fewer than 99% have a result.

    ages_ms : of the results, rising.
    """
    needed = -(-offered * 99 // 100)
    return None if not needed or needed > len(ages_ms) else ages_ms[needed - 1]


def search(fits: Callable[[int], bool], limit: int = MAX_STREAMS) -> int:
    """The largest count that fits, by doubling and then bisection; 0 where not even one does.

    fits : whether so many do; asked once for each count, at most 2 log2(limit) times
    """
    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, high * 2
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def streams(
    model: Model,
    jpegs: Sequence[bytes],
    *,
    count: int | None,
    fps: float,
    seconds: float,
    workers: int | None = None,
    limit: int = MAX_STREAMS,
    progress: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Measure `count` cameras, or search the largest count that fits; the figures, ready for JSON.

    jpegs : the clip, as a camera sends it. workers : None takes as many as there are cores.
    Keys: those of `measured` for the count given or found ("streams" 0 where not even one fits), "runs" (all runs,
    without their ages), "searched", "limit_ms", "frame" (size as sent), "workers", "machine".
    """
    others = Bystanders()
    use_threads(1)
    chosen = workers or usable_cores()
    model.warm()
    limit = min(limit, room_for(model.open_session()))
    runs: dict[int, dict[str, Any]] = {}

    def attempt(number: int) -> bool:
        runs[number] = run(model, jpegs, number, fps, seconds, chosen)
        progress(runs[number])
        return bool(runs[number]["fits"])

    if count is None:
        best = search(attempt, limit)
    else:
        attempt(count)
        best = count
    shown = runs[best or min(runs)]
    plain = [{name: value for name, value in runs[n].items() if name != "ages_ms"} for n in sorted(runs)]
    return shown | {
        "kind": "streams",
        "model": model.name,
        "size": f"{model.size[0]}x{model.size[1]}",
        "streams": best,
        "searched": count is None,
        "limit_ms": AGE_LIMIT_MS,
        "frame": "{1}x{0}".format(*codec.decode(jpegs[0]).shape),
        "workers": chosen,
        "runs": plain,
        "machine": machine() | {"other_programs_cores": others.cores()},
    }


def room_for(session: object) -> int:
    """How many such sessions half of the free memory holds, at least 1; no bound where either is not known."""
    size = int(getattr(session, "nbytes", 0))
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return MAX_STREAMS
    return max(1, free // 2 // size) if size else MAX_STREAMS


def _first(number: int, count: int, length: int) -> int:
    """Where in the clip a camera begins: evenly over it."""
    return number * length // count


def _pace(
    scheduler: Scheduler, cameras: Sequence[Camera], jpegs: Sequence[bytes], fps: float, seconds: float, turn: int
) -> None:
    """Hand every camera's frames to its lane when they are due, from frame `turn` of its run on."""
    order = there_and_back(len(jpegs))
    begun = time.perf_counter()
    for number in range(max(1, round(fps * seconds))):
        for camera in cameras:
            due = begun + (number + camera.number / len(cameras)) / fps
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            at = (_first(camera.number, len(cameras), len(order)) + 1 + turn + number) % len(order)
            message = FrameMessage(Op.IMAGE, Flags.NONE, turn + number, 0, jpegs[order[at]])
            job = FrameJob(
                stream_id=str(camera.number), frame=message, pipeline=camera.pipeline, deliver=camera.take,
                abandoned=_never, received_ns=round(due * 1e9), reset=False,
            )  # fmt: skip
            camera.offered += 1
            _, replaced = scheduler.submit(camera.lane, job)
            camera.dropped += len(replaced)


def _never() -> bool:
    return False


def _drain(cameras: Sequence[Camera]) -> None:
    """Wait until nothing waits. Raises StreamsError when that takes too long."""
    end = time.monotonic() + _DRAIN_S + len(cameras) * _BEHIND_S
    while not all(camera.lane.idle for camera in cameras):
        if time.monotonic() > end:
            raise StreamsError("the frames that waited were not computed in time")
        time.sleep(0.001)
