"""Well-known classifiers, dense and cached, against ONNX Runtime: `python -m benchmarks.light_models [NAME...]`.

The onnx package's light models with drawn weights (`benchmarks.light_networks`), MobileNetV2 and VGG-16 with its fully
connected layers, all of the published size, at 224x224. Outputs are compared with ONNX Runtime's on the float tensor of
the first frame; then a small block moves over a still picture. Times are medians of frames in turn, one thread.
`--doc FILE` writes the table between the markers of a document.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.light_networks import NAMES, SIDE, frames, imagenet_table, light_model
from cache.onnx_import import extract, load_model
from cache.plan import Plan
from cache.session import FrameResult, Session
from cache.tail import TailRunner
from cache.tuning import tuned
from service.bench.document import markdown_table, replaced
from service.bench.machine import machine
from service.bench.synthetic import NETWORKS
from tests.cache.closed_loop import largest_excess

WRITTEN = ("mobilenet", "vgg16-whole")
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Figure:
    """One network.

    gmacs : of what is cached. cached, tail : nodes; reasons : why the tail is one. error : largest difference from ONNX
    Runtime over the output's largest value. is_exact : whether every frame of exact mode had the bits of a full
    recompute. excess : how far the worst pixel lies above its threshold, in units of its step's spread. work : mean
    share of the network in frames after the first, within thresholds; exact_work : in exact mode.
    runtime, cached_time : ONNX Runtime's dense frame over our dense one, and our dense one over a cached one.
    """

    name: str
    gmacs: float
    cached: int
    tail: int
    reasons: tuple[str, ...]
    error: float
    is_exact: bool
    excess: float
    work: float
    exact_work: float
    dense_ms: float
    runtime: float
    cached_time: float


def file_of(name: str) -> bytes:
    """A network as it is published."""
    return NETWORKS[name]((SIDE, SIDE)) if name in WRITTEN else light_model(name)


def timed(call: Any, *given: Any) -> tuple[Any, float]:
    """What a call returns, and the milliseconds it took."""
    start = time.perf_counter()
    found = call(*given)
    return found, (time.perf_counter() - start) * 1e3


def is_same(first: FrameResult, second: FrameResult) -> bool:
    """Whether two frames have the same bits."""
    return all(first.outputs[name].tobytes() == value.tobytes() for name, value in second.outputs.items())


def measure(name: str, count: int) -> Figure:
    """One network over so many frames."""
    model = load_model(file_of(name))
    plan = tuned(Plan.compile(model, (1, 3, SIDE, SIDE), normalisation=imagenet_table()), model.sha256)
    piece = extract(model, {plan.input_name: plan.input_shape}, plan.output_names)
    runtime = TailRunner(piece, [plan.input_name], plan.output_names)
    clip = frames(SIDE, count + 1)
    x = plan.tensor(clip[0])
    expected, found = runtime.run({plan.input_name: x}), Session(plan).push_tensor(x).outputs
    error = max(float(np.abs(found[key] - value).max() / np.abs(value).max()) for key, value in expected.items())
    exact, budget, whole = Session(plan, exact=True), Session(plan), Session(plan, exact=True)
    same, work, exact_work, times = [], [], [], []
    for number, frame in enumerate(clip):
        whole.reset()
        dense, dense_ms = timed(whole.push, frame)
        careful, near = exact.push(frame), timed(budget.push, frame)
        same.append(is_same(careful, dense))
        if number:
            _, runtime_ms = timed(runtime.run, {plan.input_name: plan.tensor(frame)})
            work.append(near[0].compute_fraction)
            exact_work.append(careful.compute_fraction)
            times.append((dense_ms, near[1], runtime_ms))
    dense_ms, near_ms, runtime_ms = np.median(times, axis=0).tolist()
    parts = plan.partition
    return Figure(
        name, plan.total_macs / 1e9, len(parts.cached), len(parts.reasons),
        tuple(dict.fromkeys(reason.split()[0] for tail in parts.tails for reason in tail.reasons)), error, all(same),
        largest_excess(budget), float(np.mean(work)), float(np.mean(exact_work)), dense_ms, runtime_ms / dense_ms,
        dense_ms / near_ms,
    )  # fmt: skip


HEAD = (
    "network", "GMAC cached", "nodes cached / in the tail", "tail begins with", "from ONNX Runtime",
    "exact bit for bit", "above threshold", "work left, exact", "work left", "dense: ONNX Runtime / ours",
    "ours: dense / cached",
)  # fmt: skip


def section(figures: Sequence[Figure]) -> str:
    """What stands between the markers of docs/techniques/models.md."""
    return f"Machine: {machine()['cpu']}.\n\n{markdown_table(HEAD, [row(figure) for figure in figures])}"


def row(f: Figure) -> list[str]:
    """What a table tells of a network."""
    return [
        f.name, f"{f.gmacs:.2f}", f"{f.cached} / {f.tail}", f.reasons[0] if f.reasons else "no tail",
        f"{f.error:.1e}", "yes" if f.is_exact else "**no**", f"{f.excess:.0e}" if f.excess > 0 else "0",
        f"{f.exact_work:.1%}", f"{f.work:.1%}", f"{f.runtime:.2f}", f"{f.cached_time:.2f}",
    ]  # fmt: skip


def command(
    names: Annotated[list[str] | None, typer.Argument(help="Networks; all of them unless given.")] = None,
    count: Annotated[int, typer.Option("--frames", min=1, help="Frames after the first one.")] = 12,
    doc: Annotated[Path | None, typer.Option(help="Write the table between this document's markers.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Well-known classifiers, dense and cached, against ONNX Runtime."""
    figures = []
    for name in names or (*NAMES, *WRITTEN):
        figures.append(measure(name, count))
        print(" | ".join(row(figures[-1])), flush=True)
    if doc is not None:
        text = replaced(doc.read_text(encoding="utf-8"), "light-models", section(figures))
        doc.write_text(text, encoding="utf-8")
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
