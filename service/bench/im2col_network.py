"""A whole network by im2col and BLAS: what the engine is compared with where techniques are taken one by one.

The graph is the one that our plan runs, after its own passes, so that only the way of computing differs. What is no
convolution is computed by NumPy, and what our plan leaves to ONNX Runtime is left to it here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.graph import Graph, Node
from cache.plan import Plan
from service.bench.dense_ops import Floats, Run, Shape, UnknownOpError, activate, needs_scratch, prepare, shape_of
from service.bench.im2col import Im2col, Space, Window
from service.bench.ingest import Frame, fastest, ways
from service.families.base import Outputs


@dataclass(frozen=True)
class Part:
    """A node, ready to run. sources : its inputs' buffers. out : where it writes. product : its matrix product."""

    node: Node
    sources: tuple[Floats, ...]
    out: Floats
    run: Run
    product: Im2col | None


class Im2colNetwork:
    """One model, dense, in float32. `ingest` says how a frame becomes its tensor.

    weight_bytes, map_bytes : of weights, and of all buffers for maps, each used again once its last reader is done.
    extra_bytes : of the columns' matrix and the padded input, as large as the largest layer's.
    """

    name = "im2col"

    def __init__(self, plan: Plan) -> None:
        """Raises UnknownOpError where the graph has an op that this file does not compute."""
        self._plan, graph, nodes = plan, plan.graph, plan.partition.cached
        self._space, self._input = Space(), np.zeros(plan.input_shape, np.float32)
        for node in nodes:
            known = graph.type_of(node.output)
            if known is None or not known.is_feature_map:
                raise UnknownOpError(f"the im2col baseline computes float32 maps alone, and {node.name} makes another")
        kept = {*graph.outputs, *(name for tail in plan.tails for name in tail.inputs)}
        buffers = _Buffers(graph, nodes, kept)
        self._values: dict[str, Floats] = {graph.inputs[0]: self._input[0]}
        self._values |= {name: np.asarray(v[0]) for name, v in graph.constants.items() if v.ndim == 4 and len(v) == 1}
        self.parts = [self._part(graph, node, buffers) for node in nodes]
        spare = (p.out.size for p in self.parts if "activation" in p.node.attrs and needs_scratch(p.node.activation))
        self._scratch = np.zeros(max(spare, default=0), np.float32)
        read = {name for node in nodes for name in node.inputs}
        self.weight_bytes = sum(v.nbytes for name, v in graph.constants.items() if name in read)
        self.map_bytes = buffers.nbytes + self._input.nbytes + self._scratch.nbytes
        found = ways(plan.table)
        image = np.full((plan.height, plan.width, plan.channels), 114, np.uint8)
        self.ingest = fastest((name, partial(way, image, self._input)) for name, way in found.items())
        self._ingest = found[self.ingest]

    @property
    def extra_bytes(self) -> int:
        """Memory that the way of computing takes beside weights and maps."""
        return self._space.nbytes

    def frame(self, frame: Frame) -> Outputs:
        """Output tensors of a frame uint8[H, W, C]; valid until the next call."""
        self._ingest(frame, self._input)
        with np.errstate(over="ignore"):
            for part in self.parts:
                part.run(part.sources, part.out)
                if "activation" in part.node.attrs:
                    activate(part.node.activation, part.out, self._scratch)
        made: dict[str, NDArray[Any]] = {name: value[None] for name, value in self._values.items()}
        for tail in self._plan.tails:
            made |= tail.run(made)
        made |= self._plan.constants
        return {name: made[name] for name in self._plan.output_names}

    def _part(self, graph: Graph, node: Node, buffers: _Buffers) -> Part:
        product, names = None, node.inputs
        if node.op == "conv":
            bias = graph.constants[names[2]] if len(names) > 2 else None
            weight = np.asarray(graph.constants[names[1]], np.float32)
            product = Im2col(weight, bias, Window.of(node), shape_of(graph, names[0]), self._space)
            names = names[:1]
            run = _product(product)
        else:
            run = prepare(graph, node)
        sources = tuple(self._values[name] for name in names)
        out = self._values[node.output] = buffers.of(node.output)
        buffers.read(node)
        return Part(node, sources, out, run, product)


def _product(product: Im2col) -> Run:
    return lambda sources, out: product.run(sources[0], out)


class _Buffers:
    """Memory of maps by liveness: a buffer is free for the next map once all that read it have run."""

    def __init__(self, graph: Graph, nodes: Sequence[Node], kept: set[str]) -> None:
        self._graph = graph
        self._readers: dict[str, int] = {}
        for node in nodes:
            for name in dict.fromkeys(node.inputs):
                self._readers[name] = self._readers.get(name, 0) + 1
        for name in kept:
            self._readers[name] = len(nodes) + 1
        self._free: list[Floats] = []
        self._held: dict[str, Floats] = {}
        self.nbytes = 0

    def of(self, name: str) -> Floats:
        """float32[C, H, W] for a map: the smallest free buffer that holds it, or a new one."""
        shape: Shape = shape_of(self._graph, name)
        size = int(np.prod(shape))
        fitting = [i for i, buffer in enumerate(self._free) if buffer.size >= size]
        if fitting:
            flat = self._free.pop(min(fitting, key=lambda i: self._free[i].size))
        else:
            flat = np.zeros(size, np.float32)
            self.nbytes += flat.nbytes
        self._held[name] = flat
        return flat[:size].reshape(shape)

    def read(self, node: Node) -> None:
        """A node has its output: inputs that nobody reads any more are free, and so is an output that nobody reads."""
        for name in dict.fromkeys((*node.inputs, node.output)):
            self._readers[name] = self._readers.get(name, 0) - (name != node.output)
            if self._readers[name] <= 0 and name in self._held:
                self._free.append(self._held.pop(name))
