"""Resize and Upsample, nearest and linear, over height and width only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.graph import IDENTITY, Node
from cache.passes.editor import GraphEditor

_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
)

_ROUNDING: Mapping[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda position: np.ceil(position - position.dtype.type(0.5)),
    "round_prefer_ceil": lambda position: np.floor(position + position.dtype.type(0.5)),
}


def resize(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Resize -> resize; opset 10 is always asymmetric and rounds as its runtimes do."""
    x, out = editor.feature_map(node.inputs[0]), editor.feature_map(node.output)
    if x is None or out is None or any(node.attrs.get(name) for name in ("antialias", "exclude_outside")):
        return None
    size, target = (x.shape[2], x.shape[3]), (out.shape[2], out.shape[3])
    scales = _scales(node, editor, opset, size, target)
    mode = {"bilinear": "linear"}.get(node.attrs.get("mode", "nearest"), node.attrs.get("mode", "nearest"))
    if scales is None or mode not in ("nearest", "linear") or x.shape[1] != out.shape[1]:
        return None
    if opset <= 10:
        coordinate = "asymmetric"
        nearest = _old_rounding(scales)
    else:
        coordinate = node.attrs.get("coordinate_transformation_mode", "half_pixel")
        nearest = node.attrs.get("nearest_mode", "round_prefer_floor")
    if coordinate not in _COORDINATES or nearest is None or nearest not in _ROUNDING:
        return None
    if scales == (1.0, 1.0) and size == target:
        return [Node(node.name, "activate", node.inputs[:1], node.outputs, {"activation": IDENTITY})]
    if mode == "nearest" and not all(_is_certain(target[i], size[i], scales[i], coordinate, nearest) for i in range(2)):
        return None
    attrs = {"mode": mode, "coordinate": coordinate, "nearest_mode": nearest, "scales": scales}
    return [Node(node.name, "resize", node.inputs[:1], node.outputs, attrs)]


def _is_certain(n: int, size: int, scale: float, coordinate: str, nearest: str) -> bool:
    """Whether every output reads the same pixel however the arithmetic of its coordinate is ordered.

    On a rounding edge, float32, float64 and a multiplication by the reciprocal may disagree; runtimes do.
    """
    if coordinate == "align_corners":
        scale = (n - 1) / (size - 1) if size > 1 and n > 1 else 1.0
    pixels = []
    orders: tuple[tuple[Any, bool], ...] = ((np.float32, False), (np.float32, True), (np.float64, False))
    for dtype, reciprocal in orders:
        x: npt.NDArray[Any] = np.arange(n, dtype=dtype)
        s, half = dtype(scale), dtype(0.5)
        if coordinate not in ("asymmetric", "align_corners"):
            x = x + half
        position = x * (dtype(1) / s) if reciprocal else x / s
        if coordinate.endswith("half_pixel") or coordinate == "half_pixel_symmetric":
            position = position - half
        if coordinate == "half_pixel_symmetric":
            position = position + dtype(size / 2) * (dtype(1) - dtype(n) / (s * dtype(size)))
        pixels.append(np.clip(_ROUNDING[nearest](position), 0, size - 1))
    return all(np.array_equal(pixels[0], other) for other in pixels[1:])


def _old_rounding(scales: tuple[float, float]) -> str | None:
    """Up to opset 10, nearest rounds down when enlarging and up when shrinking."""
    if min(scales) >= 1:
        return "floor"
    return "ceil" if max(scales) < 1 else None


def _scales(
    node: Node, editor: GraphEditor, opset: int, size: tuple[int, int], target: tuple[int, int]
) -> tuple[float, float] | None:
    """Scales of height and width, in float32, from the scales or sizes given; None if others change too."""
    if node.attrs.get("axes") is not None:
        axes = tuple(axis % 4 for axis in node.attrs["axes"])
    else:
        axes = (0, 1, 2, 3)
    given = _given_scales(node, editor, opset)
    if given is None:
        sizes = editor.integers(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
        if sizes is None or node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        pair = tuple(float(np.float32(target[i]) / np.float32(size[i])) for i in range(2))
        return pair[0], pair[1]
    if len(given) != len(axes):
        return None
    full = [1.0, 1.0, 1.0, 1.0]
    for axis, scale in zip(axes, given, strict=True):
        full[axis] = scale
    if full[:2] != [1.0, 1.0] or min(full) <= 0:
        return None
    if any(math.floor(np.float32(size[i]) * np.float32(full[2 + i])) != target[i] for i in range(2)):
        return None
    return full[2], full[3]


def _given_scales(node: Node, editor: GraphEditor, opset: int) -> list[float] | None:
    if "scales" in node.attrs:
        return [float(item) for item in node.attrs["scales"]]
    position = 1 if opset <= 10 else 2
    name = node.inputs[position] if len(node.inputs) > position else ""
    value = editor.constants.get(name) if name else None
    if value is None or value.size == 0:
        return None
    return [float(item) for item in value.reshape(-1)]


RULES: Mapping[str, Callable[[Node, GraphEditor, int], list[Node] | None]] = {
    "Resize": resize,
    "Upsample": lambda node, editor, opset: resize(node, editor, min(opset, 10)),
}
