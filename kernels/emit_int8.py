"""LLVM vector IR of the byte kernels: dot products of bytes, exact in int32, and their way back to bytes.

A *slot* is the 64 bytes of 64 channels of one pixel. Stored bytes are unsigned; weights are signed. Four input channels
(a *quad*) are read as one 32-bit word, given to every lane, and multiplied with four weights per output lane. Every
dot product here is exact: none saturates (as `vpmaddubsw` does) or wraps before int32 does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

from kernels.constants import LANES, VECTOR_BYTES
from kernels.emit import I8P, I32, I64, IVEC, VEC, Builder, Value, at, load, pointer, splat, store
from kernels.target import VARIANT, cpu_features

I8, I16 = ir.IntType(8), ir.IntType(16)
BYTES = ir.VectorType(I8, LANES)
HALVES = ir.VectorType(I16, LANES)
SLOT = ir.VectorType(I8, VECTOR_BYTES)
QUADS = 4  # of a tap
NEW_LLVM = llvm.llvm_version_info[0] >= 22


@dataclass(frozen=True)
class ByteBlocking:
    """dot : how quads are multiplied (see `emit_dot`). lanes : int32 lanes of a register that it works on.

    pixels : output pixels per call of 1, 2, ... lane vectors of outputs; each divides `kernels.layout.CHUNK`.
    offset : what the machine takes from every stored byte before it multiplies: 128 where both sides are signed.
    """

    dot: str
    lanes: int
    pixels: tuple[int, ...]
    offset: int = 0


# None of these spills on the CPUs of `tests/kernels/test_emit_int8.py`.
BYTE_BLOCKINGS = {
    "vnni512": ByteBlocking("vnni", 16, (8, 8, 8)),
    "vnni256": ByteBlocking("vnni", 8, (6,)),
    "madd512": ByteBlocking("madd", 16, (8, 4)),
    "madd256": ByteBlocking("madd", 8, (2,)),
    "madd128": ByteBlocking("madd", 4, (1,)),
    "usdot": ByteBlocking("usdot", 4, (4,)),
    "sdot": ByteBlocking("sdot", 4, (4,), 128),
    "plain": ByteBlocking("plain", 16, (2,)),
}


def byte_variant(variant: str, features: Collection[str]) -> str:
    """Name of the byte blocking for a machine of a float variant (`kernels.target.variant`) with LLVM features."""
    if variant == "avx512":
        return "vnni512" if "avx512vnni" in features else "madd512"
    if variant == "avx2":
        return "vnni256" if "avxvnni" in features else "madd256"
    if variant == "generic":
        return "madd128" if "sse2" in features else "plain"
    if "i8mm" in features:
        return "usdot"
    return "sdot" if "dotprod" in features else "plain"


BYTE_VARIANT = byte_variant(VARIANT, cpu_features())
BYTE_HOST = BYTE_BLOCKINGS[BYTE_VARIANT]
BYTE_VECTORS = len(BYTE_HOST.pixels)
INPUT_OFFSET = BYTE_HOST.offset


def _splat32(b: Builder, word: Value, lanes: int) -> Value:
    """A vector of one int32."""
    type_ = ir.VectorType(I32, lanes)
    undefined = ir.Constant(type_, ir.Undefined)
    first = b.insert_element(undefined, word, I32(0))
    return b.shuffle_vector(first, undefined, ir.Constant(type_, [0] * lanes))


def _constant(type_: Any, value: int) -> Value:
    return ir.Constant(type_, [ir.Constant(type_.element, value)] * type_.count)


def _intrinsic(b: Builder, name: str, result: Any, args: list[Value]) -> Value:
    function = cgutils.get_or_insert_function(b.module, ir.FunctionType(result, [a.type for a in args]), name)
    return b.call(function, args)


def _even_odd(b: Builder, words: Value, signed: bool) -> tuple[Value, Value]:
    """The bytes 0 and 2, and 1 and 3, of every 32-bit word as pairs of 16 bits."""
    halves = ir.VectorType(I16, 2 * words.type.count)
    x, eight = b.bitcast(words, halves), _constant(halves, 8)
    if signed:
        return b.ashr(b.shl(x, eight), eight), b.ashr(x, eight)
    return b.and_(x, _constant(halves, 0xFF)), b.lshr(x, eight)


def emit_dot(b: Builder, dot: str, total: Value, x: list[Value], w: list[Value]) -> Value:
    """total int32 lanes + the sum over four bytes of x (unsigned) times w (signed), from `prepare` each.

    vnni : `vpdpbusd`. madd : two `pmaddwd` of 16-bit pairs. usdot, sdot : NEON's dot products. plain : integer IR.
    """
    lanes = total.type.count
    if dot == "vnni":
        # The operands' LLVM type was i32 before LLVM 22, and is i8 since.
        if NEW_LLVM:
            wide = ir.VectorType(I8, 4 * lanes)
            args = [total, b.bitcast(x[0], wide), b.bitcast(w[0], wide)]
        else:
            args = [total, x[0], w[0]]
        return _intrinsic(b, f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", total.type, args)
    if dot == "madd":
        name = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}[lanes]
        for a, c in zip(x, w, strict=True):
            total = b.add(total, _intrinsic(b, name, total.type, [a, c]))
        return total
    if dot == "plain":
        for a, c in zip(x, w, strict=True):
            total = b.add(total, b.mul(a, c))
        return total
    wide = ir.VectorType(I8, 4 * lanes)
    args = [total, b.bitcast(x[0], wide), b.bitcast(w[0], wide)]
    return _intrinsic(b, f"llvm.aarch64.neon.{dot}.v{lanes}i32.v{4 * lanes}i8", total.type, args)


def prepare(b: Builder, dot: str, words: Value, signed: bool) -> list[Value]:
    """What `emit_dot` takes of words of four bytes: weights (`signed`) or inputs."""
    if dot == "madd":
        return list(_even_odd(b, words, signed))
    if dot == "plain":
        kind = words.type
        if signed:
            return [b.ashr(b.shl(words, _constant(kind, 24 - 8 * i)), _constant(kind, 24)) for i in range(4)]
        return [b.and_(b.lshr(words, _constant(kind, 8 * i)), _constant(kind, 0xFF)) for i in range(4)]
    if dot == "sdot" and not signed:
        return [b.xor(words, _constant(words.type, -0x7F7F7F80))]  # 0x80808080: every byte less 128
    return [words]


def _join(b: Builder, parts: list[Value]) -> Value:
    """One vector of 16 lanes from registers of fewer."""
    while len(parts) > 1:
        count = parts[0].type.count
        index = ir.Constant(ir.VectorType(I32, 2 * count), list(range(2 * count)))
        parts = [b.shuffle_vector(p, q, index) for p, q in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _shifted(b: Builder, table: Value, index: int, shift: Value) -> Value:
    """Pointer `shift` bytes past the address at an index of a table."""
    return pointer(b, b.add(load(b, pointer(b, table), index * 8, I64, 8), shift))


def emit_byte_convolution(
    b: Builder, blocking: ByteBlocking, vectors: int, bases: Value, taps: Value, count: Value,
    weights: Value, starts: Value, shift: Value,
) -> list[list[Value]]:  # fmt: skip
    """The inner loop of the dense convolution of bytes: int32 `rows[pixel][vector]` = bias + sums over taps.

    bases : table of int64 addresses, one per output pixel. taps : table of `count` int64 byte offsets; each reads
    16 bytes. weights : int8[count][4][vectors][16][4]. starts : table of int64 addresses, one per output
    pixel, of int32[vectors * 16] biases, `shift` bytes further.
    """
    dot, lanes = blocking.dot, blocking.lanes
    native, parts = ir.VectorType(I32, lanes), LANES // lanes
    table, tap_table, size = pointer(b, bases), pointer(b, taps), vectors * parts
    pixels = [pointer(b, load(b, table, p * 8, I64, 8)) for p in range(blocking.pixels[vectors - 1])]
    biases = [_shifted(b, starts, p, shift) for p in range(len(pixels))]
    start = [[load(b, bias, i * lanes * 4, native) for i in range(size)] for bias in biases]
    first_weight = pointer(b, weights)
    entry, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    k, weight = b.phi(I64), b.phi(I8P)
    k.add_incoming(I64(0), entry)
    weight.add_incoming(first_weight, entry)
    phis = [[b.phi(native) for _ in range(size)] for _ in pixels]
    for row, begin in zip(phis, start, strict=True):
        for phi, value in zip(row, begin, strict=True):
            phi.add_incoming(value, entry)
    sums = [list(row) for row in phis]
    offset = load(b, tap_table, b.shl(k, I64(3)), I64, 8)
    reads = [at(b, p, offset) for p in pixels]
    for u in range(QUADS):
        first = u * vectors * VECTOR_BYTES
        w = [prepare(b, dot, load(b, weight, first + i * lanes * 4, native), True) for i in range(size)]
        for p, read in enumerate(reads):
            x = prepare(b, dot, _splat32(b, load(b, read, u * 4, I32, 1), lanes), False)
            sums[p] = [emit_dot(b, dot, total, x, wi) for total, wi in zip(sums[p], w, strict=True)]
            b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)  # see `emit._fence`
    after, next_k = at(b, weight, QUADS * vectors * VECTOR_BYTES), b.add(k, I64(1))
    k.add_incoming(next_k, loop)
    weight.add_incoming(after, loop)
    for row, values in zip(phis, sums, strict=True):
        for phi, value in zip(row, values, strict=True):
            phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", next_k, count), loop, done)
    b.position_at_end(done)
    return [[_join(b, row[v * parts : (v + 1) * parts]) for v in range(vectors)] for row in sums]


def emit_byte_depthwise(
    b: Builder, pixels: int, bases: Value, taps: Value, count: Value, weights: Value, starts: Value, shift: Value
) -> list[list[Value]]:
    """int32 `rows[pixel][0]` = bias + sum over taps of 16 bytes times int16 weights, each lane by itself."""
    table, tap_table = pointer(b, bases), pointer(b, taps)
    reads = [pointer(b, load(b, table, p * 8, I64, 8)) for p in range(pixels)]
    start = [load(b, _shifted(b, starts, p, shift), 0, IVEC) for p in range(pixels)]
    first_weight = pointer(b, weights)
    entry, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    k = b.phi(I64)
    k.add_incoming(I64(0), entry)
    phis = [b.phi(IVEC) for _ in reads]
    offset = load(b, tap_table, b.shl(k, I64(3)), I64, 8)
    w = b.sext(load(b, first_weight, b.shl(k, I64(5)), HALVES, 2), IVEC)
    sums = []
    for phi, read, begin in zip(phis, reads, start, strict=True):
        phi.add_incoming(begin, entry)
        x = b.zext(load(b, at(b, read, offset), 0, BYTES, 1), IVEC)
        sums.append(b.add(phi, b.mul(x, w)))  # `pmaddwd`: LLVM sees that 16 bits hold both sides
        phi.add_incoming(sums[-1], loop)
    next_k = b.add(k, I64(1))
    k.add_incoming(next_k, loop)
    b.cbranch(b.icmp_signed("<", next_k, count), loop, done)
    b.position_at_end(done)
    return [[s] for s in sums]


def emit_to_bytes(b: Builder, x: Value, low: Value, high: Value, zero: Value) -> Value:
    """uint8[16] of float32[16]: limited to [low, high], rounded half to even, plus an int32 zero point.

    As ONNX Runtime's quantised kernels do it: the limits are whole numbers less the zero point.
    """
    floor, ceiling = splat(b, low), splat(b, high)
    x = b.select(b.fcmp_ordered(">", x, floor), x, floor)
    x = b.select(b.fcmp_ordered("<", x, ceiling), x, ceiling)
    if NEW_LLVM:
        whole = _intrinsic(b, f"llvm.lrint.v{LANES}i32.v{LANES}f32", IVEC, [x])  # one instruction where it is known
    else:
        whole = b.fptosi(_intrinsic(b, f"llvm.nearbyint.v{LANES}f32", VEC, [x]), IVEC)
    return b.trunc(b.add(whole, _splat32(b, zero, LANES)), BYTES)


def emit_requantise(
    b: Builder, rows: list[list[Value]], scale: Value, low: Value, high: Value, zero: Value, outs: Value, first: Value,
    plane: Value,
) -> None:  # fmt: skip
    """Store int32 `rows[pixel][vector]` times float32 scales as bytes.

    outs : table of int64 addresses, one per pixel, of its first slot; slots are `plane` bytes apart, and vector v of
    the call is quarter `first` + v of them.
    """
    scales, table = pointer(b, scale), pointer(b, outs)
    vectors, word = range(len(rows[0])), b.trunc(zero, I32)
    factors = [load(b, scales, v * VECTOR_BYTES, VEC) for v in vectors]
    quarters = [b.add(first, I64(v)) for v in vectors]
    offsets = [b.add(b.mul(b.lshr(q, I64(2)), plane), b.shl(b.and_(q, I64(3)), I64(4))) for q in quarters]
    for p, values in enumerate(rows):
        target = pointer(b, load(b, table, p * 8, I64, 8))
        for v, x in enumerate(values):
            scaled = b.fmul(b.sitofp(x, VEC), factors[v])
            store(b, emit_to_bytes(b, scaled, low, high, word), target, offsets[v], 1)


def emit_square_difference(b: Builder, new: Value, old: Value, metric: Value) -> Value:
    """metric float32[16] + squared differences of two slots uint8[64], four to a lane; exact up to 2**24."""
    undefined = ir.Constant(SLOT, ir.Undefined)
    total = None
    for part in range(VECTOR_BYTES // LANES):
        index = ir.Constant(IVEC, list(range(part * LANES, (part + 1) * LANES)))
        x, y = (b.zext(b.shuffle_vector(v, undefined, index), IVEC) for v in (new, old))
        d = b.sub(x, y)
        square = b.mul(d, d)
        total = square if total is None else b.add(total, square)
    return b.fadd(metric, b.sitofp(total, VEC))


def emit_lookup(b: Builder, features: Collection[str], source: Value, table: Value, target: Value) -> None:
    """target uint8[64] = table[source uint8[64]], a table of 256 bytes; addresses."""
    read, entries, out = pointer(b, source), pointer(b, table), pointer(b, target)
    if "avx512vbmi" in features:
        index = load(b, read, 0, SLOT, 1)
        quarters = [load(b, entries, i * VECTOR_BYTES, SLOT, 1) for i in range(4)]
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        low, high = (_intrinsic(b, name, SLOT, [quarters[i], index, quarters[i + 1]]) for i in (0, 2))
        upper = b.icmp_signed("<", index, ir.Constant(SLOT, None))
        store(b, b.select(upper, high, low), out, 0, 1)
        return
    with cgutils.for_range(b, I64(VECTOR_BYTES)) as loop:
        index = b.zext(load(b, read, loop.index, I8, 1), I64)
        store(b, load(b, entries, index, I8, 1), out, loop.index, 1)


def emit_dequantise(b: Builder, source: Value, scale: Value, zero: Value, target: Value) -> None:
    """target float32[16] = (source uint8[16] - zero) * scale; addresses, int64 zero point."""
    x = b.zext(load(b, pointer(b, source), 0, BYTES, 1), IVEC)
    shifted = b.sub(x, _splat32(b, b.trunc(zero, I32), LANES))
    store(b, b.fmul(b.sitofp(shifted, VEC), splat(b, scale)), pointer(b, target), 0)
