"""Windows that slide over a map: explicit and SAME padding, strides and dilations as plain tuples."""

from __future__ import annotations

from cache.graph import Node

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


def pair(node: Node, name: str, default: int) -> Pair | None:
    """A two-element integer attribute, None if it has another length."""
    value = node.attrs.get(name)
    if value is None:
        return default, default
    return (int(value[0]), int(value[1])) if len(value) == 2 else None


def window_pads(node: Node, size: Pair, kernel: Pair, strides: Pair, dilations: Pair) -> Quad | None:
    """The pads (top, left, bottom, right) that auto_pad or pads mean; None where they are not plain.

    SAME: ceil(size / stride) outputs; the odd pixel goes below (SAME_UPPER) or above (SAME_LOWER).
    """
    mode = node.attrs.get("auto_pad", "NOTSET") or "NOTSET"
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode == "NOTSET":
        pads = tuple(int(item) for item in node.attrs.get("pads", (0, 0, 0, 0)))
        return (pads[0], pads[1], pads[2], pads[3]) if len(pads) == 4 and min(pads) >= 0 else None
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        return None
    before, after = [], []
    for i in range(2):
        outputs = -(-size[i] // strides[i])
        total = max((outputs - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size[i], 0)
        small = total // 2
        before.append(small if mode == "SAME_UPPER" else total - small)
        after.append(total - small if mode == "SAME_UPPER" else small)
    return before[0], before[1], after[0], after[1]


def ceil_size(floor: int, size: int, kernel: int, stride: int, pads: Pair, dilation: int) -> int:
    """Windows along one axis with ceil_mode, as ONNX Runtime and PyTorch count them.

    One more than ``floor`` where pixels are left over, unless that window would start beyond the input and
    its leading padding. (The ONNX shape inference counts such a window.)
    """
    covered = (floor - 1) * stride + (kernel - 1) * dilation + 1
    more = covered < size + sum(pads) and floor * stride < size + pads[0]
    return floor + 1 if more else floor


def pool_size(node: Node, size: Pair) -> Pair | None:
    """Output height and width of a pool with ceil_mode; None for one without, or not two-dimensional."""
    kernel, strides = pair(node, "kernel_shape", 1), pair(node, "strides", 1)
    dilations = pair(node, "dilations", 1)
    if not node.attrs.get("ceil_mode") or kernel is None or strides is None or dilations is None:
        return None
    pads = window_pads(node, size, kernel, strides, dilations)
    if pads is None or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", ""):
        return None
    floor = window_size(size, kernel, strides, pads, dilations)
    rows, columns = (
        ceil_size(floor[i], size[i], kernel[i], strides[i], (pads[i], pads[i + 2]), dilations[i]) for i in range(2)
    )
    return rows, columns


def window_size(size: Pair, kernel: Pair, strides: Pair, pads: Quad, dilations: Pair) -> Pair:
    """How many windows fit, rounded down."""
    rows, columns = (
        (size[i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(2)
    )
    return rows, columns
