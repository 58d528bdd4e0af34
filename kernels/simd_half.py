"""The intrinsics of float16 maps. Addresses and distances are int64, in bytes; a vector is 16 lanes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernels.constants import LANES
from kernels.emit import I32, I64, VEC, Builder, Value, at, load, pointer, store
from kernels.emit_half import BITS, HAS_HALF, NO_BITS, ZERO, emit_expand, emit_lane_sum, emit_round, emit_square
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


@intrinsic
def half_distance(typing_context: Any, new: Any, new_plane: Any, stored: Any, stored_plane: Any, blocks: Any) -> Any:
    """Sum over a pixel's channels of squared differences: float32 blocks at `new`, rounded, from float16 ones."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        new, stored = pointer(b, args[0]), pointer(b, args[2])
        total = cgutils.alloca_once_value(b, ZERO)
        with cgutils.for_range(b, args[4]) as loop:
            x = load(b, new, b.mul(loop.index, args[1]), VEC)
            bits = load(b, stored, b.mul(loop.index, args[3]), BITS, 2)
            b.store(emit_square(b, x, bits, b.load(total)), total)
        return emit_lane_sum(b, b.load(total))

    return types.float32(_I, _I, _I, _I, _I), codegen


@intrinsic
def half_differs(typing_context: Any, new: Any, new_plane: Any, stored: Any, stored_plane: Any, blocks: Any) -> Any:
    """Whether any bit of a pixel, rounded, differs from the stored one."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        new, stored = pointer(b, args[0]), pointer(b, args[2])
        found = cgutils.alloca_once_value(b, NO_BITS)
        with cgutils.for_range(b, args[4]) as loop:
            bits = emit_round(b, load(b, new, b.mul(loop.index, args[1]), VEC))
            other = b.load(b.bitcast(at(b, stored, b.mul(loop.index, args[3])), BITS.as_pointer()), align=2)
            b.store(b.or_(b.load(found), b.xor(bits, other)), found)
        word = ir.IntType(LANES * 16)
        return b.icmp_unsigned("!=", b.bitcast(b.load(found), word), word(0))

    return types.boolean(_I, _I, _I, _I, _I), codegen


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
