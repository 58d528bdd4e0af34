"""The intrinsic that takes a few lanes out of a vector. Addresses are int64, in bytes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from kernels.constants import LANES
from kernels.emit import I32, IVEC, VEC, Builder, Value, load, pointer, store
from kernels.jit import intrinsic

_I = types.int64


@intrinsic
def first_lanes(typing_context: Any, out: Any, source: Any, count: Any) -> Any:
    """float32[16] at `out` = the first `count` of 16 at `source` (all of which are read), zeros behind them."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        undefined = ir.Constant(IVEC, ir.Undefined)
        one = b.insert_element(undefined, b.trunc(args[2], I32), I32(0))
        counts = b.shuffle_vector(one, undefined, ir.Constant(IVEC, [0] * LANES))
        taken = b.icmp_signed("<", ir.Constant(IVEC, list(range(LANES))), counts)
        values = load(b, pointer(b, args[1]), 0, VEC)
        store(b, b.select(taken, values, ir.Constant(VEC, [0.0] * LANES)), pointer(b, args[0]), 0)
        return context.get_dummy_value()

    return types.void(_I, _I, _I), codegen
