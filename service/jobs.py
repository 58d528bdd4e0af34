"""One frame of a stream as the workers see it, and what becomes of it. No sockets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from clients.wire import Audit, ErrorCode, Flags, FrameMessage, Op, Result, Timing, encode_frame
from service import codec
from service.annotate import annotate
from service.audits.stream import Report, rounded
from service.errors import new_error_id
from service.pipeline import FramePipeline, Outcome

log = logging.getLogger("afterimage.frames")


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


def compute(job: FrameJob) -> None:
    """Process of a stream's lane: compute the frame and deliver its answer; never raises."""
    if not job.abandoned():
        job.deliver(job, _answer(job))


def _answer(job: FrameJob) -> Answer:
    queue_ns = time.perf_counter_ns() - job.received_ns
    try:
        outcome = job.pipeline.run(job.frame.payload, min_confidence=job.min_confidence, reset=job.reset)
        return Computed(outcome, queue_ns, _annotated(job, outcome))
    except codec.CodecError as error:
        return Refused(code_of(error), str(error))
    except Exception:
        error_id = new_error_id()
        log.exception("stream %s: frame %d failed, error_id=%s", job.stream_id, job.frame.seq, error_id)
        detail = f"the frame failed and the stream starts afresh; the log has it as {error_id}"
        return Refused(ErrorCode.INTERNAL, detail, error_id)


def _annotated(job: FrameJob, outcome: Outcome) -> bytes | None:
    if job.annotate_quality is None:
        return None
    image = annotate(outcome.image, outcome.found.detections, outcome.found.classes)
    jpeg = codec.encode_jpeg(image, job.annotate_quality)
    return encode_frame(FrameMessage(Op.ANNOTATED, Flags.NONE, job.frame.seq, job.frame.capture_ts_us, jpeg))


def check_header(payload: bytes, content_type: str, limits: codec.Limits) -> Refused | None:
    """Why an image is not worth queueing, by its header alone; None if it is."""
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
    return None


def code_of(error: codec.CodecError) -> ErrorCode:
    """The wire's code for a codec's error."""
    if isinstance(error, codec.TooManyBytes | codec.TooManyPixels | codec.TooCostly):
        return ErrorCode.IMAGE_TOO_LARGE
    if isinstance(error, codec.TruncatedImage):
        return ErrorCode.INCOMPLETE_IMAGE
    return ErrorCode.BAD_IMAGE


def timing(outcome: Outcome, queue_ns: int, total_ns: int) -> Timing:
    """Milliseconds, to the microsecond."""
    parts = (queue_ns, outcome.decode_ns, outcome.diff_ns, outcome.infer_ns, total_ns)
    queue, decode, diff, infer, total = (round(part / 1e6, 3) for part in parts)
    return Timing(queue=queue, decode=decode, diff=diff, infer=infer, total=total)


def result_message(job: FrameJob, computed: Computed, *, ack: int, dropped: int) -> Result:
    """The result to send for a computed frame, now."""
    outcome = computed.outcome
    return Result(
        seq=job.frame.seq,
        ack=ack,
        capture_ts_us=job.frame.capture_ts_us,
        timing_ms=timing(outcome, computed.queue_ns, time.perf_counter_ns() - job.received_ns),
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
    )


def audit_message(report: Report) -> Audit:
    """An audit as results tell of it."""
    error, allowed = round(report.error, 6), round(report.allowed, 6)
    return Audit(error=error, allowed=allowed, violation=report.violation, age=report.age, **rounded(report))
