"""ONNX surgery: which nodes of a model can be decomposed, and a model with others in their place.

The only file of this package that knows onnx. A file is rewritten as it stands: names, metadata and opset stay, so that
whatever reads the original reads the result. Tensors keep their names; what is new is called after the node that it
stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cache.evaluate import evaluate
from cache.graph import FOREIGN_PREFIX
from cache.onnx_import import OnnxModel, changed
from cache.proto import captured
from service.compression.decompose import Piece, Shape

Weights = NDArray[np.float32]

_KINDS = {"Conv", "Gemm", "MatMul"}
_CONSTANT_OPS = {"Constant", "Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze"}
"""Ops through which weights may come to their node."""
_DEEPEST = 8
_LEFT = {"ConvTranspose": "a transposed convolution"}
_INPUTS_ARE_LISTED = 4
"""IR version below which initializers are listed among the inputs."""


class NotTaken(Exception):
    """A node is left as it is; the message says why."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A node that can be decomposed.

    name : the node's label. op : Conv, Gemm or MatMul. weight : float32[Cout, Cin, kh, kw], a matrix as 1 x 1. bias :
    float32[Cout] or None. source, target : tensors that it reads and makes. is_half : whether the file keeps its
    weights as float16.
    """

    position: int
    name: str
    op: str
    weight: Weights
    bias: Weights | None
    source: str
    target: str
    is_half: bool

    @property
    def shape(self) -> Shape:
        """Of the weight."""
        c_out, c_in, kh, kw = self.weight.shape
        return c_out, c_in, kh, kw

    @property
    def takes_bias(self) -> bool:
        """Whether what stands in its place can add a bias."""
        return self.op != "MatMul"


@dataclass(frozen=True, eq=False)
class Replacement:
    """What stands in the place of a layer: pieces, their weights, and the bias of the last one."""

    pieces: tuple[Piece, ...]
    weights: tuple[Weights, ...]
    bias: Weights | None


class Surgeon:
    """A model, its layers that can be decomposed, and why others cannot."""

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.layers: list[Layer] = []
        self.left: dict[str, str] = {}
        """Names of nodes that have weights and are left as they are, each with the reason."""
        self._makers = {name: i for i, node in enumerate(model.source.nodes) for name in node.outputs if name}
        for position, node in enumerate(model.source.nodes):
            op = node.op.removeprefix(FOREIGN_PREFIX)
            if op in _LEFT:
                self.left[node.name] = _LEFT[op]
            if op in _KINDS:
                try:
                    self.layers.append(self._layer(position, op))
                except NotTaken as reason:
                    self.left[node.name] = str(reason)

    def rewrite(self, replacements: Mapping[str, Replacement]) -> bytes:
        """The file with some layers replaced, by name. What only those read is gone."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.model.proto)
        graph, places = proto.graph, {layer.position: layer for layer in self.layers if layer.name in replacements}
        used = _used(graph)
        nodes: list[Any] = []
        for position, node in enumerate(self.model.proto.graph.node):
            layer = places.get(position)
            nodes.extend([node] if layer is None else self._written(proto, layer, replacements[layer.name]))
        del graph.node[:]
        graph.node.extend(nodes)
        _drop_unused(graph, used)
        data: bytes = proto.SerializeToString()
        return data

    def reopened(self, data: bytes) -> OnnxModel:
        """A rewritten file, not checked again."""
        return changed(self.model, onnx.load_model_from_string(data))

    def hidden(self, layer: Layer) -> str:
        """The tensor that the last piece of a layer reads, once it is replaced."""
        return self._name(f"{layer.name}/hidden")

    def _layer(self, position: int, op: str) -> Layer:
        node = self.model.source.nodes[position]
        if op == "MatMul" and self._constant(node.inputs[0]) is not None:
            raise NotTaken("its first operand is constant")
        weight = self._weights(node.inputs[1])
        alpha = beta = 1.0
        if op == "Conv":
            if weight.ndim != 4:
                raise NotTaken(f"weights of {weight.ndim} dimensions, expected 4")
            if int(node.attrs.get("group", 1)) != 1:
                depthwise = weight.shape[1] == 1
                raise NotTaken("a depthwise convolution" if depthwise else "a grouped convolution")
        else:
            if weight.ndim != 2:
                raise NotTaken(f"weights of {weight.ndim} dimensions, expected 2")
            alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
            if node.attrs.get("transA"):
                raise NotTaken("its input is transposed")
            weight = weight if node.attrs.get("transB") else weight.T
            weight = np.ascontiguousarray(weight * np.float32(alpha))[:, :, None, None]
        bias = self._weights(node.inputs[2]) * np.float32(beta) if len(node.inputs) > 2 and node.inputs[2] else None
        if bias is not None:
            if bias.size not in (1, len(weight)):
                raise NotTaken(f"a bias of shape {bias.shape}, expected {len(weight)} values")
            bias = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), len(weight)))
        if not np.isfinite(weight).all() or not weight.any():
            raise NotTaken("weights that are all zero, or not finite")
        return Layer(
            position, node.name, op, weight, bias, node.inputs[0], node.outputs[0], self._is_half(node.inputs[1])
        )

    def _weights(self, name: str) -> Weights:
        found = self._constant(name)
        if found is None:
            raise NotTaken("weights that are no constants (computed, or quantised)")
        if found.dtype != np.float32:
            raise NotTaken(f"weights of {found.dtype}, expected float32")
        return np.asarray(found, np.float32)

    def _constant(self, name: str, deepest: int = _DEEPEST) -> NDArray[Any] | None:
        """The value of a tensor that is constant, through the few ops that exporters put before weights."""
        source = self.model.source
        if name in source.constants:
            return source.constants[name]
        maker = self._makers.get(name)
        node = None if maker is None else source.nodes[maker]
        if node is None or not deepest or node.op.removeprefix(FOREIGN_PREFIX) not in _CONSTANT_OPS:
            return None
        values = [self._constant(item, deepest - 1) if item else None for item in node.inputs]
        if any(value is None for value, item in zip(values, node.inputs, strict=True) if item):
            return None
        try:
            return evaluate(node.op.removeprefix(FOREIGN_PREFIX), values, node.attrs)
        except (ValueError, TypeError, LookupError):  # what NumPy raises on a file that ONNX Runtime would refuse
            return None

    def _is_half(self, name: str) -> bool:
        """Whether a constant is kept as float16 and cast."""
        source = self.model.source
        if name in source.constants:
            return bool(source.constants[name].dtype == np.float16)
        node = source.nodes[self._makers[name]]
        value = node.attrs.get("value")
        if node.op == f"{FOREIGN_PREFIX}Constant":
            return isinstance(value, np.ndarray) and value.dtype == np.float16
        return self._is_half(node.inputs[0])

    @cached_property
    def _taken(self) -> frozenset[str]:
        """Names of tensors and nodes of the file."""
        nodes = self.model.source.nodes
        names = {name for node in nodes for name in (node.name, *node.inputs, *node.outputs)}
        return frozenset(names | set(self.model.source.constants) | set(self.model.source.inputs))

    def _name(self, wanted: str) -> str:
        while wanted in self._taken:
            wanted += "_"
        return wanted

    def _written(self, proto: Any, layer: Layer, replacement: Replacement) -> list[Any]:
        """The nodes in the place of a layer; their weights go into the model."""
        nodes: list[Any] = []
        attributes = {item.name: helper.get_attribute_value(item) for item in layer_node(self.model, layer).attribute}
        last = len(replacement.pieces) - 1
        x = layer.source
        for number, (piece, values) in enumerate(zip(replacement.pieces, replacement.weights, strict=True)):
            label = f"{layer.name}/{number}"
            end = layer.target if number == last else self._name(f"{label}/out")
            end = self.hidden(layer) if number == last - 1 else end
            bias = replacement.bias if number == last else None
            if layer.op == "Conv":
                inputs = [x, self._put(proto, nodes, f"{label}/weight", values, layer.is_half)]
                if bias is not None:
                    inputs.append(self._put(proto, nodes, f"{label}/bias", bias, layer.is_half))
                made = helper.make_node("Conv", inputs, [end], name=label, **_window(piece, attributes))
            else:
                made = self._product(proto, nodes, layer, label, x, end, values[:, :, 0, 0], bias)
            nodes.append(made)
            x = end
        return nodes

    def _product(
        self, proto: Any, nodes: list[Any], layer: Layer, label: str, x: str, end: str, matrix: Weights,
        bias: Weights | None,
    ) -> Any:  # fmt: skip
        turned = self._put(proto, nodes, f"{label}/weight", np.ascontiguousarray(matrix.T), layer.is_half)
        if bias is None:
            return helper.make_node("MatMul", [x, turned], [end], name=label)
        added = self._put(proto, nodes, f"{label}/bias", bias, layer.is_half)
        return helper.make_node("Gemm", [x, turned, added], [end], name=label)

    def _put(self, proto: Any, nodes: list[Any], name: str, values: Weights, is_half: bool) -> str:
        """Keep an array in the model, as float16 with a cast if so; returns the name of the float32 tensor."""
        name = self._name(name)
        kept = f"{name}/half" if is_half else name
        stored = stored_as(values, is_half)
        proto.graph.initializer.append(numpy_helper.from_array(stored, kept))
        if proto.ir_version < _INPUTS_ARE_LISTED:
            kind = helper.np_dtype_to_tensor_dtype(stored.dtype)
            proto.graph.input.append(helper.make_tensor_value_info(kept, kind, stored.shape))
        if is_half:
            nodes.append(helper.make_node("Cast", [kept], [name], name=f"{name}/cast", to=onnx.TensorProto.FLOAT))
        return name


def stored_as(values: NDArray[Any], is_half: bool) -> NDArray[Any]:
    """An array as the file keeps it."""
    return np.ascontiguousarray(values, np.float16 if is_half else np.float32)


def layer_node(model: OnnxModel, layer: Layer) -> Any:
    """The node of the file that a layer is."""
    return model.proto.graph.node[layer.position]


def file_bytes(model: OnnxModel) -> int:
    """Size of a model's file."""
    return int(model.proto.ByteSize())


def _window(piece: Piece, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a piece: its share of the original's stride, padding and dilation."""
    axes = (piece.rows, piece.columns)

    def share(name: str, default: int) -> list[int]:
        whole = attributes.get(name, [default, default])
        return [value if taken else default for value, taken in zip(whole, axes, strict=True)]

    found: dict[str, Any] = {"kernel_shape": list(piece.shape[2:]), "group": piece.groups}
    found |= {"strides": share("strides", 1), "dilations": share("dilations", 1)}
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic not in ("NOTSET", ""):
        return {**found, "auto_pad": automatic}
    pads = attributes.get("pads", [0] * 4)
    return {**found, "pads": [pad if axes[i % 2] else 0 for i, pad in enumerate(pads)]}


def _used(graph: Any) -> set[str]:
    """Tensors that something reads."""
    names = {name for node in graph.node for name in (*node.input, *captured(node))}
    return names | {item.name for item in graph.output}


def _drop_unused(graph: Any, before: set[str]) -> None:
    """Drop constants, and ops on constants, that something read before and nothing reads now."""
    gone = True
    while gone:
        now = _used(graph)
        kept = [
            node for node in graph.node
            if node.op_type not in _CONSTANT_OPS or any(name in now or name not in before for name in node.output)
        ]  # fmt: skip
        gone = len(kept) < len(graph.node)
        if gone:
            del graph.node[:]
            graph.node.extend(kept)
    lost = {item.name for item in graph.initializer if item.name in before and item.name not in now}
    _keep(graph.initializer, lost)
    _keep(graph.input, lost)
    _keep(graph.value_info, lost)


def _keep(items: Any, lost: set[str]) -> None:
    kept: Sequence[Any] = [item for item in items if item.name not in lost]
    if len(kept) < len(items):
        del items[:]
        items.extend(kept)
