"""The small explicit-vector intrinsics that kernels call; `micro.py` has the large ones.

Every intrinsic works on plain int64 byte addresses, so that the jitted drivers decide where data lie. Nothing
here knows about feature maps, nodes or frames. Each is a module-level name: numba's on-disk cache cannot find
intrinsics made inside a function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernels.constants import CLIP as CLIP
from kernels.constants import HARD_SIGMOID as HARD_SIGMOID
from kernels.constants import HARD_SWISH as HARD_SWISH
from kernels.constants import IDENTITY as IDENTITY
from kernels.constants import LANES as LANES
from kernels.constants import PRELU as PRELU
from kernels.constants import RELU as RELU
from kernels.constants import SIGMOID as SIGMOID
from kernels.constants import SILU as SILU
from kernels.constants import STORE as STORE
from kernels.constants import TEST_BITS as TEST_BITS
from kernels.constants import TEST_RMS as TEST_RMS
from kernels.constants import VECTOR_BYTES as VECTOR_BYTES
from kernels.emit import (
    I8P,
    I32,
    I64,
    VEC,
    Builder,
    Value,
    fma,
    fold_lanes,
    greater_or_second,
    less_or_second,
    load,
    pointer,
    splat,
    store,
)
from kernels.emit_winograd import emit_winograd_input, emit_winograd_output
from kernels.jit import intrinsic

_I, _F = types.int64, types.float32


@intrinsic
def address_of(typing_context: Any, array: Any) -> Any:
    """int64 address of an array's first element.

    `array.ctypes.data` would be a uint64, whose sum with an int64 is a float64 to numba; and it counts references.
    """

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        return b.ptrtoint(context.make_array(signature.args[0])(context, b, value=args[0]).data, I64)

    return types.int64(array), codegen


def make_lane_op(compute: Callable[..., Value], sources: int, scalars: int) -> Any:
    """A memory-to-memory operation on lane vectors; arguments: destination, sources, float32 scalars."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        vectors = [load(b, pointer(b, a), 0, VEC) for a in args[1 : 1 + sources]]
        result = compute(b, *vectors, *[splat(b, s) for s in args[1 + sources :]])
        store(b, result, pointer(b, args[0]), 0)
        return context.get_dummy_value()

    signature = types.void(*[_I] * (1 + sources), *[_F] * scalars)
    arguments = sources + scalars
    if arguments == 1:

        @intrinsic
        def lane_op(typing_context: Any, dst: Any, a: Any) -> Any:
            return signature, codegen
    elif arguments == 2:

        @intrinsic
        def lane_op(typing_context: Any, dst: Any, a: Any, c: Any) -> Any:
            return signature, codegen
    else:

        @intrinsic
        def lane_op(typing_context: Any, dst: Any, a: Any, c: Any, d: Any) -> Any:
            return signature, codegen

    return lane_op


lane_fill = make_lane_op(lambda b, s: s, 0, 1)
lane_copy = make_lane_op(lambda b, x: x, 1, 0)
lane_divide = make_lane_op(lambda b, x, s: b.fdiv(x, s), 1, 1)
lane_add = make_lane_op(lambda b, x, y: b.fadd(x, y), 2, 0)
lane_sub = make_lane_op(lambda b, x, y: b.fsub(x, y), 2, 0)
lane_mul = make_lane_op(lambda b, x, y: b.fmul(x, y), 2, 0)
lane_max = make_lane_op(greater_or_second, 2, 0)
lane_min = make_lane_op(less_or_second, 2, 0)
lane_fma = make_lane_op(fma, 3, 0)  # x * y + z
lane_lerp = make_lane_op(lambda b, x, y, s: fma(b, b.fsub(y, x), s, x), 2, 1)  # x + s * (y - x)


def make_reduction(combine: Callable[[Builder, Value, Value], Value]) -> Any:
    """Fold `count` lane vectors, `stride` bytes apart from `source` on, into `total`, one by one."""

    @intrinsic
    def reduce(typing_context: Any, total: Any, source: Any, stride: Any, count: Any) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            total, source = pointer(b, args[0]), pointer(b, args[1])
            running = cgutils.alloca_once_value(b, load(b, total, 0, VEC))
            with cgutils.for_range(b, args[3]) as loop:
                x = load(b, source, b.mul(loop.index, args[2]), VEC)
                b.store(combine(b, x, b.load(running)), running)
            store(b, b.load(running), total, 0)
            return context.get_dummy_value()

        return types.void(_I, _I, _I, _I), codegen

    return reduce


reduce_add = make_reduction(lambda b, x, total: b.fadd(total, x))
reduce_max = make_reduction(greater_or_second)


def make_lane_fold(combine: Callable[[Builder, Value, Value], Value]) -> Any:
    """float32, the 16 at an address combined, in a fixed pairwise order."""

    @intrinsic
    def lane_fold(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            return fold_lanes(b, load(b, pointer(b, args[0]), 0, VEC), combine)

        return types.float32(_I), codegen

    return lane_fold


lane_sum = make_lane_fold(lambda b, x, y: b.fadd(x, y))
lane_largest = make_lane_fold(greater_or_second)


@intrinsic
def lane_any_bits(typing_context: Any, address: Any) -> Any:
    """Whether any bit is set in the 64 bytes at an address."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        bits = ir.IntType(VECTOR_BYTES * 8)
        return b.icmp_unsigned("!=", load(b, pointer(b, args[0]), 0, bits, 1), bits(0))

    return types.boolean(_I), codegen


def _column_differences(b: Builder, x: Value, y: Value, at: Value, row: Value, rows: Value, lanes: int) -> Value:
    """uint16[lanes], |x - y| of bytes from `at` on, summed over `rows` (1 to 257) rows that lie `row` bytes apart."""
    narrow, wide = ir.VectorType(ir.IntType(8), lanes), ir.VectorType(ir.IntType(16), lanes)
    before, loop, after = b.block, b.append_basic_block("rows"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    index, here, running = b.phi(I64), b.phi(I64), b.phi(wide)
    for phi, start in ((index, I64(0)), (here, at), (running, ir.Constant(wide, [0] * lanes))):
        phi.add_incoming(start, before)
    p, q = load(b, x, here, narrow, 1), load(b, y, here, narrow, 1)
    more = b.icmp_unsigned(">", p, q)
    difference = b.sub(b.select(more, p, q), b.select(more, q, p))
    total, following = b.add(running, b.zext(difference, wide)), b.add(index, I64(1))
    for phi, value in ((index, following), (here, b.add(here, row)), (running, total)):
        phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", following, rows), loop, after)
    b.position_at_end(after)
    return total


@intrinsic
def absolute_differences(
    typing_context: Any, sums: Any, first: Any, second: Any, row: Any, rows: Any, count: Any
) -> Any:
    """sums uint16[32 * count] = |first - second|, summed over `rows` (1 to 257) rows of bytes, `row` bytes apart."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        sums, first, second, row, rows, count = args
        s, x, y = (pointer(b, a) for a in (sums, first, second))
        with cgutils.for_range(b, count) as columns:
            column = b.shl(columns.index, I64(5))
            store(b, _column_differences(b, x, y, column, row, rows, 32), s, b.shl(column, I64(1)), 2)
        return context.get_dummy_value()

    return types.void(*[_I] * 6), codegen


def _sum_vectors(b: Builder, count: Value, lanes: int, vector: Callable[[Value], Value]) -> Value:
    """int64, sum of all lanes of `count` (at least 1) vectors uint16[lanes], given by their number."""
    wide, before = ir.VectorType(I32, lanes), b.block
    loop, after = b.append_basic_block("words"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    i, running = b.phi(I64), b.phi(wide)
    i.add_incoming(I64(0), before)
    running.add_incoming(ir.Constant(wide, [0] * lanes), before)
    total, following = b.add(running, b.zext(vector(i), wide)), b.add(i, I64(1))
    i.add_incoming(following, b.block)
    running.add_incoming(total, b.block)
    b.cbranch(b.icmp_signed("<", following, count), loop, after)
    b.position_at_end(after)
    reduce = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(I32, [wide]), f"llvm.vector.reduce.add.v{lanes}i32"
    )
    return b.zext(b.call(reduce, [total]), I64)


def make_word_sum(lanes: int) -> Any:
    """int64, sum of `count` (at least 1) vectors of so many uint16 from an address on."""

    @intrinsic
    def word_sum(typing_context: Any, address: Any, count: Any) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            first, words = pointer(b, args[0]), ir.VectorType(ir.IntType(16), lanes)
            return _sum_vectors(b, args[1], lanes, lambda i: load(b, first, b.mul(i, I64(2 * lanes)), words, 2))

        return types.int64(_I, _I), codegen

    return word_sum


def make_block_difference(lanes: int) -> Any:
    """int64, sum of |first - second| over `rows` (1 to 257) rows of `count` (at least 1) times so many bytes, the rows
    `row` bytes apart."""

    @intrinsic
    def block_difference(typing_context: Any, first: Any, second: Any, row: Any, rows: Any, count: Any) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            first, second, row, rows, count = args
            x, y = pointer(b, first), pointer(b, second)
            return _sum_vectors(
                b, count, lanes, lambda i: _column_differences(b, x, y, b.mul(i, I64(lanes)), row, rows, lanes)
            )

        return types.int64(*[_I] * 5), codegen

    return block_difference


word_sum_4, word_sum_8, word_sum_16 = make_word_sum(4), make_word_sum(8), make_word_sum(16)
block_difference_1, block_difference_4 = make_block_difference(1), make_block_difference(4)
block_difference_8, block_difference_16 = make_block_difference(8), make_block_difference(16)


def make_or_bytes(stride: int) -> Any:
    """target uint8[64 * count] |= every `stride`-th byte from source on (reads 64 * count * stride)."""

    @intrinsic
    def or_bytes(typing_context: Any, target: Any, source: Any, count: Any) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            to, source = pointer(b, args[0]), pointer(b, args[1])
            out, wide = ir.VectorType(ir.IntType(8), 64), ir.VectorType(ir.IntType(8), 64 * stride)
            index = ir.Constant(ir.VectorType(I32, 64), list(range(0, 64 * stride, stride)))
            with cgutils.for_range(b, args[2]) as loop:
                offset = b.shl(loop.index, I64(6))
                read = load(b, source, b.mul(offset, I64(stride)), wide, 1)
                if stride > 1:
                    read = b.shuffle_vector(read, ir.Constant(wide, ir.Undefined), index)
                store(b, b.or_(load(b, to, offset, out, 1), read), to, offset, 1)
            return context.get_dummy_value()

        return types.void(_I, _I, _I), codegen

    return or_bytes


or_bytes = make_or_bytes(1)
or_even_bytes = make_or_bytes(2)


def make_table(entries: int) -> Any:
    """Address of `entries` int64 on the stack: cheaper than an array, gone when the caller returns."""

    @intrinsic
    def table(typing_context: Any) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            with b.goto_entry_block():
                slot = b.alloca(I64, entries)  # numba's own way would fill it with zeros at every call
            return b.ptrtoint(slot, I64)

        return _I(), codegen

    return table


@intrinsic
def table_set(typing_context: Any, table: Any, index: Any, value: Any) -> Any:
    """table[index] = value."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        store(b, args[2], pointer(b, args[0]), b.shl(args[1], I64(3)), 8)
        return context.get_dummy_value()

    return types.void(_I, _I, _I), codegen


@intrinsic
def table_set_float(typing_context: Any, table: Any, index: Any, value: Any) -> Any:
    """table[index] = value, a float32 in a slot of 8 bytes."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        store(b, args[2], pointer(b, args[0]), b.shl(args[1], I64(3)))
        return context.get_dummy_value()

    return types.void(_I, _I, _F), codegen


@intrinsic
def table_get(typing_context: Any, table: Any, index: Any) -> Any:
    """table[index]."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        return load(b, pointer(b, args[0]), b.shl(args[1], I64(3)), I64, 8)

    return _I(_I, _I), codegen


@intrinsic
def prefetch(typing_context: Any, address: Any) -> Any:
    """Ask for the cache line of an address, which may be any: nothing is read, nothing can fail."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        function_type = ir.FunctionType(ir.VoidType(), [I8P, I32, I32, I32])
        function = cgutils.get_or_insert_function(b.module, function_type, "llvm.prefetch.p0")
        b.call(function, [pointer(b, args[0]), I32(0), I32(3), I32(1)])  # to read, kept in all levels, data
        return context.get_dummy_value()

    return types.void(_I), codegen


@intrinsic
def winograd_input(typing_context: Any, source: Any, row: Any, target: Any, step: Any) -> Any:
    """See `emit_winograd_input`; int64 addresses and strides in bytes."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        emit_winograd_input(b, *args)
        return context.get_dummy_value()

    return types.void(_I, _I, _I, _I), codegen


@intrinsic
def winograd_output(typing_context: Any, source: Any, step: Any, bias: Any, target: Any, row: Any) -> Any:
    """See `emit_winograd_output`; int64 addresses and strides in bytes."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        emit_winograd_output(b, *args)
        return context.get_dummy_value()

    return types.void(_I, _I, _I, _I, _I), codegen


@intrinsic
def is_run(typing_context: Any, pixels: Any) -> Any:
    """Whether the four (y, x) int32 pairs at an address are neighbours in a row, from left to right."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        pairs = ir.VectorType(I32, 8)
        entries = load(b, pointer(b, args[0]), 0, pairs)
        first = b.shuffle_vector(entries, entries, ir.Constant(pairs, [0, 1] * 4))
        expected = b.add(first, ir.Constant(pairs, [0, 0, 0, 1, 0, 2, 0, 3]))
        differing = b.xor(entries, expected)
        wide = ir.IntType(256)
        return b.icmp_unsigned("==", b.bitcast(differing, wide), wide(0))

    return types.boolean(_I), codegen


@intrinsic
def run_set(typing_context: Any, pixels: Any, y: Any, x: Any) -> Any:
    """Write the (y, x) int32 pairs of four neighbours in a row, of which this is the first, to an address."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        pairs = ir.VectorType(I32, 8)
        first = ir.Constant(pairs, ir.Undefined)
        for lane, value in enumerate(args[1:]):
            first = b.insert_element(first, b.trunc(value, I32), I32(lane))
        every = b.shuffle_vector(first, first, ir.Constant(pairs, [0, 1] * 4))
        store(b, b.add(every, ir.Constant(pairs, [0, 0, 0, 1, 0, 2, 0, 3])), pointer(b, args[0]), 0)
        return context.get_dummy_value()

    return types.void(_I, _I, _I), codegen


@intrinsic
def table_set_four(typing_context: Any, table: Any, index: Any, base: Any, pixels: Any, row: Any, pixel: Any) -> Any:
    """table[index + i] = base + y * row + x * pixel for four (y, x) int32 pairs at an address.

    row, pixel : within int32, and so are the coordinates.
    """

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        table, index, base, pixels, *strides = args
        four = ir.VectorType(I64, 4)

        def all_four(x: Value) -> Value:
            first = b.insert_element(ir.Constant(four, ir.Undefined), x, I32(0))
            return b.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, 4), [0] * 4))

        half = ir.Constant(four, [32] * 4)
        pairs = load(b, pointer(b, pixels), 0, four)
        y, x = b.ashr(b.shl(pairs, half), half), b.ashr(pairs, half)
        row, pixel = (all_four(b.sext(b.trunc(stride, I32), I64)) for stride in strides)
        addresses = b.add(b.add(all_four(base), b.mul(y, row)), b.mul(x, pixel))
        store(b, addresses, pointer(b, table), b.shl(index, I64(3)), 8)
        return context.get_dummy_value()

    return types.void(*[_I] * 6), codegen


@intrinsic
def mark_run(typing_context: Any, marks: Any) -> Any:
    """Set the four bytes (0 or 1) at an address to 1; returns how many were 0."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        at, ones = pointer(b, args[0]), I32(0x01010101)
        before = load(b, at, 0, I32, 1)
        store(b, ones, at, 0, 1)
        return b.zext(b.sub(I32(4), b.ctpop(before)), I64)

    return _I(_I), codegen


@intrinsic
def mark_one(typing_context: Any, mark: Any) -> Any:
    """Set the byte (0 or 1) at an address to 1; returns 1 if it was 0, else 0."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        at, byte = pointer(b, args[0]), ir.IntType(8)
        before = load(b, at, 0, byte, 1)
        store(b, byte(1), at, 0, 1)
        return b.zext(b.sub(byte(1), before), I64)

    return _I(_I), codegen


@intrinsic
def read_int(typing_context: Any, address: Any) -> Any:
    """The int32 at an address."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        return b.sext(load(b, pointer(b, args[0]), 0, I32), I64)

    return _I(_I), codegen
