"""Well-known networks with random weights, written on the spot: their shapes are what is timed, no weights are shipped.

Written as exporters write them for inference: batch normalisation is folded into the convolutions already.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cache.onnx_import import load_model
from service.bench.errors import BenchError
from service.families import Size, create
from service.model_spec import IMAGENET_MEAN, IMAGENET_STD, ModelSpec
from service.opened import OpenedModel

PREFIX = "synthetic:"
DEFAULT_SIZE: Size = (224, 224)
_STRIDE = 32
_CLASSES = 1000


class SyntheticError(BenchError):
    """No such network, or not at that size; the message says what there is."""


class _Writer:
    """Collects nodes and weights. Tensors are named after the nodes that make them; values stay near 1 throughout."""

    def __init__(self, size: Size) -> None:
        self._rng = np.random.default_rng(0)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._size = size

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns its output's name."""
        name = f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: np.ndarray[Any, np.dtype[np.float32]]) -> str:
        """Add a weight; returns its name."""
        name = f"w_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        """A convolution with bias, "same" padding, and weights that keep the variance (He et al., 2015)."""
        fan = kernel * kernel * c_in // groups
        shape = (c_out, c_in // groups, kernel, kernel)
        weight = self._rng.standard_normal(shape, np.float32) * np.float32((2 / fan) ** 0.5)
        names = [self.constant(weight), self.constant(np.zeros(c_out, np.float32))]
        return self.node(
            "Conv", x, *names, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups
        )

    def product(self, x: str, inputs: int, outputs: int, gain: float = 1.0) -> str:
        """A fully connected layer with bias; its outputs have `gain` times the mean square of its inputs."""
        weight = self._rng.standard_normal((outputs, inputs), np.float32) * np.float32((gain / inputs) ** 0.5)
        names = [self.constant(weight), self.constant(np.zeros(outputs, np.float32))]
        return self.node("Gemm", x, *names, transB=1)

    def classifier(self, x: str, channels: int) -> str:
        """Global average and one matrix product."""
        return self.product(self.node("Flatten", self.node("GlobalAveragePool", x)), channels, _CLASSES)

    def finish(self, name: str, output: str) -> bytes:
        """The file, from "image" to this output."""
        width, height = self._size
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])
        end = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self._nodes, name, [image], [end], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        data: bytes = model.SerializeToString()
        return data


def _vgg16_features(net: _Writer) -> str:
    """The 13 convolutions of VGG-16 with their pooling; returns their output."""
    x, c_in = "image", 3
    for count, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            x, c_in = net.node("Relu", net.conv(x, c_in, channels, 3)), channels
        x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return x


def vgg16(size: Size) -> bytes:
    """The 13 convolutions of VGG-16 (Simonyan and Zisserman, arXiv:1409.1556, configuration D) with their pooling.

    Features only: the classifier is three matrix products, which read 494 MB of weights and hardly compute.
    """
    net = _Writer(size)
    return net.finish("vgg16", _vgg16_features(net))


def vgg16_whole(size: Size, wide: int = 4096) -> bytes:
    """VGG-16 with its three fully connected layers, without the softmax. wide : outputs of the first two."""
    net, (width, height) = _Writer(size), size
    x, inputs = net.node("Flatten", _vgg16_features(net)), 512 * (width // _STRIDE) * (height // _STRIDE)
    x = net.node("Relu", net.product(x, inputs, wide, 2))
    x = net.node("Relu", net.product(x, wide, wide, 2))
    return net.finish("vgg16_whole", net.product(x, wide, _CLASSES))


def resnet18(size: Size) -> bytes:
    """ResNet-18 (He et al., arXiv:1512.03385), whole."""
    net = _Writer(size)
    x = net.node("Relu", net.conv("image", 3, 64, 7, 2))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c_in = 64
    for channels, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            shortcut = net.conv(x, c_in, channels, 1, stride) if stride > 1 else x
            inner = net.conv(net.node("Relu", net.conv(x, c_in, channels, 3, stride)), channels, channels, 3)
            x, c_in = net.node("Relu", net.node("Add", inner, shortcut)), channels
    return net.finish("resnet18", net.classifier(x, 512))


def mobilenet(size: Size) -> bytes:
    """MobileNetV2 1.0 (Sandler et al., arXiv:1801.04381), whole: 1x1 and depthwise convolutions, ReLU6."""
    net = _Writer(size)
    bounds = [net.constant(np.array(value, np.float32)) for value in (0, 6)]

    def relu6(x: str) -> str:
        return net.node("Clip", x, *bounds)

    x, c_in = relu6(net.conv("image", 3, 32, 3, 2)), 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for factor, channels, count, first in table:
        for number in range(count):
            stride, wide = first if number == 0 else 1, c_in * factor
            inner = x if factor == 1 else relu6(net.conv(x, c_in, wide, 1))
            inner = relu6(net.conv(inner, wide, wide, 3, stride, wide))
            inner = net.conv(inner, wide, channels, 1)
            x = net.node("Add", x, inner) if stride == 1 and c_in == channels else inner
            c_in = channels
    return net.finish("mobilenet", net.classifier(relu6(net.conv(x, c_in, 1280, 1)), 1280))


def replknet(size: Size) -> bytes:
    """The first two stages of RepLKNet-31 (Ding et al., arXiv:2203.06717), two blocks each and half as wide, and a
    classifier: depthwise convolutions of 31x31 and 29x29, batch normalisation and small kernels folded into them."""
    net = _Writer(size)

    def depthwise(x: str, channels: int, kernel: int, stride: int = 1) -> str:
        return net.node("Relu", net.conv(x, channels, channels, kernel, stride, channels))

    x = depthwise(net.node("Relu", net.conv("image", 3, 64, 3, 2)), 64, 3)
    x = depthwise(net.node("Relu", net.conv(x, 64, 64, 1)), 64, 3, 2)
    for channels, kernel in ((64, 31), (128, 29)):
        if channels != 64:
            x = depthwise(net.node("Relu", net.conv(x, 64, channels, 1)), channels, 3, 2)
        for _ in range(2):
            inner = depthwise(net.node("Relu", net.conv(x, channels, channels, 1)), channels, kernel)
            x = net.node("Add", x, net.conv(inner, channels, channels, 1))
            inner = net.node("Relu", net.conv(x, channels, 4 * channels, 1))
            x = net.node("Add", x, net.conv(inner, 4 * channels, channels, 1))
    return net.finish("replknet", net.classifier(x, 128))


NETWORKS = MappingProxyType[str, Callable[[Size], bytes]](
    {"vgg16": vgg16, "vgg16-whole": vgg16_whole, "resnet18": resnet18, "mobilenet": mobilenet, "replknet": replknet}
)


def is_synthetic(name: str) -> bool:
    """Whether a name asks for a network of this file."""
    return name.startswith(PREFIX)


def open_synthetic(name: str, size: Size | None = None) -> OpenedModel:
    """The network of a name such as "synthetic:vgg16" at a size (W, H), its outputs handed out as they are.

    Raises SyntheticError for another name, or sides that are no multiples of 32.
    """
    kind = name.removeprefix(PREFIX)
    if kind not in NETWORKS:
        raise SyntheticError(f"expected one of {', '.join(PREFIX + known for known in NETWORKS)}, got {name!r}")
    chosen = size or DEFAULT_SIZE
    if any(side < _STRIDE or side % _STRIDE for side in chosen):
        raise SyntheticError(f"{name}: expected sides that are multiples of {_STRIDE}, got {chosen[0]}x{chosen[1]}")
    spec = ModelSpec.model_validate({"family": "raw", "mean": IMAGENET_MEAN, "std": IMAGENET_STD})
    return OpenedModel(load_model(NETWORKS[kind](chosen)), spec, create(spec), chosen, None)
