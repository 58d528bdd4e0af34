"""The intrinsic that turns pixels into numbers. Addresses are int64."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernels.constants import LANES, VECTOR_BYTES
from kernels.emit import I32, I64, VEC, Builder, Value, fma, load, pointer, store
from kernels.jit import intrinsic

BYTES = ir.VectorType(ir.IntType(8), LANES)
_I = types.int64
FRACTION_BITS = 12
"""Of the fixed-point numbers of `map_bytes`."""
PERIOD = 3
"""Vectors after which the channels of 1, 2, 3 or 4 side by side repeat (3: 48 bytes are 16 pixels)."""


@intrinsic
def scale_bytes(typing_context: Any, source: Any, target: Any, slope: Any, shift: Any, count: Any) -> Any:
    """target float32[48 * count] = source uint8[48 * count] * slope + shift, both float32[48], fused."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        source, target, slope, shift = (pointer(b, a) for a in args[:4])
        factors = [load(b, slope, v * VECTOR_BYTES, VEC) for v in range(PERIOD)]
        terms = [load(b, shift, v * VECTOR_BYTES, VEC) for v in range(PERIOD)]
        with cgutils.for_range(b, args[4]) as loop:
            at = b.mul(loop.index, I64(PERIOD * LANES))
            for v in range(PERIOD):
                here = b.add(at, I64(v * LANES))
                value = b.uitofp(load(b, source, here, BYTES, 1), VEC)
                store(b, fma(b, value, factors[v], terms[v]), target, b.shl(here, I64(2)))
        return context.get_dummy_value()

    return types.void(_I, _I, _I, _I, _I), codegen


@intrinsic
def map_bytes(typing_context: Any, source: Any, target: Any, slope: Any, shift: Any, count: Any) -> Any:
    """target uint8[48 * count] = (source uint8[48 * count] * slope + shift) >> 12, held within 0 and 255.

    slope, shift : int32[48].
    """

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        whole = ir.VectorType(I32, LANES)
        source, target, slope, shift = (pointer(b, a) for a in args[:4])
        factors = [load(b, slope, v * VECTOR_BYTES, whole) for v in range(PERIOD)]
        terms = [load(b, shift, v * VECTOR_BYTES, whole) for v in range(PERIOD)]
        least, most, bits = (ir.Constant(whole, [value] * LANES) for value in (0, 255, FRACTION_BITS))
        with cgutils.for_range(b, args[4]) as loop:
            at = b.mul(loop.index, I64(PERIOD * LANES))
            for v in range(PERIOD):
                here = b.add(at, I64(v * LANES))
                value = b.add(b.mul(b.zext(load(b, source, here, BYTES, 1), whole), factors[v]), terms[v])
                value = b.ashr(value, bits)
                value = b.select(b.icmp_signed("<", value, most), value, most)
                value = b.select(b.icmp_signed(">", value, least), value, least)
                store(b, b.trunc(value, BYTES), target, here, 1)
        return context.get_dummy_value()

    return types.void(_I, _I, _I, _I, _I), codegen


@intrinsic
def copy_bytes(typing_context: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy `count` bytes between places that do not overlap."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        cgutils.raw_memcpy(b, pointer(b, args[0]), pointer(b, args[1]), args[2], 1)
        return context.get_dummy_value()

    return types.void(_I, _I, _I), codegen


@intrinsic
def fill_bytes(typing_context: Any, target: Any, value: Any, count: Any) -> Any:
    """Set `count` bytes to a uint8."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        cgutils.memset(b, pointer(b, args[0]), args[2], args[1])
        return context.get_dummy_value()

    return types.void(_I, types.uint8, _I), codegen
