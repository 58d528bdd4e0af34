"""Anything over a WebSocket: truncated, mutated, out of turn. The server answers, closes as it says, and stays well.

`AFTERIMAGE_FUZZ_S` sets the seconds of random mutations; 3 without it.
"""

from __future__ import annotations

import gc
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_fakes import FakeEngine, RunningServer, frame, make_registry, make_settings, running_server, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from clients.wire import Encoding, vectors
from tests.service.test_serve import subprotocols

SECONDS = float(os.environ.get("AFTERIMAGE_FUZZ_S", "3"))
GOLDEN = Path(vectors.__file__).parent / "golden"
EXPECTED_CLOSES = {1000, 1002, 1008, 1009, 1013}
MAX_BYTES = 20_000
ENOUGH = 40


@pytest.fixture
def server() -> Iterator[RunningServer]:
    settings = make_settings(max_message_bytes=MAX_BYTES, resume_s=0.0, hello_timeout_s=1.0, max_request_rate=100_000.0)
    with running_server(make_registry(FakeEngine().model()), settings) as running:
        yield running


def golden() -> list[bytes]:
    """The bytes of every vector, in each encoding it has."""
    entries = [entry for path in sorted(GOLDEN.glob("*.json")) for entry in json.loads(path.read_text())]
    found = [bytes.fromhex(value) for entry in entries for name, value in entry.items() if name.endswith("hex")]
    assert len(found) > 30
    return [data[:MAX_BYTES] for data in found]


def talk(running: RunningServer, messages: list[bytes | str], encoding: Encoding, greet: bool) -> int:
    """Send messages, then bye, and read to the end; the close code."""
    url = f"ws://127.0.0.1:{running.port}/v1/streams/fuzz{random.getrandbits(32):x}/ws"
    with connect(url, subprotocols=subprotocols(encoding=encoding), compression=None, max_size=None) as socket:
        try:
            if greet:
                hello = vectors.encode_message(vectors.Hello(), encoding)
                socket.send(hello)
                socket.recv(10)
            for message in messages:
                socket.send(message)
            socket.send(vectors.encode_message(vectors.Bye(), encoding))  # a mutated hello may have been taken
            while True:
                socket.recv(10)
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else 1006


def check(running: RunningServer, messages: list[bytes | str], encoding: Encoding, greet: bool, seen: Counter) -> None:
    code = talk(running, messages, encoding, greet)
    seen[code] += 1
    assert code in EXPECTED_CLOSES, (code, messages)


def is_well(running: RunningServer) -> None:
    """A client that keeps to the protocol is served, and nothing is left of the others."""
    url = f"ws://127.0.0.1:{running.port}/v1/streams/well/ws"
    with connect(url, subprotocols=subprotocols(), compression=None) as socket:
        socket.send('{"type":"hello"}')
        assert json.loads(socket.recv(10))["type"] == "ready"
        socket.send(frame(1))
        assert json.loads(socket.recv(10))["seq"] == 1
    wait_until(lambda: not running.service.connections)
    wait_until(lambda: len(running.service.streams) == 0)
    assert len(running.server.config.http_protocol_class.gate) <= 1


@pytest.mark.parametrize("encoding", list(Encoding))
def test_every_truncation_of_every_golden_vector(server: RunningServer, encoding: Encoding) -> None:
    seen: Counter = Counter()
    for data in golden():
        cuts = [data[:end] for end in range(min(len(data), 300) + 1)]
        check(server, [*cuts], encoding, True, seen)
        check(server, [cut.decode("latin-1") for cut in cuts], encoding, True, seen)
    assert seen[1000] > 0
    is_well(server)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A few bytes flipped, cut, doubled or put in."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(5)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = draw.randbytes(draw.randint(1, 8))
        elif kind == 3:
            changed[at:at] = changed[: draw.randint(0, 40)]
        else:
            changed[at : at + 4] = draw.choice((b"\xff" * 4, bytes(4), b"\x80\0\0\0", b"\xc1\xc1\xc1\xc1"))
    return bytes(changed[: MAX_BYTES + 10])


def fuzz(running: RunningServer, seconds: float, seed: int = 1) -> Counter:
    """Random sequences of mutated messages for so long; the close codes."""
    draw, seen = random.Random(seed), Counter()
    seeds = [*golden(), frame(1), frame(2, reset=True), b'{"type":"hello"}', b'{"type":"bye"}']
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        messages: list[bytes | str] = []
        for _ in range(draw.randint(1, ENOUGH)):
            data = mutated(draw.choice(seeds), draw)
            messages.append(data.decode("latin-1") if draw.random() < 0.4 else data)
        check(running, messages, draw.choice(list(Encoding)), draw.random() < 0.8, seen)
    return seen


def test_random_mutations(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    seen = fuzz(server, SECONDS / 2)
    is_well(server)
    gc.collect()
    before = len(gc.get_objects())
    seen += fuzz(server, SECONDS / 2, seed=2)
    is_well(server)
    gc.collect()
    assert len(gc.get_objects()) < before + 2000, "nothing is kept of a connection that is gone"
    assert seen[1000] > 0
    assert "connection failed" not in caplog.text
    assert "Exception in ASGI" not in caplog.text
