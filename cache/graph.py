"""The engine's small graph: tensors by name, nodes in topological order, types that are all concrete.

This file is data only: it knows neither ONNX nor kernels. The importer writes graphs, passes rewrite
them, the plan reads them.

Normal form (the ops a plan may cache; every tensor is float32, or bytes where an op says so, NCHW, batch 1):

==================  ==========================================================================
op                  inputs and attributes
==================  ==========================================================================
conv                (x, w[, b]); strides(2) pads(top, left, bottom, right) dilations(2) groups
                    activation; w float32[Cout, Cin/groups, kh, kw], b float32[Cout], constants
conv_transpose      as conv, w float32[Cin, Cout/groups, kh, kw], and output_padding(2)
max_pool            (x); kernel(2) strides(2) pads(4) dilations(2); padding never wins
avg_pool            as max_pool, and count_include_pad(bool)
global_avg_pool     (x) -> (1, C, 1, 1)
global_max_pool     (x) -> (1, C, 1, 1)
resize              (x); mode coordinate nearest_mode scales(2)
add sub mul         (x, y); activation; y has the shape of x or is (1, C, 1, 1)
max min             as add
affine              (x); scale float32[C] shift float32[C] activation: act(x * scale + shift)
activate            (x); activation
softmax             (x); over channels, pixel by pixel
concat              (x, ...); axis = 1
select_channels     (x); channels int64[Cout]
slice_spatial       (x); starts(2) steps(2), both >= 0 and > 0; the end is the output's type
pad                 (x); pads(4), zeros
quantise            (x) -> bytes; scale(float) zero_point(int) table
dequantise          (bytes) -> float32; scale zero_point
q_conv              (bytes, w[, b]) -> bytes; as conv, w int8, b int32[Cout], constants; scale float32[Cout] (of
                    the int32 sum), zero_point (of x), out_zero_point, limits(2) (of the result), table
q_add q_mul         (bytes, bytes) -> bytes; scales(3) zero_points(3) (of x, y and the result) limits(2) table
q_lookup            (bytes) -> bytes; table uint8[256]: stored byte of each stored byte
q_max_pool q_resize as max_pool, resize (nearest), concat, select_channels and slice_spatial: bytes in, bytes
q_concat q_select   out, of one scale and zero point
q_slice
onnx.<OpType>       whatever is not in this table; it always ends in a tail
==================  ==========================================================================

Bytes are uint8 or int8. They are *stored* as uint8, int8 less its lowest value, -128. A ``table`` (uint8[256] or
None) is applied to the stored result, last.

The pooling output shape in ``Graph.types`` is the truth (ceil_mode is resolved): rows and columns of a
window that lie beyond the padded input count nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

ELTWISE_OPS = frozenset({"add", "sub", "mul", "max", "min"})
POOL_OPS = frozenset({"max_pool", "avg_pool"})
GLOBAL_POOL_OPS = frozenset({"global_avg_pool", "global_max_pool"})
CONV_OPS = frozenset({"conv", "conv_transpose"})
FUSING_OPS = CONV_OPS | ELTWISE_OPS | {"affine", "activate"}
"""Ops that carry an ``activation`` attribute."""
TABLE_OPS = frozenset({"quantise", "q_conv", "q_add", "q_mul", "q_lookup"})
"""Ops on bytes that carry a ``table`` attribute."""
QUANTISED_OPS = TABLE_OPS | {"dequantise", "q_max_pool", "q_resize", "q_concat", "q_select", "q_slice"}
NORMAL_OPS = (
    FUSING_OPS | POOL_OPS | GLOBAL_POOL_OPS | QUANTISED_OPS
    | {"resize", "softmax", "concat", "select_channels", "slice_spatial", "pad"}
)  # fmt: skip

FOREIGN_PREFIX = "onnx."
SYNTHETIC_PREFIX = "afterimage:"
"""Starts the name of every tensor that a pass made up: it exists in no ONNX file."""

ACTIVATION_KINDS = frozenset(
    {
        "identity",
        "relu",
        "clip",
        "leaky_relu",
        "prelu",
        "silu",
        "sigmoid",
        "hard_swish",
        "hard_sigmoid",
    }
)


class GraphError(ValueError):
    """A graph breaks a rule of the normal form; the message names the node, what was expected and found."""


@dataclass(frozen=True)
class TensorType:
    """What a tensor is: its element type and its concrete shape (NCHW with batch 1 where it is an image)."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def is_feature_map(self) -> bool:
        """Whether this is float32 and (1, C, H, W), none of them empty."""
        return self.dtype == np.float32 and len(self.shape) == 4 and self.shape[0] == 1 and min(self.shape) > 0

    @property
    def is_byte_map(self) -> bool:
        """Whether this is uint8 or int8 and (1, C, H, W), none of them empty."""
        return self.dtype in (np.uint8, np.int8) and len(self.shape) == 4 and self.shape[0] == 1 and min(self.shape) > 0

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, eq=False)
class Activation:
    """A pointwise function that an op applies to its result.

    kind : identity, relu, clip (alpha = low, beta = high, either may be infinite), leaky_relu (alpha = slope
        below zero), prelu (slope float32[C]), silu, sigmoid, hard_swish, hard_sigmoid
        (max(0, min(1, alpha * x + beta))).
    """

    kind: str = "identity"
    alpha: float = 0.0
    beta: float = 0.0
    slope: npt.NDArray[np.float32] | None = None

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.kind == "identity"

    @property
    def is_non_negative(self) -> bool:
        """Whether no result of it is below zero."""
        return self.kind in ("relu", "sigmoid", "hard_sigmoid") or (self.kind == "clip" and self.alpha >= 0)

    def _key(self) -> tuple[object, ...]:
        return self.kind, self.alpha, self.beta, None if self.slope is None else self.slope.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        if self.kind in ("clip", "hard_sigmoid"):
            return f"{self.kind}({self.alpha:g}, {self.beta:g})"
        return f"leaky_relu({self.alpha:g})" if self.kind == "leaky_relu" else self.kind


IDENTITY = Activation()


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. ``inputs`` lists tensors and constants by name; ``attrs`` as the table above says."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """The one output of a normal-form node (the first of a foreign one)."""
        return self.outputs[0]

    @property
    def is_foreign(self) -> bool:
        """Whether this is an ONNX op outside the normal form."""
        return self.op.startswith(FOREIGN_PREFIX)

    @property
    def activation(self) -> Activation:
        """The fused activation; identity where the op has none."""
        found = self.attrs.get("activation", IDENTITY)
        assert isinstance(found, Activation)
        return found

    def __str__(self) -> str:
        return f"{self.name!r} ({self.op})"


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order and the tensors between them; immutable.

    types : every input, and every output of a normal-form node. A tensor that a foreign node makes is
        missing here when its shape could not be inferred.
    constants : values by name; an output of the graph may be one of them.
    folded : values of tensors of the source file that became constant because the input's shape is known
        (shape arithmetic). A tail that is cut out of the file needs them.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    types: Mapping[str, TensorType]
    folded: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, in order, each once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def type_of(self, name: str) -> TensorType | None:
        """The type of a tensor or constant; None when it is not known."""
        if name in self.constants:
            value = self.constants[name]
            return TensorType(value.dtype, value.shape)
        return self.types.get(name)

    def activations(self, node: Node) -> tuple[str, ...]:
        """The inputs of a node that are computed (or are the graph's input), not constant."""
        return tuple(name for name in node.inputs if name and name not in self.constants)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)


def is_synthetic(name: str) -> bool:
    """Whether a pass made this tensor up, so that no ONNX file knows it."""
    return name.startswith(SYNTHETIC_PREFIX)


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one dense run of a node; 0 where it has none or a shape is not known."""
    out = graph.type_of(node.output)
    sources = [graph.type_of(name) if name else None for name in node.inputs]
    if out is None or len(sources) < 2 or sources[0] is None or sources[1] is None:
        return 0
    x, w = sources[0], sources[1]
    size = int(np.prod(out.shape, dtype=np.int64))
    if node.op in ("conv", "q_conv", f"{FOREIGN_PREFIX}Conv"):
        return size * int(np.prod(w.shape[1:], dtype=np.int64))
    if node.op in ("conv_transpose", f"{FOREIGN_PREFIX}ConvTranspose"):
        return int(np.prod(x.shape, dtype=np.int64)) * int(np.prod(w.shape[1:], dtype=np.int64))
    if node.op == f"{FOREIGN_PREFIX}Gemm":
        return size * x.shape[0 if node.attrs.get("transA") else -1]
    if node.op == f"{FOREIGN_PREFIX}MatMul" and x.shape:
        return size * x.shape[-1]
    return 0
