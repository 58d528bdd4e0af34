"""`afterimage bench video`: a clip frame by frame through our engine and others, and how what is saved becomes time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from cache.plan import Plan
from cache.session import Session
from service.bench.engines import OTHERS, Own, open_others
from service.bench.machine import Bystanders, machine, settle, use_threads
from service.bench.variants import BUDGET, DENSE, EXACT, Image, Series, Step, Variant, full, same_bits, stream
from service.evaluate import CAMERA_QUALITY, Decoder, Incremental, evaluate, relative_error, summary, to_plan_size
from service.exercise import pictures
from service.families.base import Outputs
from service.opened import OpenedModel

SPARSE = 0.10
"""Share of the work up to which a frame counts as one where little changed."""


def video(
    opened: OpenedModel,
    frames: Iterable[Image],
    *,
    threads: int = 1,
    against: Sequence[str] = OTHERS,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Run a clip through every variant, frame by frame in turn; the figures, ready for JSON.

    frames : uint8[H, W, 3] BGR of any size, in clip order; each is brought to plan size and through JPEG, as `verify`
    does. Keys: those of `service.evaluate.evaluate`, of the budget mode, but "bit_identical" is the exact mode's;
    "exact" {compute_fraction}; those of `figures`; "reasons" why an engine is left out; "series" by variant, per
    frame; "machine".
    Raises EvaluationError for a clip without frames.
    """
    others = Bystanders()
    use_threads(threads)
    run = _Run(opened, threads, against)
    decoder = Decoder(opened.family, opened.spec, opened.size)
    report = evaluate(run.feed(frames), run.step, run.dense, decoder, progress=progress)
    report["onnxruntime_error"] = run.errors.get("onnxruntime")
    report["bit_identical"] = run.exact_is_dense
    report["exact"] = {"compute_fraction": summary(_after_first(run.series[EXACT].fraction))}
    report |= figures(run.series, list(run.engines))
    return report | {
        "kind": "video",
        "model": opened.model.name,
        "size": f"{opened.size[0]}x{opened.size[1]}",
        "threads": threads,
        "against": list(against),
        "reasons": {name: run.reasons.get(name) for name in against},
        "engine_errors": run.errors,
        "series": {name: _plain(series) for name, series in run.series.items()},
        "machine": machine() | {"other_programs_cores": others.cores()},
    }


class _Run:
    """All variants of one clip, and the frame that they are at."""

    def __init__(self, opened: OpenedModel, threads: int, against: Sequence[str]) -> None:
        self._opened = opened
        plan = opened.compile()
        self.engines, self.reasons = open_others(against, opened, plan, threads, "float32")
        self._own = Own(plan, threads)
        networks = {
            BUDGET: stream(Session(plan, threads=threads)),
            EXACT: stream(Session(plan, exact=True, threads=threads)),
            DENSE: full(self._own),
        }
        networks |= {name: full(engine) for name, engine in self.engines.items()}
        self._variants = [Variant(name, network, opened) for name, network in networks.items()]
        self._settle = threads > 1
        self.series = {variant.name: Series() for variant in self._variants}
        self.exact_is_dense = True
        self.errors: dict[str, float] = {}
        self._frame: Image | None = None
        self._last: tuple[Image, Outputs] | None = None
        self._warm(plan, threads)

    def feed(self, frames: Iterable[Image]) -> Iterator[Image]:
        """The frames, each remembered while it is being worked on."""
        for frame in frames:
            self._frame = frame
            yield frame

    def step(self, seen: Image) -> Incremental:
        """Every variant on this frame, each in its turn; the order moves on by one from frame to frame."""
        assert self._frame is not None
        _, data = cv2.imencode(
            ".jpg", to_plan_size(self._frame, self._opened.size), [cv2.IMWRITE_JPEG_QUALITY, CAMERA_QUALITY]
        )
        jpeg, count = data.tobytes(), len(self.series[DENSE].fraction)
        first = count % len(self._variants)
        steps: dict[str, Step] = {}
        for variant in self._variants[first:] + self._variants[:first]:
            if self._settle:
                settle()
            steps[variant.name] = variant.run(jpeg, seen)
        for name, step in steps.items():
            self.series[name].add(step)
        dense = steps[DENSE].outputs
        self.exact_is_dense = self.exact_is_dense and same_bits(steps[EXACT].outputs, dense)
        for name in self.engines:
            self.errors[name] = max(self.errors.get(name, 0.0), relative_error(dense, steps[name].outputs))
        self._last = seen, dense
        return Incremental(steps[BUDGET].outputs, steps[BUDGET].fraction)

    def dense(self, image: Image) -> Outputs:
        """A full recompute of any frame; of the one just stepped, what was found then."""
        if self._last is not None and self._last[0] is image:
            return self._last[1]
        variant = next(variant for variant in self._variants if variant.name == DENSE)
        return variant.outputs(image)

    def _warm(self, plan: Plan, threads: int) -> None:
        """Run everything once, so that nothing is compiled or loaded while it is timed.

        Our two streams are left alone, and others take their place: the first frame of a clip must be theirs.
        """
        width, height = self._opened.size
        grey = np.full((height, width, plan.channels), 114, np.uint8)
        for exact in (False, True):
            session = Session(plan, exact=exact, threads=threads)
            for image in pictures(width, height, plan.channels):
                session.push(image)
        for engine in (self._own, *self.engines.values()):
            outputs = engine.frame(grey)
        self._opened.family.decode(outputs, self._opened.spec, self._opened.size)


def figures(series: Mapping[str, Series], others: Sequence[str]) -> dict[str, Any]:
    """What the times say. The first frame, a keyframe for us, is left out of everything.

    ms : by variant, {frame, jpeg, outputs}, each {mean, p50, p99}: decoded frame to boxes, JPEG to boxes, decoded
    frame to output tensors. best : the other engine with the least mean time per decoded frame. ratio, ratio_jpeg :
    its mean time over our budget mode's; ratio_exact : over our exact mode's, decoded frame to boxes. All null
    without another engine. conversion_efficiency : see `conversion`.
    """
    times = {
        name: {
            "frame": _times(one.frame_ms),
            "jpeg": _times(one.jpeg_ms),
            "outputs": _times(one.infer_ms),
        }
        for name, one in series.items()
    }
    best = min(others, key=lambda name: times[name]["frame"]["mean"], default=None)
    best_jpeg = min((times[name]["jpeg"]["mean"] for name in others), default=None)

    def ratio(theirs: float | None, variant: str, which: str) -> float | None:
        return None if theirs is None else theirs / times[variant][which]["mean"]

    best_frame = None if best is None else times[best]["frame"]["mean"]
    return {
        "ms": times,
        "best": best,
        "ratio": ratio(best_frame, BUDGET, "frame"),
        "ratio_jpeg": ratio(best_jpeg, BUDGET, "jpeg"),
        "ratio_exact": ratio(best_frame, EXACT, "frame"),
        "ratio_dense": ratio(best_frame, DENSE, "frame"),
        "conversion_efficiency": {
            "all": conversion(series[BUDGET], series[DENSE], 1.0),
            "sparse": conversion(series[BUDGET], series[DENSE], SPARSE),
        },
    }


def conversion(budget: Series, dense: Series, limit: float) -> dict[str, Any]:
    """How much of the saved work becomes saved time: 1 where a frame at a tenth of the work takes a tenth of the time.

    speed_up : our dense time over our budget mode's, decoded frame to boxes, means over the frames after the first
    whose share of the work is at most `limit` (0..1). reduction : 1 over their mean share. efficiency : speed_up over
    reduction, and efficiency_outputs the same up to the output tensors. Null where no such frame, or no work in it.
    """
    chosen = [i for i, share in enumerate(budget.fraction) if i and share <= limit]
    found: dict[str, Any] = {"frames": len(chosen), "limit": limit}
    share = float(np.mean([budget.fraction[i] for i in chosen])) if chosen else 0.0
    if not share:
        return found | {"speed_up": None, "reduction": None, "efficiency": None, "efficiency_outputs": None}

    def speed_up(one: Sequence[float], other: Sequence[float]) -> float:
        return float(np.mean([one[i] for i in chosen]) / np.mean([other[i] for i in chosen]))

    to_boxes = speed_up(dense.frame_ms, budget.frame_ms)
    to_outputs = speed_up(dense.infer_ms, budget.infer_ms)
    return found | {
        "speed_up": to_boxes,
        "reduction": 1 / share,
        "efficiency": to_boxes * share,
        "efficiency_outputs": to_outputs * share,
    }


def _times(values: Sequence[float]) -> dict[str, float]:
    after = np.asarray(_after_first(values), np.float64)
    middle, high = np.percentile(after, [50, 99]).tolist()
    return {"mean": round(float(after.mean()), 4), "p50": round(middle, 4), "p99": round(high, 4)}


def _after_first(values: Sequence[float]) -> list[float]:
    """All but the first frame, unless it is the only one."""
    return list(values[1:] or values)


def _plain(series: Series) -> dict[str, list[float]]:
    return {
        "frame_ms": [round(value, 3) for value in series.frame_ms],
        "jpeg_ms": [round(value, 3) for value in series.jpeg_ms],
        "compute_fraction": [round(value, 5) for value in series.fraction],
    }
