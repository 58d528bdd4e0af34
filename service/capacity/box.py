"""What was measured of a kind of box: a JSON file that `afterimage bench box` writes and `afterimage plan` reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kernels import cache_folder
from service.explain import first_problem

FILE = "box.json"
_Ms = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
_Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
_Bytes = Annotated[int, Field(ge=0, le=1 << 50)]
_Size = Annotated[str, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")]


class BoxError(ValueError):
    """A file is no measurement of a box, or lacks what is asked of it; the message says what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Partial(_Part):
    """Frames of which a share of the tiles changed. ms, tiles_ms : of a core, sent whole and as tiles, from encoded
    bytes to boxes. work : share of a dense frame's multiplications. jpeg_bytes, tiles_bytes : of a message."""

    share: _Share
    ms: _Ms
    tiles_ms: _Ms
    work: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    jpeg_bytes: _Bytes
    tiles_bytes: _Bytes


class Picture(_Part):
    """Decoding and fitting a JPEG of a size: ms of a core; bytes : of the JPEG."""

    size: _Size
    ms: _Ms
    bytes: _Bytes


class Scaling(_Part):
    """A frame's time where so many threads compute one each, over its time where one does."""

    threads: Annotated[int, Field(ge=1, le=1024)]
    slowdown: Annotated[float, Field(ge=0.5, le=1e6, allow_inf_nan=False)]


class Needs(_Part):
    """Bytes of a model: once, for each stream, for each thread."""

    shared: _Bytes
    stream: _Bytes
    thread: _Bytes


class ModelCost(_Part):
    """What frames of one model at one size cost. Milliseconds are of a core that has no others beside it.

    keyframe_ms : a frame that is recomputed whole, from JPEG to boxes. refresh_ms : a turn of refresh, all its parts
    together (`cache.refresh`). still_ms, still_tiles_ms : nothing changed.
    outside_ms : of a core for each frame outside of the workers: sockets, messages; None: not measured.
    """

    model: Annotated[str, Field(min_length=1, max_length=200)]
    size: _Size
    keyframe_ms: _Ms
    refresh_ms: _Ms
    still_ms: _Ms
    still_tiles_ms: _Ms
    partial: Annotated[tuple[Partial, ...], Field(min_length=2, max_length=100)]
    pictures: Annotated[tuple[Picture, ...], Field(min_length=1, max_length=100)]
    scaling: Annotated[tuple[Scaling, ...], Field(min_length=1, max_length=100)]
    memory: Needs
    outside_ms: _Ms | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        shares = [row.share for row in self.partial]
        if any(later <= earlier for earlier, later in pairwise(shares)):
            raise ValueError(f"expected partial frames by rising share, got {shares}")
        if self.still_ms > self.keyframe_ms:
            raise ValueError(
                "expected a still frame to cost less than a whole one,"
                f" got {self.still_ms:g} and {self.keyframe_ms:g} ms"
            )
        if len({row.threads for row in self.scaling}) < len(self.scaling):
            raise ValueError("expected each number of threads once in scaling")
        return self

    def ms(self, share: float, tiles: bool = False) -> float:
        """Of a core, for a frame of which a share of the tiles changed (0 to 1), at the network's own size.

        Between measured shares along straight lines. tiles : sent as changed tiles.
        """
        still = self.still_tiles_ms if tiles else self.still_ms
        middle = [row.tiles_ms if tiles else row.ms for row in self.partial]
        xs = [0.0, *(row.share for row in self.partial), 1.0]
        return float(np.interp(share, xs, [still, *middle, self.keyframe_ms]))

    def message_bytes(self, share: float, tiles: bool = False) -> float:
        """Of a frame on the wire, likewise, at the network's own size."""
        rows = self.partial
        whole = rows[-1].jpeg_bytes
        ends = [0.0, *(row.tiles_bytes for row in rows), whole] if tiles else [rows[0].jpeg_bytes, *(
            row.jpeg_bytes for row in rows), whole]  # fmt: skip
        return float(np.interp(share, [0.0, *(row.share for row in rows), 1.0], ends))

    def picture(self, size: str) -> Picture:
        """Decoding a JPEG of a size: as measured, else by its pixels from the measured ones next to it."""
        rows = sorted(self.pictures, key=lambda row: pixels(row.size))
        known = next((row for row in rows if row.size == size), None)
        if known is not None:
            return known
        at = [float(pixels(row.size)) for row in rows]
        wanted = float(pixels(size))
        if wanted > at[-1]:  # beyond what was measured it goes on by the pixel
            factor = wanted / at[-1]
            return Picture(size=size, ms=rows[-1].ms * factor, bytes=round(rows[-1].bytes * factor))
        found_ms = float(np.interp(wanted, at, [row.ms for row in rows]))
        return Picture(size=size, ms=found_ms, bytes=round(float(np.interp(wanted, at, [row.bytes for row in rows]))))

    def slowdown(self, threads: int) -> float:
        """Of a frame beside those of so many threads; as of the most that were measured where there are more."""
        rows = sorted(self.scaling, key=lambda row: row.threads)
        return float(np.interp(threads, [row.threads for row in rows], [row.slowdown for row in rows]))


class Start(_Part):
    """Seconds from a server's start until it is ready. warm : kernels on disk; cold : none compiled yet."""

    warm_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
    cold_s: Annotated[float, Field(gt=0, le=36000, allow_inf_nan=False)] | None = None


class Box(_Part):
    """A kind of box. cores : that a server may use, in parts of one where a quota says so. workers : inference threads,
    as the server has them. process_bytes : resident memory of a server with one model and no streams. estimate : how
    the figures were derived, where they were not measured. machine : what `service.bench.machine` tells, for people."""

    kind: Literal["box"]
    version: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=200)]
    date: date
    cores: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)]
    workers: Annotated[int, Field(ge=1, le=64)]
    memory_bytes: Annotated[int, Field(gt=0, le=1 << 50)]
    models: Annotated[tuple[ModelCost, ...], Field(min_length=1, max_length=1000)]
    process_bytes: _Bytes | None = None
    start: Start | None = None
    estimate: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    machine: dict[str, Any] = {}

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [(row.model, row.size) for row in self.models]
        if len(set(names)) < len(names):
            raise ValueError("expected each model at a size once")
        return self

    def cost(self, model: str, size: str | None) -> ModelCost:
        """Of a model, at a size (None: the only one measured). Raises BoxError with what there is and how to get it."""
        found = [row for row in self.models if row.model == model and size in (None, row.size)]
        if len(found) == 1:
            return found[0]
        had = ", ".join(f"{row.model} at {row.size}" for row in self.models)
        if found:
            raise BoxError(f"{self.name} was measured with {had}; choose with --size")
        wanted = f"afterimage bench box {model}" + (f" --size {size}" if size else "")
        asked = f"{model} at {size}" if size else model
        raise BoxError(f"{self.name} was measured with {had}, not with {asked}; measure it there with: {wanted}")

    def with_models(self, rows: Sequence[ModelCost]) -> Box:
        """The same box with these rows, in the place of those of the same models and sizes."""
        fresh = {(row.model, row.size): row for row in (*self.models, *rows)}
        return self.model_copy(update={"models": tuple(fresh.values())})

    def write(self, path: Path) -> None:
        """Write the file, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)


def pixels(size: str) -> int:
    """Of a size such as "640x384"."""
    width, _, height = size.partition("x")
    return int(width) * int(height)


def default_path() -> Path:
    """Where `afterimage bench box` writes to and `afterimage plan` reads from, unless told otherwise."""
    return cache_folder() / FILE


def read_box(path: Path | None = None) -> Box:
    """A measured box; None reads the one of this user. Raises BoxError with what is wrong, or how to measure."""
    chosen = path or default_path()
    try:
        text = chosen.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        hint = "" if path else "; measure this machine with: afterimage bench box MODEL  (or name a file: --box FILE)"
        raise BoxError(f"{chosen}: no such file{hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BoxError(f"{chosen}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return Box.model_validate_json(text)
    except ValidationError as error:
        raise BoxError(f"{chosen}: not a measured box: {first_problem(error, Box)}") from error
