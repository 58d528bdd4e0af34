"""The explicit-vector intrinsics of the byte kernels, as `simd.py` has them for float32.

Every intrinsic works on plain int64 byte addresses and is a module-level name (numba's on-disk cache needs that).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernels.constants import LANES
from kernels.emit import I32, VEC, Builder, Value, load, pointer, splat, store
from kernels.emit_int8 import (
    BYTE_HOST,
    BYTES,
    I8,
    SLOT,
    emit_byte_convolution,
    emit_byte_depthwise,
    emit_dequantise,
    emit_lookup,
    emit_requantise,
    emit_square_difference,
    emit_to_bytes,
)
from kernels.jit import intrinsic
from kernels.target import PIXELS, cpu_features

_I, _F = types.int64, types.float32
# bases, taps, count, weights, starts, shift, scale, low, high, zero, outs, first, plane
_BYTE_KERNEL = types.void(*[_I] * 7, _F, _F, *[_I] * 4)


def make_dense_bytes(vectors: int) -> Any:
    """Micro-kernel of `BYTE_HOST.pixels[vectors - 1]` pixels by `vectors` x 16 outputs, 16 inputs per tap.

    int64 arguments: bases, taps, count (>= 1), weights, starts, shift, scale, zero point, outs, first, plane; float32:
    low, high. See `emit_byte_convolution` and `emit_requantise`. Addresses and strides in bytes.
    """

    @intrinsic
    def dense(
        typing_context: Any, bases: Any, taps: Any, count: Any, weights: Any, starts: Any, shift: Any, scale: Any,
        low: Any, high: Any, zero: Any, outs: Any, first: Any, plane: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            rows = emit_byte_convolution(b, BYTE_HOST, vectors, *args[:6])
            emit_requantise(b, rows, *args[6:])
            return context.get_dummy_value()

        return _BYTE_KERNEL, codegen

    return dense


_widest = len(BYTE_HOST.pixels)
dense_bytes_1 = make_dense_bytes(1)
dense_bytes_2 = make_dense_bytes(min(2, _widest))
dense_bytes_3 = make_dense_bytes(min(3, _widest))


@intrinsic
def depthwise_bytes(
    typing_context: Any, bases: Any, taps: Any, count: Any, weights: Any, starts: Any, shift: Any, scale: Any, low: Any,
    high: Any, zero: Any, outs: Any, first: Any, plane: Any,
) -> Any:  # fmt: skip
    """Micro-kernel of `PIXELS` pixels of 16 depthwise channels; weights int16[count][16]; as `make_dense_bytes`."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        rows = emit_byte_depthwise(b, PIXELS, *args[:6])
        emit_requantise(b, rows, *args[6:])
        return context.get_dummy_value()

    return _BYTE_KERNEL, codegen


@intrinsic
def slot_fill(typing_context: Any, target: Any, value: Any) -> Any:
    """target uint8[64] = the low byte of an int64."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        undefined = ir.Constant(SLOT, ir.Undefined)
        first = b.insert_element(undefined, b.trunc(args[1], I8), I32(0))
        every = b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, 64), [0] * 64))
        store(b, every, pointer(b, args[0]), 0, 1)
        return context.get_dummy_value()

    return types.void(_I, _I), codegen


@intrinsic
def slot_max(typing_context: Any, total: Any, source: Any, stride: Any, count: Any) -> Any:
    """total uint8[64] = the largest of it and of `count` slots, `stride` bytes apart from `source` on."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        total, source = pointer(b, args[0]), pointer(b, args[1])
        running = cgutils.alloca_once_value(b, load(b, total, 0, SLOT, 1))
        with cgutils.for_range(b, args[3]) as loop:
            x, best = load(b, source, b.mul(loop.index, args[2]), SLOT, 1), b.load(running)
            b.store(b.select(b.icmp_unsigned(">", x, best), x, best), running)
        store(b, b.load(running), total, 0, 1)
        return context.get_dummy_value()

    return types.void(_I, _I, _I, _I), codegen


@intrinsic
def slot_lookup(typing_context: Any, source: Any, table: Any, target: Any) -> Any:
    """target uint8[64] = table[source uint8[64]]; the two may be the same."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        emit_lookup(b, cpu_features(), *args)
        return context.get_dummy_value()

    return types.void(_I, _I, _I), codegen


@intrinsic
def slot_square_difference(typing_context: Any, new: Any, old: Any, metric: Any) -> Any:
    """metric float32[16] += squared differences of two slots, four to a lane."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        x, y = (load(b, pointer(b, a), 0, SLOT, 1) for a in args[:2])
        running = pointer(b, args[2])
        store(b, emit_square_difference(b, x, y, load(b, running, 0, VEC)), running, 0)
        return context.get_dummy_value()

    return types.void(_I, _I, _I), codegen


@intrinsic
def slot_bit_difference(typing_context: Any, new: Any, old: Any, metric: Any) -> Any:
    """metric (64 bytes) |= the bits in which two slots differ."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        x, y, running = (load(b, pointer(b, a), 0, SLOT, 1) for a in args)
        store(b, b.or_(running, b.xor(x, y)), pointer(b, args[2]), 0, 1)
        return context.get_dummy_value()

    return types.void(_I, _I, _I), codegen


@intrinsic
def quantise_lanes(typing_context: Any, source: Any, scale: Any, low: Any, high: Any, zero: Any, target: Any) -> Any:
    """target uint8[16] = round(source float32[16] / scale), limited to [low, high], + zero point."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        source, scale, low, high, zero, target = args
        x = b.fdiv(load(b, pointer(b, source), 0, VEC), splat(b, scale))
        store(b, emit_to_bytes(b, x, low, high, b.trunc(zero, I32)), pointer(b, target), 0, 1)
        return context.get_dummy_value()

    return types.void(_I, _F, _F, _F, _I, _I), codegen


def make_quantise_pixels(channels: int, pixels: int) -> Any:
    """target uint8[pixels][4] = 1 or 4 interleaved pixels of 1 to 4 float32, quantised; bytes left over are zero."""

    @intrinsic
    def quantise_pixels(
        typing_context: Any, source: Any, scale: Any, low: Any, high: Any, zero: Any, target: Any
    ) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            source, scale, low, high, zero, target = args
            read = load(b, pointer(b, source), 0, ir.VectorType(VEC.element, pixels * channels))
            live = [lane % 4 < channels and lane // 4 < pixels for lane in range(LANES)]
            order = [lane // 4 * channels + lane % 4 if on else 0 for lane, on in enumerate(live)]
            index = ir.Constant(ir.VectorType(I32, LANES), order)
            x = b.fdiv(b.shuffle_vector(read, ir.Constant(read.type, ir.Undefined), index), splat(b, scale))
            found = b.and_(
                emit_to_bytes(b, x, low, high, b.trunc(zero, I32)), ir.Constant(BYTES, [0xFF * on for on in live])
            )
            if pixels == 1:
                found = b.extract_element(b.bitcast(found, ir.VectorType(I32, 4)), I32(0))
            store(b, found, pointer(b, target), 0, 1)
            return context.get_dummy_value()

        return types.void(_I, _F, _F, _F, _I, _I), codegen

    return quantise_pixels


quantise_pixel_1 = make_quantise_pixels(1, 1)
quantise_pixel_2 = make_quantise_pixels(2, 1)
quantise_pixel_3 = make_quantise_pixels(3, 1)
quantise_pixel_4 = make_quantise_pixels(4, 1)
quantise_pixels_1 = make_quantise_pixels(1, 4)
quantise_pixels_2 = make_quantise_pixels(2, 4)
quantise_pixels_3 = make_quantise_pixels(3, 4)
quantise_pixels_4 = make_quantise_pixels(4, 4)


@intrinsic
def dequantise_lanes(typing_context: Any, source: Any, scale: Any, zero: Any, target: Any) -> Any:
    """target float32[16] = (source uint8[16] - zero point) * scale."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        emit_dequantise(b, *args)
        return context.get_dummy_value()

    return types.void(_I, _F, _I, _I), codegen


def make_combination(multiply: bool) -> Any:
    """Two maps' bytes combined in float32, as ONNX Runtime's QLinearAdd and QLinearMul round.

    x, y : first and second uint8[16] less their offsets. Sum: (x * factor + fixed) + y * other; product:
    (x * y) * factor + fixed. target uint8[16] = that, rounded half to even, limited, plus the zero point.
    """

    @intrinsic
    def combine(
        typing_context: Any, first: Any, second: Any, offset_first: Any, offset_second: Any, factor: Any, other: Any,
        fixed: Any, low: Any, high: Any, zero: Any, target: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            factor, other, fixed = (splat(b, a) for a in args[4:7])
            low, high, zero, target = args[7:]
            x, y = (
                b.fsub(b.uitofp(load(b, pointer(b, a), 0, BYTES, 1), VEC), splat(b, offset))
                for a, offset in zip(args[:2], args[2:4], strict=True)
            )
            if multiply:
                result = b.fadd(b.fmul(b.fmul(x, y), factor), fixed)
            else:
                result = b.fadd(b.fadd(b.fmul(x, factor), fixed), b.fmul(y, other))
            store(b, emit_to_bytes(b, result, low, high, b.trunc(zero, I32)), pointer(b, target), 0, 1)
            return context.get_dummy_value()

        return types.void(_I, _I, *[_F] * 7, _I, _I), codegen

    return combine


add_lanes = make_combination(False)
multiply_lanes = make_combination(True)
