"""LLVM vector IR of the micro-kernels: with `simd.py`, the only place that emits any.

Emitters take a llvmlite builder and a `Blocking`, so that they can also be compiled for another machine than
this one. A *lane vector* is 16 float32 (64 bytes): one zmm register, two ymm, or four NEON registers; LLVM
splits it.

Floating-point contract: each output lane is one chain of multiply-adds in the order of the tap table, from
the bias on, fused wherever the machine can. Neither the number of pixels per call nor the number of vectors
changes that order, so a pixel's bits do not depend on which pixels it was computed with.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from kernels.constants import (
    CLIP,
    HARD_SIGMOID,
    IDENTITY,
    LANES,
    PRELU,
    RELU,
    SIGMOID,
    SILU,
    STORE,
    TEST_BITS,
    TEST_RMS,
    VECTOR_BYTES,
)
from kernels.target import Blocking

Value = Any  # llvmlite.ir.Value: llvmlite ships no type information
Builder = Any
Rows = list[list[Value]]  # lane vectors, [pixel][vector]

F32 = ir.FloatType()
I8P = ir.IntType(8).as_pointer()
I32 = ir.IntType(32)
I64 = ir.IntType(64)
VEC = ir.VectorType(F32, LANES)
IVEC = ir.VectorType(I32, LANES)


def _call(b: Builder, name: str, args: list[Value]) -> Value:
    """Call an LLVM intrinsic whose result has the type of its first argument."""
    function_type = ir.FunctionType(VEC, [a.type for a in args])
    function = cgutils.get_or_insert_function(b.module, function_type, f"{name}.v{LANES}f32")
    return b.call(function, args)


def const(x: float) -> Value:
    """A lane vector of one value."""
    return ir.Constant(VEC, [ir.Constant(F32, float(x))] * LANES)


def _iconst(x: int) -> Value:
    return ir.Constant(IVEC, [ir.Constant(I32, x)] * LANES)


def pointer(b: Builder, address: Value) -> Value:
    """An int64 address as a byte pointer."""
    return b.inttoptr(address, I8P)


def at(b: Builder, base: Value, offset: Value | int) -> Value:
    """Pointer `offset` bytes past a pointer."""
    if isinstance(offset, int):
        if offset == 0:
            return base
        offset = I64(offset)
    return b.gep(base, [offset])


def load(b: Builder, base: Value, offset: Value | int, type_: Any, align: int = 4) -> Value:
    """Load a value of a type, `offset` bytes past a pointer."""
    return b.load(b.bitcast(at(b, base, offset), type_.as_pointer()), align=align)


def store(b: Builder, value: Value, base: Value, offset: Value | int, align: int = 4) -> None:
    """Store a value, `offset` bytes past a pointer."""
    b.store(value, b.bitcast(at(b, base, offset), value.type.as_pointer()), align=align)


def splat(b: Builder, scalar: Value) -> Value:
    """A lane vector of one run-time value."""
    undefined = ir.Constant(VEC, ir.Undefined)
    first = b.insert_element(undefined, scalar, I32(0))
    return b.shuffle_vector(first, undefined, ir.Constant(IVEC, [0] * LANES))


def fma(b: Builder, x: Value, y: Value, z: Value) -> Value:
    """x * y + z: one instruction where the machine has it; elsewhere two, not a library call per lane."""
    return _call(b, "llvm.fmuladd", [x, y, z])


def greater_or_second(b: Builder, x: Value, y: Value) -> Value:
    """x if x > y else y: one `vmaxps`."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def less_or_second(b: Builder, x: Value, y: Value) -> Value:
    """x if x < y else y: one `vminps`."""
    return b.select(b.fcmp_ordered("<", x, y), x, y)


def _exp(b: Builder, x: Value) -> Value:
    """exp(x) by range reduction and a degree-5 polynomial (Cephes `expf`); relative error below 2e-7."""
    x = less_or_second(b, greater_or_second(b, x, const(-87.0)), const(88.0))
    n = _call(b, "llvm.nearbyint", [b.fmul(x, const(1.44269504088896))])
    r = fma(b, n, const(-0.693359375), x)
    r = fma(b, n, const(2.12194440e-4), r)
    p = const(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = fma(b, p, r, const(c))
    p = fma(b, p, b.fmul(r, r), b.fadd(r, const(1.0)))
    exponent = b.shl(b.add(b.fptosi(n, IVEC), _iconst(127)), _iconst(23))
    return b.fmul(p, b.bitcast(exponent, VEC))


def _sigmoid(b: Builder, x: Value) -> Value:
    return b.fdiv(const(1.0), b.fadd(_exp(b, b.fsub(const(0.0), x)), const(1.0)))


def _activate(b: Builder, kind: int, x: Value, alpha: Value, beta: Value, slope: Value) -> Value:
    zero, one = const(0.0), const(1.0)
    if kind == IDENTITY:
        return x
    if kind == RELU:
        return greater_or_second(b, x, zero)
    if kind == CLIP:
        return less_or_second(b, greater_or_second(b, x, alpha), beta)
    if kind == PRELU:
        return b.select(b.fcmp_ordered(">", x, zero), x, b.fmul(x, slope))
    if kind == SILU:
        return b.fmul(x, _sigmoid(b, x))
    if kind == SIGMOID:
        return _sigmoid(b, x)
    gate = less_or_second(b, greater_or_second(b, fma(b, x, alpha, beta), zero), one)
    return gate if kind == HARD_SIGMOID else b.fmul(x, gate)


def emit_activation(b: Builder, kind: Value, alpha: Value, beta: Value, slope: Value, rows: Rows) -> Rows:
    """Apply the activation chosen at run time to `rows[pixel][vector]`.

    One compiled kernel serves every activation: the switch is taken once per call, far outside the inner
    loop. `slope` is the address of the PReLU slopes of the call's first lane.
    """
    join = b.append_basic_block("activated")
    vectors = len(rows[0])
    blocks = {k: b.append_basic_block(f"act{k}") for k in range(1, HARD_SIGMOID + 1)}
    source = b.block
    switch = b.switch(kind, join)
    results: list[tuple[Any, Rows]] = [(source, rows)]
    for k, block in blocks.items():
        switch.add_case(I64(k), block)
        b.position_at_end(block)
        low, high = splat(b, alpha), splat(b, beta)
        slopes = [const(0.0)] * vectors
        if k == PRELU:
            first = pointer(b, slope)
            slopes = [load(b, first, v * VECTOR_BYTES, VEC) for v in range(vectors)]
        done = [[_activate(b, k, x, low, high, slopes[v]) for v, x in enumerate(row)] for row in rows]
        results.append((b.block, done))
        b.branch(join)
    b.position_at_end(join)
    merged: Rows = []
    for p in range(len(rows)):
        row = []
        for v in range(vectors):
            phi = b.phi(VEC)
            for block, values in results:
                phi.add_incoming(values[p][v], block)
            row.append(phi)
        merged.append(row)
    return merged


def _emit_metric(b: Builder, mode: int, new: Value, old: Value, metric: Value) -> Value:
    """Add one vector's difference to a pixel's running metric."""
    if mode == TEST_RMS:
        difference = b.fsub(new, old)
        return fma(b, difference, difference, metric)
    bits = b.xor(b.bitcast(new, IVEC), b.bitcast(old, IVEC))
    return b.bitcast(b.or_(b.bitcast(metric, IVEC), bits), VEC)


def emit_exit(
    b: Builder,
    mode: Value,
    rows: Rows,
    outs: Value,
    shift: Value,
    plane: Value,
    scratch: Value,
    scratch_row: Value,
    metric: Value,
) -> None:
    """Store `rows[pixel][vector]`, or hand them over as candidates with their distance from the stored
    values.

    STORE writes to the address of each pixel in the table `outs` (one int64 per pixel) plus `shift` bytes,
    plus `plane` bytes per vector. The test modes write to `scratch` (+ `scratch_row` bytes per pixel, 64 per
    vector) and add to `metric` (64 bytes per pixel): squared differences, or differing bits.
    """
    end = b.append_basic_block("exit")
    blocks = [b.append_basic_block(n) for n in ("store", "rms", "bits")]
    switch = b.switch(mode, blocks[STORE])
    for m in (TEST_RMS, TEST_BITS):
        switch.add_case(I64(m), blocks[m])
    for m, block in enumerate(blocks):
        b.position_at_end(block)
        table = pointer(b, outs)
        candidate, running = pointer(b, scratch), pointer(b, metric)
        for p, row in enumerate(rows):
            out = pointer(b, b.add(load(b, table, p * 8, I64, 8), shift))
            total = None if m == STORE else load(b, running, p * VECTOR_BYTES, VEC)
            for v, x in enumerate(row):
                if v:
                    out = at(b, out, plane)
                if m == STORE:
                    store(b, x, out, 0)
                    continue
                total = _emit_metric(b, m, x, load(b, out, 0, VEC), total)
                store(b, x, candidate, v * VECTOR_BYTES)
            if m != STORE:
                store(b, total, running, p * VECTOR_BYTES)
                candidate = at(b, candidate, scratch_row)
        b.branch(end)
    b.position_at_end(end)


def _fence(b: Builder) -> None:
    """Keep LLVM from hoisting later loads above this point, which would spill the accumulators."""
    b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)


def emit_multiply_accumulate(
    b: Builder,
    blocking: Blocking,
    lanes: int,
    vectors: int,
    bases: Value,
    taps: Value,
    count: Value,
    weights: Value,
    bias: Value,
) -> Rows:
    """The inner loop of every dense convolution: `rows[pixel][vector]` = bias + sum over taps and input
    lanes.

    bases : table of `blocking.pixels` int64 addresses, one per output pixel.
    taps : table of `count` int64 byte offsets; each reads `lanes` consecutive float32 at base + offset.
    weights : float32[count][lanes][vectors][16], streamed once in order.
    """
    table, tap_table, bias_p = pointer(b, bases), pointer(b, taps), pointer(b, bias)
    pixels = [pointer(b, load(b, table, p * 8, I64, 8)) for p in range(blocking.pixels)]
    start = [load(b, bias_p, v * VECTOR_BYTES, VEC) for v in range(vectors)]
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
    offset = load(b, tap_table, b.shl(k, I64(3)), I64, 8)
    reads = [at(b, p, offset) for p in pixels]
    for u in range(lanes):
        w = [load(b, weight, (u * vectors + v) * VECTOR_BYTES, VEC) for v in range(vectors)]
        for p, read in enumerate(reads):
            x = splat(b, load(b, read, u * 4, F32))
            for v in range(vectors):
                sums[p][v] = fma(b, w[v], x, sums[p][v])
            if blocking.fence and p % blocking.fence == blocking.fence - 1:
                _fence(b)
    after, next_k = at(b, weight, lanes * vectors * VECTOR_BYTES), b.add(k, I64(1))
    k.add_incoming(next_k, loop)
    weight.add_incoming(after, loop)
    for row, values in zip(phis, sums, strict=True):
        for phi, value in zip(row, values, strict=True):
            phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", next_k, count), loop, done)
    b.position_at_end(done)
    return sums


def emit_depthwise(
    b: Builder, blocking: Blocking, bases: Value, taps: Value, count: Value, weights: Value, bias: Value
) -> Rows:
    """`rows[pixel][0]` = bias + sum over taps of input lanes times weight lanes, one block of channels."""
    table, tap_table = pointer(b, bases), pointer(b, taps)
    pixels = [pointer(b, load(b, table, p * 8, I64, 8)) for p in range(blocking.pixels)]
    start, first_weight = load(b, pointer(b, bias), 0, VEC), pointer(b, weights)
    entry, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    k, weight = b.phi(I64), b.phi(I8P)
    k.add_incoming(I64(0), entry)
    weight.add_incoming(first_weight, entry)
    phis = [b.phi(VEC) for _ in pixels]
    offset = load(b, tap_table, b.shl(k, I64(3)), I64, 8)
    w = load(b, weight, 0, VEC)
    after, next_k = at(b, weight, VECTOR_BYTES), b.add(k, I64(1))
    sums = []
    for p, phi in enumerate(phis):
        phi.add_incoming(start, entry)
        sums.append(fma(b, load(b, at(b, pixels[p], offset), 0, VEC), w, phi))
        phi.add_incoming(sums[-1], loop)
    k.add_incoming(next_k, loop)
    weight.add_incoming(after, loop)
    b.cbranch(b.icmp_signed("<", next_k, count), loop, done)
    b.position_at_end(done)
    return [[s] for s in sums]
