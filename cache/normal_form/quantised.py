"""QuantizeLinear, DequantizeLinear, the QLinear ops of ONNX and of ONNX Runtime's own domain, and ops on bytes.

Per tensor for activations, per tensor or per channel for weights, uint8 and int8. What has no integer kernel becomes
dequantise, the op in float32, quantise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.graph import IDENTITY, Activation, Node, TensorType
from cache.normal_form import channels, eltwise, pool, resize
from cache.normal_form.window import pair, window_pads, window_size
from cache.passes.editor import GraphEditor
from cache.quantisation import Quantisation, lookup_table, quantised_range

Rule = Callable[[Node, GraphEditor, int], "list[Node] | None"]
MICROSOFT = "com.microsoft."


def byte_map(editor: GraphEditor, tensor: str) -> TensorType | None:
    """The type of a computed uint8 or int8 (1, C, H, W) tensor, None for anything else."""
    found = None if tensor in editor.constants else editor.types.get(tensor)
    return found if found is not None and found.is_byte_map else None


def quantisation(editor: GraphEditor, dtype: np.dtype[Any], scale: str, zero: str = "") -> Quantisation | None:
    """Scale and zero point of a tensor, when they are constants and one for all of it."""
    factor = editor.constants.get(scale)
    if factor is None or factor.size != 1 or factor.dtype != np.float32 or not factor.reshape(-1)[0] > 0:
        return None
    found = editor.scalar(zero) if zero else 0.0
    return None if found is None else Quantisation(np.dtype(dtype), float(factor.reshape(-1)[0]), int(found))


def _optional(node: Node, index: int) -> str:
    return node.inputs[index] if len(node.inputs) > index else ""


def quantise_node(name: str, x: str, out: str, found: Quantisation) -> Node:
    """A quantise node."""
    return Node(name, "quantise", (x,), (out,), {"scale": found.scale, "zero_point": found.zero_point, "table": None})


def dequantise_node(name: str, x: str, out: str, found: Quantisation) -> Node:
    """A dequantise node."""
    return Node(name, "dequantise", (x,), (out,), {"scale": found.scale, "zero_point": found.zero_point})


def quantize_linear(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """QuantizeLinear -> quantise."""
    out = byte_map(editor, node.output)
    if editor.feature_map(node.inputs[0]) is None or out is None:
        return None
    found = quantisation(editor, out.dtype, node.inputs[1], _optional(node, 2))
    return None if found is None else [quantise_node(node.name, node.inputs[0], node.output, found)]


def dequantize_linear(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """DequantizeLinear -> dequantise."""
    x = byte_map(editor, node.inputs[0])
    if x is None or editor.feature_map(node.output) is None:
        return None
    found = quantisation(editor, x.dtype, node.inputs[1], _optional(node, 2))
    return None if found is None else [dequantise_node(node.name, node.inputs[0], node.output, found)]


@dataclass(frozen=True)
class _Detour:
    """Nodes under construction around an op in float32."""

    node: Node
    editor: GraphEditor

    def back(self, tensor: str, found: Quantisation, index: int = 0) -> tuple[Node, str]:
        """Dequantise an input."""
        source = self.editor.types[tensor]
        made = self.editor.add_tensor(f"{self.node.output}/x{index}", TensorType(np.dtype(np.float32), source.shape))
        return dequantise_node(f"{self.node.name}/x{index}", tensor, made, found), made

    def result(self) -> str:
        """The op's result in float32, still to be quantised."""
        out = self.editor.types[self.node.output]
        return self.editor.add_tensor(f"{self.node.output}/y", TensorType(np.dtype(np.float32), out.shape))

    def run(
        self, rule: Rule, inputs: Sequence[str], found: Sequence[Quantisation], out: Quantisation, opset: int
    ) -> list[Node] | None:
        """Dequantise the inputs, apply a rule of a float op, quantise its result."""
        parts = [self.back(name, q, i) for i, (name, q) in enumerate(zip(inputs, found, strict=True))]
        y = self.result()
        plain = Node(self.node.name, self.node.op, tuple(name for _, name in parts), (y,), self.node.attrs)
        nodes = rule(plain, self.editor, opset)
        if nodes is None:
            return None
        last = quantise_node(f"{self.node.name}/y", y, self.node.output, out)
        return [*(node for node, _ in parts), *nodes, last]


def qlinear_conv(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """QLinearConv -> q_conv; in float32 where the weights less their zero points do not fit int8."""
    x, out = byte_map(editor, node.inputs[0]), byte_map(editor, node.output)
    w, factors, zeros = (editor.constants.get(name) for name in node.inputs[3:6])
    if x is None or out is None or w is None or factors is None or zeros is None or w.ndim != 4:
        return None
    source = quantisation(editor, x.dtype, *node.inputs[1:3])
    target = quantisation(editor, out.dtype, *node.inputs[6:8])
    bias = editor.constants.get(_optional(node, 8)) if _optional(node, 8) else np.zeros(len(w), np.int32)
    attrs = _conv_attrs(node, x.shape, w.shape, out.shape)
    if source is None or target is None or bias is None or attrs is None:
        return None
    if factors.size not in (1, len(w)) or zeros.size not in (1, len(w)):
        return None
    whole = w.astype(np.int32) - zeros.astype(np.int32).reshape(-1, 1, 1, 1)
    scale = np.broadcast_to(factors.reshape(-1), (len(w),)).astype(np.float32)
    if whole.min(initial=0) < -128 or whole.max(initial=0) > 127:
        return _float_conv(_Detour(node, editor), source, target, whole, scale, bias, attrs)
    made = q_conv_node(node.name, node.inputs[0], node.output, editor, whole.astype(np.int8), bias, attrs)
    return [scaled_conv(made, source, target, scale)]


def q_conv_node(
    name: str, x: str, out: str, editor: GraphEditor, weight: npt.NDArray[np.int8], bias: npt.NDArray[np.int32],
    attrs: Mapping[str, Any],
) -> Node:  # fmt: skip
    """A q_conv node that still lacks its scales."""
    inputs = (x, editor.add_constant(f"{name}/weight", weight), editor.add_constant(f"{name}/bias", bias))
    return Node(name, "q_conv", inputs, (out,), {k: v for k, v in attrs.items() if k != "activation"})


def scaled_conv(node: Node, source: Quantisation, target: Quantisation, scale: npt.NDArray[np.float32]) -> Node:
    """A q_conv node with its scales, as ONNX Runtime multiplies them."""
    factor = (np.float32(source.scale) * scale / np.float32(target.scale)).astype(np.float32)
    attrs = {
        **node.attrs, "scale": factor, "zero_point": source.zero_point, "out_zero_point": target.zero_point,
        "limits": quantised_range(target.dtype), "table": None,
    }  # fmt: skip
    return Node(node.name, "q_conv", node.inputs, node.outputs, attrs)


def _conv_attrs(node: Node, x: Sequence[int], w: Sequence[int], out: Sequence[int]) -> dict[str, Any] | None:
    strides, dilations = pair(node, "strides", 1), pair(node, "dilations", 1)
    if strides is None or dilations is None:
        return None
    size, kernel = (x[2], x[3]), (w[2], w[3])
    pads = window_pads(node, size, kernel, strides, dilations)
    groups = int(node.attrs.get("group", 1))
    if pads is None or groups < 1 or w[1] * groups != x[1] or w[0] % groups or out[1] != w[0]:
        return None
    if window_size(size, kernel, strides, pads, dilations) != tuple(out[2:]):
        return None
    return {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups, "activation": IDENTITY}


def _float_conv(
    detour: _Detour, source: Quantisation, target: Quantisation, whole: npt.NDArray[np.int32],
    scale: npt.NDArray[np.float32], bias: npt.NDArray[np.int32], attrs: Mapping[str, Any],
) -> list[Node]:  # fmt: skip
    node, editor = detour.node, detour.editor
    first, x = detour.back(node.inputs[0], source)
    y = detour.result()
    weight = editor.add_constant(f"{node.name}/weight", whole.astype(np.float32) * scale.reshape(-1, 1, 1, 1))
    shift = bias.astype(np.float32) * (np.float32(source.scale) * scale)
    inputs = (x, weight, editor.add_constant(f"{node.name}/bias", shift.astype(np.float32)))
    conv = Node(node.name, "conv", inputs, (y,), attrs)
    return [first, conv, quantise_node(f"{node.name}/y", y, node.output, target)]


def qlinear_binary(op: str) -> Rule:
    """QLinearAdd and QLinearMul -> q_add, q_mul; with a constant per channel in float32."""

    def rule(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
        out = byte_map(editor, node.output)
        types = [editor.type_of(node.inputs[i]) for i in (0, 3)]
        if out is None or types[0] is None or types[1] is None:
            return None
        found = [
            quantisation(editor, types[0].dtype, *node.inputs[1:3]),
            quantisation(editor, types[1].dtype, *node.inputs[4:6]),
            quantisation(editor, out.dtype, node.inputs[6], _optional(node, 7)),
        ]
        inputs = [node.inputs[0], node.inputs[3]]
        x, y, z = found
        if x is None or y is None or z is None:
            return None
        for i in (0, 1):
            if inputs[i] in editor.constants:
                return _with_constant(node, editor, op, inputs[1 - i], (y, x)[i], inputs[i], (x, y)[i], z, opset)
        if byte_map(editor, inputs[0]) is None or byte_map(editor, inputs[1]) is None:
            return None
        if types[0].shape != out.shape:
            inputs, (x, y) = inputs[::-1], (y, x)
        shapes = [editor.types[name].shape for name in inputs]
        if shapes[0] != out.shape or shapes[1] not in (out.shape, (1, out.shape[1], 1, 1)):
            return None
        return [combination_node(node.name, op, inputs, node.output, (x, y, z))]

    return rule


def combination_node(
    name: str, op: str, inputs: Sequence[str], out: str, found: tuple[Quantisation, Quantisation, Quantisation]
) -> Node:
    """A q_add or q_mul node."""
    attrs = {
        "scales": tuple(q.scale for q in found), "zero_points": tuple(q.zero_point for q in found),
        "limits": quantised_range(found[2].dtype), "table": None,
    }  # fmt: skip
    return Node(name, op, tuple(inputs), (out,), attrs)


def _with_constant(
    node: Node, editor: GraphEditor, op: str, x: str, source: Quantisation, name: str, found: Quantisation,
    target: Quantisation, opset: int,
) -> list[Node] | None:  # fmt: skip
    value = found.dequantise(editor.constants[name])
    detour = _Detour(node, editor)
    constant = editor.add_constant(f"{node.name}/constant", value)
    rule = eltwise.RULES["Add" if op == "q_add" else "Mul"]

    def with_value(plain: Node, inner: GraphEditor, version: int) -> list[Node] | None:
        kind = f"onnx.{'Add' if op == 'q_add' else 'Mul'}"
        return rule(Node(plain.name, kind, (plain.inputs[0], constant), plain.outputs, {}), inner, version)

    return detour.run(with_value, [x], [source], target, opset)


def qlinear_activation(make: Callable[[Node], Activation]) -> Rule:
    """QLinearSigmoid, QLinearLeakyRelu -> q_lookup."""

    def rule(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
        x, out = byte_map(editor, node.inputs[0]), byte_map(editor, node.output)
        if x is None or out is None:
            return None
        source = quantisation(editor, x.dtype, node.inputs[1], node.inputs[2])
        target = quantisation(editor, out.dtype, node.inputs[3], _optional(node, 4))
        if source is None or target is None:
            return None
        return [lookup_node(node.name, node.inputs[0], node.output, lookup_table(source, make(node), target))]

    return rule


def lookup_node(name: str, x: str, out: str, table: npt.NDArray[np.uint8]) -> Node:
    """A q_lookup node."""
    return Node(name, "q_lookup", (x,), (out,), {"table": table})


def qlinear_concat(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """QLinearConcat along the channels -> a q_lookup per part that is scaled otherwise, and their q_concat."""
    out = byte_map(editor, node.output)
    if out is None or node.attrs.get("axis") not in (1, -3) or len(node.inputs) < 5:
        return None
    target = quantisation(editor, out.dtype, *node.inputs[:2])
    nodes, parts = list[Node](), list[str]()
    for index in range(2, len(node.inputs), 3):
        name = node.inputs[index]
        x = byte_map(editor, name)
        found = None if x is None else quantisation(editor, x.dtype, *node.inputs[index + 1 : index + 3])
        if x is None or found is None or target is None:
            return None
        if found != target:
            made = editor.add_tensor(f"{node.output}/{index}", TensorType(out.dtype, x.shape))
            nodes.append(lookup_node(f"{node.name}/{index}", name, made, lookup_table(found, IDENTITY, target)))
            name = made
        parts.append(name)
    return [*nodes, Node(node.name, "q_concat", tuple(parts), node.outputs, {"axis": 1})]


def through_float(rule: Rule) -> Rule:
    """An op of one tensor, its scales after it, in float32 between dequantise and quantise."""

    def detour(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
        x, out = byte_map(editor, node.inputs[0]), byte_map(editor, node.output)
        if x is None or out is None or node.attrs.get("channels_last"):
            return None
        source = quantisation(editor, x.dtype, node.inputs[1], node.inputs[2])
        target = quantisation(editor, out.dtype, node.inputs[3], _optional(node, 4))
        if source is None or target is None:
            return None
        return _Detour(node, editor).run(rule, [node.inputs[0]], [source], target, opset)

    return detour


class _ByteEditor(GraphEditor):
    """An editor to whose reader byte maps are the feature maps."""

    def __init__(self, editor: GraphEditor) -> None:
        self.__dict__ = editor.__dict__

    def feature_map(self, tensor: str) -> TensorType | None:
        """The type of a computed byte map."""
        return byte_map(self, tensor)


_BYTE_OPS = {
    "max_pool": "q_max_pool", "resize": "q_resize", "concat": "q_concat", "select_channels": "q_select",
    "slice_spatial": "q_slice",
}  # fmt: skip


def on_bytes(rule: Rule) -> Rule:
    """The rule of an op that moves or selects values, on maps of float32 or of bytes."""

    def either(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
        found = rule(node, editor, opset)
        if found is not None or byte_map(editor, node.output) is None:
            return found
        moved = rule(node, _ByteEditor(editor), opset)
        if moved is None or any(n.op not in _BYTE_OPS or n.attrs.get("mode", "nearest") != "nearest" for n in moved):
            return None
        return [Node(n.name, _BYTE_OPS[n.op], n.inputs, n.outputs, n.attrs) for n in moved]

    return either


RULES: Mapping[str, Rule] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    MICROSOFT + "QuantizeLinear": quantize_linear,
    MICROSOFT + "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    MICROSOFT + "QLinearAdd": qlinear_binary("q_add"),
    MICROSOFT + "QLinearMul": qlinear_binary("q_mul"),
    MICROSOFT + "QLinearSigmoid": qlinear_activation(lambda node: Activation("sigmoid")),
    MICROSOFT + "QLinearLeakyRelu": qlinear_activation(
        lambda node: Activation("leaky_relu", alpha=float(node.attrs.get("alpha", 0.01)))
    ),
    MICROSOFT + "QLinearConcat": qlinear_concat,
    MICROSOFT + "QLinearGlobalAveragePool": through_float(pool.RULES["GlobalAveragePool"]),
    MICROSOFT + "QLinearAveragePool": through_float(pool.average_pool),
    "MaxPool": on_bytes(pool.max_pool),
    "Resize": on_bytes(resize.RULES["Resize"]),
    "Upsample": on_bytes(resize.RULES["Upsample"]),
    **{kind: on_bytes(channels.RULES[kind]) for kind in ("Concat", "Split", "Slice", "Gather", "SpaceToDepth")},
}
"""By ONNX op type; they take the place of the rules for float32 alone."""
