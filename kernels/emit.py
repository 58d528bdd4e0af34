"""LLVM vector IR of the micro-kernels: with the other `emit*.py` and `simd.py`, the only place that emits any.

Emitters take a llvmlite builder and a `Blocking`, so that they can also be compiled for another machine than
this one. A *lane vector* is 16 float32 (64 bytes): one zmm register, two ymm, or four NEON registers; LLVM
splits it.

Floating-point contract: each output lane is one chain of multiply-adds in the order of the tap table, from
the bias on, fused wherever the machine can. Neither the number of pixels per call nor the number of vectors
changes that order, so a pixel's bits do not depend on which pixels it was computed with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from kernels.constants import HALF, LANES, LOWEST, VECTOR_BYTES
from kernels.target import Blocking

Value = Any  # llvmlite.ir.Value: llvmlite ships no type information
Builder = Any
Rows = list[list[Value]]  # lane vectors, [pixel][vector]

F32 = ir.FloatType()
I8P = ir.IntType(8).as_pointer()
I32 = ir.IntType(32)
I64 = ir.IntType(64)
VEC = ir.VectorType(F32, LANES)
IVEC = ir.VectorType(I32, LANES)
HALF_VEC = ir.VectorType(F32, HALF)


def _call(b: Builder, name: str, args: list[Value]) -> Value:
    """Call an LLVM intrinsic whose result has the type of its first argument."""
    kind = args[0].type
    function_type = ir.FunctionType(kind, [a.type for a in args])
    function = cgutils.get_or_insert_function(b.module, function_type, f"{name}.v{kind.count}f32")
    return b.call(function, args)


def const(x: float) -> Value:
    """A lane vector of one value."""
    return ir.Constant(VEC, [ir.Constant(F32, float(x))] * LANES)


def iconst(x: int) -> Value:
    return ir.Constant(IVEC, [ir.Constant(I32, x)] * LANES)


def pointer(b: Builder, address: Value) -> Value:
    """An int64 address as a byte pointer."""
    return b.inttoptr(address, I8P)


def at(b: Builder, base: Value, offset: Value | int) -> Value:
    """Pointer `offset` bytes past a pointer."""
    if isinstance(offset, int):
        if offset == 0:
            return base
        offset = I64(offset)
    return b.gep(base, [offset])


def load(b: Builder, base: Value, offset: Value | int, type_: Any, align: int = 4) -> Value:
    """Load a value of a type, `offset` bytes past a pointer."""
    return b.load(b.bitcast(at(b, base, offset), type_.as_pointer()), align=align)


def store(b: Builder, value: Value, base: Value, offset: Value | int, align: int = 4) -> None:
    """Store a value, `offset` bytes past a pointer."""
    b.store(value, b.bitcast(at(b, base, offset), value.type.as_pointer()), align=align)


def splat(b: Builder, scalar: Value, kind: Any = VEC) -> Value:
    """A lane vector, or half of one, of one run-time value."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = b.insert_element(undefined, scalar, I32(0))
    return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def shuffle(b: Builder, x: Value, y: Value, lanes: Sequence[int]) -> Value:
    """Lanes of two vectors, those of the second counted on."""
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def fold_lanes(b: Builder, x: Value, combine: Callable[[Builder, Value, Value], Value]) -> Value:
    """The 16 lanes of a vector combined, in a fixed pairwise order."""
    count = LANES
    while count > 1:
        count //= 2
        x = combine(b, shuffle(b, x, x, range(count)), shuffle(b, x, x, range(count, 2 * count)))
    return b.extract_element(x, I32(0))


def merge_rows(b: Builder, results: list[tuple[Any, Rows]]) -> Rows:
    """`rows[pixel][vector]` of whichever block this one was reached from, of those named."""
    merged: Rows = []
    for p, row in enumerate(results[0][1]):
        merged.append([])
        for v in range(len(row)):
            phi = b.phi(VEC)
            for block, rows in results:
                phi.add_incoming(rows[p][v], block)
            merged[p].append(phi)
    return merged


def join(b: Builder, low: Value, high: Value) -> Value:
    """A lane vector of two halves."""
    return b.shuffle_vector(low, high, ir.Constant(IVEC, list(range(LANES))))


def split(b: Builder, x: Value) -> tuple[Value, Value]:
    """The halves of a lane vector."""
    kind = ir.VectorType(I32, HALF)
    low, high = (ir.Constant(kind, list(range(first, first + HALF))) for first in (0, HALF))
    return b.shuffle_vector(x, x, low), b.shuffle_vector(x, x, high)


def join_pairs(b: Builder, rows: Rows) -> Rows:
    """Halves, [pixel][0], as lane vectors that hold two pixels each."""
    return [[join(b, rows[p][0], rows[p + 1][0])] for p in range(0, len(rows), 2)]


def fma(b: Builder, x: Value, y: Value, z: Value) -> Value:
    """x * y + z: one instruction where the machine has it; elsewhere two, not a library call per lane."""
    return _call(b, "llvm.fmuladd", [x, y, z])


def opaque(b: Builder, x: Value) -> Value:
    """The same int64, of which LLVM knows nothing."""
    return b.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [x], True)


def reciprocal_estimate(b: Builder, x: Value) -> Value:
    """1 / x to 14 bits, on AVX-512 alone."""
    mask = ir.IntType(16)
    function_type = ir.FunctionType(VEC, [VEC, VEC, mask])
    function = cgutils.get_or_insert_function(b.module, function_type, "llvm.x86.avx512.rcp14.ps.512")
    return b.call(function, [x, const(0.0), mask(0xFFFF)])


def greater_or_second(b: Builder, x: Value, y: Value) -> Value:
    """x if x > y else y: one `vmaxps`."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def less_or_second(b: Builder, x: Value, y: Value) -> Value:
    """x if x < y else y: one `vminps`."""
    return b.select(b.fcmp_ordered("<", x, y), x, y)


def _fence(b: Builder) -> None:
    """Keep LLVM from hoisting later loads above this point, which would spill the accumulators."""
    b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)


def emit_multiply_accumulate(
    b: Builder,
    blocking: Blocking,
    pixel_count: int,
    lanes: int,
    vectors: int,
    step: Value | None,
    bases: Value,
    taps: Value,
    count: Value,
    weights: Value,
    bias: Value,
    kind: Any = VEC,
) -> Rows:
    """The inner loop of every dense convolution: `rows[pixel][vector]` = bias + sum over taps and input
    lanes.

    bases : table of `pixel_count` int64 addresses, one per output pixel.
    taps : table of `count` int64 byte offsets; each reads `lanes` consecutive float32 at base + offset.
    weights : float32[count][lanes][vectors][16], streamed once in order. kind : `HALF_VEC` for half a block of outputs,
    with weights [count][lanes][8]: rows are halves too.
    """
    size = kind.count * 4
    table, tap_table, bias_p = pointer(b, bases), pointer(b, taps), pointer(b, bias)
    run = 1 if step is None else 4
    skips: list[Value | int] = [0] if step is None else [0, *(b.mul(step, I64(p)) for p in range(1, run))]
    first = [pointer(b, load(b, table, p * 8, I64, 8)) for p in range(0, pixel_count, run)]
    start = [load(b, bias_p, v * size, kind) for v in range(vectors)]
    entry, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("summed")
    first_weight = pointer(b, weights)
    b.branch(loop)
    b.position_at_end(loop)
    k, weight = b.phi(I64), b.phi(I8P)
    k.add_incoming(I64(0), entry)
    weight.add_incoming(first_weight, entry)
    phis = [[b.phi(kind) for _ in range(vectors)] for _ in range(pixel_count)]
    for row in phis:
        for v, phi in enumerate(row):
            phi.add_incoming(start[v], entry)
    sums: Rows = [list(row) for row in phis]
    offset = load(b, tap_table, b.shl(k, I64(3)), I64, 8)
    reads = [at(b, p, offset) for p in first]
    for u in range(lanes):
        w = [load(b, weight, (u * vectors + v) * size, kind) for v in range(vectors)]
        for p in range(pixel_count):
            x = splat(b, load(b, at(b, reads[p // run], skips[p % run]), u * 4, F32), kind)
            for v in range(vectors):
                sums[p][v] = fma(b, w[v], x, sums[p][v])
            if blocking.fence and p % blocking.fence == blocking.fence - 1:
                _fence(b)
    after, next_k = at(b, weight, lanes * vectors * size), b.add(k, I64(1))
    k.add_incoming(next_k, loop)
    weight.add_incoming(after, loop)
    for row, values in zip(phis, sums, strict=True):
        for phi, value in zip(row, values, strict=True):
            phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", next_k, count), loop, done)
    b.position_at_end(done)
    return sums


class _Taps:
    """A loop over taps whose sums stay in registers: enter, give each sum its next value, leave."""

    def __init__(self, b: Builder, start: list[Value]) -> None:
        self.b, self.entry = b, b.block
        self.loop, self.done = b.append_basic_block("taps"), b.append_basic_block("summed")
        b.branch(self.loop)
        b.position_at_end(self.loop)
        self.k = b.phi(I64)
        self.k.add_incoming(I64(0), self.entry)
        self.sums = [b.phi(VEC) for _ in start]
        for phi, value in zip(self.sums, start, strict=True):
            phi.add_incoming(value, self.entry)

    def leave(self, count: Value, sums: list[Value]) -> None:
        """Go round `count` times; `sums` are the values after this round."""
        b = self.b
        after = b.add(self.k, I64(1))
        self.k.add_incoming(after, self.loop)
        for phi, value in zip(self.sums, sums, strict=True):
            phi.add_incoming(value, self.loop)
        b.cbranch(b.icmp_signed("<", after, count), self.loop, self.done)
        b.position_at_end(self.done)


def shifted_pointers(b: Builder, table: Value, shift: Value, slots: Iterable[int]) -> list[Value]:
    """Pointers to the addresses in some slots of a table, `shift` bytes on."""
    entries = pointer(b, table)
    return [pointer(b, b.add(load(b, entries, p * 8, I64, 8), shift)) for p in slots]


def emit_depthwise(
    b: Builder, blocking: Blocking, bases: Value, shift: Value, taps: Value, count: Value, weights: Value, bias: Value
) -> Rows:
    """`rows[pixel][0]` = bias + sum over taps of input lanes times weight lanes, one block of channels.

    bases : table of `blocking.pixels` int64 addresses; `shift` bytes on, at each tap's offset, a lane vector is read.
    """
    pixels = shifted_pointers(b, bases, shift, range(blocking.pixels))
    tap_table, first_weight = pointer(b, taps), pointer(b, weights)
    loop = _Taps(b, [load(b, pointer(b, bias), 0, VEC)] * len(pixels))
    offset = load(b, tap_table, b.shl(loop.k, I64(3)), I64, 8)
    w = load(b, first_weight, b.shl(loop.k, I64(6)), VEC)
    sums = [fma(b, load(b, at(b, p, offset), 0, VEC), w, s) for p, s in zip(pixels, loop.sums, strict=True)]
    loop.leave(count, sums)
    return [[s] for s in sums]


def emit_depthwise_quads(
    b: Builder, blocking: Blocking, kernel_x: int, stride_x: int, bases: Value, shift: Value, taps: Value,
    rows: Value, weights: Value, bias: Value,
) -> Rows:  # fmt: skip
    """`emit_depthwise` for `blocking.quads` runs of four neighbouring outputs, whose windows share what they load.

    bases : as there, four entries per run; the first is read. taps : `rows` x `kernel_x` offsets, of which each row's
    first is read; the others follow it pixel by pixel. Sums take their taps in the same order as there.
    """
    runs = shifted_pointers(b, bases, shift, range(0, 4 * blocking.quads, 4))
    tap_table, first_weight = pointer(b, taps), pointer(b, weights)
    loop = _Taps(b, [load(b, pointer(b, bias), 0, VEC)] * (4 * len(runs)))
    offset = load(b, tap_table, b.mul(loop.k, I64(8 * kernel_x)), I64, 8)
    row = at(b, first_weight, b.mul(loop.k, I64(VECTOR_BYTES * kernel_x)))
    w = [load(b, row, j * VECTOR_BYTES, VEC) for j in range(kernel_x)]
    sums = list(loop.sums)
    for q, run in enumerate(runs):
        read = at(b, run, offset)
        for column in range(3 * stride_x + kernel_x):
            x = load(b, read, column * VECTOR_BYTES, VEC)
            for p in range(4):
                j = column - p * stride_x
                if 0 <= j < kernel_x:
                    sums[4 * q + p] = fma(b, x, w[j], sums[4 * q + p])
    loop.leave(rows, sums)
    return [[s] for s in sums]


def emit_fold(
    b: Builder, blocking: Blocking, maximum: bool, bases: Value, shift: Value, taps: Value, count: Value, divisor: Value
) -> Rows:
    """`rows[pixel][0]` = largest value over the taps, or their sum over `divisor`; arguments as in `emit_depthwise`."""
    pixels = shifted_pointers(b, bases, shift, range(blocking.pixels))
    tap_table = pointer(b, taps)
    loop = _Taps(b, [const(LOWEST if maximum else 0.0)] * len(pixels))
    offset = load(b, tap_table, b.shl(loop.k, I64(3)), I64, 8)
    values = [load(b, at(b, p, offset), 0, VEC) for p in pixels]
    join = greater_or_second if maximum else (lambda b, x, total: b.fadd(total, x))
    sums = [join(b, x, s) for x, s in zip(values, loop.sums, strict=True)]
    loop.leave(count, sums)
    return [[s if maximum else b.fdiv(s, splat(b, divisor))] for s in sums]
