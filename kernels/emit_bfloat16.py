"""LLVM vector IR of convolutions in bfloat16: pairs of inputs, given to every lane, times pairs of weights.

A bfloat16 is the upper half of a float32. `vdpbf16ps` (AVX-512 with BF16) multiplies two inputs with two weights of
each of 16 outputs and adds both to a float32 sum; subnormal inputs count as zero. Every output is one chain of such
sums in the order of the taps, from the bias on.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from kernels.constants import LANES, VECTOR_BYTES
from kernels.emit import I8P, I32, I64, IVEC, VEC, Builder, Rows, Value, at, const, load, pointer
from kernels.target import VARIANT, Blocking, cpu_features

PAIRS = LANES // 2
"""Pairs of a tap."""
TAP_BYTES = 4 * PAIRS
I16 = ir.IntType(16)
BITS = ir.VectorType(I16, LANES)


class _BFloat(ir.Type):  # type: ignore[misc]
    """`bfloat`, which llvmlite does not know."""

    intrinsic_name = "bf16"

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


PAIR_VEC = ir.VectorType(_BFloat(), 2 * LANES)


def has_bfloat16(variant: str, features: frozenset[str]) -> bool:
    """Whether a machine of a float variant (`kernels.target.variant`) with LLVM features has instructions for it."""
    return variant == "avx512" and "avx512bf16" in features


HAS_BFLOAT16 = has_bfloat16(VARIANT, cpu_features())


def _iconst(x: int) -> Value:
    return ir.Constant(IVEC, [ir.Constant(I32, x)] * LANES)


def emit_narrow(b: Builder, x: Value) -> Value:
    """Bits of the bfloat16 nearest to float32 lanes, ties to even."""
    bits = b.bitcast(x, IVEC)
    odd = b.and_(b.lshr(bits, _iconst(16)), _iconst(1))
    return b.trunc(b.lshr(b.add(b.add(bits, odd), _iconst(0x7FFF)), _iconst(16)), BITS)


def emit_dot(b: Builder, total: Value, weights: Value, inputs: Value) -> Value:
    """total + the products of 16 pairs of weights (a lane vector of bits) with 16 pairs of inputs."""
    kind = ir.FunctionType(VEC, [VEC, PAIR_VEC, PAIR_VEC])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    return b.call(function, [total, b.bitcast(weights, PAIR_VEC), b.bitcast(inputs, PAIR_VEC)])


def _splat_word(b: Builder, word: Value) -> Value:
    undefined = ir.Constant(IVEC, ir.Undefined)
    return b.shuffle_vector(b.insert_element(undefined, word, I32(0)), undefined, ir.Constant(IVEC, [0] * LANES))


def emit_dot_products(
    b: Builder, blocking: Blocking, vectors: int, inputs: Value, stride: Value, count: Value, weights: Value,
    bias: Value,
) -> Rows:  # fmt: skip
    """`rows[pixel][vector]` = bias + sum over taps of `PAIRS` pairs each.

    inputs : address of the first of `blocking.pixels` pixels, each bfloat16[count][16], `stride` bytes apart.
    weights : bfloat16[count][PAIRS][vectors][16][2], streamed once in order.
    """
    first = pointer(b, inputs)
    pixels = [first]
    for _ in range(1, blocking.pixels):
        pixels.append(at(b, pixels[-1], stride))
    start = [load(b, pointer(b, bias), v * VECTOR_BYTES, VEC) for v in range(vectors)]
    entry, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("summed")
    first_weight = pointer(b, weights)
    b.branch(loop)
    b.position_at_end(loop)
    k, weight = b.phi(I64), b.phi(I8P)
    k.add_incoming(I64(0), entry)
    weight.add_incoming(first_weight, entry)
    phis = [[b.phi(VEC) for _ in range(vectors)] for _ in pixels]
    for row in phis:
        for v, phi in enumerate(row):
            phi.add_incoming(start[v], entry)
    sums: Rows = [list(row) for row in phis]
    offset = b.mul(k, I64(TAP_BYTES))
    reads = [at(b, p, offset) for p in pixels]
    for u in range(PAIRS):
        w = [load(b, weight, (u * vectors + v) * VECTOR_BYTES, IVEC) for v in range(vectors)]
        for p, read in enumerate(reads):
            x = _splat_word(b, load(b, read, u * 4, I32))
            for v in range(vectors):
                sums[p][v] = emit_dot(b, sums[p][v], w[v], x)
            if blocking.fence and p % blocking.fence == blocking.fence - 1:
                b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)  # no load may rise above
    after, next_k = at(b, weight, PAIRS * vectors * VECTOR_BYTES), b.add(k, I64(1))
    k.add_incoming(next_k, loop)
    weight.add_incoming(after, loop)
    for row, values in zip(phis, sums, strict=True):
        for phi, value in zip(row, values, strict=True):
            phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", next_k, count), loop, done)
    b.position_at_end(done)
    return sums


def emit_zeros(b: Builder, blocking: Blocking, vectors: int) -> Rows:
    """What stands for the products on a machine without the instructions, where no plan asks for them."""
    return [[const(0.0)] * vectors for _ in range(blocking.pixels)]
