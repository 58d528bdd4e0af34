"""`afterimage bench techniques`: the techniques of the field one at a time on a clip, and all of them together.

Every frame goes through every way of running the model, each in its turn, and the order moves on by one from frame to
frame. All see the same pixels, and all are compared with direct convolution of the whole frame in float32.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache.tail import TailError
from service.agreement import WEAK, Agreement
from service.bench.deepmon import Rule
from service.bench.errors import BenchError
from service.bench.joules import MODEL
from service.bench.machine import Bystanders, machine, settle, use_threads
from service.bench.subjects import (
    ALL,
    BASELINE,
    CACHING,
    FLOAT32,
    KEYS,
    LABELS,
    REFERENCE,
    STREAMS,
    Maker,
    Smaller,
    Subject,
)
from service.bench.variants import Image
from service.energy import Meter
from service.evaluate import CAMERA_QUALITY, EvaluationError, through_jpeg, to_plan_size
from service.exercise import pictures
from service.families.base import Outputs, boxes_of
from service.opened import OpenedModel
from service.preprocess import fit

FRAMES = 40
SAMPLES = 32
"""Frames that a compression is given, every second one to fit to."""
PRECISION = "float32 where a row does not say otherwise"
Clock = Callable[[], int]
"""Nanoseconds, never back."""


@dataclass
class Track:
    """What was found of one row, frame by frame. work : share of the original's dense work. error : see
    `relative_rms`. joules : measured, or estimated.
    """

    ms: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    estimated: list[float] = field(default_factory=list)
    agreement: Agreement = field(default_factory=Agreement)


def techniques(
    opened: OpenedModel,
    frames: Iterable[Image],
    *,
    source: str,
    samples: Sequence[Image] | None = None,
    spec: Path | None = None,
    threads: int = 1,
    only: Collection[str] = KEYS,
    rule: Rule | None = None,
    error: float = 0.05,
    smaller: dict[str, Smaller] | None = None,
    compressed: Path | None = None,
    meter: Meter | None = None,
    clock: Clock = time.perf_counter_ns,
    progress: Callable[[str, int], None] = lambda what, done: None,
) -> dict[str, Any]:
    """All rows of one model on one clip, ready for JSON.

    frames : uint8[H, W, 3] BGR of any size; each is brought to plan size and through JPEG, as `verify` does. source :
    the model as a compression opens it. samples : other frames of the clip, that a compression may look at; None takes
    some of those that are measured. only : rows that are measured; the reference always is. spec, rule, error,
    smaller, compressed : see `Maker`. meter : None looks for this machine's own. progress : called with what is being
    done, and the frames done.
    Keys: "model", "size", "threads", "precision", "frames", "energy" (where joules come from), "rows" (see `row`),
    "samples_apart" (whether a compression made here saw none of the frames; else null), "all_over_caching" and
    "float32_over_caching" (times as fast; null without both rows), "machine".
    Raises EvaluationError for a clip of fewer than two frames, BenchError for a row that there is not.
    """
    unknown = sorted(set(only) - set(KEYS))
    if unknown:
        raise BenchError(f"expected rows among {', '.join(KEYS)}, got {', '.join(unknown)}")
    others = Bystanders()
    use_threads(threads)
    seen = as_seen(frames, opened)
    looked_at = evenly(seen, SAMPLES) if samples is None else as_seen(samples, opened)
    maker = Maker(
        opened,
        source,
        looked_at,
        spec=spec,
        threads=threads,
        rule=rule,
        error=error,
        smaller=smaller,
        compressed=compressed,
    )
    subjects, reasons = made(maker, [key for key in KEYS if key in only or key == REFERENCE], progress)
    meter = meter or Meter()
    tracks = run(subjects, seen, meter, clock, threads, progress)
    rows = [
        row(key, subjects.get(key), tracks.get(key), reasons.get(key), meter.source)
        for key in KEYS if key in subjects or key in reasons
    ]  # fmt: skip
    add_ratios(rows)
    times = {found["key"]: found["mean_ms"] for found in rows if found["reason"] is None}
    return {
        "model": opened.model.name,
        "size": f"{opened.size[0]}x{opened.size[1]}",
        "threads": threads,
        "precision": PRECISION,
        "frames": len(seen),
        "energy": f"measured: {meter.source}" if meter.known else MODEL,
        "rows": rows,
        "samples_apart": None if compressed is not None else samples is not None,
        "all_over_caching": _ratio(times.get(CACHING), times.get(ALL)),
        "float32_over_caching": _ratio(times.get(CACHING), times.get(FLOAT32)),
        "machine": machine() | {"other_programs_cores": others.cores()},
    }


def _ratio(one: float | None, other: float | None) -> float | None:
    return round(one / other, 3) if one and other else None


def evenly(frames: Sequence[Image], count: int) -> list[Image]:
    """So many of the frames, or all, from the first to the last."""
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))]


def as_seen(frames: Iterable[Image], opened: OpenedModel) -> list[Image]:
    """The frames as every row gets them. Raises EvaluationError for fewer than two."""
    seen = [through_jpeg(to_plan_size(frame, opened.size), CAMERA_QUALITY) for frame in frames]
    if len(seen) < 2:
        raise EvaluationError(f"expected at least 2 frames, the first of which is left out, got {len(seen)}")
    return seen


def made(
    maker: Maker, keys: Sequence[str], progress: Callable[[str, int], None]
) -> tuple[dict[str, Subject], dict[str, str]]:
    """Those that can run, and why the others cannot. The reference's own error is raised."""
    subjects: dict[str, Subject] = {}
    reasons: dict[str, str] = {}
    for key in keys:
        progress(f"preparing {LABELS[key]}", 0)
        try:
            subjects[key] = maker.make(key)
        except (BenchError, ValueError, TailError) as error:
            if key == REFERENCE:
                raise
            reasons[key] = str(error)
    return subjects, reasons


def run(
    subjects: Mapping[str, Subject],
    seen: Sequence[Image],
    meter: Meter,
    clock: Clock,
    threads: int,
    progress: Callable[[str, int], None],
) -> dict[str, Track]:
    """Every frame through every subject, in turn; the first frame, which everybody computes whole, is left out."""
    _warm(subjects, seen[0])
    tracks = {key: Track() for key in subjects}
    keys = list(subjects)
    for number, image in enumerate(seen):
        outputs: dict[str, Outputs] = {}
        first = number % len(keys)
        for key in keys[first:] + keys[:first]:
            if threads > 1:
                settle()
            outputs[key] = _one(subjects[key], image, tracks[key], meter, clock, is_counted=number > 0)
        if number > 0:
            _compare(subjects, outputs, tracks)
        progress("measuring", number + 1)
    return tracks


def _one(subject: Subject, image: Image, track: Track, meter: Meter, clock: Clock, *, is_counted: bool) -> Outputs:
    """One frame, from decoded pixels to boxes; its outputs, copied."""
    opened = subject.opened
    before, begun = meter.read(), clock()
    outputs, fraction = subject.network(fit(image, opened.size, opened.spec)[0])
    opened.family.decode(outputs, opened.spec, opened.size)
    ended, after = clock(), meter.read()
    if is_counted:
        track.ms.append((ended - begun) / 1e6)
        track.work.append(fraction * subject.scale)
        if before is not None and after is not None:
            track.measured.append(after - before)
        track.estimated.append(subject.joules())
    return {name: np.array(values) for name, values in outputs.items()}


def _compare(subjects: Mapping[str, Subject], outputs: Mapping[str, Outputs], tracks: Mapping[str, Track]) -> None:
    """Everybody's outputs and boxes with the reference's, of one frame."""
    truth = outputs[REFERENCE]
    opened = subjects[REFERENCE].opened
    spec = opened.spec.model_copy(update={"min_confidence": min(WEAK, opened.spec.min_confidence)})
    expected = boxes_of(opened.family.decode(truth, spec, opened.size))
    for key, found in outputs.items():
        tracks[key].error.append(relative_rms(found, truth))
        family = subjects[key].opened.family
        tracks[key].agreement.add(boxes_of(family.decode(found, spec, opened.size)), expected)


def relative_rms(outputs: Outputs, reference: Outputs) -> float:
    """Root mean square of the difference over that of the reference; of several outputs the root mean square, as a
    compression counts its own. Raises BenchError where an output is missing or of another shape, as of another model.
    """
    squares = []
    for name, values in reference.items():
        shape = outputs[name].shape if name in outputs else None
        if shape != values.shape:
            got = "none" if shape is None else f"one of shape {shape}"
            raise BenchError(f"expected an output {name!r} of shape {values.shape}, got {got}")
        if values.size:
            wanted = values.astype(np.float64)
            gap = float(np.square(outputs[name].astype(np.float64) - wanted).mean())
            scale = float(np.square(wanted).mean())
            squares.append(gap / scale if scale else gap)
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def _warm(subjects: Mapping[str, Subject], image: Image) -> None:
    """Run everything once, so that nothing is compiled or loaded while it is timed; then forget it.

    Streams are shown all that a camera may do (`service.exercise`): some kernels are for that alone.
    """
    changed = image.copy()
    changed[: len(image) // 2, : image.shape[1] // 2] = 30
    for key, subject in subjects.items():
        opened = subject.opened
        shown = [fit(one, opened.size, opened.spec)[0] for one in (image, changed)]
        more = pictures(*opened.size, shown[0].shape[2]) if key in STREAMS else ()
        for one in itertools.chain(shown, more):
            outputs, _ = subject.network(one)
            opened.family.decode(outputs, opened.spec, opened.size)
        subject.reset()


def row(key: str, subject: Subject | None, track: Track | None, reason: str | None, source: str) -> dict[str, Any]:
    """One technique's figures; all but "key", "label", "note" and "reason" are null where there is a reason.

    ms : mean, p50 and p99 from a decoded frame to boxes. fps : frames a second, one after the other. *_bytes : see
    `Footprint`. joules : of a frame, and whether "measured". work : share of the dense work of the original model.
    agreement : of boxes with the reference's; null without any. error_mean, error_max : see `Track`. drift : mean error
    of the last quarter of the frames over that of the first.
    """
    names = (
        "mean_ms", "p50_ms", "p99_ms", "fps", "model_bytes", "stream_bytes", "workspace_bytes", "matrix_bytes",
        "joules", "energy", "work", "agreement", "error_mean", "error_max", "drift", "series",
    )  # fmt: skip
    found: dict[str, Any] = {"key": key, "label": LABELS.get(key, key), "note": None, "reason": reason}
    found |= dict.fromkeys(names)
    if subject is None or track is None:
        return found
    times, memory = np.asarray(track.ms), subject.footprint
    mean = float(times.mean())
    joules = track.measured or track.estimated
    return found | {
        "note": subject.note,
        "mean_ms": mean,
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
        "fps": 1e3 / mean if mean else None,
        "model_bytes": memory.model,
        "stream_bytes": memory.stream,
        "workspace_bytes": memory.workspace,
        "matrix_bytes": memory.matrix,
        "joules": float(np.mean(joules)) if joules else None,
        "energy": None if not joules else source if track.measured else "estimated",
        "work": float(np.mean(track.work)),
        "agreement": track.agreement.figures(),
        "error_mean": float(np.mean(track.error)),
        "error_max": float(np.max(track.error)),
        "drift": drift(track.error),
        "series": {"frame_ms": track.ms, "work": track.work, "error": track.error},
    }


def drift(errors: Sequence[float]) -> float | None:
    """Mean of the last quarter over that of the first; None where there was no error to grow."""
    count = max(1, len(errors) // 4)
    first, last = float(np.mean(errors[:count])), float(np.mean(errors[-count:]))
    return last / first if first else None


def add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    """Give each row a "speed": times as fast as the baseline, or the reference without it; null without a time."""
    times = {found["key"]: found["mean_ms"] for found in rows}
    base = times.get(BASELINE) or times[REFERENCE]
    for found in rows:
        mean = found["mean_ms"]
        found["speed"] = base / mean if base and mean else None
