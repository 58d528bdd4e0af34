"""The micro-kernels as intrinsics: some pixels of some blocks of channels, from addresses to stored results.

Arguments are int64 addresses, strides in bytes and counts, unless said otherwise. Two tuples end them all:

    act : (kind, alpha, beta, slope, before, after), the activation; int64, float32, float32, address of the PReLU
        slopes, and where to find what is added (see `kernels.layout.Act`).
    exits : (mode, outs, shift, plane, scratch, scratch_row, metric), see `emit_exit`; all int64.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils

from kernels.emit import (
    HALF_VEC,
    Builder,
    Rows,
    Value,
    emit_depthwise,
    emit_depthwise_quads,
    emit_fold,
    emit_multiply_accumulate,
    join_pairs,
)
from kernels.emit_finish import emit_activation, emit_addition, emit_exit
from kernels.emit_rows import emit_affine, emit_combine, emit_interpolate, emit_move
from kernels.emit_transpose import emit_gather, emit_unpack
from kernels.jit import intrinsic
from kernels.target import HOST

_I, _F = types.int64, types.float32
ACT, EXITS = types.Tuple((_I, _F, _F, _I, _I, _I)), types.UniTuple(_I, 7)


def finish(context: Any, b: Builder, act: Value, exits: Value, rows: Rows, *, halves: bool = False) -> Value:
    """Activate and hand over the results of a micro-kernel; with `halves`, of two pixels in each lane vector."""
    kind, alpha, beta, slope, before, after = cgutils.unpack_tuple(b, act, 6)
    mode, outs, shift, plane, scratch, scratch_row, metric = cgutils.unpack_tuple(b, exits, 7)
    rows = emit_addition(b, before, outs, shift, plane, rows, halves=halves)
    rows = emit_activation(b, HOST, kind, alpha, beta, slope, rows, halves=halves)
    rows = emit_addition(b, after, outs, shift, plane, rows, halves=halves)
    emit_exit(b, mode, outs, shift, plane, scratch, scratch_row, metric, rows, halves=halves)
    return context.get_dummy_value()


def make_dense(lanes: int, vectors: int) -> Any:
    """Micro-kernel of `PIXELS` pixels by `vectors` x 16 output channels, reading `lanes` channels per tap.

    bases, taps, count (>= 1), weights, bias : see `emit_multiply_accumulate`. Empty where this CPU's blocking has no
    room for so many vectors: no plan asks for it.
    """

    @intrinsic
    def dense(
        typing_context: Any, bases: Any, taps: Any, count: Any, weights: Any, bias: Any, act: Any, exits: Any
    ) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            if vectors > HOST.vectors:
                return context.get_dummy_value()
            *sums, act, exits = args
            rows = emit_multiply_accumulate(b, HOST, HOST.pixels, lanes, vectors, None, *sums)
            return finish(context, b, act, exits, rows)

        return types.void(*[_I] * 5, ACT, EXITS), codegen

    return dense


def make_wide(pixels: int, lanes: int, vectors: int) -> Any:
    """The same for runs of four neighbouring pixels, whose inputs are `step` apart; empty for 0 pixels."""

    @intrinsic
    def wide(
        typing_context: Any, step: Any, bases: Any, taps: Any, count: Any, weights: Any, bias: Any, act: Any, exits: Any
    ) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            if not pixels:
                return context.get_dummy_value()
            *sums, act, exits = args
            rows = emit_multiply_accumulate(b, HOST, pixels, lanes, vectors, *sums)
            return finish(context, b, act, exits, rows)

        return types.void(*[_I] * 6, ACT, EXITS), codegen

    return wide


def make_half(lanes: int) -> Any:
    """The same for `HALF_PIXELS` pixels by 8 output channels, the lower half of a block; empty for 0 pixels.

    The upper half of what is stored becomes 0.
    """

    @intrinsic
    def half(
        typing_context: Any, bases: Any, taps: Any, count: Any, weights: Any, bias: Any, act: Any, exits: Any
    ) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            if not HOST.half:
                return context.get_dummy_value()
            bases, taps, count, weights, bias, act, exits = args
            sums = bases, taps, count, weights, bias
            rows = emit_multiply_accumulate(b, HOST, HOST.half, lanes, 1, None, *sums, HALF_VEC)
            return finish(context, b, act, exits, join_pairs(b, rows), halves=True)

        return types.void(*[_I] * 5, ACT, EXITS), codegen

    return half


dense_16x1 = make_dense(16, 1)
dense_16x2 = make_dense(16, 2)
dense_16x3 = make_dense(16, 3)
dense_8x1 = make_dense(8, 1)
dense_8x2 = make_dense(8, 2)
dense_8x3 = make_dense(8, 3)
dense_9x1 = make_dense(9, 1)
dense_9x2 = make_dense(9, 2)
dense_9x3 = make_dense(9, 3)
dense_3x1 = make_dense(3, 1)
dense_3x2 = make_dense(3, 2)
dense_3x3 = make_dense(3, 3)
dense_1x1 = make_dense(1, 1)
dense_1x2 = make_dense(1, 2)
dense_1x3 = make_dense(1, 3)
half_16, half_9, half_8, half_3, half_1 = (make_half(lanes) for lanes in (16, 9, 8, 3, 1))
WIDE_1, WIDE_2 = HOST.wide
wide_16x1, wide_9x1 = (make_wide(WIDE_1, lanes, 1) for lanes in (16, 9))
wide_16x2, wide_9x2 = (make_wide(WIDE_2, lanes, 2) for lanes in (16, 9))


@intrinsic
def depthwise_block(
    typing_context: Any, bases: Any, shift: Any, taps: Any, count: Any, weights: Any, bias: Any, act: Any, exits: Any
) -> Any:
    """Micro-kernel of `PIXELS` pixels of one depthwise block; see `emit_depthwise`."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        *sums, act, exits = args
        return finish(context, b, act, exits, emit_depthwise(b, HOST, *sums))

    return types.void(*[_I] * 6, ACT, EXITS), codegen


def make_quads(kernel_x: int, stride_x: int) -> Any:
    """Micro-kernel of runs of four neighbouring pixels of one depthwise block; see `emit_depthwise_quads`.

    Empty where this CPU's blocking has none.
    """

    @intrinsic
    def quads(
        typing_context: Any, bases: Any, shift: Any, taps: Any, rows: Any, weights: Any, bias: Any, act: Any, exits: Any
    ) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            if not HOST.quads:
                return context.get_dummy_value()
            *sums, act, exits = args
            return finish(context, b, act, exits, emit_depthwise_quads(b, HOST, kernel_x, stride_x, *sums))

        return types.void(*[_I] * 6, ACT, EXITS), codegen

    return quads


quads_3x1, quads_3x2 = make_quads(3, 1), make_quads(3, 2)
quads_5x1, quads_5x2 = make_quads(5, 1), make_quads(5, 2)


def make_fold(maximum: bool) -> Any:
    """Micro-kernel of `PIXELS` windows of one block; see `emit_fold`. divisor : float32."""

    @intrinsic
    def fold(
        typing_context: Any, bases: Any, shift: Any, taps: Any, count: Any, divisor: Any, act: Any, exits: Any
    ) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            *reads, act, exits = args
            return finish(context, b, act, exits, emit_fold(b, HOST, maximum, *reads))

        return types.void(*[_I] * 4, _F, ACT, EXITS), codegen

    return fold


fold_max, fold_add = make_fold(True), make_fold(False)


@intrinsic
def move_block(typing_context: Any, bases: Any, shift: Any, act: Any, exits: Any) -> Any:
    """Micro-kernel that takes `PIXELS` lane vectors as they are; see `emit_move`."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        *reads, act, exits = args
        return finish(context, b, act, exits, emit_move(b, HOST, *reads))

    return types.void(_I, _I, ACT, EXITS), codegen


@intrinsic
def affine_block(typing_context: Any, bases: Any, shift: Any, scale: Any, term: Any, act: Any, exits: Any) -> Any:
    """Micro-kernel of `PIXELS` lane vectors, scaled and shifted; see `emit_affine`."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        *reads, act, exits = args
        return finish(context, b, act, exits, emit_affine(b, HOST, *reads))

    return types.void(*[_I] * 4, ACT, EXITS), codegen


@intrinsic
def combine_block(
    typing_context: Any, op: Any, first: Any, first_shift: Any, second: Any, second_shift: Any, act: Any, exits: Any
) -> Any:
    """Micro-kernel of `PIXELS` pairs of lane vectors; see `emit_combine`."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        *reads, act, exits = args
        return finish(context, b, act, exits, emit_combine(b, HOST, *reads))

    return types.void(*[_I] * 5, ACT, EXITS), codegen


@intrinsic
def interpolate_block(typing_context: Any, corners: Any, weights: Any, shift: Any, act: Any, exits: Any) -> Any:
    """Micro-kernel of `PIXELS` interpolated lane vectors; see `emit_interpolate`. corners : four, weights : two."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        corners, weights, shift, act, exits = args
        tables = cgutils.unpack_tuple(b, corners, 4), cgutils.unpack_tuple(b, weights, 2)
        return finish(context, b, act, exits, emit_interpolate(b, HOST, *tables, shift))

    return types.void(types.UniTuple(_I, 4), types.UniTuple(_I, 2), _I, ACT, EXITS), codegen


@intrinsic
def unpack_16(typing_context: Any, bases: Any, shift: Any, out: Any, step: Any, count: Any) -> Any:
    """Up to 16 neighbouring channels of 16 pixels into rows of a tensor; see `emit_unpack`."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        emit_unpack(b, *args)
        return context.get_dummy_value()

    return types.void(*[_I] * 5), codegen


@intrinsic
def gather_block(typing_context: Any, base: Any, windows: Any, count: Any, out: Any) -> Any:
    """One block of channels from anywhere; see `emit_gather`. For AVX-512 alone (`HOST.estimates`)."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        if HOST.estimates:
            emit_gather(b, *args)
        return context.get_dummy_value()

    return types.void(*[_I] * 4), codegen
