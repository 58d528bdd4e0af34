"""Random small ONNX models: every spatial op the engine caches, joined at random, with a tail now and then."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

ACTIVATIONS = ("none", "Relu", "LeakyRelu", "PRelu", "Clip", "Silu", "Sigmoid", "HardSwish", "HardSigmoid")
LAYERS = ("conv", "conv", "conv", "depthwise", "grouped", "transpose", "maxpool", "avgpool", "residual",
          "concat", "upsample", "squeeze", "shuffle", "split", "siblings", "affine", "linear", "crop",
          "pad", "focus")  # fmt: skip


class ModelMaker:
    """Collects nodes and weights; tensors are (name, channels, height, width)."""

    def __init__(self, seed: int, channels: int, height: int, width: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.channels, self.height, self.width = channels, height, width
        self.count = 0

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def weight(self, values: np.ndarray) -> str:
        name = self.name("w")
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> Any:
        names = [self.name("t") for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def normal(self, *shape: int) -> np.ndarray:
        fan = int(np.prod(shape[1:])) or 1
        return (self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)

    def activate(self, x: str, channels: int, kind: str) -> str:
        if kind == "none":
            return x
        if kind == "Silu":
            return self.node("Mul", [x, self.node("Sigmoid", [x])])
        if kind == "PRelu":
            return self.node("PRelu", [x, self.weight(self.normal(channels, 1, 1))])
        if kind == "Clip":
            low, high = (self.weight(np.array(v, np.float32)) for v in (0.0, 0.7))
            return self.node("Clip", [x, low, high])
        return self.node(kind, [x])

    def conv(self, x: str, cin: int, cout: int, kernel: int, groups: int = 1, **attributes: Any) -> str:
        weight = self.weight(self.normal(cout, cin // groups, kernel, kernel))
        bias = self.weight((0.1 * self.normal(cout)).astype(np.float32))
        return self.node("Conv", [x, weight, bias], group=groups, kernel_shape=[kernel, kernel], **attributes)

    def finish(self, outputs: list[str]) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, self.channels, self.height, self.width))],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return bytes(model.SerializeToString())


Tensor = tuple[str, int, int, int]


def add_layer(m: ModelMaker, draw: Any, kind: str, x: Tensor, others: list[Tensor]) -> Tensor:
    """Add one layer after `x`; `others` are tensors made before."""
    name, c, h, w = x
    act = draw(st.sampled_from(ACTIVATIONS))
    if kind == "conv":
        kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 2))
        dilation, cout = draw(st.integers(1, 2)), draw(st.integers(1, 36))
        span = (kernel - 1) * dilation + 1
        pads = [draw(st.integers(0, span // 2 + 1)) for _ in range(4)]
        out = [(s + pads[i] + pads[i + 2] - span) // stride + 1 for i, s in enumerate((h, w))]
        if min(out) < 1:
            return x
        y = m.conv(name, c, cout, kernel, strides=[stride] * 2, dilations=[dilation] * 2, pads=pads)
        return m.activate(y, cout, act), cout, out[0], out[1]
    if kind == "depthwise":
        y = m.conv(name, c, c, 3, groups=c, pads=[1] * 4)
        return m.activate(y, c, act), c, h, w
    if kind == "grouped":
        groups = next(g for g in (4, 3, 2, 1) if c % g == 0)
        y = m.conv(name, c, groups * 6, 3, groups=groups, pads=[1] * 4)
        return m.activate(y, groups * 6, act), groups * 6, h, w
    if kind == "transpose" and max(h, w) <= 24:
        kernel, cout = draw(st.integers(2, 4)), draw(st.integers(1, 20))
        weight = m.weight(m.normal(c, cout, kernel, kernel))
        y = m.node("ConvTranspose", [name, weight], strides=[2, 2], pads=[0, 0, 1, 1], kernel_shape=[kernel] * 2)
        return m.activate(y, cout, act), cout, 2 * h + kernel - 3, 2 * w + kernel - 3
    if kind in ("maxpool", "avgpool") and min(h, w) >= 3:
        kernel, stride = draw(st.integers(2, 3)), draw(st.integers(1, 2))
        pads, extra = [1, 0, 0, 1], {} if kind == "maxpool" else {"count_include_pad": draw(st.integers(0, 1))}
        op = "MaxPool" if kind == "maxpool" else "AveragePool"
        y = m.node(op, [name], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, **extra)
        return y, c, (h + 1 - kernel) // stride + 1, (w + 1 - kernel) // stride + 1
    return add_joining_layer(m, draw, kind, x, others, act)


def add_joining_layer(m: ModelMaker, draw: Any, kind: str, x: Tensor, others: list[Tensor], act: str) -> Tensor:
    """Layers that join tensors, reorder channels or change size."""
    name, c, h, w = x
    same = [o for o in others if o[1:] == x[1:] and o[0] != name]
    level = [o for o in others if o[2:] == x[2:]]
    if kind == "residual":
        op = draw(st.sampled_from(("Add", "Add", "Mul", "Sub", "Max", "Min")))
        branch = m.activate(m.conv(name, c, c, 3, pads=[1] * 4), c, act)
        other = draw(st.sampled_from(same))[0] if same and draw(st.booleans()) else branch
        return m.activate(m.node(op, [name, other]), c, draw(st.sampled_from(ACTIVATIONS))), c, h, w
    if kind == "concat":
        joined = m.activate(m.conv(name, c, 5, 1), 5, act), 5, h, w
        other = draw(st.sampled_from([o for o in level if c + o[1] <= 64] or [joined]))
        return m.node("Concat", [name, other[0]], axis=1), c + other[1], h, w
    if kind in ("upsample", "linear") and max(h, w) <= 24:
        scales = m.weight(np.array([1, 1, 2, 2], np.float32))
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if kind == "linear":
            mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return m.node("Resize", [name, "", scales], **mode), c, 2 * h, 2 * w
    if kind == "squeeze":
        pooled = m.node("GlobalAveragePool", [name])
        hidden = m.activate(m.conv(pooled, c, 4, 1), 4, "Relu")
        gate = m.activate(m.conv(hidden, 4, c, 1), c, "HardSigmoid")
        return m.node("Mul", [name, gate]), c, h, w
    if kind == "shuffle" and c % 2 == 0:
        shape = m.weight(np.array([1, 2, c // 2, h, w], np.int64))
        back = m.weight(np.array([1, c, h, w], np.int64))
        y = m.node("Transpose", [m.node("Reshape", [name, shape])], perm=[0, 2, 1, 3, 4])
        return m.node("Reshape", [y, back]), c, h, w
    if kind == "split" and c >= 2:
        sizes = m.weight(np.array([c // 2, c - c // 2], np.int64))
        first, second = m.node("Split", [name, sizes], outputs=2, axis=1)
        return m.node("Concat", [second, first], axis=1), c, h, w
    if kind == "crop" and min(h, w) >= 5:
        starts, ends, axes, steps = (m.weight(np.array(v, np.int64)) for v in ([1, 0], [h, w - 1], [2, 3], [2, 1]))
        return m.node("Slice", [name, starts, ends, axes, steps]), c, h // 2, w - 1
    if kind == "pad":
        pads = m.weight(np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64))
        return m.node("Pad", [name, pads]), c, h + 1, w + 3
    if kind == "focus" and h % 2 == 0 and w % 2 == 0 and c <= 8:
        return add_focus(m, x, act)
    if kind == "siblings":
        return add_siblings(m, draw, x, act)
    if kind == "affine":
        scaled = m.node("Mul", [name, m.weight(m.normal(1, c, 1, 1))])
        return m.activate(m.node("Add", [scaled, m.weight(m.normal(1, c, 1, 1))]), c, act), c, h, w
    return x


def add_siblings(m: ModelMaker, draw: Any, x: Tensor, act: str) -> Tensor:
    """Convolutions of one tensor, as heads have them, some with a depthwise one after them; two may be added up."""
    name, c, h, w = x
    counts = draw(st.lists(st.sampled_from((1, 3, 8, 16, 20)), min_size=2, max_size=4))
    kernel, follow = draw(st.sampled_from((1, 3))), draw(st.sampled_from((0, 0, 2, 4)))
    parts = [m.activate(m.conv(name, c, n, kernel, pads=[kernel // 2] * 4), n, act) for n in counts]
    for i, n in enumerate(counts[:follow]):
        parts[i] = m.conv(parts[i], n, n, 3, groups=n, pads=[1] * 4)
    if counts[0] == counts[-1]:
        parts[0] = m.node("Add", [parts[0], parts[-1]])
    return m.node("Concat", parts[::-1], axis=1), sum(counts), h, w


def add_focus(m: ModelMaker, x: Tensor, act: str) -> Tensor:
    """Space to depth by four strided slices, then a convolution, as YOLOX begins."""
    name, c, h, w = x
    parts = []
    for column in (0, 1):
        for row in (0, 1):
            values = ([row, column], [2**31, 2**31], [2, 3], [2, 2])
            parts.append(m.node("Slice", [name, *(m.weight(np.array(v, np.int64)) for v in values)]))
    joined = m.node("Concat", parts, axis=1)
    return m.activate(m.conv(joined, 4 * c, 12, 3, pads=[1] * 4), 12, act), 12, h // 2, w // 2


def add_tail(m: ModelMaker, x: Tensor) -> str:
    """Something that is not spatial: flatten, softmax."""
    flat = m.node("Flatten", [x[0]])
    return str(m.node("Softmax", [flat], axis=1))


@st.composite
def models(draw: Any, max_layers: int = 10) -> tuple[bytes, tuple[int, int, int]]:
    """A model's bytes and its input (C, H, W)."""
    channels = draw(st.sampled_from((1, 3, 3, 3, 4, 5)))
    height, width = draw(st.integers(5, 32)), draw(st.integers(5, 32))
    m = ModelMaker(draw(st.integers(0, 2**31)), channels, height, width)
    tensors: list[Tensor] = [("image", channels, height, width)]
    for kind in draw(st.lists(st.sampled_from(LAYERS), min_size=2, max_size=max_layers)):
        source = draw(st.sampled_from([*tensors[-1:] * 3, *tensors[-4:]]))
        made = add_layer(m, draw, kind, source, tensors)
        if made is not source:
            tensors.append(made)
    last = tensors[-1]
    if last[0] == "image":
        last = (m.conv("image", channels, 8, 1), 8, height, width)
    outputs = [last[0]]
    if draw(st.booleans()):
        outputs.append(add_tail(m, last))
    if draw(st.booleans()) and tensors[len(tensors) // 2][0] not in ("image", last[0]):
        outputs.append(tensors[len(tensors) // 2][0])
    return m.finish(outputs), (channels, height, width)
