"""Time and extra memory of convolutions with and without a matrix: `python -m benchmarks.im2col [--doc FILE]`.

Every convolution of VGG-16 and of MobileNetV2 by itself: as a product of a matrix of columns by BLAS, by our direct
method, and as our plan computes it (Winograd's method where that pays). All in turn on the same input, medians; BLAS
has one or more threads, our steps by themselves one. Extra memory is what a call takes beside input, weights and
output. A depthwise convolution that our plan joins with the 1x1 one after it is one row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from cache.graph import Graph, Node, macs
from cache.plan import Plan, PlannedStep, every_pixel
from cache.session import Session
from kernels.layout import Test
from kernels.simd import STORE
from service.bench import blas
from service.bench.dense_ops import shape_of
from service.bench.document import replaced
from service.bench.im2col import Im2col, Window
from service.bench.machine import machine
from service.bench.rounds import interleaved
from service.bench.synthetic import open_synthetic

NETWORKS = ("vgg16", "mobilenet")
ROUNDS = 15
MIB, KIB = 1 << 20, 1 << 10


@dataclass(frozen=True)
class Layer:
    """One row. *_bytes : extra memory. ratio : im2col's time over ours; above 1 ours is faster."""

    network: str
    name: str
    macs: int
    im2col_ms: float
    direct_ms: float
    ours_ms: float
    ratio: float
    im2col_bytes: int
    direct_bytes: int
    ours_bytes: int


def layers(plan: Plan) -> Iterator[tuple[list[Node], PlannedStep]]:
    """The convolutions of a chain, and the step that computes them: a step may compute two that follow each other."""
    nodes = iter([node for node in plan.partition.cached if node.op == "conv"])
    for planned in plan.steps:
        if planned.step.macs == 0:
            continue
        found, left = list[Node](), planned.step.macs
        while left > 0:
            found.append(next(nodes))
            left -= macs(plan.graph, found[-1])
        yield found, planned


def ours(session: Session, planned: PlannedStep) -> Callable[[], object]:
    """The step alone, on every pixel of its map. The session must have run a frame."""
    info, block = session.plan.maps[planned.step.target], max(planned.step.method.grain, 4)
    pixels = every_pixel(info.height, info.width, block)
    return lambda: session._state.compute(planned.step.method, pixels, Test(STORE, 0.0, block))


def extra(plan: Plan, planned: PlannedStep) -> int:
    """Bytes of work space that a thread needs for a step: candidates, and what its method asks for."""
    return 4 * (plan.needs.scratch + planned.step.method.work_elements)


class Products:
    """Convolutions of a chain by matrix products, on values of their own."""

    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        rng = np.random.default_rng(0)
        self._layers = [
            Im2col(
                np.asarray(graph.constants[n.inputs[1]], np.float32),
                graph.constants[n.inputs[2]] if len(n.inputs) > 2 else None,
                Window.of(n), shape_of(graph, n.inputs[0]),
            )
            for n in nodes
        ]  # fmt: skip
        self._x = rng.standard_normal(self._layers[0].input_shape, np.float32)
        self._outs = [np.zeros(layer.output_shape, np.float32) for layer in self._layers]

    @property
    def extra_bytes(self) -> int:
        """The most that is held at once; what lies between two of them counts too, as ours never stores it."""
        between = sum(out.nbytes for out in self._outs[:-1])
        return max(layer.extra_bytes for layer in self._layers) + between

    def run(self) -> None:
        """All of them."""
        x = self._x
        for layer, out in zip(self._layers, self._outs, strict=True):
            x = layer.run(x, out)


def measure(network: str, rounds: int, threads: int) -> list[Layer]:
    """Every layer of a network."""
    opened = open_synthetic(f"synthetic:{network}")
    blas.use_threads(threads)
    strict = replace(opened.policy, precision="strict", fft_kept=0.0)
    plans = {"direct": opened.compile(strict), "ours": opened.compile()}
    image = np.random.default_rng(1).integers(0, 256, (opened.size[1], opened.size[0], 3), np.uint8)
    sessions = {name: Session(plan, exact=True, threads=threads) for name, plan in plans.items()}
    for session in sessions.values():
        session.push(image)
    found = []
    pairs = zip(layers(plans["direct"]), layers(plans["ours"]), strict=True)
    for (nodes, direct), (_, planned) in pairs:
        products = Products(plans["ours"].graph, nodes)
        times = interleaved(
            {
                "im2col": products.run, "direct": ours(sessions["direct"], direct),
                "ours": ours(sessions["ours"], planned),
            },
            rounds,
        )  # fmt: skip
        ms = {name: float(np.median(values)) for name, values in times.items()}
        found.append(
            Layer(
                network, " + ".join(described(plans["ours"].graph, node) for node in nodes), planned.step.macs,
                ms["im2col"], ms["direct"], ms["ours"], ms["im2col"] / ms["ours"], products.extra_bytes,
                extra(plans["direct"], direct), extra(plans["ours"], planned),
            )
        )  # fmt: skip
    return found


def described(graph: Graph, node: Node) -> str:
    """As in "3x3 64 to 128, 56x56" and "3x3/2 depthwise 96, 56x56"; the size is the output's."""
    outputs, per_group, rows, columns = graph.constants[node.inputs[1]].shape
    _, height, width = shape_of(graph, node.output)
    stride = "" if tuple(node.attrs["strides"]) == (1, 1) else f"/{node.attrs['strides'][0]}"
    groups = node.attrs["groups"]
    what = f"depthwise {outputs}" if groups == outputs > 1 else f"{per_group * groups} to {outputs}"
    return f"{rows}x{columns}{stride} {what}, {width}x{height}"


def section(found: Sequence[Layer], threads: int) -> str:
    """What stands between the markers of docs/techniques/direct.md."""
    parts = [f"Machine: {machine()['cpu']}; BLAS {threads} thread{'' if threads == 1 else 's'}, ours 1; float32."]
    for network in dict.fromkeys(layer.network for layer in found):
        rows = [layer for layer in found if layer.network == network]
        lines = [
            "| layer | MMAC | im2col, ms | direct, ms | ours, ms | times as fast | im2col, MiB | direct, KiB "
            "| ours, KiB |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {r.name} | {r.macs / 1e6:.1f} | {r.im2col_ms:.3f} | {r.direct_ms:.3f} | {r.ours_ms:.3f} "
            f"| {r.ratio:.2f} | {r.im2col_bytes / MIB:.2f} | {r.direct_bytes / KIB:.0f} | {r.ours_bytes / KIB:.0f} |"
            for r in rows
        ]
        total = [sum(getattr(r, f"{name}_ms") for r in rows) for name in ("im2col", "direct", "ours")]
        most = [max(getattr(r, f"{name}_bytes") for r in rows) for name in ("im2col", "direct", "ours")]
        lines.append(
            f"| all, and the most memory | {sum(r.macs for r in rows) / 1e6:.1f} | {total[0]:.2f} | {total[1]:.2f} | "
            f"{total[2]:.2f} | {total[0] / total[2]:.2f} | {most[0] / MIB:.2f} | {most[1] / KIB:.0f} | "
            f"{most[2] / KIB:.0f} |"
        )
        parts += [f"### {network}, 224x224", "\n".join(lines)]
    return "\n\n".join(parts)


def command(
    networks: Annotated[list[str] | None, typer.Option("--network", help="vgg16, mobilenet or resnet18.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = ROUNDS,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Of BLAS; our steps by themselves take one.")] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    document: Annotated[
        Path | None, typer.Option("--doc", help="Document whose section between markers is rewritten.")
    ] = None,
) -> None:
    """Convolutions with and without a matrix of columns."""
    found = [layer for network in networks or NETWORKS for layer in measure(network, rounds, threads)]
    title = f"BLAS {threads} thread{'' if threads == 1 else 's'}, ours 1"
    head = ("layer", "im2col ms", "direct ms", "ours ms", "ratio", "im2col MiB", "direct KiB", "ours KiB")
    table = Table(*head, title=title)
    for r in found:
        table.add_row(
            f"{r.network} {r.name}", f"{r.im2col_ms:.3f}", f"{r.direct_ms:.3f}", f"{r.ours_ms:.3f}", f"{r.ratio:.2f}",
            f"{r.im2col_bytes / MIB:.2f}", f"{r.direct_bytes / KIB:.0f}", f"{r.ours_bytes / KIB:.0f}",
        )  # fmt: skip
    Console().print(table)
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(r) for r in found], indent=1) + "\n", encoding="utf-8")
    if document is not None:
        text = document.read_text(encoding="utf-8")
        document.write_text(replaced(text, "im2col", section(found, threads)), encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
