"""Intrinsics on words of bits: 64 bytes to a word, the first set bit. Addresses are int64."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from kernels.emit import I64, Builder, Value, load, pointer
from kernels.jit import intrinsic

BYTES = ir.VectorType(ir.IntType(8), 64)
_U = types.uint64


@intrinsic
def set_bytes(typing_context: Any, address: Any) -> Any:
    """uint64, bit i set where byte i of the 64 at an address is not zero."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        found = b.icmp_unsigned("!=", load(b, pointer(b, args[0]), 0, BYTES, 1), ir.Constant(BYTES, [0] * 64))
        return b.bitcast(found, I64)

    return _U(types.int64), codegen


@intrinsic
def first_bit(typing_context: Any, word: Any) -> Any:
    """int64, number of the lowest bit set in a uint64 that is not zero."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        return b.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(_U), codegen
