"""Maps as float16 and products in bfloat16 against float32: `python -m benchmarks.half_precision [MODEL...]`.

Every frame of a clip goes through each form in turn, whole and cached, one thread. Errors are of whole frames, against
those in float32; agreement is that of a cached stream's boxes with those of float32's whole frames. Without MODEL: the
built-in model and the files of ../shared/data/models. `--doc FILE` writes the table between a document's markers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from cache.memory import memory_of
from cache.policy import Policy
from cache.session import Session
from kernels.emit_bfloat16 import HAS_BFLOAT16
from service.agreement import WEAK, Agreement
from service.bench.document import markdown_table, replaced
from service.bench.machine import machine
from service.catalogue import find_model
from service.evaluate import relative_error
from service.families.base import boxes_of
from service.opened import OpenedModel, open_model
from service.preprocess import fit
from service.sources import open_source

DATA = Path(__file__).parents[2] / "shared" / "data"
CLIP = DATA / "videos" / "intel_one-by-one-person-detection.mp4"
SIZE = (640, 384)
Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Figure:
    """One model in one form.

    nodes : computed in bfloat16. stream_bytes, thread_bytes, weight_bytes : memory. error : of whole frames, the
    largest difference from float32 over the output's largest value; cached_error : likewise of cached ones. agreement :
    at IoU .5 and .75, None where nothing was seen. work : mean share of cached frames. dense, cached : time over
    float32's.
    """

    model: str
    form: str
    nodes: int
    stream_bytes: int
    thread_bytes: int
    weight_bytes: int
    error: float
    cached_error: float
    agreement: tuple[float, float] | None
    work: float
    dense_ms: float
    dense: float
    cached: float


def forms() -> dict[str, Callable[[Policy], Policy]]:
    """What is compared on this machine."""
    found: dict[str, Callable[[Policy], Policy]] = {
        "float32": lambda policy: policy,
        "maps float16": lambda policy: replace(policy, cache_dtype="float16"),
    }
    if HAS_BFLOAT16:
        found["products bfloat16"] = lambda policy: replace(policy, compute_dtype="bfloat16")
        found["both"] = lambda policy: replace(policy, cache_dtype="float16", compute_dtype="bfloat16")
    return found


class Subject:
    """A model in one form, with a stream of it and whole frames beside."""

    def __init__(self, opened: OpenedModel, form: Callable[[Policy], Policy]) -> None:
        self.plan = opened.compile(form(opened.policy))
        self.stream, self.whole = Session(self.plan), Session(self.plan, exact=True)
        self.agreement = Agreement()
        self.errors: list[tuple[float, float]] = []
        self.work: list[float] = []
        self.times: list[tuple[float, float]] = []

    def push(self, image: NDArray[np.uint8]) -> tuple[Outputs, Outputs]:
        """Outputs of the whole frame and of the cached one."""
        self.whole.reset()
        start = time.perf_counter()
        dense = self.whole.push(image)
        between = time.perf_counter()
        cached = self.stream.push(image)
        self.times.append(((between - start) * 1e3, (time.perf_counter() - between) * 1e3))
        self.work.append(cached.compute_fraction)
        return copied(dense.outputs), copied(cached.outputs)


def copied(outputs: Any) -> Outputs:
    """Outputs that outlive the next frame."""
    return {name: np.array(value) for name, value in outputs.items()}


def images(opened: OpenedModel, clip: str, start: int, count: int) -> list[NDArray[np.uint8]]:
    """The clip's frames at the model's size."""
    with closing(open_source(clip, start=start, frames=count)) as source:
        return [fit(frame.image, opened.size, opened.spec)[0] for frame in source]


def measure(model: str, clip: str, start: int, count: int) -> list[Figure]:
    """One model in every form."""
    opened = open_model(find_model(model), SIZE)
    spec = opened.spec.model_copy(update={"min_confidence": min(WEAK, opened.spec.min_confidence)})
    subjects = {name: Subject(opened, form) for name, form in forms().items()}

    def boxes(outputs: Outputs) -> Any:
        return boxes_of(opened.family.decode(outputs, spec, opened.size))

    for image in images(opened, clip, start, count):
        truth: Outputs = {}
        for subject in subjects.values():
            dense, cached = subject.push(image)
            truth = truth or dense  # float32 comes first
            subject.errors.append((relative_error(dense, truth), relative_error(cached, truth)))
            subject.agreement.add(boxes(cached), boxes(truth))
    times = {name: np.median(subject.times[1:], axis=0) for name, subject in subjects.items()}
    return [
        figure(Path(model).stem, name, subject, times[name], times["float32"]) for name, subject in subjects.items()
    ]


def figure(model: str, name: str, subject: Subject, ms: NDArray[Any], of: NDArray[Any]) -> Figure:
    """What was found of one form; ms, of : its times and float32's, whole and cached."""
    memory, seen = memory_of(subject.plan), subject.agreement.figures()
    error, cached_error = np.max(subject.errors, axis=0).tolist()
    return Figure(
        model, name, subject.plan.bfloat16_nodes, memory.stream, memory.thread, memory.weights, error, cached_error,
        None if seen is None else (seen["iou50"], seen["iou75"]), float(np.mean(subject.work[1:])), float(ms[0]),
        float(ms[0] / of[0]), float(ms[1] / of[1]),
    )  # fmt: skip


HEAD = (
    "model", "form", "stream, MB", "thread, MB", "error, whole", "error, cached", "agreement .5 / .75", "work left",
    "whole frame", "cached frame",
)  # fmt: skip


def row(f: Figure) -> list[str]:
    """What a table tells of a model in one form."""
    return [
        f.model, f"{f.form} ({f.nodes} nodes)" if f.nodes else f.form,
        f"{f.stream_bytes / 1e6:.1f}", f"{f.thread_bytes / 1e6:.1f}", f"{f.error:.1e}", f"{f.cached_error:.1e}",
        "no boxes" if f.agreement is None else " / ".join(f"{value:.3f}" for value in f.agreement),
        f"{f.work:.1%}", f"{f.dense:.2f}", f"{f.cached:.2f}",
    ]  # fmt: skip


def section(figures: Sequence[Figure]) -> str:
    """A row for each model and form, and what could not be measured here."""
    rows = markdown_table(HEAD, [row(figure) for figure in figures])
    said = "" if HAS_BFLOAT16 else ", which has no instructions for products in bfloat16"
    return f"{rows}\n\nOn {machine()['cpu']}{said}."


def command(
    models: Annotated[list[str] | None, typer.Argument(help="Names or files.")] = None,
    clip: Annotated[str, typer.Option()] = str(CLIP) if CLIP.exists() else "scene",
    start: Annotated[int, typer.Option(min=0)] = 200,
    count: Annotated[int, typer.Option("--frames", min=3)] = 60,
    doc: Annotated[Path | None, typer.Option(help="Write the table between this document's markers.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Maps as float16 and products in bfloat16 against float32."""
    figures: list[Figure] = []
    for model in models or ["people", *map(str, sorted((DATA / "models").glob("*.onnx")))]:
        found = measure(model, clip, start, count)
        print("\n".join(" | ".join(row(figure)) for figure in found), flush=True)
        figures += found
    if doc is not None:
        text = replaced(doc.read_text(encoding="utf-8"), "half-precision", section(figures))
        doc.write_text(text, encoding="utf-8")
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
