"""The intrinsics of float16 maps. Addresses and distances are int64, in bytes; a vector is 16 lanes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernels.constants import LANES
from kernels.emit import I32, I64, VEC, Builder, Value, at, load, pointer, splat, store
from kernels.emit_half import (
    BITS,
    HAS_HALF,
    NO_BITS,
    ZERO,
    emit_expand,
    emit_four_sums,
    emit_lane_sum,
    emit_round,
    emit_square,
)
from kernels.jit import intrinsic

_I = types.int64


def make_expand(has_half: bool) -> Any:
    """float32[16 * count] at `target` = float16[16 * count] at `source`."""

    @intrinsic
    def expand(typing_context: Any, target: Any, source: Any, count: Any) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            target, source = pointer(b, args[0]), pointer(b, args[1])
            with cgutils.for_range(b, args[2]) as loop:
                bits = load(b, source, b.shl(loop.index, I64(5)), BITS, 2)
                store(b, emit_expand(b, bits, has_half), target, b.shl(loop.index, I64(6)))
            return context.get_dummy_value()

        return types.void(_I, _I, _I), codegen

    return expand


def make_round(has_half: bool) -> Any:
    """float16[16 * count] at `target` = float32[16 * count] at `source`, rounded."""

    @intrinsic
    def round_(typing_context: Any, target: Any, source: Any, count: Any) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            target, source = pointer(b, args[0]), pointer(b, args[1])
            with cgutils.for_range(b, args[2]) as loop:
                x = load(b, source, b.shl(loop.index, I64(6)), VEC)
                store(b, emit_round(b, x, has_half), target, b.shl(loop.index, I64(5)), 2)
            return context.get_dummy_value()

        return types.void(_I, _I, _I), codegen

    return round_


half_expand = make_expand(HAS_HALF)
half_round = make_round(HAS_HALF)
half_expand_by_integers = make_expand(False)
half_round_by_integers = make_round(False)


def _squares(b: Builder, args: list[Value], first: Value, pixels: int) -> list[Value]:
    """Squared differences of pixels first, first + 1, ... summed over their blocks: float32 lanes of each.

    args : as `half_beyond` has them.
    """
    new, stored = pointer(b, args[0]), pointer(b, args[2])
    totals = [cgutils.alloca_once_value(b, ZERO) for _ in range(pixels)]
    with cgutils.for_range(b, args[4]) as loop:
        ours = b.add(b.mul(loop.index, args[1]), b.shl(first, I64(6)))
        theirs = b.add(b.mul(loop.index, args[3]), b.shl(first, I64(5)))
        for i, total in enumerate(totals):
            x = load(b, new, b.add(ours, I64(64 * i)), VEC)
            bits = load(b, stored, b.add(theirs, I64(32 * i)), BITS, 2)
            b.store(emit_square(b, x, bits, b.load(total)), total)
    return [b.load(total) for total in totals]


@intrinsic
def half_beyond(
    typing_context: Any, new: Any, new_plane: Any, stored: Any, stored_plane: Any, blocks: Any, count: Any, limit: Any
) -> Any:
    """Which of up to 64 pixels side by side lie further than a limit from what is stored: uint64, a bit for each.

    Of each the sum over its channels of squared differences: float32 blocks at `new`, rounded, from float16 ones at
    `stored`. A NaN lies further.
    """

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        count, limit = args[5], args[6]
        limits, found = splat(b, limit), cgutils.alloca_once_value(b, I64(0))
        with cgutils.for_range(b, b.lshr(count, I64(2))) as loop:
            first = b.shl(loop.index, I64(2))
            far = b.fcmp_unordered(">", emit_four_sums(b, _squares(b, args, first, 4)), limits)
            lanes = b.and_(b.zext(b.bitcast(far, ir.IntType(LANES)), I64), I64(0x1111))
            bits = b.and_(b.lshr(b.mul(lanes, I64(0x1248)), I64(12)), I64(15))  # bits 0, 4, 8 and 12 side by side
            b.store(b.or_(b.load(found), b.shl(bits, first)), found)
        with cgutils.for_range_slice(b, b.and_(count, I64(-4)), count, I64(1)) as (pixel, _):
            total = emit_lane_sum(b, _squares(b, args, pixel, 1)[0])
            bit = b.zext(b.fcmp_unordered(">", total, limit), I64)
            b.store(b.or_(b.load(found), b.shl(bit, pixel)), found)
        return b.load(found)

    return types.uint64(_I, _I, _I, _I, _I, _I, types.float32), codegen


@intrinsic
def half_differing(
    typing_context: Any, new: Any, new_plane: Any, stored: Any, stored_plane: Any, blocks: Any, count: Any
) -> Any:
    """Of which of up to 64 pixels side by side any bit, once rounded, differs from the stored one: uint64, as above."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        new, stored, word = pointer(b, args[0]), pointer(b, args[2]), ir.IntType(LANES * 16)
        found = cgutils.alloca_once_value(b, I64(0))
        with cgutils.for_range(b, args[5]) as pixels:
            seen = cgutils.alloca_once_value(b, NO_BITS)
            with cgutils.for_range(b, args[4]) as loop:
                ours = b.add(b.mul(loop.index, args[1]), b.shl(pixels.index, I64(6)))
                theirs = b.add(b.mul(loop.index, args[3]), b.shl(pixels.index, I64(5)))
                bits, other = emit_round(b, load(b, new, ours, VEC)), load(b, stored, theirs, BITS, 2)
                b.store(b.or_(b.load(seen), b.xor(bits, other)), seen)
            differs = b.icmp_unsigned("!=", b.bitcast(b.load(seen), word), word(0))
            b.store(b.or_(b.load(found), b.shl(b.zext(differs, I64), pixels.index)), found)
        return b.load(found)

    return types.uint64(_I, _I, _I, _I, _I, _I), codegen


@intrinsic
def write_int(typing_context: Any, address: Any, value: Any) -> Any:
    """Store an int64 as the int32 at an address."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        store(b, b.trunc(args[1], I32), pointer(b, args[0]), 0)
        return context.get_dummy_value()

    return types.void(_I, _I), codegen


@intrinsic
def mark_row(typing_context: Any, marks: Any, count: Any) -> Any:
    """Set uint8[count] of 0 and 1 to 1; returns how many were 0."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        marks, one = pointer(b, args[0]), ir.IntType(8)(1)
        seen = cgutils.alloca_once_value(b, I64(0))
        with cgutils.for_range(b, args[1]) as loop:
            place = at(b, marks, loop.index)
            b.store(b.add(b.load(seen), b.zext(b.load(place), I64)), seen)
            b.store(one, place)
        return b.sub(args[1], b.load(seen))

    return _I(_I, _I), codegen
