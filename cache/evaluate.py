"""Values of the ONNX ops that shape arithmetic is made of, in plain NumPy.

Enough to fold what exporters write around Reshape and Resize without loading a whole ONNX evaluator.
Knows attributes and arrays only; what is not here is left to the caller's evaluator. Results are bounded:
a file must not make the importer allocate more than it could say itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Values = Sequence[Array | None]
Attrs = Mapping[str, Any]

MAX_ELEMENTS = 1 << 22
"""Largest constant that folding makes, in elements."""


class TooLarge(ValueError):
    """Folding would make a constant of more than MAX_ELEMENTS elements."""


def evaluate(op: str, values: Values, attrs: Attrs) -> Array | None:
    """The result of an ONNX op (one output), None when this file does not know the op or the case.

    values : the inputs, None for an absent optional one. Raises TooLarge, or what NumPy raises on bad input.
    """
    known = _OPS.get(op)
    if known is None or not values or values[0] is None:
        return _constant(attrs) if op == "Constant" else None
    with np.errstate(all="ignore"):
        return known(values, attrs)


def require_small(shape: Sequence[int]) -> None:
    """Raise TooLarge when an array of this shape is not worth folding."""
    if math.prod(shape) > MAX_ELEMENTS:
        raise TooLarge(f"expected at most {MAX_ELEMENTS} elements, got shape {tuple(shape)}")


def axes_of(values: Values, attrs: Attrs, position: int = 1) -> tuple[int, ...] | None:
    """The axes of an op that takes them as attribute (old opsets) or as input (new ones); None if absent."""
    if "axes" in attrs:
        return tuple(int(axis) for axis in attrs["axes"])
    given = values[position] if len(values) > position else None
    return None if given is None else tuple(int(axis) for axis in given.reshape(-1))


def slices_of(rank: int, values: Values, attrs: Attrs) -> tuple[slice, ...]:
    """A Slice op as one Python slice per axis (starts, ends, axes, steps as attributes or inputs)."""
    if "starts" in attrs:
        starts, ends = attrs["starts"], attrs["ends"]
        axes: Sequence[int] | None = attrs.get("axes")
        steps: Sequence[int] | None = None
    else:
        starts, ends = _ints(values, 1), _ints(values, 2)
        axes = _ints(values, 3) if len(values) > 3 and values[3] is not None else None
        steps = _ints(values, 4) if len(values) > 4 and values[4] is not None else None
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    result = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        result[axis] = slice(start, end, step)
    return tuple(result)


def _ints(values: Values, position: int) -> tuple[int, ...]:
    value = values[position]
    if value is None:
        raise ValueError(f"expected input {position}, got none")
    return tuple(int(item) for item in value.reshape(-1))


def _constant(attrs: Attrs) -> Array | None:
    if isinstance(attrs.get("value"), np.ndarray):
        value: Array = attrs["value"]
        return value
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64)):
        if name in attrs:
            return np.asarray(attrs[name], dtype)
    for name in ("value_float", "value_floats"):
        if name in attrs:
            return np.asarray(attrs[name], np.float32)
    return None


def _binary(function: Callable[[Array, Array], Array]) -> Callable[[Values, Attrs], Array | None]:
    def apply(values: Values, attrs: Attrs) -> Array | None:
        x, y = values[0], values[1]
        if x is None or y is None:
            return None
        require_small(np.broadcast_shapes(x.shape, y.shape))
        return np.asarray(function(x, y))

    return apply


def _unary(function: Callable[[Array], Array]) -> Callable[[Values, Attrs], Array | None]:
    def apply(values: Values, attrs: Attrs) -> Array | None:
        x = values[0]
        return None if x is None else np.asarray(function(x)).astype(x.dtype, copy=False)

    return apply


def _divide(x: Array, y: Array) -> Array:
    """ONNX Div: integers round towards zero."""
    if np.issubdtype(x.dtype, np.integer):
        quotient = np.abs(x) // np.abs(y)
        return np.asarray(quotient * np.sign(x) * np.sign(y)).astype(x.dtype)
    return np.asarray(x / y)


def _gather(values: Values, attrs: Attrs) -> Array | None:
    x, indices = values[0], values[1]
    if x is None or indices is None:
        return None
    axis = attrs.get("axis", 0) % max(x.ndim, 1)
    require_small((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    return np.take(x, indices, axis=axis)


def _concat(values: Values, attrs: Attrs) -> Array | None:
    parts = [value for value in values if value is not None]
    return np.concatenate(parts, axis=attrs["axis"]) if len(parts) == len(values) else None


def _unsqueeze(values: Values, attrs: Attrs) -> Array | None:
    x, axes = values[0], axes_of(values, attrs)
    return None if x is None or axes is None else np.expand_dims(x, axes)


def _squeeze(values: Values, attrs: Attrs) -> Array | None:
    x = values[0]
    return None if x is None else np.squeeze(x, axes_of(values, attrs))


def _slice(values: Values, attrs: Attrs) -> Array | None:
    x = values[0]
    return None if x is None else x[slices_of(x.ndim, values, attrs)]


def _reshape(values: Values, attrs: Attrs) -> Array | None:
    x = values[0]
    if x is None or attrs.get("allowzero"):
        return None
    target = [x.shape[i] if size == 0 else size for i, size in enumerate(_ints(values, 1))]
    return x.reshape(target)


def _transpose(values: Values, attrs: Attrs) -> Array | None:
    x = values[0]
    return None if x is None else np.ascontiguousarray(np.transpose(x, attrs.get("perm")))


def _fill(values: Values, attrs: Attrs) -> Array | None:
    shape = _ints(values, 0)
    require_small(shape)
    value = attrs.get("value")
    fill = np.zeros(1, np.float32) if value is None else value
    return np.full(shape, fill.reshape(-1)[0], fill.dtype)


def _expand(values: Values, attrs: Attrs) -> Array | None:
    x = values[0]
    if x is None:
        return None
    shape = np.broadcast_shapes(x.shape, _ints(values, 1))
    require_small(shape)
    return np.ascontiguousarray(np.broadcast_to(x, shape))


def _range(values: Values, attrs: Attrs) -> Array | None:
    start, limit, delta = (None if value is None else value.reshape(-1)[0] for value in values)
    if start is None or limit is None or delta is None:
        return None
    count = max(math.ceil((float(limit) - float(start)) / float(delta)), 0)
    require_small((count,))
    return np.asarray(start + np.arange(count) * delta).astype(start.dtype)


def _where(values: Values, attrs: Attrs) -> Array | None:
    condition, x, y = values
    if condition is None or x is None or y is None:
        return None
    require_small(np.broadcast_shapes(condition.shape, x.shape, y.shape))
    return np.where(condition, x, y)


def _prod(values: Values, attrs: Attrs) -> Array | None:
    x, axes = values[0], axes_of(values, attrs)
    if x is None or (axes is None and attrs.get("noop_with_empty_axes")):
        return None
    return np.asarray(np.prod(x, axis=axes, keepdims=bool(attrs.get("keepdims", 1)), dtype=x.dtype))


def _cast(values: Values, attrs: Attrs) -> Array | None:
    x, target = values[0], attrs["to"]
    plain = isinstance(target, np.dtype) and target.kind in "biuf" and x is not None and x.dtype.kind in "biuf"
    return x.astype(target) if plain and x is not None else None


def _identity(values: Values, attrs: Attrs) -> Array | None:
    return values[0]


_OPS: Mapping[str, Callable[[Values, Attrs], Array | None]] = {
    "Identity": _identity,
    "Cast": _cast,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
    "Equal": _binary(np.equal),
    "Greater": _binary(np.greater),
    "Less": _binary(np.less),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Neg": _unary(np.negative),
    "Sqrt": _unary(np.sqrt),
    "Exp": _unary(np.exp),
    "Gather": _gather,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Slice": _slice,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "ConstantOfShape": _fill,
    "Expand": _expand,
    "Range": _range,
    "Where": _where,
    "ReduceProd": _prod,
}
