"""One frame through the engine: decode, fit, push, decode the outputs, map back to frame pixels.

Runs in a worker thread. Knows sessions and families, and neither streams nor sockets. The three parts of a frame,
`prepare`, `push` and `finish`, stand by themselves, so that frames of several streams can be pushed at once
(`service.together`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.wire import Changes, ClassScore, Detection, Mask, Tensor
from service import codec
from service.admission import Overloaded
from service.audits.stream import Report, StreamAudits
from service.caches import Caches
from service.families import Classification, Detections, RawOutputs
from service.families import Mask as FamilyMask
from service.families import Result as FamilyResult
from service.kept_input import KeptInput, take_in
from service.model_spec import ModelSpec
from service.preprocess import Placement, fit
from service.reference import Picture, Referenced, Tiles
from service.registry import EngineResult, EngineSession, Model

MAX_TENSOR_VALUES = 4096


@dataclass(frozen=True)
class Found:
    """What a model found, ready for the wire; boxes in frame pixels. None: the model gives no such thing."""

    detections: tuple[Detection, ...] | None = None
    classes: tuple[ClassScore, ...] | None = None
    masks: tuple[Mask, ...] | None = None
    tensors: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Recomputed:
    """tiles : bool[rows, columns], squares of `tile_px` of the model's input, in which the frame lies at `placement`.
    stages : float64[n], the share recomputed of each stage of the network."""

    tiles: NDArray[np.bool_]
    tile_px: int
    stages: NDArray[np.float64]
    placement: Placement


@dataclass(frozen=True)
class Outcome:
    """Everything about one frame that was computed. `image` is uint8[H, W, 3] BGR, not to be written to."""

    width: int
    height: int
    found: Found
    decision: str
    compute_fraction: float
    changed_tiles: int
    decode_ns: int
    diff_ns: int
    infer_ns: int
    image: NDArray[np.uint8] = field(repr=False)
    audit: Report | None = None
    """Of an audit that ended since the last frame."""
    reason: str = ""
    """Of the decision, in the engine's words."""
    recomputed: Recomputed | None = field(default=None, repr=False)
    """Where the picture was taken in, and what that meant for the network; None where nobody says."""
    evicted: bool = False
    """Whether what was cached had been freed for other streams since the last frame."""


@dataclass(frozen=True)
class Prepared:
    """A decoded frame in its place in the model's input. `image` as sent, `frame` as pushed: both uint8[H, W, C].

    at_s : when it was decoded, seconds of a clock that only rises. within : the tiles in which it can differ from the
    frame pushed before; None: any. kept : to go on from, of a picture that changes by tiles.
    """

    image: NDArray[np.uint8] = field(repr=False)
    frame: NDArray[np.uint8] = field(repr=False)
    placement: Placement
    spec: ModelSpec
    decode_ns: int
    at_s: float
    within: Tiles | None = field(default=None, repr=False)
    kept: KeptInput | None = None


class FramePipeline:
    """A session with its model. Not thread-safe: one worker at a time uses it, inside `held`.

    session : None: one is opened when it is needed. `min_confidence` overrides the model's own where it is not None.
    audits : of the session's frames; None for none. caches : that the session counts in and may be evicted by; None for
    none. audits_of : makes the audits of a model that takes this one's place in a reload.
    """

    def __init__(
        self,
        model: Model,
        session: EngineSession | None,
        limits: codec.Limits,
        audits: StreamAudits | None = None,
        caches: Caches | None = None,
        audits_of: Callable[[Model], StreamAudits | None] = lambda model: None,
    ) -> None:
        self.model = model
        self.audits = audits
        self._audits_of = audits_of
        self._session = session
        self._limits = limits
        self._caches = caches
        self._evicted = False
        self._geometry: tuple[object, ...] | None = None
        self._kept: KeptInput | None = None  # what the session was pushed last, if that was a picture of tiles

    @property
    def nbytes(self) -> int:
        """What its session takes, or will take; 0 of an engine that does not say."""
        memory = self.model.memory
        return 0 if memory is None else memory.stream

    @property
    def held_bytes(self) -> int:
        """What its session takes now."""
        return 0 if self._session is None else self.nbytes

    @property
    def session(self) -> EngineSession:
        """The session; opened if there is none. Use inside `held`."""
        if self._session is None:
            self._session = self.model.open_session()
            if self.audits is not None:
                self.audits.renew()
        return self._session

    def held(self) -> AbstractContextManager[None]:
        """While this is entered the session is not evicted. Raises CacheFull where there is no room for one.

        A model that was reloaded is followed first.
        """
        self._follow()
        return nullcontext() if self._caches is None else self._caches.hold(self)

    def open(self) -> None:
        """Open the session now. Raises CacheFull, or ModelFailed; not for the event loop."""
        self.model.ready()  # what it takes is known from here on
        with self.held():
            self.session  # noqa: B018

    def evict(self) -> None:
        """Free the session; the next frame is a keyframe, and says so."""
        self._session, self._geometry, self._kept, self._evicted = None, None, None, True

    def reset(self) -> None:
        """Forget what is cached: the next frame is a keyframe."""
        if self._session is not None:
            self._session.reset()
        self._geometry = self._kept = None

    def run(self, data: bytes | Referenced, *, min_confidence: float | None = None, reset: bool = False) -> Outcome:
        """Compute one encoded image, or one frame of a picture that changes by tiles.

        Raises CodecError for an image that cannot be taken, Overloaded where there is no memory to decode it, and
        CacheFull where there is none for a session; all leave what is cached as it was. After any other error the
        session has been reset.
        """
        with self.held():
            return self._compute(self.prepare(data, min_confidence=min_confidence, reset=reset))

    def run_pixels(
        self, image: NDArray[np.uint8], *, min_confidence: float | None = None, reset: bool = False
    ) -> Outcome:
        """Compute one image that is decoded already: uint8[H, W, 3] BGR. After an error the session has been reset."""
        with self.held():
            if reset:
                self.reset()
            return self._compute(self._placed(image, 0, min_confidence))

    def run_tensor(self, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """The network's outputs for float32[1, C, H, W], normalised already; copies. Nothing is cached before or after.

        Raises ValueError for another shape, and CacheFull.
        """
        with self.held():
            self.reset()
            try:
                outputs = self.session.push_tensor(x).outputs
                self._filled()
                return {name: np.array(value) for name, value in outputs.items()}
            finally:
                self.reset()

    def _follow(self) -> None:
        """Go on with the model that a reload has put in this one's place: its first frame is a keyframe."""
        model = self.model.newest()
        if model is not self.model:
            self.model, self._session, self._geometry, self._kept = model, None, None, None
            self.audits = self._audits_of(model)
            if self._caches is not None:
                self._caches.forget(self)  # the new model's session takes another room

    def _filled(self) -> None:
        """A frame has been computed: the machine sees from now on what the session takes."""
        if self._caches is not None:
            self._caches.filled(self)

    def _compute(self, prepared: Prepared) -> Outcome:
        try:
            return self.finish(prepared, self.push(prepared))
        except BaseException:
            self.reset()
            raise

    def prepare(
        self, data: bytes | Referenced, *, min_confidence: float | None = None, reset: bool = False
    ) -> Prepared:
        """Decode an image and fit it into the model's input, and be ready to push it. Errors as `run`."""
        if reset:
            self.reset()
        started = time.perf_counter_ns()
        picture: Picture | None = None
        try:
            if isinstance(data, bytes):
                image = codec.decode(data, self._limits)
            else:
                picture = data.picture()
                image = picture.image
                image.flags.writeable = False  # others may look at it
        except (codec.CodecError, Overloaded):  # nothing was changed
            raise
        except BaseException:
            self.reset()
            raise
        return self._placed(image, time.perf_counter_ns() - started, min_confidence, picture)

    def _placed(
        self,
        image: NDArray[np.uint8],
        decode_ns: int,
        min_confidence: float | None,
        picture: Picture | None = None,
    ) -> Prepared:
        """A decoded image in the model's input. After an error the session has been reset.

        picture : that changes by tiles, and whose image it is.
        """
        before, self._kept = self._kept, None
        try:
            spec = self.model.spec
            if min_confidence is not None:
                spec = spec.model_copy(update={"min_confidence": min_confidence})
            within = kept = None
            if picture is None:
                frame, placement = fit(image, self.model.size, spec)
            else:
                kept, within = take_in(picture, before, self.model.size, spec, self.session.grid)
                frame, placement = kept.frame, kept.placement
            geometry = _geometry(placement)
            if self._geometry is not None and geometry != self._geometry:
                self.session.reset()
            self._geometry = geometry
            if self.audits is not None and self.audits.before(self.session):
                within = None
        except BaseException:
            self.reset()
            raise
        return Prepared(image, frame, placement, spec, decode_ns, time.monotonic(), within, kept)

    def push(self, prepared: Prepared) -> EngineResult:
        """Run the network. After an error the caller resets."""
        return self.session.push(prepared.frame, at_s=prepared.at_s, within=prepared.within)

    def finish(self, prepared: Prepared, result: EngineResult) -> Outcome:
        """What a result says, in pixels of the frame as sent; nothing refers to the session. After an error: reset."""
        audits, spec, size = self.audits, prepared.spec, self.model.size
        self._filled()
        if audits is not None:
            audits.after(prepared.frame, result.outputs)
        found = describe(self.model.family.decode(result.outputs, spec, size), spec, prepared.placement, size)
        evicted, self._evicted, self._kept = self._evicted, False, prepared.kept
        return Outcome(
            width=prepared.image.shape[1],
            height=prepared.image.shape[0],
            found=found,
            decision=result.decision,
            compute_fraction=float(result.compute_fraction),
            changed_tiles=int(result.changed_tiles),
            decode_ns=prepared.decode_ns,
            diff_ns=int(result.diff_ns),
            infer_ns=int(result.infer_ns),
            image=prepared.image,
            audit=None if audits is None else audits.news(),
            recomputed=Recomputed(result.tiles, self.session.grid.tile, result.stages, prepared.placement),
            evicted=evicted,
            reason=result.reason,
        )


def _geometry(placement: Placement) -> tuple[object, ...]:
    """Where the frame lies in the plan's input. Frames of another size but the same place share a cache."""
    (width, height), (scale_x, scale_y) = placement.frame_size, placement.scale
    return round(width * scale_x), round(height * scale_y), *placement.offset


def describe(result: FamilyResult, spec: ModelSpec, placement: Placement, size: tuple[int, int]) -> Found:
    """A family's result in plan pixels as wire structs in frame pixels; nothing refers to the session."""
    if isinstance(result, Detections):
        return Found(detections=_detections(result, spec, placement))
    if isinstance(result, Classification):
        ids = result.class_id.tolist()
        scores = result.score.tolist()
        return Found(
            classes=tuple(
                ClassScore(class_id=class_id, label=spec.label(class_id), score=round(score, 4))
                for class_id, score in zip(ids, scores, strict=True)
            )
        )
    if isinstance(result, FamilyMask):
        return Found(
            detections=_detections(result.regions, spec, placement),
            masks=_masks(result, spec, placement, size),
        )
    assert isinstance(result, RawOutputs)
    return Found(tensors=tuple(_tensor(name, values) for name, values in result.tensors.items()))


def _detections(found: Detections, spec: ModelSpec, placement: Placement) -> tuple[Detection, ...]:
    finite = np.isfinite(found.xyxy).all(axis=1) & np.isfinite(found.score)
    placed = placement.detections_to_frame(found.select(finite))
    boxes = placed.xyxy.astype(np.float64).round(2).tolist()
    scores = placed.score.astype(np.float64).round(4).tolist()
    ids = placed.class_id.tolist()
    points: list[Any] = [None] * len(ids)
    if placed.keypoints is not None:
        rounded = placed.keypoints.astype(np.float64).round(2).tolist()
        points = [tuple(tuple(point) for point in row) for row in rounded]
    return tuple(
        Detection(xyxy=tuple(box), score=score, class_id=number, label=spec.label(number), keypoints=marks)
        for box, score, number, marks in zip(boxes, scores, ids, points, strict=True)
    )


def _masks(mask: FamilyMask, spec: ModelSpec, placement: Placement, size: tuple[int, int]) -> tuple[Mask, ...]:
    """Run lengths per class that is there, without the background."""
    covered = covered_part(placement, size)
    present = np.unique(mask.classes).tolist()
    single = len(spec.labels) <= 1 and set(present) <= {0, 1}  # one channel: 1 is class 0, 0 is nothing
    wanted = [value for value in present if (value != 0 if single else value != spec.background)]
    height, width = mask.classes.shape
    return tuple(
        Mask(
            class_id=0 if single else value,
            label=spec.label(0 if single else value),
            size=(height, width),
            counts=run_lengths(mask.classes == value),
            xyxy=covered,
        )
        for value in wanted
    )


def covered_part(placement: Placement, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of a frame below a model's input, or grid, of this width and height: left, top, right, bottom, px."""
    corners = np.asarray([[0.0, 0.0], [size[0], size[1]]], np.float32)
    (left, top), (right, bottom) = placement.points_to_frame(corners).astype(np.float64).round(2).tolist()
    return left, top, right, bottom


def changes_of(recomputed: Recomputed) -> Changes:
    """What was recomputed, ready for the wire."""
    rows, columns = recomputed.tiles.shape
    covered = columns * recomputed.tile_px, rows * recomputed.tile_px
    return Changes(
        size=(rows, columns),
        counts=run_lengths(recomputed.tiles),
        xyxy=covered_part(recomputed.placement, covered),
        stages=tuple(
            recomputed.stages.clip(0.0, 1.0).round(4).tolist()
        ),  # work in whole tiles may exceed a dense frame
    )


def run_lengths(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Lengths of the runs of equal values in row-major order, the first of zeros (perhaps 0 long)."""
    flat = mask.reshape(-1)
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return (0, *lengths) if flat.size and flat[0] else tuple(lengths)


def _tensor(name: str, values: NDArray[Any]) -> Tensor:
    small = values.size <= MAX_TENSOR_VALUES and np.issubdtype(values.dtype, np.number)
    data = None
    if small:
        numbers = np.asarray(values, np.float64).reshape(-1).tolist()
        data = tuple(number if math.isfinite(number) else None for number in numbers)
    return Tensor(name=name, dtype=values.dtype.name, shape=tuple(values.shape), data=data)
