"""The onnx package's light models with weights that mean something, as one file each.

The package ships nine networks whose large weights are made inside, of one constant: outputs are then all equal, and
any two engines agree on them. Here each weight is drawn from a seed instead, scaled so that values keep their size from
layer to layer, and what goes into the last softmax has a spread of about 2, so that no probability is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from cache.tail import runtime_session

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
    "zfnet512",
)  # fmt: skip
SIDE = 224
SPREAD = 2.0
"""Standard deviation of what goes into the last softmax, about."""
Floats = NDArray[np.float32]
Uses = Mapping[str, list[tuple[Any, int]]]


def light_model(name: str, side: int = SIDE, narrow: int | None = None, seed: int = 0) -> bytes:
    """One of NAMES as a file, its weights drawn from `seed`.

    side : rows and columns of the image; other ones than 224 where nothing in the file is made for that size (raises
    ValueError where something is). narrow : outputs of the fully connected layers before the last one, as their weights
    are most of AlexNet, VGG and ZFNet; None leaves them.
    """
    model = onnx.load(FOLDER / f"light_{name}.onnx")
    given = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    made = {node.output[0]: given[node.input[0]] for node in model.graph.node if node.op_type == "ConstantOfShape"}
    kept = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    if side != SIDE and any(node.op_type == "Gemm" for node in kept):
        raise ValueError(f"expected {name} at {SIDE} px, the size that its matrix products are made for, got {side}")
    sizes = {weight: tuple(map(int, shape)) for weight, shape in made.items()}
    sizes |= {weight: value.shape for weight, value in given.items() if value.dtype == np.float32}
    if narrow is not None:
        sizes |= narrowed(kept, sizes, narrow)
    uses = uses_of(kept)
    rng = np.random.default_rng(seed)
    drawn = {weight: draw(rng, shape, uses[weight]) for weight, shape in sizes.items() if weight in uses}
    used = {item for node in kept for item in node.input}
    del model.graph.node[:]
    model.graph.node.extend(kept)
    rest = [item for item in model.graph.initializer if item.name in used and item.name not in drawn]
    del model.graph.initializer[:]
    model.graph.initializer.extend(rest)
    (image,) = [item for item in model.graph.input if item.name in used and item.name not in given]
    del model.graph.input[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info(image.name, onnx.TensorProto.FLOAT, [1, 3, side, side]))
    model.ir_version = 4  # from which on weights need not be inputs too
    level(model, drawn, image.name, side)
    model.graph.initializer.extend(numpy_helper.from_array(value, item) for item, value in drawn.items())
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    data: bytes = model.SerializeToString()
    return data


def uses_of(nodes: list[Any]) -> dict[str, list[tuple[Any, int]]]:
    """By tensor, which nodes take it as which input, seen through reshapes of weights."""
    found: dict[str, list[tuple[Any, int]]] = {}
    for node in nodes:
        for index, name in enumerate(node.input):
            found.setdefault(name, []).append((node, index))
    return {
        name: [
            end
            for node, index in uses
            for end in (found[node.output[0]] if node.op_type in ("Unsqueeze", "Reshape") else [(node, index)])
        ]
        for name, uses in found.items()
    }


def draw(rng: np.random.Generator, shape: tuple[int, ...], uses: list[tuple[Any, int]]) -> Floats:
    """Values of one weight, by what reads it (He et al., 2015, for products)."""
    node, index = uses[0]
    match node.op_type, index:
        case (("Conv" | "Gemm"), 1):
            scale = np.float32((2 / np.prod(shape[1:] if node.op_type == "Conv" else shape[-1])) ** 0.5)
            return rng.standard_normal(shape, np.float32) * scale
        case ("BatchNormalization", 1 | 4) | ("Mul", _):  # scale, variance
            return rng.uniform(0.75, 1.25, shape).astype(np.float32)
    return rng.standard_normal(shape, np.float32) * np.float32(0.1)


def narrowed(nodes: list[Any], sizes: Mapping[str, tuple[int, ...]], width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights and biases of a chain of matrix products, all but the last one with `width` outputs."""
    products = [node for node in nodes if node.op_type == "Gemm"]
    found: dict[str, tuple[int, ...]] = {}
    for number, node in enumerate(products[:-1]):
        weight, bias = node.input[1], node.input[2]
        found[weight] = (width, sizes[weight][1] if number == 0 else width)
        found[bias] = (width,)
    if len(products) > 1:
        last = products[-1].input[1]
        found[last] = (sizes[last][0], width)
    return found


def level(model: Any, drawn: dict[str, Floats], image: str, side: int) -> None:
    """Scale the last product, so that what goes into the softmax (or is the output) has a spread of SPREAD."""
    nodes = list(model.graph.node)
    ends = nodes[-1].input[0] if nodes[-1].op_type == "Softmax" else nodes[-1].output[0]
    last = next(node for node in reversed(nodes) if node.op_type in ("Gemm", "Conv"))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.initializer.extend(numpy_helper.from_array(value, item) for item, value in drawn.items())
    del probe.graph.output[:]
    probe.graph.output.append(onnx.ValueInfoProto(name=ends))
    x = np.random.default_rng(1).standard_normal((1, 3, side, side), np.float32)
    (values,) = runtime_session(probe.SerializeToString()).run(None, {image: x})
    factor = np.float32(SPREAD / float(values.std()))
    weights = [item for item in last.input[1:] if item in drawn]
    if last.input[1] not in drawn:  # reshaped on its way
        weights += [node.input[0] for node in nodes if node.output[0] == last.input[1]]
    for item in weights:
        drawn[item] *= factor


def frames(side: int, count: int) -> list[NDArray[np.uint8]]:
    """A picture of coarse squares with fine grain, over which a small grainy block moves: uint8[side, side, 3] each."""
    rng = np.random.default_rng(2)
    cells = rng.integers(40, 216, (-(-side // 16), -(-side // 16), 3))
    still = np.kron(cells, np.ones((16, 16, 1), np.int64))[:side, :side] + rng.integers(-8, 9, (side, side, 3))
    size = side // 7
    block, found = rng.integers(0, 256, (size, size, 3)), []
    for number in range(count):
        frame = still.copy()
        top, left = side // 4 + 3 * number, side // 3 + 4 * number
        frame[top : top + size, left : left + size] = block
        found.append(frame.astype(np.uint8))
    return found


def imagenet_table() -> Floats:
    """float32[256, 3]: what a byte becomes, as ImageNet's networks are trained."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((np.arange(256)[:, None] / 255 - mean) / deviation).astype(np.float32)
