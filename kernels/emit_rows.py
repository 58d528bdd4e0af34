"""LLVM vector IR of kernels that read each pixel once or twice: moves, sums and products of maps, interpolation.

All take tables of int64 addresses, `blocking.pixels` entries each, and add a shift to every entry, which selects the
block of channels.
"""

from __future__ import annotations

from collections.abc import Callable

from kernels.constants import ADD, MAX, MIN, MUL, SUB
from kernels.emit import (
    F32,
    I64,
    VEC,
    Builder,
    Rows,
    Value,
    const,
    fma,
    greater_or_second,
    less_or_second,
    load,
    merge_rows,
    pointer,
    shifted_pointers,
    splat,
)
from kernels.target import Blocking

_OPS: dict[int, Callable[[Builder, Value, Value], Value]] = {
    ADD: lambda b, x, y: b.fadd(x, y),
    SUB: lambda b, x, y: b.fsub(x, y),
    MUL: lambda b, x, y: b.fmul(x, y),
    MAX: greater_or_second,
    MIN: less_or_second,
}


def _read(b: Builder, blocking: Blocking, table: Value, shift: Value) -> list[Value]:
    return [load(b, p, 0, VEC) for p in shifted_pointers(b, table, shift, range(blocking.pixels))]


def emit_move(b: Builder, blocking: Blocking, bases: Value, shift: Value) -> Rows:
    """`rows[pixel][0]` = the lane vector at each address."""
    return [[x] for x in _read(b, blocking, bases, shift)]


def emit_affine(b: Builder, blocking: Blocking, bases: Value, shift: Value, scale: Value, term: Value) -> Rows:
    """`rows[pixel][0]` = x * scale + term; `scale` and `term` are addresses of lane vectors."""
    factor, addend = load(b, pointer(b, scale), 0, VEC), load(b, pointer(b, term), 0, VEC)
    return [[fma(b, x, factor, addend)] for x in _read(b, blocking, bases, shift)]


def emit_combine(
    b: Builder, blocking: Blocking, op: Value, first: Value, first_shift: Value, second: Value, second_shift: Value
) -> Rows:
    """`rows[pixel][0]` = one of two maps' values joined by the operation chosen at run time."""
    xs, ys = _read(b, blocking, first, first_shift), _read(b, blocking, second, second_shift)
    join = b.append_basic_block("joined")
    switch, results = b.switch(op, join), [(b.block, [[x] for x in xs])]
    for code, compute in _OPS.items():
        block = b.append_basic_block(f"op{code}")
        switch.add_case(I64(code), block)
        b.position_at_end(block)
        results.append((block, [[compute(b, x, y)] for x, y in zip(xs, ys, strict=True)]))
        b.branch(join)
    b.position_at_end(join)
    return merge_rows(b, results)


def _blend(b: Builder, first: Value, second: Value, weight: Value) -> Value:
    """first + weight * (second - first); the first itself, bit for bit, where the weight is 0."""
    blended = fma(b, b.fsub(second, first), weight, first)
    return b.select(b.fcmp_ordered("==", weight, const(0.0)), first, blended)


def emit_interpolate(b: Builder, blocking: Blocking, corners: list[Value], weights: list[Value], shift: Value) -> Rows:
    """`rows[pixel][0]` = columns blended, then rows.

    corners : tables of addresses, upper left, upper right, lower left, lower right. weights : tables of float32 in
    slots of 8 bytes, of the right column and of the lower row.
    """
    tables = [_read(b, blocking, corner, shift) for corner in corners]
    across, down = (pointer(b, w) for w in weights)
    rows = []
    for p, (a, c, d, e) in enumerate(zip(*tables, strict=True)):
        x, y = splat(b, load(b, across, p * 8, F32)), splat(b, load(b, down, p * 8, F32))
        rows.append([_blend(b, _blend(b, a, c, x), _blend(b, d, e, x), y)])
    return rows
