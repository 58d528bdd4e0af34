"""One frame of a stream as the workers see it, and what becomes of it. No sockets, no state.

Bounds: a job holds one encoded image, of `max_message_bytes` at most, or one of a camera's pictures, of `max_pixels`,
until it is answered; jobs are those in lanes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from clients.wire import Audit, ErrorCode, Flags, FrameMessage, Op, Result, Timing, encode_frame
from service import codec
from service.admission import Overloaded
from service.annotate import annotate
from service.audits.stream import Report, rounded
from service.caches import CacheFull
from service.errors import new_error_id
from service.pipeline import FramePipeline, Outcome, changes_of
from service.reference import Referenced, ReferenceLost
from service.together import Request, run_together
from service.tracking import Tracker, weakest

log = logging.getLogger("afterimage.frames")

CLOCK_AHEAD_US = 50_000
OLDEST_US = 60_000_000
"""A capture time from a minute before a frame's arrival to 50 ms after it is taken to be on this server's clock."""


@dataclass(frozen=True)
class Refused:
    """The frame cannot be computed. `error_id` where the fault is the server's."""

    code: ErrorCode
    detail: str
    error_id: str | None = None


@dataclass(frozen=True)
class Computed:
    """The frame's outcome; `annotated` is the whole binary message, where it was asked for."""

    outcome: Outcome
    queue_ns: int
    annotated: bytes | None = None


Answer: TypeAlias = Computed | Refused


@dataclass
class FrameJob:
    """A frame that waits or is being computed.

    deliver : takes the answer; called in the worker's thread
    abandoned : whether nobody wants the answer any more
    """

    stream_id: str
    frame: FrameMessage
    pipeline: FramePipeline
    deliver: Callable[[FrameJob, Answer], None]
    abandoned: Callable[[], bool]
    received_ns: int
    reset: bool
    min_confidence: float | None = None
    annotate_quality: int | None = None  # JPEG quality; None: no annotated frame
    tracker: Tracker | None = None  # None: boxes get no ids
    changes: bool = False  # whether the result says what was recomputed
    received_ts_us: int = 0  # the wall clock then, microseconds since 1970; 0: not known
    referenced: Referenced | None = None  # where the frame is part of a picture that changes by tiles
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)  # [H, W, 3] BGR: decoded, in the payload's place
    queued_ns: int = field(default_factory=time.perf_counter_ns)  # when it was made, its header checked

    @property
    def source(self) -> bytes | Referenced:
        """What there is to compute."""
        return self.frame.payload if self.referenced is None else self.referenced


def compute(job: FrameJob) -> None:
    """Process of a stream's lane: compute the frame and deliver its answer; never raises."""
    if not job.abandoned():
        job.deliver(job, _answer(job))


def compute_together(jobs: Sequence[FrameJob]) -> list[float]:
    """Process of a group of lanes of one model: each answer is delivered as soon as it is known; never raises.

    Returns nanoseconds that each job itself took, as far as they are known.
    """
    wanted = [job for job in jobs if not job.abandoned()]
    queue_ns = [time.perf_counter_ns() - job.received_ns for job in wanted]
    took: dict[int, float] = {}
    told: set[int] = set()

    def tell(index: int, found: Outcome | Exception) -> None:
        job = wanted[index]
        told.add(index)
        if isinstance(found, Outcome):
            took[id(job)] = found.decode_ns + found.diff_ns + found.infer_ns
        job.deliver(job, _told(job, found, queue_ns[index]))

    try:
        run_together([Request(j.pipeline, j.source, _weakest(j), j.reset) for j in wanted], tell)
    except Exception as error:  # whoever has no answer yet gets this one: none may wait for ever
        for index in set(range(len(wanted))) - told:
            tell(index, error)
    return [took.get(id(job), 0.0) for job in jobs]


def _answer(job: FrameJob) -> Answer:
    queue_ns = time.perf_counter_ns() - job.received_ns
    try:
        found: Outcome | Exception = _run(job)
    except Exception as error:
        found = error
    return _told(job, found, queue_ns)


def _run(job: FrameJob) -> Outcome:
    confidence = _weakest(job)
    if job.pixels is not None:
        return job.pipeline.run_pixels(job.pixels, min_confidence=confidence, reset=job.reset)
    return job.pipeline.run(job.source, min_confidence=confidence, reset=job.reset)


def _told(job: FrameJob, found: Outcome | Exception, queue_ns: int) -> Answer:
    """What a client is told of an outcome, or of what went wrong."""
    if job.tracker is not None and job.reset:
        job.tracker.reset()
    try:
        if isinstance(found, Exception):
            raise found
        outcome = _tracked(job, found)
        return Computed(outcome, queue_ns, _annotated(job, outcome))
    except codec.CodecError as error:
        return Refused(code_of(error), str(error))
    except (CacheFull, Overloaded) as error:
        return Refused(ErrorCode.OVERLOADED, str(error))
    except Exception:
        error_id = new_error_id()
        about = {"stream_id": job.stream_id, "seq": job.frame.seq, "error_id": error_id}
        model = job.pipeline.model.name
        log.exception("stream %s: frame %d failed, error_id=%s", *about.values(), extra={**about, "model": model})
        detail = f"the frame failed and the stream starts afresh; the log has it as {error_id}"
        return Refused(ErrorCode.INTERNAL, detail, error_id)


def _shown(job: FrameJob) -> float:
    """The score from which boxes are shown."""
    return job.pipeline.model.spec.min_confidence if job.min_confidence is None else job.min_confidence


def _weakest(job: FrameJob) -> float | None:
    """The score from which boxes are needed: tracking takes weak ones too."""
    return job.min_confidence if job.tracker is None else weakest(_shown(job))


def _tracked(job: FrameJob, outcome: Outcome) -> Outcome:
    """An outcome with ids on its boxes, where they are asked for."""
    if job.tracker is None:
        return outcome
    return job.tracker.follow(outcome, _shown(job), job.frame.capture_ts_us, job.received_ns)


def _annotated(job: FrameJob, outcome: Outcome) -> bytes | None:
    if job.annotate_quality is None:
        return None
    image = annotate(outcome.image, outcome.found.detections, outcome.found.classes)
    jpeg = codec.encode_jpeg(image, job.annotate_quality)
    return encode_frame(FrameMessage(Op.ANNOTATED, Flags.NONE, job.frame.seq, job.frame.capture_ts_us, jpeg))


def check_header(
    payload: bytes, content_type: str, limits: codec.Limits, size: tuple[int, int] | None = None
) -> Refused | None:
    """Why an image is not worth queueing, by its header alone; None if it is.

    size : width and height that it must have, as a mosaic of tiles; None: any.
    """
    header = header_of(payload, content_type, limits)
    if isinstance(header, Refused):
        return header
    if size is not None and size != (header.width, header.height):
        got = f"{header.width}x{header.height}"
        return Refused(ErrorCode.BAD_TILES, f"expected a mosaic of {size[0]}x{size[1]} for its tiles, got {got}")
    return None


def header_of(payload: bytes, content_type: str, limits: codec.Limits) -> codec.ImageHeader | Refused:
    """The header of an image that is worth queueing, or why it is not."""
    try:
        header = codec.read_header(payload)
    except codec.CodecError as error:
        return Refused(code_of(error), str(error))
    if header.content_type != content_type:
        return Refused(ErrorCode.WRONG_IMAGE_TYPE, f"expected {content_type} as announced, got {header.content_type}")
    if header.width * header.height > limits.max_pixels:
        got = f"{header.width}x{header.height}"
        return Refused(
            ErrorCode.IMAGE_TOO_LARGE, f"expected at most {limits.max_pixels} pixels, got {got} by its header"
        )
    return header


def code_of(error: codec.CodecError) -> ErrorCode:
    """The wire's code for a codec's error."""
    if isinstance(error, codec.TooManyBytes | codec.TooManyPixels | codec.TooCostly):
        return ErrorCode.IMAGE_TOO_LARGE
    if isinstance(error, codec.TruncatedImage):
        return ErrorCode.INCOMPLETE_IMAGE
    return ErrorCode.REFERENCE_MISMATCH if isinstance(error, ReferenceLost) else ErrorCode.BAD_IMAGE


def timing(outcome: Outcome, queue_ns: int, total_ns: int) -> Timing:
    """Milliseconds, to the microsecond."""
    parts = (queue_ns, outcome.decode_ns, outcome.diff_ns, outcome.infer_ns, total_ns)
    queue, decode, diff, infer, total = (round(part / 1e6, 3) for part in parts)
    return Timing(queue=queue, decode=decode, diff=diff, infer=infer, total=total)


def result_message(job: FrameJob, computed: Computed, *, ack: int, dropped: int) -> Result:
    """The result to send for a computed frame, now."""
    outcome = computed.outcome
    total_ns = time.perf_counter_ns() - job.received_ns
    return Result(
        seq=job.frame.seq,
        ack=ack,
        capture_ts_us=job.frame.capture_ts_us,
        timing_ms=timing(outcome, computed.queue_ns, total_ns),
        dropped=dropped,
        compute_fraction=round(outcome.compute_fraction, 6),
        changed_tiles=outcome.changed_tiles,
        decision=outcome.decision,
        width=outcome.width,
        height=outcome.height,
        detections=outcome.found.detections,
        classes=outcome.found.classes,
        masks=outcome.found.masks,
        tensors=outcome.found.tensors,
        audit=None if outcome.audit is None else audit_message(outcome.audit),
        received_ts_us=job.received_ts_us,
        age_ms=capture_age_ms(job.frame.capture_ts_us, job.received_ts_us, total_ns),
        evicted=outcome.evicted,
        changes=changes_of(outcome.recomputed) if job.changes and outcome.recomputed is not None else None,
    )


def capture_age_ms(capture_ts_us: int, received_ts_us: int, total_ns: int) -> float | None:
    """Age of a result since its frame's capture, total_ns after that arrived.

    None where the capture time cannot be on this server's clock. One a little ahead of it counts as the arrival.
    """
    before_us = received_ts_us - capture_ts_us
    if not capture_ts_us or not received_ts_us or not -CLOCK_AHEAD_US <= before_us <= OLDEST_US:
        return None
    return round(max(0, before_us) / 1e3 + total_ns / 1e6, 3)


def audit_message(report: Report) -> Audit:
    """An audit as results tell of it."""
    error, allowed = round(report.error, 6), round(report.allowed, 6)
    return Audit(error=error, allowed=allowed, violation=report.violation, age=report.age, **rounded(report))
