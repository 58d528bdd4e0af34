"""`afterimage bench box`: what frames, streams and starts cost on this machine, for `afterimage plan`.

Frames go through the pipeline that serves streams, from encoded bytes to boxes. Their cost is the thread's own time, so
that other programs count little; how much slower frames are beside each other is a ratio of wall times, and asks for a
quiet machine. A whole server is then started once, for what lies outside of its workers.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cache.policy import Policy
from cache.refresh import PARTS
from clients.python.tiles import TileEncoder
from clients.wire import HEADER_BYTES, Op, TileRules, parse_tiles
from service import codec
from service.bench.changes import Image, pictures, scene
from service.bench.errors import BenchError
from service.bench.machine import Bystanders, machine, use_threads
from service.bench.served import Served
from service.capacity.box import Box, BoxError, ModelCost, Needs, Partial, Picture, Scaling, Start, read_box
from service.evaluate import CAMERA_QUALITY
from service.machine_cpus import cores
from service.machine_memory import limit_bytes
from service.pipeline import FramePipeline, Outcome
from service.preprocess import fit
from service.reference import TILE_PX, Reference
from service.registry import Model
from service.settings import Settings

SHARES = (0.01, 0.03, 0.07, 0.13, 0.25, 0.4, 0.7)
"""Of the area that changes; how many tiles that is, is counted."""
PICTURES = ("640x384", "1280x720", "1920x1080")
ROUNDS = 25
_TOGETHER_SHARE = 0.1
_TURN_S = 0.4
_TURNS = 5
_TILES_QUALITY = 80
_REFRESH_NEVER_S = 1e9

Serve: TypeAlias = Callable[[Model, Sequence[bytes]], Served]
"""Starts a server with a model and sends it frames (`service.bench.served.measure`)."""


class BoxBenchError(BenchError):
    """This machine cannot be measured: a figure that is needed is not to be had."""


def box(
    models: Sequence[Model],
    *,
    rounds: int = ROUNDS,
    workers: int | None = None,
    serve: Serve | None = None,
    cold_s: float | None = None,
    name: str | None = None,
    progress: Callable[[str], None] = lambda said: None,
) -> tuple[Box, float | None]:
    """Measure models on this machine; the box, and the cores that other programs kept busy meanwhile.

    workers : as the server has them; None: as its settings say. serve : None leaves out what only a server tells.
    cold_s : seconds of a first start, where they are known. name : of the kind of box; None: its CPU's and cores.
    Raises BoxBenchError.
    """
    others = Bystanders()
    use_threads(1)
    memory = limit_bytes()
    if memory is None:
        raise BoxBenchError("this system does not tell how much memory it has")
    threads, about = workers or Settings.model_fields["workers"].get_default(call_default_factory=True), machine()
    allowed = cores().number
    rows, served = [], None
    for model in models:
        progress(model.name)
        row = measure(model, threads, rounds)
        if serve is not None:
            progress(f"{model.name}, served")
            served = serve(model, _few_changes(model))
            row = row.model_copy(update={"outside_ms": round(served.outside_ms, 4)})
        rows.append(row)
    busy = others.cores()
    found = Box(
        kind="box",
        name=name or f"{about['cpu']}, {allowed:g} {'core' if allowed == 1 else 'cores'}",
        date=datetime.now(UTC).date(),
        cores=allowed,
        workers=threads,
        memory_bytes=memory,
        models=tuple(rows),
        process_bytes=None if served is None else served.memory_bytes,
        start=None if served is None else Start(warm_s=round(served.start_s, 2), cold_s=cold_s),
        machine=about | {"cores": allowed, "other_programs_cores": busy},
    )
    return found, busy


def measure(model: Model, workers: int, rounds: int = ROUNDS) -> ModelCost:
    """One model's row. Raises BoxBenchError where its engine does not say what it takes of memory."""
    model.warm()
    if model.memory is None:
        raise BoxBenchError(f"{model.name}: its engine does not tell what memory it takes")
    stills = _Subject(model, 0.0)
    subjects = [_Subject(model, share) for share in SHARES]
    for _ in range(rounds):
        for subject in (stills, *subjects):
            subject.turn()
    keyframes = [_own_ms(lambda: stills.pipeline.run(stills.jpegs[0], reset=True)) for _ in range(max(5, rounds // 2))]
    partial: dict[float, Partial] = {}
    for subject in subjects:
        row = subject.row()
        if 0 < row.share < 1:
            partial[row.share] = row
    memory = model.memory
    return ModelCost(
        model=model.name,
        size=f"{model.size[0]}x{model.size[1]}",
        keyframe_ms=_median(keyframes),
        refresh_ms=refresh_ms(model, rounds),
        still_ms=min(_median(stills.jpeg_ms), _median(keyframes)),
        still_tiles_ms=_median(stills.tiles_ms),
        partial=tuple(partial[share] for share in sorted(partial)),
        pictures=tuple(decoding(model, rounds)),
        scaling=tuple(scaling(model, workers)),
        memory=Needs(shared=memory.shared, stream=memory.stream, thread=memory.thread),
    )


@dataclass
class _Subject:
    """Streams of one share of change, one sent whole and one as tiles. Lists: of every frame after the first two."""

    model: Model
    share: float
    jpeg_ms: list[float] = field(default_factory=list)
    tiles_ms: list[float] = field(default_factory=list)
    works: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    tiles_bytes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = pictures(self.model.size, self.share)
        self.jpegs = [codec.encode_jpeg(image, CAMERA_QUALITY) for image in self.images]
        self.pipeline = FramePipeline(self.model, self.model.open_session(), codec.DEFAULT_LIMITS)
        self._tiles = _Tiles(self.model)
        for _ in range(2):  # a keyframe, and a first turn that is not counted
            self._pair(count=False)

    def turn(self) -> None:
        """Each of the two pictures, both ways."""
        self._pair(count=True)

    def row(self) -> Partial:
        """What was found."""
        return Partial(
            share=round(statistics.median(self.shares), 4), ms=_median(self.jpeg_ms), tiles_ms=_median(self.tiles_ms),
            work=round(min(1.0, statistics.median(self.works)), 4),
            jpeg_bytes=round(statistics.mean(map(len, self.jpegs))),
            tiles_bytes=round(statistics.mean(self.tiles_bytes)),
        )  # fmt: skip

    def _pair(self, count: bool) -> None:
        for image, jpeg in zip(self.images, self.jpegs, strict=True):
            whole_ms, outcome = _timed(lambda jpeg=jpeg: self.pipeline.run(jpeg))  # type: ignore[misc]
            tiles_ms, nbytes = self._tiles.run(image)
            if not count:
                continue
            self.jpeg_ms.append(whole_ms)
            self.tiles_ms.append(tiles_ms)
            self.tiles_bytes.append(nbytes)
            self.works.append(outcome.compute_fraction)
            self.shares.append(outcome.changed_tiles / max(1, len(self.pipeline.session.grid)))


class _Tiles:
    """A stream that is sent as the tiles that changed, as the client and the server do it."""

    def __init__(self, model: Model) -> None:
        rules = TileRules(tile_px=TILE_PX, difference=Settings.model_fields["tile_difference_levels"].default)
        self._encoder = TileEncoder(_TILES_QUALITY, rules, refresh_s=_REFRESH_NEVER_S)
        self._reference = Reference(codec.DEFAULT_LIMITS, 16 << 20)
        self._pipeline = FramePipeline(model, model.open_session(), codec.DEFAULT_LIMITS)
        self._seq = 0

    def run(self, image: Image) -> tuple[float, int]:
        """The worker's milliseconds, and the message's bytes."""
        self._seq += 1
        encoded = self._encoder.encode(image)
        self._encoder.sent(encoded)
        if encoded.op is Op.IMAGE:
            self._reference.take_whole(self._seq, encoded.payload, encoded.size, (self._seq,))
        else:
            self._reference.take_tiles(self._seq, encoded.payload, parse_tiles(encoded.payload))
        took_ms = _own_ms(lambda: self._pipeline.run(self._reference.at(self._seq)))
        return took_ms, len(encoded.payload) + HEADER_BYTES


def refresh_ms(model: Model, rounds: int) -> float:
    """A turn of refresh: what its parts take more than frames of which nothing is looked at again."""
    frame = _frame(model)
    parted, plain = model.open_session(), model.open_session()
    parted.push(frame, at_s=0.0)
    plain.push(frame, at_s=0.0)
    with_parts, without, part_s = [], [], Policy().refresh_s / PARTS
    for number in range(1, PARTS * max(1, rounds // 8) + 1):
        with_parts.append(_own_ms(lambda at=number * part_s: parted.push(frame, at_s=at)))  # type: ignore[misc]
        without.append(_own_ms(lambda: plain.push(frame, at_s=0.0)))
    more = statistics.mean(with_parts) - statistics.mean(without)
    return round(max(0.001, more * PARTS), 4)


def decoding(model: Model, rounds: int) -> list[Picture]:
    """Decoding and fitting JPEGs of the network's size and of usual cameras'."""
    own = f"{model.size[0]}x{model.size[1]}"
    found = []
    for size in dict.fromkeys((own, *PICTURES)):
        width, height = (int(side) for side in size.split("x"))
        jpeg = codec.encode_jpeg(scene((width, height)), CAMERA_QUALITY)
        times = [_own_ms(lambda: fit(codec.decode(jpeg), model.size, model.spec)) for _ in range(max(3, rounds))]  # noqa: B023
        found.append(Picture(size=size, ms=_median(times), bytes=len(jpeg) + HEADER_BYTES))
    return found


def scaling(model: Model, workers: int, turns: int = _TURNS, turn_s: float = _TURN_S) -> list[Scaling]:
    """How much slower a frame is where as many threads as workers compute one each (and two, where there are more).

    Lower quartiles of wall time, in turns of one thread and of several: what other programs do spoils them last.
    """
    counts = sorted({1, min(2, workers), workers})
    streams = [_Player(model) for _ in range(workers)]
    times: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(turns):
        for count in counts:
            end = time.perf_counter() + turn_s
            threads = [threading.Thread(target=stream.play, args=(end,)) for stream in streams[:count]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for stream in streams[:count]:
                times[count] += stream.taken()
    quartiles = {count: statistics.quantiles(found, n=4)[0] for count, found in times.items()}
    return [
        Scaling(threads=count, slowdown=round(max(1.0, quartiles[count] / quartiles[1]), 3))
        for count in counts
    ]  # fmt: skip


class _Player:
    """A stream that is pushed as fast as it goes."""

    def __init__(self, model: Model) -> None:
        self._jpegs = [codec.encode_jpeg(image, CAMERA_QUALITY) for image in pictures(model.size, _TOGETHER_SHARE)]
        self._pipeline = FramePipeline(model, model.open_session(), codec.DEFAULT_LIMITS)
        self._times: list[float] = []
        for jpeg in self._jpegs:
            self._pipeline.run(jpeg)

    def play(self, end: float) -> None:
        """Until a moment; at least once."""
        while True:
            for jpeg in self._jpegs:
                begun = time.perf_counter_ns()
                self._pipeline.run(jpeg)
                self._times.append((time.perf_counter_ns() - begun) / 1e6)
            if time.perf_counter() >= end:
                return

    def taken(self) -> list[float]:
        """Milliseconds of each frame since the last call."""
        times, self._times = self._times, []
        return times


def _few_changes(model: Model) -> list[bytes]:
    return [codec.encode_jpeg(image, CAMERA_QUALITY) for image in pictures(model.size, SHARES[0])]


def _frame(model: Model) -> Image:
    image: Image = np.ascontiguousarray(fit(scene(model.size), model.size, model.spec)[0])
    return image


def _timed(call: Callable[[], Outcome]) -> tuple[float, Outcome]:
    begun = time.thread_time_ns()
    outcome = call()
    return (time.thread_time_ns() - begun) / 1e6, outcome


def _own_ms(call: Callable[[], object]) -> float:
    """The thread's own time of one call."""
    begun = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - begun) / 1e6


def _median(times_ms: Sequence[float]) -> float:
    return round(max(0.001, statistics.median(times_ms)), 4)


def merged(found: Box, path: Path) -> Box:
    """The box with what the file of the same box and versions has of other models; just itself where there is none."""
    try:
        before = read_box(path)
    except BoxError:
        return found
    same = (before.name, before.cores, before.workers, before.machine.get("versions"))
    if same != (found.name, found.cores, found.workers, found.machine.get("versions")):
        return found
    return before.with_models(found.models).model_copy(
        update={key: getattr(found, key) for key in ("date", "memory_bytes", "process_bytes", "machine")}
        | {"start": found.start or before.start}
    )
