"""LLVM vector IR of the transforms of Winograd's F(4x4, 3x3) (Lavin and Gray 2015, arXiv:1509.09308).

Interpolated at 0, 1, -1, 2, -2 and infinity. Both work on lane vectors, one block of 16 channels at a time; each value
is one fixed expression, so that a tile's bits depend on nothing but its own inputs.
"""

from __future__ import annotations

from kernels.constants import VECTOR_BYTES
from kernels.emit import VEC, Builder, Value, at, const, fma, load, pointer, store

PATCH, TILE = 6, 4


def _into(b: Builder, d: list[Value]) -> list[Value]:
    """Six values of a patch's line, transformed."""
    outer, inner = fma(b, d[2], const(-4.0), d[4]), fma(b, d[1], const(-4.0), d[3])
    even, odd = b.fsub(d[4], d[2]), b.fmul(const(2.0), b.fsub(d[3], d[1]))
    return [
        fma(b, d[0], const(4.0), fma(b, d[2], const(-5.0), d[4])),
        b.fadd(outer, inner),
        b.fsub(outer, inner),
        b.fadd(even, odd),
        b.fsub(even, odd),
        fma(b, d[1], const(4.0), fma(b, d[3], const(-5.0), d[5])),
    ]


def _out_of(b: Builder, m: list[Value]) -> list[Value]:
    """Four values of a tile's line from six products."""
    near, far = b.fadd(m[1], m[2]), b.fadd(m[3], m[4])
    skew, slant = b.fsub(m[1], m[2]), b.fsub(m[3], m[4])
    return [
        b.fadd(b.fadd(m[0], near), far),
        fma(b, slant, const(2.0), skew),
        fma(b, far, const(4.0), near),
        b.fadd(fma(b, slant, const(8.0), skew), m[5]),
    ]


def emit_winograd_input(b: Builder, source: Value, row: Value, target: Value, step: Value) -> None:
    """Transform the 6 x 6 pixels at `source` (`row` bytes apart) into 36 lane vectors, `step` bytes apart."""
    rows = [pointer(b, source)]
    for _ in range(PATCH - 1):
        rows.append(at(b, rows[-1], row))
    columns = [_into(b, [load(b, line, x * VECTOR_BYTES, VEC) for line in rows]) for x in range(PATCH)]
    out = pointer(b, target)
    for y in range(PATCH):
        for value in _into(b, [column[y] for column in columns]):
            store(b, value, out, 0)
            out = at(b, out, step)


def emit_winograd_output(b: Builder, source: Value, step: Value, bias: Value, target: Value, row: Value) -> None:
    """Transform 36 products, `step` bytes apart, into 16 pixels plus bias, `row` bytes apart from `target` on."""
    read, lines = pointer(b, source), []
    for _ in range(PATCH):
        products = []
        for _ in range(PATCH):
            products.append(load(b, read, 0, VEC))
            read = at(b, read, step)
        lines.append(_out_of(b, products))
    shift = load(b, pointer(b, bias), 0, VEC)
    columns = [_out_of(b, [line[x] for line in lines]) for x in range(TILE)]
    out = pointer(b, target)
    for y in range(TILE):
        for x in range(TILE):
            store(b, b.fadd(columns[x][y], shift), out, 0)
            out = at(b, out, row)
