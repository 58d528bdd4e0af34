"""Many streams whose clients come, go, reset and vanish at random; every result must be of its own frame."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from benchmarks.soak import identity
from benchmarks.soak.report import Report
from benchmarks.soak.server import MemoryWatch, ServerProcess
from clients.python import AsyncStreamClient, FrameRefused, FrameResult, FramesLost, Reconnect, StreamOptions
from clients.wire import Encoding, Policy

STREAMS = 32
FPS = 8.0
FLAT = 0.05
BUSY_S = 20.0


@dataclass
class _Count:
    """Frames of one connection's client. cut : under way when a connection was cut."""

    sent: int = 0
    results: int = 0
    refused: int = 0
    cut: int = 0


@dataclass
class Sums:
    """Of all clients."""

    connections: int = 0
    resumed: int = 0
    aborts: int = 0
    resets: int = 0
    sent: int = 0
    results: int = 0
    dropped: int = 0
    cut: int = 0
    lost: int = 0
    crossed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, count: _Count, unacked: int, policy: Policy) -> None:
        """Count what became of a client's frames. unacked : at its end, which no time was enough for."""
        missing = count.sent - count.results - count.refused - count.cut
        lost = missing if policy is Policy.ALL else unacked
        self.sent, self.results, self.cut = self.sent + count.sent, self.results + count.results, self.cut + count.cut
        self.lost, self.dropped = self.lost + lost, self.dropped + missing - lost


class _Visitor:
    """One stream's client after client."""

    def __init__(self, server: ServerProcess, stream: int, sums: Sums) -> None:
        self._server, self._stream, self._sums = server, stream, sums
        self._rng = random.Random(stream)
        self._number = 0

    async def run(self, end: float) -> None:
        await asyncio.sleep(self._rng.random())
        while time.monotonic() < end:
            try:
                await self._visit(min(end, time.monotonic() + self._rng.uniform(0.5, 12.0)))
            except identity.Crossed as error:
                self._sums.crossed.append(str(error))
            except Exception as error:
                self._sums.failed.append(f"stream {self._stream}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)

    async def _visit(self, end: float) -> None:
        """Connect, send for a while, and leave in one of several ways."""
        rng, sums = self._rng, self._sums
        options = StreamOptions(
            policy=rng.choice(list(Policy)), encoding=rng.choice(list(Encoding)), reconnect=Reconnect(attempts=5)
        )
        client = AsyncStreamClient(self._server.url, f"visitor-{self._stream}", options)
        count = _Count()
        try:
            ready = await client.connect()
            sums.connections += 1
            sums.resumed += ready.resumed
            reader = asyncio.create_task(self._read(client, count))
            while time.monotonic() < end and not reader.done():
                await self._send(client, count)
                if rng.random() < 0.01:
                    sums.aborts += 1
                    self._abort(client)
                await asyncio.sleep(rng.expovariate(FPS))
            await self._wait_for_rest(client, reader)
        finally:
            await client.close(bye=rng.random() < 0.5)
            sums.add(count, client.unacked, options.policy)

    async def _send(self, client: AsyncStreamClient, count: _Count) -> None:
        """Send the next frame, if there is a credit; its number travels as its time."""
        self._number += 1
        reset = self._rng.random() < 0.03
        data = identity.frame(self._stream, self._number)
        count.sent += await client.try_send(data, self._number, reset=reset) is not None
        self._sums.resets += reset

    async def _wait_for_rest(self, client: AsyncStreamClient, reader: asyncio.Task[None]) -> None:
        """Until all that was sent is settled, and read."""
        begun = time.monotonic()
        while client.unacked and not reader.done() and time.monotonic() - begun < BUSY_S:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)
        reader.cancel()
        (outcome,) = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    async def _read(self, client: AsyncStreamClient, count: _Count) -> None:
        async for event in client:
            if isinstance(event, FrameResult):
                count.results += 1
                identity.check(event.result, self._stream, event.result.capture_ts_us)
            elif isinstance(event, FramesLost):
                count.cut += len(event.seqs)
            elif isinstance(event, FrameRefused):
                count.refused += event.seq is not None
                self._sums.refused.append(f"{event.code}: {event.detail}")

    def _abort(self, client: AsyncStreamClient) -> None:
        """Cut the connection without a word, as a phone that leaves the room."""
        socket = client._socket
        if socket is not None:
            socket.transport.abort()


def crowd(server: ServerProcess, seconds: float, streams: int = STREAMS) -> Report:
    """So many streams for so long."""
    sums = Sums()

    async def all_of_them() -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(_Visitor(server, stream, sums).run(end) for stream in range(streams)))

    with MemoryWatch(server) as memory:
        asyncio.run(all_of_them())
    warm_s = min(60.0, seconds / 3)
    grown = memory.growth(warm_s)
    figures = {name: value for name, value in vars(sums).items() if not isinstance(value, list)}
    return Report(
        "crowd",
        figures | {
            "seconds": seconds, "streams": streams, "refused": sums.refused[:5], "failed": sums.failed[:5],
            "crossed": sums.crossed[:5], "memory_mb": round(memory.samples[-1][1] / 1e6, 1),
            "memory_growth": round(grown, 4),
        },
        {
            "no crash": server.running and server.status("/readyz") == 200 and "error_id" not in server.log,
            "no crossed result": not sums.crossed and sums.results > 0,
            "no lost result": sums.lost == 0,
            "no client was turned away": not sums.failed and not sums.refused,
            f"memory grows by less than {FLAT:.0%} after {warm_s:.0f} s": grown < FLAT,
        },
    )  # fmt: skip
