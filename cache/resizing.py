"""Reshapes that a file fixes to one image size although they only regroup channels, and their targets at another.

Exporters write a channel shuffle as Reshape, Transpose, Reshape with the map's height and width as constants. The
network would run at any size but for these numbers. Pure: graphs in, new targets out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cache.graph import Graph, Node

Targets = dict[str, npt.NDArray[np.int64]]


def scaled_targets(source: Graph, native: Graph, old: tuple[int, int], new: tuple[int, int]) -> Targets:
    """New constant target of each Reshape that keeps a feature map's rows and columns together, by node name.

    source : the file's nodes as they stand. native : the same model in normal form at the size `old`.
    old, new : (height, width) of the image. A map whose size does not scale to whole pixels is left alone.
    """
    targets: Targets = {}
    regrouped: dict[str, tuple[int, int]] = {}  # tensors that hold a map of this size in their last axes
    for node in source.nodes:
        size = map_size(native, node.inputs[0], regrouped) if node.inputs else None
        if size is None:
            continue
        order = node.attrs.get("perm", ())
        if node.op == "onnx.Transpose" and order and order[-1] == len(order) - 1:
            regrouped[node.outputs[0]] = size
        target = constant_target(source, node) if node.op == "onnx.Reshape" else None
        if target is None or any(side * n % o for side, n, o in zip(size, new, old, strict=True)):
            continue
        scaled = target.copy()
        height, width = (side * n // o for side, n, o in zip(size, new, old, strict=True))
        if target.size >= 4 and tuple(target[-2:].tolist()) == size:
            scaled[-2:] = height, width
        elif target.size >= 3 and target[-1] == size[0] * size[1]:
            scaled[-1] = height * width
        else:
            continue
        targets[node.name] = scaled
        regrouped[node.outputs[0]] = size
    return targets


def map_size(native: Graph, tensor: str, regrouped: dict[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Height and width of the feature map that a tensor is, or holds in its last axes."""
    if tensor in regrouped:
        return regrouped[tensor]
    known = native.type_of(tensor)
    return (known.shape[2], known.shape[3]) if known is not None and len(known.shape) == 4 else None


def constant_target(source: Graph, node: Node) -> npt.NDArray[np.int64] | None:
    """The target of a Reshape, int64[rank], if the file states it."""
    name = node.inputs[1] if len(node.inputs) > 1 else ""
    value = source.constants.get(name)
    if value is None and name in source.producers and source.producers[name].op == "onnx.Constant":
        value = source.producers[name].attrs.get("value")
    return np.asarray(value, np.int64).reshape(-1) if value is not None else None
