"""The intrinsics of bfloat16 convolutions. Addresses, strides and counts are int64, strides in bytes."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils

from kernels.emit import I64, VEC, Builder, Value, load, pointer, store
from kernels.emit_bfloat16 import HAS_BFLOAT16, TAP_BYTES, emit_dot_products, emit_narrow, emit_zeros
from kernels.jit import intrinsic
from kernels.micro import ACT, EXITS, finish
from kernels.target import HOST

_I = types.int64


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
            return finish(context, b, act, exits, rows)

        return types.void(*[_I] * 5, ACT, EXITS), codegen

    return products


products_1 = make_products(1)
products_2 = make_products(2)
products_3 = make_products(3)
