"""LLVM vector IR of float16 maps: to float32 and back, and how far a new value lies from a stored one.

Rounding is to the nearest, ties to even; what lies beyond the largest float16 (65504) becomes that, of its sign. One
instruction converts a register on CPUs with F16C or AVX-512 and on aarch64. Elsewhere LLVM would call a library
function for every lane, so that the bits are moved by integer arithmetic instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from kernels.constants import LANES
from kernels.emit import (
    F32,
    I32,
    IVEC,
    VEC,
    Builder,
    Value,
    const,
    fma,
    fold_lanes,
    greater_or_second,
    less_or_second,
    shuffle,
)
from kernels.target import VARIANT, cpu_features

LARGEST = 65504.0
I16 = ir.IntType(16)
BITS = ir.VectorType(I16, LANES)
HALVES = ir.VectorType(ir.HalfType(), LANES)


def machine_has_half(variant: str, features: frozenset[str]) -> bool:
    """Whether a machine of a float variant (`kernels.target.variant`) with LLVM features converts whole registers."""
    return variant in ("avx512", "neon") or "f16c" in features


HAS_HALF = machine_has_half(VARIANT, cpu_features())


def _iconst(x: int) -> Value:
    return ir.Constant(IVEC, [ir.Constant(I32, x)] * LANES)


def emit_expand(b: Builder, bits: Value, has_half: bool = HAS_HALF) -> Value:
    """float32 lanes of the bits of float16 lanes."""
    if has_half:
        return b.fpext(b.bitcast(bits, HALVES), VEC)
    wide = b.zext(bits, IVEC)
    sign = b.shl(b.and_(wide, _iconst(0x8000)), _iconst(16))
    size = b.shl(b.and_(wide, _iconst(0x7FFF)), _iconst(13))
    normal = b.add(size, _iconst(112 << 23))
    # A subnormal one becomes a normal float32 by a difference of two: no float32 here is ever subnormal, as those may
    # count as zero.
    beside = b.bitcast(b.add(size, _iconst(113 << 23)), VEC)
    subnormal = b.bitcast(b.fsub(beside, const(2.0**-14)), IVEC)
    found = b.select(b.icmp_unsigned("<", size, _iconst(0x0400 << 13)), subnormal, normal)
    special = b.icmp_unsigned(">=", size, _iconst(0x7C00 << 13))
    found = b.select(special, b.or_(size, _iconst(0x7F800000)), found)
    return b.bitcast(b.or_(found, sign), VEC)


def emit_round(b: Builder, x: Value, has_half: bool = HAS_HALF) -> Value:
    """Bits of the float16 nearest to float32 lanes; a NaN stays one."""
    x = less_or_second(b, const(LARGEST), greater_or_second(b, const(-LARGEST), x))
    if has_half:
        return b.bitcast(b.fptrunc(x, HALVES), BITS)
    bits = b.bitcast(x, IVEC)
    sign = b.and_(b.lshr(bits, _iconst(16)), _iconst(0x8000))
    size = b.and_(bits, _iconst(0x7FFFFFFF))
    odd = b.and_(b.lshr(size, _iconst(13)), _iconst(1))
    normal = b.lshr(b.add(b.add(size, _iconst(0xFFF - (112 << 23))), odd), _iconst(13))
    # Beside 0.5 a float32 has steps of 2^-24, those of a subnormal float16.
    magic = b.fadd(b.bitcast(size, VEC), const(0.5))
    subnormal = b.sub(b.bitcast(magic, IVEC), _iconst(0x3F000000))
    found = b.select(b.icmp_unsigned("<", size, _iconst(113 << 23)), subnormal, normal)
    found = b.select(b.icmp_unsigned(">", size, _iconst(0x7F800000)), _iconst(0x7E00), found)
    return b.trunc(b.or_(found, sign), BITS)


def emit_square(b: Builder, new: Value, stored: Value, total: Value) -> Value:
    """total + (new - stored)^2, new float32 lanes as they would be stored."""
    difference = b.fsub(emit_expand(b, emit_round(b, new)), emit_expand(b, stored))
    return fma(b, difference, difference, total)


def emit_lane_sum(b: Builder, x: Value) -> Value:
    """The sum of 16 lanes, in a fixed pairwise order."""
    return fold_lanes(b, x, lambda b, low, high: b.fadd(low, high))


def _halved(b: Builder, one: Value, other: Value, span: int) -> Value:
    """Of each group of 2 * span lanes of two vectors, its halves added; those of `one` first."""
    low = [i for i in range(2 * LANES) if i // span % 2 == 0]
    return b.fadd(shuffle(b, one, other, low), shuffle(b, one, other, [i + span for i in low]))


def emit_four_sums(b: Builder, vectors: Sequence[Value]) -> Value:
    """The sums of 16 lanes of four vectors in lanes 0, 4, 8 and 12, each in the order of `emit_lane_sum`."""
    one, two, three, four = vectors
    x = _halved(b, _halved(b, one, two, 8), _halved(b, three, four, 8), 4)
    for span in (2, 1):
        x = b.fadd(x, shuffle(b, x, x, [i ^ span for i in range(LANES)]))
    return x


ZERO = ir.Constant(VEC, [ir.Constant(F32, 0.0)] * LANES)
NO_BITS = ir.Constant(BITS, [ir.Constant(I16, 0)] * LANES)
