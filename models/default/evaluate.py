"""How good a model's boxes are, on the pack's validation pictures and on clips.

    python -m models.default.evaluate MODEL.onnx [MORE.onnx ...] --data DATA [--json out.json]
        [--engine onnxruntime|ours] [--threshold 0.4] [--no-references] [--no-clips]

Everything goes through the product's own pipeline at 640x384. Average precision is COCO's at IoU 0.5, sizes are
sqrt(width * height) of the truth in pixels of the 640x384 letterbox. On clips the truth is YOLOX-nano's own boxes with
score 0.4 or more, at the same size; `models.default.metrics.agreement` states the rule. Teachers are run beside the
models as a reference line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from models.default import tables
from models.default.data import CLIPS as TRAINED_CLIPS
from models.default.detector import SIZE, Detector, Engine, Image, names_of
from models.default.metrics import Found, Pair, Point, Scored, agreement, summary
from models.default.pack import HUMAN_LABELS, HUMAN_SOURCE, LABELS, Labelled, PackError, read_pack
from service.commands.common import plain_errors
from service.sources import open_source

Detect = Callable[[Image], Scored]

REFERENCE = "yolox_nano"
TEACHERS: Mapping[str, float] = MappingProxyType(
    {REFERENCE: 0.01, "yunet_n_640_640": 0.01, "ultraface_version-RFB-640": 0.1}
)
"""Files of the teachers, and the least score to keep: UltraFace fires everywhere below a tenth."""

STRONG, WEAK = 0.4, 0.2
"""Scores of the reference: from the first a box is a truth, from the second it may be found or not."""


@dataclass(frozen=True)
class Clip:
    """A clip and what to compare on it.

    every : take each every-th frame. seen : frames before this one may have been in training; 0 for none of them.
    """

    file: str
    label: str
    every: int
    seen: int = 0

    def parts(self) -> dict[str, range]:
        """Names of the parts to report, with the frame numbers of each."""
        whole = {"all": range(1 << 30)}
        if not self.seen:
            return whole
        return whole | {f"0-{self.seen - 1}": range(self.seen), f"{self.seen}-": range(self.seen, 1 << 30)}


_SEEN = {name: frames for name, _, frames, _ in TRAINED_CLIPS}
CLIPS = tuple(
    Clip(file, label, every, _SEEN.get(file, 0))
    for file, label, every in (
        ("intel_one-by-one-person-detection.mp4", "person", 3),
        ("intel_asl_walk.mkv", "person", 1),
        ("sam2_05_default_juggle.mp4", "person", 3),
        ("sam2_bedroom.mp4", "person", 3),
        ("carnd_solidWhiteRight.mp4", "vehicle", 3),
    )
)


@dataclass
class Tally:
    """What one model found in the clip so far, frame by frame, beside the reference's boxes."""

    positions: list[int] = field(default_factory=list)
    pairs: list[tuple[Scored, Scored]] = field(default_factory=list)

    def within(self, numbers: range) -> list[tuple[Scored, Scored]]:
        """The frames of a part."""
        return [pair for position, pair in zip(self.positions, self.pairs, strict=True) if position in numbers]


def pair_at_input(detect: Detect, picture: Labelled) -> Pair:
    """What is found in a picture and what is there, both in pixels of the letterboxed input."""
    image = picture.image()
    height, width = image.shape[:2]
    ratio = min(SIZE[0] / width, SIZE[1] / height)
    found = detect(image)
    truth = picture.truth._replace(xyxy=picture.truth.xyxy * ratio)
    return Found(found.xyxy * ratio, found.score, found.class_id), truth


def validate(detect: Detect, pictures: Sequence[Labelled], labels: Sequence[str], threshold: float) -> dict[str, Any]:
    """Figures on labelled pictures: {"all", "human", "teachers", "sources": {source: ...}}, each by class.

    human : classes that people labelled, on the pictures where they did. teachers : all other pictures. labels : the
    classes that the model knows; of the others nothing is said.
    """
    pairs = [pair_at_input(detect, picture) for picture in pictures]
    sources = [picture.source for picture in pictures]

    def figures(kept: Iterable[bool], wanted: Sequence[str]) -> dict[str, Any]:
        chosen = [pair for pair, keep in zip(pairs, kept, strict=True) if keep]
        known = summary(chosen, LABELS, threshold=threshold)
        return {label: known[label] for label in wanted if label in labels}

    return {
        "pictures": len(pictures),
        "all": figures((True for _ in sources), LABELS),
        "human": figures((source == HUMAN_SOURCE for source in sources), HUMAN_LABELS),
        "teachers": figures((source != HUMAN_SOURCE for source in sources), LABELS),
        "sources": {source: figures((other == source for other in sources), LABELS) for source in sorted(set(sources))},
    }


def compare_on_clip(clip: Clip, path: Path, reference: Detect, models: Mapping[str, Detect]) -> dict[str, Tally]:
    """Run every model and the reference once over a clip. Raises SourceError where it cannot be read."""
    tallies = {name: Tally() for name in models}
    with open_source(path, every=clip.every) as source:
        for frame in source:
            truth = reference(frame.image)
            for name, detect in models.items():
                tallies[name].positions.append(frame.position)
                tallies[name].pairs.append((detect(frame.image), truth))
    return tallies


def clip_figures(clip: Clip, tally: Tally, threshold: float) -> dict[str, Any]:
    """F1 and what it is made of, by part of the clip; "strict" makes no allowance for the reference's weak boxes."""
    class_id = LABELS.index(clip.label)
    report = {}
    for name, numbers in clip.parts().items():
        pairs = tally.within(numbers)
        if not pairs:
            continue
        lenient = agreement(pairs, class_id, strong=STRONG, weak=WEAK)
        strict = agreement(pairs, class_id, strong=STRONG, weak=None)
        report[name] = {
            "frames": len(pairs),
            "truths": lenient.positives,
            **_point(lenient.at(threshold)),
            "strict_f1": _point(strict.at(threshold))["f1"],
            "best_f1": _point(lenient.best())["f1"],
            "best_threshold": lenient.best().score,
        }
    return {"label": clip.label, "every": clip.every, "parts": report}


def _point(point: Point) -> dict[str, float | None]:
    values = {"precision": point.precision, "recall": point.recall, "f1": point.f1}
    return {name: None if value != value else value for name, value in values.items()}


def evaluate(
    paths: Sequence[Path],
    data: Path,
    *,
    engine: Engine = "onnxruntime",
    threshold: float | None = None,
    references: bool = True,
    clips: Sequence[Clip] = CLIPS,
) -> dict[str, Any]:
    """Every figure of every model, ready for JSON.

    data : folder with training/, models/ and videos/. threshold : operating score; None takes each model's own.
    references : run the teachers on the validation pictures too. Raises PackError, SourceError and what opening a
    model raises.
    """
    opened = [Detector(path, engine=engine) for path in paths]
    names = names_of(paths)
    pictures = list(read_pack(data / "training", "val"))
    report: dict[str, Any] = {"engine": engine, "size": list(SIZE), "pictures": len(pictures), "models": {}}
    operating = {n: d.threshold if threshold is None else threshold for n, d in zip(names, opened, strict=True)}
    for name, detector in zip(names, opened, strict=True):
        figures = validate(detector, pictures, detector.labels, operating[name])
        report["models"][name] = {"threshold": operating[name], "val": figures, "clips": {}}
    if references:
        report["references"] = {}
        for file, least in TEACHERS.items():
            teacher = Detector(data / "models" / f"{file}.onnx", least=least)
            figures = validate(teacher, pictures, teacher.labels, STRONG)
            report["references"][file] = {"threshold": STRONG, "val": figures}
    if clips:
        reference = Detector(data / "models" / f"{REFERENCE}.onnx")
        for clip in clips:
            able = {n: d for n, d in zip(names, opened, strict=True) if clip.label in d.labels}
            tallies = compare_on_clip(clip, data / "videos" / clip.file, reference, able)
            for name, tally in tallies.items():
                report["models"][name]["clips"][clip.file] = clip_figures(clip, tally, operating[name])
    return report


def command(
    models: Annotated[list[Path], typer.Argument(help="ONNX files.")],
    data: Annotated[Path, typer.Option(help="Folder with training/, models/ and videos/.")],
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")] = None,
    engine: Annotated[str, typer.Option(help="onnxruntime, or ours (whole frames).")] = "onnxruntime",
    threshold: Annotated[float | None, typer.Option(help="Operating score. Default: each model's own.")] = None,
    references: Annotated[bool, typer.Option(help="The teachers on the validation pictures too.")] = True,
    clips: Annotated[bool, typer.Option(help="Agreement with YOLOX-nano on clips.")] = True,
) -> None:
    """Average precision on the validation pictures, and agreement with YOLOX-nano on clips."""
    if engine not in ("onnxruntime", "ours"):
        raise typer.BadParameter(f"expected onnxruntime or ours, got {engine!r}")
    chosen: Engine = "ours" if engine == "ours" else "onnxruntime"
    try:
        with plain_errors():
            report = evaluate(
                models, data, engine=chosen, threshold=threshold, references=references, clips=CLIPS if clips else ()
            )
    except PackError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from error
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    tables.show_evaluation(report)


if __name__ == "__main__":
    typer.run(command)
