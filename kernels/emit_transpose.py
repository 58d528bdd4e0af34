"""LLVM vector IR that turns pixels of channels into channels of pixels, and that gathers channels into new blocks."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from kernels.constants import LANES
from kernels.emit import F32, I32, I64, IVEC, VEC, Builder, Value, at, load, pointer, shuffle, store


def _transpose(b: Builder, rows: list[Value]) -> list[Value]:
    """16 lane vectors, row i and lane j exchanged, in four rounds of pairs."""
    for size in (8, 4, 2, 1):
        low = [j if j // size % 2 == 0 else j - size + LANES for j in range(LANES)]
        high = [j + size if j // size % 2 == 0 else j + LANES for j in range(LANES)]
        after = list(rows)
        for i in range(LANES):
            if i // size % 2 == 0:
                after[i] = shuffle(b, rows[i], rows[i + size], low)
                after[i + size] = shuffle(b, rows[i], rows[i + size], high)
        rows = after
    return rows


def _store_rows(b: Builder, rows: list[Value], out: Value, step: Value, count: Value) -> None:
    """The first `count` vectors, `step` bytes apart."""
    end, target = b.append_basic_block("stored"), pointer(b, out)
    for i, row in enumerate(rows):
        more = b.append_basic_block("row")
        b.cbranch(b.icmp_signed("<", I64(i), count), more, end)
        b.position_at_end(more)
        store(b, row, target, 0)
        target = at(b, target, step)
    b.branch(end)
    b.position_at_end(end)


def emit_unpack(b: Builder, bases: Value, shift: Value, out: Value, step: Value, count: Value) -> None:
    """`count` channels of 16 pixels: 16 are read side by side at each pixel, those written `step` bytes apart.

    bases : table of 16 addresses.
    """
    table = pointer(b, bases)
    reads = [pointer(b, b.add(load(b, table, p * 8, I64, 8), shift)) for p in range(LANES)]
    _store_rows(b, _transpose(b, [load(b, read, 0, VEC) for read in reads]), out, step, count)


def emit_gather(b: Builder, base: Value, windows: Value, count: Value, out: Value) -> None:
    """One block of channels from `count` windows of 16 float32, on AVX-512 alone.

    windows : per window int64 byte offset from `base`, int64 mask of the lanes that are read, int64 mask of the lanes
    that are written, 8 bytes unused, int32[16] lane of the window for each lane. Lanes that none writes become 0.
    """
    mask_type, bits = ir.VectorType(ir.IntType(1), LANES), ir.IntType(16)
    read_type = ir.FunctionType(VEC, [VEC.as_pointer(), I32, mask_type, VEC])
    masked = cgutils.get_or_insert_function(b.module, read_type, "llvm.masked.load.v16f32.p0")
    permute_type = ir.FunctionType(VEC, [VEC, IVEC])
    permute = cgutils.get_or_insert_function(b.module, permute_type, "llvm.x86.avx512.permvar.sf.512")
    zero = ir.Constant(VEC, [ir.Constant(F32, 0.0)] * LANES)
    result = cgutils.alloca_once_value(b, zero)
    b.store(zero, result)
    source, entries = pointer(b, base), pointer(b, windows)
    with cgutils.for_range(b, count) as loop:
        window = at(b, entries, b.mul(loop.index, I64(96)))
        read, written = (b.bitcast(b.trunc(load(b, window, n, I64, 8), bits), mask_type) for n in (8, 16))
        place = b.bitcast(at(b, source, load(b, window, 0, I64, 8)), VEC.as_pointer())
        values = b.call(masked, [place, I32(4), read, zero])
        chosen = b.call(permute, [values, load(b, window, 32, IVEC)])
        b.store(b.select(written, chosen, b.load(result)), result)
    store(b, b.load(result), pointer(b, out), 0)
