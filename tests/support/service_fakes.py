"""A stand-in for the engine with a session's shape, and a server around it on an ephemeral port.

What the fake finds in a frame of one grey level v is one box over the left half of the plan, of class
v // 10: so a result tells which frame it belongs to.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from cache.change import TileGrid
from cache.memory import Memory
from clients.wire import Encoding, Flags, FrameMessage, Op, encode_frame, offer_subprotocols
from service.families.base import Classification, Detections, Mask, RawOutputs
from service.model_spec import ModelSpec
from service.placement import Placement
from service.registry import Model, ModelRegistry
from service.serve import bind, make_server
from service.settings import Settings

SIZE = (64, 48)


@dataclass
class FakeResult:
    outputs: dict[str, np.ndarray]
    compute_fraction: float
    changed_tiles: int
    decision: str
    reason: str = "fake"
    diff_ns: int = 1000
    infer_ns: int = 2000
    tiles: np.ndarray = field(default_factory=lambda: np.zeros((6, 8), bool))
    stages: np.ndarray = field(default_factory=lambda: np.zeros(8))


@dataclass
class FakeEngine:
    """Counts, blocks and breaks on demand. Clear `gate` to hold every push until it is set again."""

    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    failures: deque[Exception] = field(default_factory=deque)
    sessions: list[FakeSession] = field(default_factory=list)
    compiles: int = 0
    push_s: float = 0.0
    stream_bytes: int | None = None  # what a session says that it takes
    together: int = 1  # most sessions of one call
    batches: list[int] = field(default_factory=list)  # sessions of each call that took several

    def __post_init__(self) -> None:
        self.gate.set()

    def model(self, name: str = "fake", kind: str = "boxes", **spec: Any) -> Model:
        labels = tuple(f"grey{level}" for level in range(26))
        family = "raw" if kind == "raw" else "afterimage"
        fields = {"family": family, "labels": labels, "colour": "BGR", "fit": "letterbox", **spec}
        return Model(name, ModelSpec(**fields), FakeFamily(kind), SIZE, self.compile)

    def compile(self):
        self.compiles += 1
        return FakeFactory(self)

    def open(self) -> FakeSession:
        self.sessions.append(FakeSession(self))
        return self.sessions[-1]


class FakeFactory:
    """Makes sessions; says what they take, and pushes several at once, where the engine is told to."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        size = engine.stream_bytes
        self.memory = None if size is None else Memory(0, 0, size, 0, 0, 0, 0, 1)
        self.together = self if engine.together > 1 else None

    def __call__(self) -> FakeSession:
        return self.engine.open()

    @property
    def limit(self) -> int:
        return self.engine.together

    def push(
        self,
        sessions: list[FakeSession],
        frames: list[np.ndarray],
        at_s: list[float],
        within: list[np.ndarray | None],
    ) -> list[FakeResult | Exception]:
        self.engine.batches.append(len(sessions))
        found: list[FakeResult | Exception] = []
        for session, frame, at, hint in zip(sessions, frames, at_s, within, strict=True):
            try:
                found.append(session.push(frame, at, hint))
            except Exception as error:
                found.append(error)
        return found


class FakeSession:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.grid = TileGrid(SIZE[1], SIZE[0], 8)
        self.frame: np.ndarray | None = None
        self.resets = 0
        self.decisions: list[str] = []
        self.hints: list[int | None] = []  # tiles of each push that could differ
        self._holder = threading.Lock()

    def reset(self) -> None:
        self.frame = None
        self.resets += 1

    def push(self, frame: np.ndarray, at_s: float | None = None, within: np.ndarray | None = None) -> FakeResult:
        assert frame.dtype == np.uint8
        assert frame.shape == (SIZE[1], SIZE[0], 3)
        assert self._holder.acquire(blocking=False), "two workers in one session"
        try:
            self.engine.entered.release()
            assert self.engine.gate.wait(20), "the test forgot to open the gate"
            time.sleep(self.engine.push_s)
            if self.engine.failures:
                raise self.engine.failures.popleft()
            tiles = np.ones(self.grid.shape, bool)
            if self.frame is None:
                decision, fraction = "keyframe", 1.0
            else:
                differs = (self.frame != frame).any(axis=2)
                tiles = differs.reshape(tiles.shape[0], 8, tiles.shape[1], 8).any(axis=(1, 3))
                decision, fraction = ("partial", 0.25) if tiles.any() else ("reuse", 0.0)
            if within is not None:
                assert within.shape == tiles.shape
                assert within.dtype == np.bool_
                assert self.frame is not None, "a session that has seen nothing was told what can differ"
                assert not (tiles & ~within).any(), "tiles differ outside of those that were told of"
            self.hints.append(None if within is None else int(within.sum()))
            changed = int(tiles.sum())
            self.frame = frame.copy()
            self.decisions.append(decision)
            outputs = {"grey": frame[:8, :8].mean(keepdims=True)}
            return FakeResult(outputs, fraction, changed, decision, tiles=tiles, stages=np.full(8, fraction))
        finally:
            self._holder.release()

    def push_tensor(self, x: np.ndarray) -> FakeResult:
        if x.shape != (1, 3, SIZE[1], SIZE[0]) or x.dtype != np.float32:
            raise ValueError(f"expected a tensor float32[1, 3, {SIZE[1]}, {SIZE[0]}], got {x.dtype}{list(x.shape)}")
        return self.push(np.ascontiguousarray(x[0].transpose(1, 2, 0)).astype(np.uint8))


class FakeFamily:
    name = "raw"
    stride = None

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def outputs(self, model: Any, graph: Any) -> None:
        return None

    def decode(self, outputs: dict[str, np.ndarray], spec: ModelSpec, size: tuple[int, int]):
        level = int(outputs["grey"].item()) // 10
        boxes = Detections(
            np.asarray([[0, 0, size[0] / 2, size[1]]], np.float32),
            np.asarray([0.75], np.float32),
            np.asarray([level], np.int32),
        )
        if self.kind == "boxes":
            return boxes if spec.min_confidence < 0.75 else Detections.empty()
        if self.kind == "classes":
            return Classification(np.asarray([level, 0], np.int32), np.asarray([0.9, 0.1], np.float32))
        if self.kind == "mask":
            classes = np.zeros((6, 8), np.int32)
            classes[:, :4] = 1
            return Mask(classes, np.ones((6, 8), np.float32), boxes)
        return RawOutputs(outputs)


def image(level: int = 100, size: tuple[int, int] = (128, 96), kind: str = ".jpg") -> bytes:
    """An encoded image of one grey level, (W, H)."""
    pixels = np.full((size[1], size[0], 3), level, np.uint8)
    ok, data = cv2.imencode(kind, pixels)
    assert ok
    return data.tobytes()


def frame(seq: int, level: int = 100, *, reset: bool = False, ts: int = 7, **picture: Any) -> bytes:
    """A whole binary message."""
    flags = Flags.RESET if reset else Flags.NONE
    return encode_frame(FrameMessage(Op.IMAGE, flags, seq, ts, image(level, **picture)))


def huge_jpeg() -> bytes:
    """A whole JPEG whose header says 10000 x 10000 pixels."""
    data = bytearray(image())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = (10_000).to_bytes(2, "big") * 2
    return bytes(data)


def subprotocols(token: str | None = None, encoding: Encoding = Encoding.JSON) -> list[str]:
    return offer_subprotocols(encoding, token)


def make_settings(**fields: Any) -> Settings:
    """Settings of a small server; no environment."""
    return Settings(**{"workers": 2, "host": "127.0.0.1", "port": 0, "drain_s": 3.0, **fields})


def make_registry(*models: Model) -> ModelRegistry:
    registry = ModelRegistry()
    for model in models:
        registry.register(model)
    return registry


@contextmanager
def running_server(
    registry: ModelRegistry | None,
    settings: Settings,
    port: int = 0,
    ready_s: float = 240.0,
    placement: Placement | None = None,
) -> Iterator[RunningServer]:
    """A real uvicorn in a thread, on 127.0.0.1. Without a registry: the models of the settings."""
    server = make_server(settings, registry, placement)
    listener = bind("127.0.0.1", port)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="uvicorn", daemon=True)
    running = RunningServer(listener.getsockname()[1], server, thread)
    thread.start()
    try:
        wait_until(lambda: server.started, 60)
        wait_until(lambda: running.service.warm, ready_s)
        yield running
    finally:
        running.stop()


@dataclass
class RunningServer:
    port: int
    server: Any
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def service(self) -> Any:
        return self.server.config.app.state.service

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(15)
        assert not self.thread.is_alive(), "the server did not stop"


def wait_until(condition, timeout_s: float = 30.0) -> None:
    """Poll until `condition()` holds; AssertionError if it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


def idle_lane(service: Any, stream_id: str) -> Any:
    """A stream's lane, once its worker has given it back: a result is out before the lane counts what it cost."""
    lane = service.streams.get(stream_id).lane
    wait_until(lambda: lane.idle)
    return lane
