"""The server is killed under load and started again: its clients must come back by themselves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.soak import identity
from benchmarks.soak.report import Report
from benchmarks.soak.server import ServerProcess
from clients.python import AsyncStreamClient, FrameResult, Reconnect, StreamOptions
from clients.wire import Policy

STREAMS = 6
FPS = 10.0
FIRST_S = 5.0
PATIENT = Reconnect(attempts=100, maximum_s=2.0)


@dataclass
class _Client:
    """One stream's client: when its results came. made : whether its stream has a token of POST /v1/streams."""

    stream: int
    arrivals: list[float]
    made: bool
    reconnections: int = 0
    error: str = ""


async def _stream(server: ServerProcess, client: _Client, end: float) -> None:
    """Send at a pace until the end, whatever happens to the server; every result must be of its own frame."""
    try:
        url, stream_id, token = server.url, f"patient-{client.stream}", None
        if client.made:
            created = await asyncio.to_thread(server.post, "/v1/streams")
            url, stream_id, token = created["ws_url"], None, created["token"]
        options = StreamOptions(policy=Policy.LATEST, reconnect=PATIENT, token=token)
        async with AsyncStreamClient(url, stream_id, options) as stream:
            reader = asyncio.create_task(_read(stream, client))
            number = 0
            while time.monotonic() < end and not reader.done():
                number += 1
                await stream.try_send(identity.frame(client.stream, number), number)
                await asyncio.sleep(1 / FPS)
            client.reconnections = stream.reconnections
            reader.cancel()
            (outcome,) = await asyncio.gather(reader, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome
    except Exception as error:
        client.error = f"{type(error).__name__}: {error}"


async def _read(stream: AsyncStreamClient, client: _Client) -> None:
    async for event in stream:
        if isinstance(event, FrameResult):
            client.arrivals.append(time.monotonic())
            identity.check(event.result, client.stream, event.result.capture_ts_us)


def restart(server: ServerProcess, kills: int, seconds: float) -> Report:
    """Kill so often, with so many seconds of load before and after each."""
    clients = [_Client(stream, [], made=stream % 2 == 1) for stream in range(STREAMS)]
    ready_at: list[float] = []
    starts_s: list[float] = []

    async def everything() -> None:
        end = time.monotonic() + 3600.0
        tasks = [asyncio.create_task(_stream(server, client, end)) for client in clients]
        try:
            for _ in range(kills):
                await asyncio.sleep(seconds)
                await asyncio.to_thread(server.kill)
                starts_s.append(await asyncio.to_thread(server.start))
                ready_at.append(time.monotonic())
            await asyncio.sleep(max(seconds, FIRST_S))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(everything())
    waits = [
        next((arrival - moment for arrival in client.arrivals if arrival > moment), float("inf"))
        for moment in ready_at for client in clients
    ]  # fmt: skip
    errors = [client.error for client in clients if client.error]
    return Report(
        "restart",
        {
            "kills": kills, "streams": STREAMS, "start_s": [round(s, 2) for s in starts_s],
            "first_answer_s_max": round(max(waits), 2), "results": sum(len(client.arrivals) for client in clients),
            "errors": errors[:5],
        },
        {
            f"every stream has an answer within {FIRST_S:g} s of readiness": max(waits) <= FIRST_S,
            "clients come back by themselves": not errors,
        },
    )  # fmt: skip
