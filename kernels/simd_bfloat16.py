"""The intrinsics of bfloat16 convolutions. Addresses, strides and counts are int64, strides in bytes."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils

from kernels.emit import I64, VEC, Builder, Value, load, pointer, store
from kernels.emit_bfloat16 import HAS_BFLOAT16, TAP_BYTES, emit_dot_products, emit_narrow, emit_zeros
from kernels.emit_finish import emit_activation, emit_exit
from kernels.jit import intrinsic
from kernels.target import HOST

_I, _F = types.int64, types.float32
_ACT, _EXITS = types.Tuple((_I, _F, _F, _I)), types.UniTuple(_I, 7)


@intrinsic
def narrow_taps(typing_context: Any, target: Any, base: Any, taps: Any, count: Any) -> Any:
    """bfloat16[count][16] at `target` = float32[16] at base + taps[k], for every tap; taps : of int64 byte offsets."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        target, base, taps = (pointer(b, a) for a in args[:3])
        with cgutils.for_range(b, args[3]) as loop:
            offset = load(b, taps, b.shl(loop.index, I64(3)), I64, 8)
            bits = emit_narrow(b, load(b, base, offset, VEC))
            store(b, bits, target, b.mul(loop.index, I64(TAP_BYTES)))
        return context.get_dummy_value()

    return types.void(_I, _I, _I, _I), codegen


def make_products(vectors: int) -> Any:
    """Micro-kernel of `PIXELS` pixels by `vectors` x 16 outputs; see `emit_dot_products` and `kernels.micro`."""

    @intrinsic
    def products(
        typing_context: Any, inputs: Any, stride: Any, count: Any, weights: Any, bias: Any, act: Any, exits: Any
    ) -> Any:
        def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
            *sums, act, exits = args
            if HAS_BFLOAT16:
                rows = emit_dot_products(b, HOST, vectors, *sums)
            else:
                rows = emit_zeros(b, HOST, vectors)
            kind, alpha, beta, slope = cgutils.unpack_tuple(b, act, 4)
            rows = emit_activation(b, HOST, kind, alpha, beta, slope, rows)
            mode, outs, shift, plane, scratch, scratch_row, metric = cgutils.unpack_tuple(b, exits, 7)
            emit_exit(b, mode, outs, shift, plane, scratch, scratch_row, metric, rows)
            return context.get_dummy_value()

        return types.void(*[_I] * 5, _ACT, _EXITS), codegen

    return products


products_1 = make_products(1)
products_2 = make_products(2)
products_3 = make_products(3)
