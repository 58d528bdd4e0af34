"""A client that keeps to nothing but its own clock: it sends whatever its credits are, as a bad one would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from clients.wire import (
    Ack,
    Encoding,
    ErrorMessage,
    Flags,
    FrameMessage,
    Hello,
    Op,
    Policy,
    Ready,
    Result,
    decode_server_message,
    encode_frame,
    encode_message,
    offer_subprotocols,
)

SETTLE_S = 30.0


@dataclass
class Tally:
    """What became of a camera's frames. ages_ms : from capture to the result's arrival. busy_ms : without waiting."""

    sent: int = 0
    results: int = 0
    dropped: int = 0
    refused: int = 0
    acknowledged: int = 0
    ages_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether every frame that was sent is accounted for."""
        return self.acknowledged == self.sent == self.results + self.dropped + self.refused


class RudeCamera:
    """Sends a frame whenever its clock says so, and reads what comes back."""

    def __init__(self, url: str, stream_id: str, frames: Sequence[bytes], fps: float, policy: Policy) -> None:
        self._url = f"{url.replace('http', 'ws', 1)}/v1/streams/{stream_id}/ws"
        self._frames, self._fps, self._policy = frames, fps, policy
        self.tally = Tally()

    async def run(self, seconds: float) -> Tally:
        """Send for so long, then wait until all that was sent is settled."""
        async with connect(
            self._url, subprotocols=[Subprotocol(name) for name in offer_subprotocols(Encoding.JSON, None)],
            compression=None, max_size=1 << 24,
        ) as socket:  # fmt: skip
            await socket.send(encode_message(Hello(policy=self._policy), Encoding.JSON))
            ready = decode_server_message(await socket.recv(), Encoding.JSON)
            if not isinstance(ready, Ready):
                raise RuntimeError(f"expected ready, got {ready}")
            reader = asyncio.create_task(self._read(socket))
            try:
                await self._send(socket, seconds)
                async with asyncio.timeout(SETTLE_S):
                    while self.tally.acknowledged < self.tally.sent and not reader.done():
                        await asyncio.sleep(0.02)
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
        return self.tally

    async def _send(self, socket: ClientConnection, seconds: float) -> None:
        begun = time.monotonic()
        number = 0
        while (due := number / self._fps) < seconds:
            wait = begun + due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            number += 1
            payload = self._frames[_there_and_back(number, len(self._frames))]
            await socket.send(encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, number, _now_us(), payload)))
            self.tally.sent = number

    async def _read(self, socket: ClientConnection) -> None:
        tally = self.tally
        try:
            async for data in socket:
                message = decode_server_message(data, Encoding.JSON)
                if isinstance(message, Result):
                    tally.results += 1
                    tally.ages_ms.append((_now_us() - message.capture_ts_us) / 1e3)
                    tally.busy_ms.append(message.timing_ms.total - message.timing_ms.queue)
                    tally.fractions.append(message.compute_fraction)
                    tally.dropped, tally.acknowledged = message.dropped, message.ack
                elif isinstance(message, Ack):
                    tally.dropped, tally.acknowledged = message.dropped, message.ack
                elif isinstance(message, ErrorMessage) and message.seq is not None:
                    tally.refused += 1
                    tally.acknowledged = message.ack or tally.acknowledged
        except ConnectionClosed:
            return


async def run_all(cameras: Sequence[RudeCamera], seconds: float, started: Callable[[], None] = lambda: None) -> None:
    """Run cameras side by side."""
    tasks = [asyncio.create_task(camera.run(seconds)) for camera in cameras]
    started()
    await asyncio.gather(*tasks)


def _now_us() -> int:
    return time.time_ns() // 1000


def _there_and_back(number: int, length: int) -> int:
    """Which frame of a clip: forwards and backwards for ever, without a cut that is not its own."""
    at = number % max(1, 2 * length - 2)
    return min(at, 2 * length - 2 - at)
