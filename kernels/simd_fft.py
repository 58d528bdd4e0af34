"""Vector intrinsics on complex numbers of 16 channels, as a Fourier transform leaves them: [lane][real, imaginary].

All take int64 byte addresses. Products want the parts apart, [part][lane].
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from kernels.constants import LANES, VECTOR_BYTES
from kernels.emit import I32, VEC, Builder, Value, fma, load, pointer, store
from kernels.jit import intrinsic

_I = types.int64
_INDEX = ir.VectorType(I32, LANES)
_REAL, _IMAGINARY = (ir.Constant(_INDEX, [2 * i + part for i in range(LANES)]) for part in (0, 1))
_LOW, _HIGH = (ir.Constant(_INDEX, [i // 2 + i % 2 * LANES for i in range(at, at + LANES)]) for at in (0, LANES))


def _parts(b: Builder, source: Value) -> tuple[Value, Value]:
    """Real and imaginary parts of the 16 numbers at a pointer."""
    low, high = load(b, source, 0, VEC), load(b, source, VECTOR_BYTES, VEC)
    return b.shuffle_vector(low, high, _REAL), b.shuffle_vector(low, high, _IMAGINARY)


def _join(b: Builder, real: Value, imaginary: Value, target: Value) -> None:
    """Store 16 numbers, part beside part."""
    store(b, b.shuffle_vector(real, imaginary, _LOW), target, 0)
    store(b, b.shuffle_vector(real, imaginary, _HIGH), target, VECTOR_BYTES)


@intrinsic
def complex_part(typing_context: Any, source: Any, target: Any) -> Any:
    """target float32[2, 16] = real and imaginary parts of the 16 numbers at source."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        target = pointer(b, args[1])
        real, imaginary = _parts(b, pointer(b, args[0]))
        store(b, real, target, 0)
        store(b, imaginary, target, VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(_I, _I), codegen


@intrinsic
def complex_scale(typing_context: Any, numbers: Any, factors: Any) -> Any:
    """numbers[lane] *= factors[lane]; factors : float32[2, 16], parts apart."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        at, factors = pointer(b, args[0]), pointer(b, args[1])
        x, y = _parts(b, at)
        u, v = load(b, factors, 0, VEC), load(b, factors, VECTOR_BYTES, VEC)
        _join(b, b.fsub(b.fmul(x, u), b.fmul(y, v)), fma(b, x, v, b.fmul(y, u)), at)
        return context.get_dummy_value()

    return types.void(_I, _I), codegen


@intrinsic
def complex_sum(typing_context: Any, products: Any, row: Any, part: Any, target: Any) -> Any:
    """16 numbers from the products of both parts of an input, a row each, with both parts of the weights.

    row, part : bytes from a product with the real part of the input (of the weights) to one with the imaginary part.
    """

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        at, row, part = pointer(b, args[0]), args[1], args[2]
        both = b.add(row, part)
        real = b.fsub(load(b, at, 0, VEC), load(b, at, both, VEC))
        _join(b, real, b.fadd(load(b, at, part, VEC), load(b, at, row, VEC)), pointer(b, args[3]))
        return context.get_dummy_value()

    return types.void(_I, _I, _I, _I), codegen
