"""A small box: one core and 512 MiB by the kernel's own limits, and more asked of it than it has.

Whatever is asked, what is too much must be refused with figures, and the kernel must never have to end the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from benchmarks.soak.camera import RudeCamera, Tally, run_all
from benchmarks.soak.groups import ControlGroup, unavailable
from benchmarks.soak.overload import capacity
from benchmarks.soak.report import Report, percentile
from benchmarks.soak.server import ServerProcess
from clients.wire import (
    Encoding,
    ErrorMessage,
    Flags,
    FrameMessage,
    Hello,
    Op,
    Policy,
    Result,
    decode_server_message,
    encode_frame,
    encode_message,
    offer_subprotocols,
)
from service import codec

MEMORY_BYTES = 512 << 20
CORES = 1.0
COLD_S = 1800.0
FPS = 15.0
MANY = 100
BODY_BYTES = 8 << 20
SIDE = 8000
"""Of a square image of 64 megapixels."""
SETTINGS: dict[str, Any] = {
    "max_pixels": SIDE * SIDE, "max_streams": 256, "max_models": 256, "max_greeting": 256,
    "useful_fps": 0.05,
}  # fmt: skip
"""Bounds that would refuse before memory does are out of the way."""
PLANS = [(640 + 64 * n, 384 + 64 * n) for n in range(24)]


@dataclass
class Asked:
    """What became of requests. outcomes : how many, by status or close code. reasons : of refusals, as told."""

    outcomes: Counter[int] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    @property
    def told(self) -> bool:
        """Whether whatever was refused was refused with figures."""
        return all("MiB" in reason for reason in self.reasons)


def small(frames: Sequence[bytes], seconds: float, cold: bool = True) -> Report:
    """Start cold and warm, stream for so many seconds, then ask for too much of everything.

    cold : whether kernels are compiled anew, within the same limits; else those of the user are read.
    """
    if (reason := unavailable()) is not None:
        raise RuntimeError(f"no control group can be made: {reason}")
    figures: dict[str, Any] = {"memory_mib": MEMORY_BYTES >> 20, "cores": CORES}
    shown: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as name:
        settings = dict(SETTINGS)
        if cold:
            settings["cache_dir"] = str(Path(name) / "cache")
            with _box() as group, ServerProcess(Path(name), settings, group=group, ready_s=COLD_S) as server:
                figures |= {"cold_start_s": server.started_s, "cold_peak_mib": group.peak_bytes >> 20}
                figures["cold_rest_mib"] = server.memory_bytes() >> 20
                shown["a cold start was not ended by the kernel"] = group.kills == 0
        with _box() as group, ServerProcess(Path(name), settings, group=group, ready_s=COLD_S) as server:
            first = server.pid
            figures |= {"warm_start_s": server.started_s, "rest_mib": server.memory_bytes() >> 20}
            figures["rest_own_mib"] = group.own_bytes >> 20
            _measure(server, group, frames, seconds, figures, shown)
            _overask(server, group, frames, figures, shown)
            figures |= {"peak_mib": group.peak_bytes >> 20, "at_limit": group.at_limit, "kills": group.kills}
            shown["the kernel ended nothing"] = group.kills == 0 and server.running and server.pid == first
            shown["the server is ready at the end"] = server.status("/readyz") == 200
            tally = asyncio.run(_stream(server, frames, 5.0, "last")) if server.running else Tally()
            shown["and a stream runs"] = tally.settled and tally.results > 0
    return Report("small", {k: round(v, 1) if isinstance(v, float) else v for k, v in figures.items()}, shown)


def _box() -> ControlGroup:
    return ControlGroup(MEMORY_BYTES, CORES)


def _measure(
    server: ServerProcess, group: ControlGroup, frames: Sequence[bytes], seconds: float,
    figures: dict[str, Any], shown: dict[str, bool],
) -> None:  # fmt: skip
    """One stream at a camera's rate, and one as fast as it is computed."""
    asyncio.run(_stream(server, frames, min(5.0, seconds), "first"))
    tally = asyncio.run(_stream(server, frames, seconds, "camera"))
    figures |= {
        "camera_fps": tally.results / seconds, "age_ms_p50": percentile(tally.ages_ms, 0.5),
        "age_ms_p99": percentile(tally.ages_ms, 0.99), "service_ms_p50": percentile(tally.busy_ms, 0.5),
        "compute_fraction": float(np.mean(tally.fractions or [0.0])), "stream_own_mib": group.own_bytes >> 20,
    }  # fmt: skip
    figures["most_fps"] = asyncio.run(capacity(server, frames, seconds, 1))
    shown["a stream of 640x384 runs, and each of its frames is accounted for"] = tally.settled and tally.results > 0


async def _stream(server: ServerProcess, frames: Sequence[bytes], seconds: float, name: str) -> Tally:
    camera = RudeCamera(server.url, name, frames, FPS, Policy.LATEST)
    await run_all([camera], seconds)
    return camera.tally


def _overask(
    server: ServerProcess, group: ControlGroup, frames: Sequence[bytes], figures: dict[str, Any], shown: dict[str, bool]
) -> None:  # fmt: skip
    """Ask for more of each kind than there is."""
    loads: dict[str, Any] = {
        "images": lambda: _images(server), "bodies": lambda: _bodies(server), "messages": lambda: _messages(server),
        "streams": lambda: _streams(server, frames[0], group, figures),
        "images_beside": lambda: _images(server), "bodies_beside": lambda: _bodies(server),
        "messages_beside": lambda: _messages(server), "models": lambda: _models(server),
    }  # fmt: skip
    for name, load in loads.items():
        asked = asyncio.run(load()) if server.running else Asked()
        figures[name] = dict(sorted(asked.outcomes.items()))
        figures[f"{name}_refused"] = next(iter(asked.reasons), "none")
        shown[f"{name}: what is refused is refused with figures"] = asked.told and server.running
        used = (
            f"{group.own_bytes >> 20} of {group.used_bytes >> 20} MiB are its own, at the limit {group.at_limit} times"
        )
        print(f"small: {name}: {figures[name]} {figures[name + '_refused']}; {used}", file=sys.stderr, flush=True)
    refused = ("images", "streams", "models")
    shown["too many streams, too large images and too many models are refused"] = all(
        figures[f"{name}_refused"] != "none" for name in refused
    )


async def _streams(server: ServerProcess, frame: bytes, group: ControlGroup, figures: dict[str, Any]) -> Asked:
    """Streams that stay, each with a frame computed, until one is refused; they end when all have been counted."""
    asked = Asked()
    async with AsyncExitStack() as stack:
        for number in range(SETTINGS["max_streams"]):
            socket = await stack.enter_async_context(_socket(server, f"many-{number}"))
            answer = await _answered(socket, frame)
            if answer is not None:
                asked.outcomes[503] += 1
                asked.reasons.append(answer)
                break
            asked.outcomes[200] += 1
        figures |= {"streams_own_mib": group.own_bytes >> 20, "streams_used_mib": group.used_bytes >> 20}
        beside = await asyncio.gather(_images(server), _bodies(server))
        figures["beside_streams"] = [dict(one.outcomes) for one in beside]
        asked.reasons += [reason for one in beside for reason in one.reasons]
    return asked


def _socket(server: ServerProcess, name: str) -> Any:
    subprotocols = [Subprotocol(name) for name in offer_subprotocols(Encoding.JSON, None)]
    url = f"{server.url.replace('http', 'ws', 1)}/v1/streams/{name}/ws"
    return connect(url, subprotocols=subprotocols, compression=None, max_size=1 << 24, open_timeout=120)


async def _answered(socket: ClientConnection, frame: bytes) -> str | None:
    """Say hello and send a frame; why that was refused, or None once its result is there."""
    await socket.send(encode_message(Hello(policy=Policy.ALL, max_fps=0.05), Encoding.JSON))
    await socket.send(encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, 1, time.time_ns() // 1000, frame)))
    try:
        async with asyncio.timeout(120):
            async for data in socket:
                message = decode_server_message(data, Encoding.JSON)
                if isinstance(message, ErrorMessage):
                    return message.detail
                if isinstance(message, Result):
                    return None
    except ConnectionClosed as closed:
        return closed.rcvd.reason if closed.rcvd is not None else "closed without a word"
    return "closed without a word"


async def _post(server: ServerProcess, path: str, count: int, **request: Any) -> Asked:
    """The same request so many times at once."""
    asked = Asked()
    async with httpx.AsyncClient(base_url=server.url, timeout=300, limits=httpx.Limits(max_connections=count)) as http:
        answers = await asyncio.gather(*(http.post(path, **request) for _ in range(count)), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, httpx.Response):
            asked.outcomes[answer.status_code] += 1
            if answer.status_code == 503:
                asked.reasons.append(answer.json()["detail"])
        else:
            asked.outcomes[0] += 1  # refused and closed while the body was on its way
    return asked


async def _images(server: ServerProcess) -> Asked:
    """Images of 64 megapixels, a few at once."""
    image = codec.encode_jpeg(np.full((SIDE, SIDE, 3), 114, np.uint8), 50)
    return await _post(server, "/v1/detect", 4, content=image, headers={"content-type": "image/jpeg"})


async def _bodies(server: ServerProcess) -> Asked:
    """A hundred bodies as large as may be, at once, that are no images."""
    asked = Asked()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = (
            "POST /v1/detect HTTP/1.1",
            "host: 127.0.0.1",
            "content-type: image/jpeg",
            f"content-length: {BODY_BYTES}",
        )
        writer.write("".join(f"{line}\r\n" for line in (*head, "")).encode())
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        await asyncio.wait([answer], timeout=5.0)  # a client that is refused need not send it
        if not answer.done():
            writer.write(bytes(BODY_BYTES))
        lines = (await answer).decode("latin-1").lower().splitlines()
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        status, told = int(lines[0].split()[1]), json.loads(await reader.readexactly(length))
        asked.outcomes[status] += 1
        if status == 503:
            asked.reasons.append(told["detail"])
        writer.transport.abort()

    async def safely() -> None:
        try:
            async with asyncio.timeout(120):
                await one()
        except (OSError, EOFError, TimeoutError):
            asked.outcomes[0] += 1

    await asyncio.gather(*(safely() for _ in range(MANY)))
    return asked


async def _messages(server: ServerProcess) -> Asked:
    """A hundred connections, each with a message as large as may be of which the end does not come."""
    asked = Asked()

    async def one(number: int) -> None:
        async def pieces() -> Any:
            for _ in range(31):
                yield bytes(256 << 10)
            await asyncio.wait_for(closed.wait(), 20)

        closed = asyncio.Event()
        try:
            async with _socket(server, f"large-{number}") as socket:
                await socket.send(encode_message(Hello(), Encoding.JSON))
                await socket.send(pieces())
        except TimeoutError:
            asked.outcomes[200] += 1  # it was kept, and there was memory for it
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd is not None else 0
            asked.outcomes[code] += 1
            if code == 1013 and error.rcvd is not None:
                asked.reasons.append(error.rcvd.reason)
        except InvalidStatus as error:
            asked.outcomes[error.response.status_code] += 1
        except OSError:
            asked.outcomes[0] += 1

    await asyncio.gather(*(one(number) for number in range(MANY)))
    return asked


async def _models(server: ServerProcess) -> Asked:
    """The same network for larger and larger images, until one is refused."""
    asked = Asked()
    async with httpx.AsyncClient(base_url=server.url, timeout=600) as http:
        for number, size in enumerate(PLANS):
            wanted = {"model": "people", "name": f"larger-{number}", "size": size}
            answer = await http.post("/v1/models", json=wanted)
            asked.outcomes[answer.status_code] += 1
            if answer.status_code != 201:
                asked.reasons.append(answer.json()["detail"])
                break
        for number in range(len(PLANS)):
            await http.delete(f"/v1/models/larger-{number}", params={"force": "true"})
    return asked
