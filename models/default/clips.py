"""What caching leaves of a model's work on clips: the frontier that networks are chosen by.

    python -m models.default.clips MODEL.onnx [MORE.onnx ...] --data DATA [--clip NAME ...] [--frames 40]
        [--rounds 20] [--factor 1 ...] [--json out.json]

At 640x384, for every clip and every factor k on the thresholds of the default policy: the compute fraction (of all
frames but the first), and agreement with the dense network as `service.agreement` defines it. Frames are stretched and
pass through JPEG as in `service.evaluate`; the noise floor is the dense network on the frame at a lower quality, run
once for all factors. Factors scale what nodes tolerate, whatever the model's own tolerance is; tiles are compared as
the policy says. The factor chosen is the largest whose agreement, over the boxes of all clips together, lies no further
below the floor than `ALLOWANCE`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import typer

from cache.onnx_import import extract
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from cache.tail import TailRunner
from models.default import tables
from models.default.detector import SIZE, Image, names_of
from service.agreement import WEAK, Agreement
from service.commands.common import plain_errors
from service.evaluate import CAMERA_QUALITY, NOISE_QUALITY, summary, through_jpeg, to_plan_size
from service.families import Detections, boxes_of
from service.families.base import Outputs
from service.opened import OpenedModel, open_model
from service.preprocess import fit
from service.sources import open_source

FACTORS = (0.5, 1.0, 2.0, 3.0)
ALLOWANCE: Mapping[str, float] = MappingProxyType({"iou50": 0.005, "iou75": 0.02})
"""How far agreement may lie below the noise floor."""
TILE_PX = 16


@dataclass(frozen=True)
class Window:
    """A stretch of a clip: `frames` are taken from `start` on, each every-th."""

    file: str
    start: int
    every: int = 1


WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        "one_by_one": Window("intel_one-by-one-person-detection.mp4", 1180),
        "bottle": Window("intel_bottle-detection.mp4", 800, 3),
        "car": Window("intel_car-detection.mp4", 245),
        "car_exposure": Window("intel_car-detection.mp4", 325),
        "juggle": Window("sam2_05_default_juggle.mp4", 50),
        "vehicles": Window("ahm_vehicle_survaillance.mp4", 185),
        "asl_walk": Window("intel_asl_walk.mkv", 60),
        "bedroom": Window("sam2_bedroom.mp4", 130),
        "dashcam": Window("carnd_solidWhiteRight.mp4", 20),
    }
)
"""Parts that training did not see (`models.default.data.CLIPS`), of clips of every kind."""
USUAL = ("one_by_one", "bottle", "juggle", "asl_walk", "bedroom")
"""What a model of people is chosen by: four fixed cameras and a hand-held one."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model ready to be run every way. whole : every frame recomputed in full; streams : by factor."""

    opened: OpenedModel
    plan: Plan
    whole: Session
    runtime: TailRunner
    streams: Mapping[float, Session]

    @classmethod
    def of(cls, path: Path, factors: Sequence[float] = FACTORS) -> Subject:
        """Open and compile a file. Raises what `service.opened.open_model` raises."""
        opened = open_model(path, SIZE)
        plan = opened.compile()
        piece = extract(opened.model, {plan.input_name: plan.input_shape}, plan.output_names)
        streams = {factor: Session(opened.compile(Policy().scaled(factor))) for factor in factors}
        runtime = TailRunner(piece, [plan.input_name], plan.output_names)
        return cls(opened, plan, Session(plan, exact=True), runtime, streams)

    def prepared(self, frame: Image) -> Image:
        """The frame as the plan takes it."""
        return fit(frame, self.opened.size, self.opened.spec)[0]

    def dense(self, image: Image) -> Outputs:
        """Our engine, everything recomputed."""
        self.whole.reset()
        return self.whole.push(image).outputs

    def on_runtime(self, image: Image) -> Outputs:
        """ONNX Runtime, one thread."""
        return self.runtime.run({self.plan.input_name: self.plan.tensor(image)})

    def boxes(self, outputs: Outputs) -> Detections:
        """Boxes down to the weak score of `service.agreement`."""
        least = min(WEAK, self.opened.spec.min_confidence)
        spec = self.opened.spec.model_copy(update={"min_confidence": least})
        return boxes_of(self.opened.family.decode(outputs, spec, self.opened.size))


@dataclass
class Count:
    """What one factor came to: on one clip, or on all of them."""

    agreement: Agreement = field(default_factory=Agreement)
    fractions: list[float] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Compute fraction, agreement (None without a strong box), and the median time of a frame."""
        return {
            "compute_fraction": summary(self.fractions) if self.fractions else None,
            "agreement": self.agreement.figures(),
            "cached_ms": float(np.median(self.times_ms)) if self.times_ms else None,
        }


@dataclass
class Score:
    """Counts of one clip (or of all): the noise floor, and every factor."""

    floor: Agreement
    factors: dict[float, Count]
    frames: int = 0

    @classmethod
    def empty(cls, factors: Sequence[float]) -> Score:
        """Nothing counted yet."""
        return cls(Agreement(), {factor: Count() for factor in factors})

    def report(self) -> dict[str, Any]:
        """Ready for JSON; factors are named as "0.5"."""
        return {
            "frames": self.frames,
            "strong_boxes": self.floor.total,
            "noise_floor": self.floor.figures(),
            "factors": {name_of(factor): count.report() for factor, count in self.factors.items()},
            "chosen": chosen(self),
        }


def name_of(factor: float) -> str:
    """ "0.5", "1", "2"."""
    return f"{factor:g}"


def chosen(score: Score) -> float | None:
    """The largest factor whose agreement is near enough to the floor; None if there is none, or no strong box."""
    floor = score.floor.figures()
    if floor is None:
        return None
    passed = []
    for factor, count in score.factors.items():
        found = count.agreement.figures()
        if found is not None and all(found[key] >= floor[key] - ALLOWANCE[key] - 1e-9 for key in ALLOWANCE):
            passed.append(factor)
    return max(passed, default=None)


def run_clip(subject: Subject, frames: Sequence[Image], totals: Score) -> Score:
    """Run the frames every way; counts of this clip are added to `totals` too."""
    own = Score.empty(tuple(subject.streams))
    for stream in subject.streams.values():
        stream.reset()
    for position, frame in enumerate(frames):
        small = to_plan_size(frame, subject.opened.size)
        seen = subject.prepared(through_jpeg(small, CAMERA_QUALITY))
        noisy = subject.prepared(through_jpeg(small, NOISE_QUALITY))
        truth = subject.boxes(subject.dense(seen))
        found = subject.boxes(subject.dense(noisy))
        for score in (own, totals):
            score.floor.add(found, truth)
            score.frames += 1
        for factor, stream in subject.streams.items():
            result = stream.push(seen)
            found = subject.boxes(result.outputs)
            for score in (own, totals):
                count = score.factors[factor]
                count.agreement.add(found, truth)
                if position:  # the first frame computes everything
                    count.fractions.append(result.compute_fraction)
                    count.times_ms.append((result.diff_ns + result.infer_ns) / 1e6)
    return own


def tile_share(subject: Subject, frame: Image) -> float:
    """Share of the MACs redone in exact mode when the central 16x16 tile of a frame turns into noise."""
    image = subject.prepared(to_plan_size(frame, subject.opened.size))
    top, left = (side // 2 // TILE_PX * TILE_PX for side in image.shape[:2])
    session = Session(subject.plan, exact=True)
    session.push(image)
    changed = image.copy()
    patch = changed[top : top + TILE_PX, left : left + TILE_PX]
    patch[:] = np.random.default_rng(0).integers(0, 256, patch.shape, np.uint8)
    return session.push(changed).compute_fraction


def dense_times(subjects: Sequence[Subject], frame: Image, rounds: int) -> list[dict[str, float]]:
    """Median ms of a dense frame on both engines, one thread each, all models and both engines in turn each round.

    Ours starts from the pixels; ONNX Runtime from the ready tensor. Decoding is in neither.
    """
    times: list[dict[str, list[float]]] = [{"ours": [], "onnxruntime": []} for _ in subjects]
    images = [s.prepared(to_plan_size(frame, s.opened.size)) for s in subjects]
    tensors = [{s.plan.input_name: s.plan.tensor(image)} for s, image in zip(subjects, images, strict=True)]
    for turn in range(rounds + 2):
        for subject, image, tensor, taken in zip(subjects, images, tensors, times, strict=True):
            start = time.perf_counter_ns()
            subject.dense(image)
            middle = time.perf_counter_ns()
            subject.runtime.run(tensor)
            end = time.perf_counter_ns()
            if turn >= 2:  # the first two warm up
                taken["ours"].append((middle - start) / 1e6)
                taken["onnxruntime"].append((end - middle) / 1e6)
    return [{engine: float(np.median(values)) for engine, values in taken.items()} for taken in times]


def read_window(folder: Path, window: Window, frames: int) -> list[Image]:
    """The frames of a window. Raises SourceError."""
    with open_source(folder / window.file, start=window.start, frames=frames, every=window.every) as source:
        return [frame.image for frame in source]


def measure(
    paths: Sequence[Path],
    folder: Path,
    names: Sequence[str] = USUAL,
    *,
    frames: int = 40,
    rounds: int = 20,
    factors: Sequence[float] = FACTORS,
) -> dict[str, Any]:
    """Every figure of every model, ready for JSON.

    folder : with the clips. names : of WINDOWS. frames : of each clip. rounds : of timing. factors : on the thresholds.
    Raises SourceError and what opening a model raises.
    """
    subjects = [Subject.of(path, factors) for path in paths]
    totals = [Score.empty(factors) for _ in subjects]
    first = read_window(folder, WINDOWS[names[0]], 1)[0]
    times = dense_times(subjects, first, rounds)
    clips: list[dict[str, Any]] = [{} for _ in subjects]
    for clip in names:
        images = read_window(folder, WINDOWS[clip], frames)
        for subject, total, found in zip(subjects, totals, clips, strict=True):
            found[clip] = run_clip(subject, images, total).report()
    report: dict[str, Any] = {"size": list(SIZE), "frames": frames, "factors": list(factors), "models": {}}
    for name, subject, total, found, taken in zip(names_of(paths), subjects, totals, clips, times, strict=True):
        together = total.report()
        report["models"][name] = {
            "macs": subject.plan.total_macs,
            "tile_share": tile_share(subject, first),
            "dense_ms": taken,
            "clips": found,
            "together": together,
            "macs_left": _macs_left(subject.plan.total_macs, together),
        }
    return report


def _macs_left(macs: int, together: Mapping[str, Any]) -> float | None:
    if together["chosen"] is None:
        return None
    return float(macs * together["factors"][name_of(together["chosen"])]["compute_fraction"]["mean"])


def command(
    models: Annotated[list[Path], typer.Argument(help="ONNX files.")],
    data: Annotated[Path, typer.Option(help="Folder with videos/.")],
    clip: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(WINDOWS)}, or all; may be repeated.")] = None,
    frames: Annotated[int, typer.Option(min=2, max=60, help="Of each clip.")] = 40,
    rounds: Annotated[int, typer.Option(min=1, help="Of timing a dense frame.")] = 20,
    factor: Annotated[list[float] | None, typer.Option(help="On the thresholds; may be repeated.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")] = None,
) -> None:
    """MACs left, agreement and dense time of models on clips."""
    names = tuple(WINDOWS) if clip == ["all"] else tuple(clip or USUAL)
    unknown = [name for name in names if name not in WINDOWS]
    if unknown:
        raise typer.BadParameter(f"expected clips of {', '.join(WINDOWS)}, got {', '.join(unknown)}")
    with plain_errors():
        report = measure(
            models, data / "videos", names, frames=frames, rounds=rounds, factors=sorted(factor or FACTORS)
        )
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    tables.show_clips(report)


if __name__ == "__main__":
    typer.run(command)
