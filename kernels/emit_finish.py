"""LLVM vector IR of what follows a micro-kernel's sums: activation, then storing, or comparing with stored values.

Where `halves` are told, a row is one lane vector of two pixels, each of which has half a block: lanes 0 to 7 are those
of the first. The rest of the block that is stored becomes 0.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

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
from kernels.emit import (
    F32,
    HALF_VEC,
    I8P,
    I32,
    I64,
    IVEC,
    VEC,
    Builder,
    Rows,
    Value,
    at,
    const,
    fma,
    greater_or_second,
    iconst,
    join,
    less_or_second,
    load,
    merge_rows,
    opaque,
    pointer,
    reciprocal_estimate,
    splat,
    split,
    store,
)
from kernels.target import Blocking

# exp(r) = 1 + r + r^2 (c2 + c3 r + ...) on |r| <= ln 2 / 2, fitted to 3e-9 relative.
_EXP = (1.381446694e-3, 8.368780515e-3, 4.166839422e-2, 1.666652011e-1, 4.999999341e-1, 1.0, 1.0)
_MAGIC = 12582912.0  # 1.5 * 2^23: the sum of this and n holds the integer n in its low bits


def exp_of_minus(b: Builder, x: Value) -> Value:
    """exp(-x) for x in [-87, 87]; relative error below 1.2e-7 where multiply-adds are fused."""
    shifted = fma(b, x, const(-1.44269504088896), const(_MAGIC))
    n = b.fsub(shifted, const(_MAGIC))
    r = fma(b, n, const(0.693359375), x)
    r = fma(b, n, const(-2.12194440e-4), r)  # minus the remainder, so that odd powers change their sign
    p = const(_EXP[0])
    for power, c in zip(range(5, -1, -1), _EXP[1:], strict=True):
        p = fma(b, p, r, const(-c if power % 2 else c))
    scaled = b.add(b.bitcast(p, IVEC), b.shl(b.bitcast(shifted, IVEC), iconst(23)))  # times 2^n
    return b.bitcast(scaled, VEC)


def _sigmoid(b: Builder, blocking: Blocking, x: Value) -> Value:
    """1 / (1 + exp(-x)); beyond +-87 that of the bound."""
    x = less_or_second(b, greater_or_second(b, x, const(-87.0)), const(87.0))
    denominator = b.fadd(exp_of_minus(b, x), const(1.0))
    if not blocking.estimates:
        return b.fdiv(const(1.0), denominator)
    # A division of 16 lanes takes as long as 32 multiply-adds. One Newton step takes 14 bits to 28.
    y = reciprocal_estimate(b, denominator)
    return fma(b, y, fma(b, b.fneg(denominator), y, const(1.0)), y)


def _activate(b: Builder, blocking: Blocking, kind: int, x: Value, alpha: Value, beta: Value, slope: Value) -> Value:
    zero, one = const(0.0), const(1.0)
    if kind == IDENTITY:
        return x
    if kind == RELU:
        return greater_or_second(b, x, alpha)
    if kind == CLIP:
        return less_or_second(b, greater_or_second(b, x, alpha), beta)
    if kind == PRELU:
        return b.select(b.fcmp_ordered(">", x, zero), x, b.fmul(x, slope))
    if kind == SILU:
        return b.fmul(x, _sigmoid(b, blocking, x))
    if kind == SIGMOID:
        return _sigmoid(b, blocking, x)
    gate = less_or_second(b, greater_or_second(b, fma(b, x, alpha, beta), zero), one)
    return gate if kind == HARD_SIGMOID else b.fmul(x, gate)


def _zero(b: Builder) -> Value:
    """0.0, of which LLVM knows nothing: where it does, a maximum becomes a comparison and a mask."""
    return b.bitcast(b.trunc(opaque(b, I64(0)), I32), F32)


def _silu_aside(b: Builder, blocking: Blocking, rows: Rows) -> Rows:
    """SiLU, whose inputs wait in memory until they are multiplied: with them in registers the chains have too few."""
    floats = ir.ArrayType(F32, len(rows) * len(rows[0]) * LANES)  # not aligned: a realigned stack costs a register
    with b.goto_entry_block():
        buffer = b.alloca(floats)  # numba's own way would fill it with zeros at every call
    at_rows, size = b.bitcast(buffer, I8P), len(rows[0]) * VECTOR_BYTES
    for p, row in enumerate(rows):
        for v, x in enumerate(row):
            store(b, x, at_rows, p * size + v * VECTOR_BYTES)
    gates = [[_sigmoid(b, blocking, x) for x in row] for row in rows]
    again = pointer(b, opaque(b, b.ptrtoint(buffer, I64)))
    return [
        [b.fmul(load(b, again, p * size + v * VECTOR_BYTES, VEC), gate) for v, gate in enumerate(row)]
        for p, row in enumerate(gates)
    ]


def emit_activation(
    b: Builder, blocking: Blocking, kind: Value, alpha: Value, beta: Value, slope: Value, rows: Rows, *,
    halves: bool = False,
) -> Rows:  # fmt: skip
    """Apply the activation chosen at run time to `rows[pixel][vector]`.

    One compiled kernel serves every activation: the switch is taken once per call, far outside the inner
    loop. `slope` is the address of the PReLU slopes of the call's first lane.
    """
    joined = b.append_basic_block("activated")
    vectors = len(rows[0])
    blocks = {k: b.append_basic_block(f"act{k}") for k in range(1, HARD_SIGMOID + 1)}
    source = b.block
    switch = b.switch(kind, joined)
    results: list[tuple[Any, Rows]] = [(source, rows)]
    for k, block in blocks.items():
        switch.add_case(I64(k), block)
        b.position_at_end(block)
        low, high = splat(b, _zero(b) if k == RELU else alpha), splat(b, beta)
        slopes = [const(0.0)] * vectors
        if k == PRELU:
            first = pointer(b, slope)
            slopes = [load(b, first, v * VECTOR_BYTES, VEC) for v in range(vectors)]
            if halves:
                slopes = [join(b, *[split(b, slopes[0])[0]] * 2)]
        if blocking.aside and k == SILU:
            done = _silu_aside(b, blocking, rows)
        else:
            done = [[_activate(b, blocking, k, x, low, high, slopes[v]) for v, x in enumerate(row)] for row in rows]
        results.append((b.block, done))
        b.branch(joined)
    b.position_at_end(joined)
    return merge_rows(b, results)


def emit_addition(
    b: Builder, distance: Value, outs: Value, shift: Value, plane: Value, rows: Rows, *, halves: bool = False
) -> Rows:
    """Add to `rows[pixel][vector]` what lies `distance` bytes from where each is stored (see `emit_exit`), if not 0."""
    adding, joined, source = b.append_basic_block("adding"), b.append_basic_block("added"), b.block
    b.cbranch(b.icmp_signed("!=", distance, I64(0)), adding, joined)
    b.position_at_end(adding)
    table, offset = pointer(b, outs), b.add(shift, distance)

    def place_of(p: int) -> Value:
        return pointer(b, b.add(load(b, table, p * 8, I64, 8), offset))

    sums: Rows = []
    for p, row in enumerate(rows):
        if halves:
            terms = [load(b, place_of(2 * p + i), 0, HALF_VEC) for i in (0, 1)]
            sums.append([b.fadd(row[0], join(b, *terms))])
            continue
        place = place_of(p)
        sums.append([])
        for v, x in enumerate(row):
            if v:
                place = at(b, place, plane)
            sums[p].append(b.fadd(x, load(b, place, 0, VEC)))
    b.branch(joined)
    b.position_at_end(joined)
    return merge_rows(b, [(source, rows), (adding, sums)])


def _emit_metric(b: Builder, mode: int, new: Value, old: Value, metric: Value) -> Value:
    """Add one vector's difference to a pixel's running metric."""
    if mode == TEST_RMS:
        difference = b.fsub(new, old)
        return fma(b, difference, difference, metric)
    integers = ir.VectorType(I32, new.type.count)
    bits = b.xor(b.bitcast(new, integers), b.bitcast(old, integers))
    return b.bitcast(b.or_(b.bitcast(metric, integers), bits), new.type)


def emit_exit(
    b: Builder, mode: Value, outs: Value, shift: Value, plane: Value, scratch: Value, scratch_row: Value,
    metric: Value, rows: Rows, *, halves: bool = False,
) -> None:  # fmt: skip
    """Store `rows[pixel][vector]`, or hand them over as candidates with their distance from the stored
    values.

    STORE writes to the address of each pixel in the table `outs` (one int64 per pixel) plus `shift` bytes,
    plus `plane` bytes per vector. The test modes write to `scratch` (+ `scratch_row` bytes per pixel, 64 per
    vector) and add to `metric` (64 bytes per pixel): squared differences, or differing bits.
    """
    if halves:
        rows = [[half] for row in rows for half in split(b, row[0])]
    end, zeros = b.append_basic_block("exit"), ir.Constant(HALF_VEC, [0.0] * HALF_VEC.count)
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
            total = None if m == STORE else load(b, running, p * VECTOR_BYTES, row[0].type)
            for v, x in enumerate(row):
                if v:
                    out = at(b, out, plane)
                whole = join(b, x, zeros) if halves else x
                if m == STORE:
                    store(b, whole, out, 0)
                    continue
                total = _emit_metric(b, m, x, load(b, out, 0, x.type), total)
                store(b, whole, candidate, v * VECTOR_BYTES)
            if m != STORE:
                store(b, total, running, p * VECTOR_BYTES)
                candidate = at(b, candidate, scratch_row)
        b.branch(end)
    b.position_at_end(end)
