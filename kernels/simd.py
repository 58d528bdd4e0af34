"""Explicit-vector intrinsics: the only place that emits LLVM IR.

Every intrinsic works on plain int64 byte addresses, so that the jitted drivers decide where data lie. A *lane
vector* is 16 float32 (64 bytes): one zmm register, two ymm, or four NEON registers; LLVM splits it for the machine.
Nothing here knows about feature maps, nodes or frames.

Floating-point contract: each output lane is one chain of fused multiply-adds in the order of the tap table, from the
bias on. Neither the number of pixels per call nor the number of vectors changes that order, so a pixel's bits do not
depend on which pixels it was computed with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from kernels.jit import intrinsic

from kernels.target import HAS_FMA, PIXELS, UNROLL_FENCE

LANES = 16
VECTOR_BYTES = 64

# Activation kinds, as the kernels take them (see `emit_activation`).
IDENTITY, RELU, CLIP, PRELU, SILU, SIGMOID, HARD_SWISH, HARD_SIGMOID = range(8)
# What the exit of a kernel does with its results.
STORE, TEST_RMS, TEST_BITS = range(3)

Value = Any  # llvmlite.ir.Value: llvmlite ships no type information
Builder = Any

_F32 = ir.FloatType()
_I8P = ir.IntType(8).as_pointer()
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_VEC = ir.VectorType(_F32, LANES)
_IVEC = ir.VectorType(_I32, LANES)


def _call(b: Builder, name: str, args: list[Value]) -> Value:
    """Call an LLVM intrinsic whose result has the type of its first argument."""
    type_ = args[0].type
    suffix = f"v{LANES}f32" if type_ == _VEC else "f32"
    function_type = ir.FunctionType(type_, [a.type for a in args])
    return b.call(cgutils.get_or_insert_function(b.module, function_type, f"{name}.{suffix}"), args)


def _const(x: float) -> Value:
    return ir.Constant(_VEC, [ir.Constant(_F32, float(x))] * LANES)


def _iconst(x: int) -> Value:
    return ir.Constant(_IVEC, [ir.Constant(_I32, x)] * LANES)


def _pointer(b: Builder, address: Value) -> Value:
    return b.inttoptr(address, _I8P)


def _at(b: Builder, pointer: Value, offset: Value | int) -> Value:
    if isinstance(offset, int):
        if offset == 0:
            return pointer
        offset = _I64(offset)
    return b.gep(pointer, [offset])


def _load(b: Builder, pointer: Value, offset: Value | int, type_: Any, align: int = 4) -> Value:
    return b.load(b.bitcast(_at(b, pointer, offset), type_.as_pointer()), align=align)


def _store(b: Builder, value: Value, pointer: Value, offset: Value | int, align: int = 4) -> None:
    b.store(value, b.bitcast(_at(b, pointer, offset), value.type.as_pointer()), align=align)


def _splat(b: Builder, scalar: Value) -> Value:
    undefined = ir.Constant(_VEC, ir.Undefined)
    first = b.insert_element(undefined, scalar, _I32(0))
    return b.shuffle_vector(first, undefined, ir.Constant(_IVEC, [0] * LANES))


def _fma(b: Builder, x: Value, y: Value, z: Value) -> Value:
    if not HAS_FMA:  # without the instruction LLVM would call the C library for every lane
        return b.fadd(b.fmul(x, y), z)
    return _call(b, "llvm.fma", [x, y, z])


def _greater_or_second(b: Builder, x: Value, y: Value) -> Value:
    """x if x > y else y: one `vmaxps`."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def _less_or_second(b: Builder, x: Value, y: Value) -> Value:
    return b.select(b.fcmp_ordered("<", x, y), x, y)


def _exp(b: Builder, x: Value) -> Value:
    """exp(x) by range reduction and a degree-5 polynomial (Cephes `expf`); relative error below 2e-7."""
    x = _less_or_second(b, _greater_or_second(b, x, _const(-87.0)), _const(88.0))
    n = _call(b, "llvm.nearbyint", [b.fmul(x, _const(1.44269504088896))])
    r = _fma(b, n, _const(-0.693359375), x)
    r = _fma(b, n, _const(2.12194440e-4), r)
    p = _const(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = _fma(b, p, r, _const(c))
    p = _fma(b, p, b.fmul(r, r), b.fadd(r, _const(1.0)))
    exponent = b.shl(b.add(b.fptosi(n, _IVEC), _iconst(127)), _iconst(23))
    return b.fmul(p, b.bitcast(exponent, _VEC))


def _sigmoid(b: Builder, x: Value) -> Value:
    return b.fdiv(_const(1.0), b.fadd(_exp(b, b.fsub(_const(0.0), x)), _const(1.0)))


def _activate(b: Builder, kind: int, x: Value, alpha: Value, beta: Value, slope: Value) -> Value:
    zero, one = _const(0.0), _const(1.0)
    if kind == IDENTITY:
        return x
    if kind == RELU:
        return _greater_or_second(b, x, zero)
    if kind == CLIP:
        return _less_or_second(b, _greater_or_second(b, x, alpha), beta)
    if kind == PRELU:
        return b.select(b.fcmp_ordered(">", x, zero), x, b.fmul(x, slope))
    if kind == SILU:
        return b.fmul(x, _sigmoid(b, x))
    if kind == SIGMOID:
        return _sigmoid(b, x)
    gate = _less_or_second(b, _greater_or_second(b, _fma(b, x, alpha, beta), zero), one)
    return gate if kind == HARD_SIGMOID else b.fmul(x, gate)


def emit_activation(
    b: Builder, kind: Value, alpha: Value, beta: Value, slope: Value, rows: list[list[Value]]
) -> list[list[Value]]:
    """Apply the activation chosen at run time to `rows[pixel][vector]`.

    One compiled kernel serves every activation: the switch is taken once per call, far outside the inner loop.
    `slope` is the address of the PReLU slopes of the call's first lane.
    """
    join = b.append_basic_block("activated")
    vectors = len(rows[0])
    blocks = {k: b.append_basic_block(f"act{k}") for k in range(1, HARD_SIGMOID + 1)}
    source = b.block
    switch = b.switch(kind, join)
    results: list[tuple[Any, list[list[Value]]]] = [(source, rows)]
    for k, block in blocks.items():
        switch.add_case(_I64(k), block)
        b.position_at_end(block)
        low, high = _splat(b, alpha), _splat(b, beta)
        slopes = [_const(0.0)] * vectors
        if k == PRELU:
            pointer = _pointer(b, slope)
            slopes = [_load(b, pointer, v * VECTOR_BYTES, _VEC) for v in range(vectors)]
        done = [[_activate(b, k, x, low, high, slopes[v]) for v, x in enumerate(row)] for row in rows]
        results.append((b.block, done))
        b.branch(join)
    b.position_at_end(join)
    merged: list[list[Value]] = []
    for p in range(len(rows)):
        row = []
        for v in range(vectors):
            phi = b.phi(_VEC)
            for block, values in results:
                phi.add_incoming(values[p][v], block)
            row.append(phi)
        merged.append(row)
    return merged


def _emit_metric(b: Builder, mode: int, new: Value, old: Value, metric: Value) -> Value:
    """Add one vector's difference to a pixel's running metric."""
    if mode == TEST_RMS:
        difference = b.fsub(new, old)
        return _fma(b, difference, difference, metric)
    bits = b.xor(b.bitcast(new, _IVEC), b.bitcast(old, _IVEC))
    return b.bitcast(b.or_(b.bitcast(metric, _IVEC), bits), _VEC)


def emit_exit(
    b: Builder,
    mode: Value,
    rows: list[list[Value]],
    outs: Value,
    shift: Value,
    plane: Value,
    scratch: Value,
    scratch_row: Value,
    metric: Value,
) -> None:
    """Store `rows[pixel][vector]`, or hand them over as candidates with their distance from the stored values.

    STORE writes to the address of each pixel in the table `outs` (one int64 per pixel) plus `shift` bytes, plus
    `plane` bytes per vector. The test modes write to `scratch` (+ `scratch_row` bytes per pixel, 64 per vector) and add to
    `metric` (64 bytes per pixel): squared differences, or differing bits.
    """
    end = b.append_basic_block("exit")
    blocks = [b.append_basic_block(n) for n in ("store", "rms", "bits")]
    switch = b.switch(mode, blocks[STORE])
    for m in (TEST_RMS, TEST_BITS):
        switch.add_case(_I64(m), blocks[m])
    for m, block in enumerate(blocks):
        b.position_at_end(block)
        table = _pointer(b, outs)
        candidate, running = _pointer(b, scratch), _pointer(b, metric)
        for p, row in enumerate(rows):
            out = _pointer(b, b.add(_load(b, table, p * 8, _I64, 8), shift))
            total = None if m == STORE else _load(b, running, p * VECTOR_BYTES, _VEC)
            for v, x in enumerate(row):
                if v:
                    out = _at(b, out, plane)
                if m == STORE:
                    _store(b, x, out, 0)
                    continue
                total = _emit_metric(b, m, x, _load(b, out, 0, _VEC), total)
                _store(b, x, candidate, v * VECTOR_BYTES)
            if m != STORE:
                _store(b, total, running, p * VECTOR_BYTES)
                candidate = _at(b, candidate, scratch_row)
        b.branch(end)
    b.position_at_end(end)


def _fence(b: Builder) -> None:
    """Keep LLVM from hoisting later loads above this point, which would spill the accumulators."""
    b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)


def emit_multiply_accumulate(
    b: Builder, bases: Value, taps: Value, count: Value, weights: Value, bias: Value, lanes: int, vectors: int
) -> list[list[Value]]:
    """The inner loop of every dense convolution: `rows[pixel][vector]` = bias + sum over taps and input lanes.

    bases : table of `PIXELS` int64 addresses, one per output pixel.
    taps : table of `count` int64 byte offsets; each reads `lanes` consecutive float32 at base + offset.
    weights : float32[count][lanes][vectors][16], streamed once in order.
    """
    table, tap_table, bias_p = _pointer(b, bases), _pointer(b, taps), _pointer(b, bias)
    pixels = [_pointer(b, _load(b, table, p * 8, _I64, 8)) for p in range(PIXELS)]
    start = [_load(b, bias_p, v * VECTOR_BYTES, _VEC) for v in range(vectors)]
    entry, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("summed")
    first_weight = _pointer(b, weights)
    b.branch(loop)
    b.position_at_end(loop)
    k, weight = b.phi(_I64), b.phi(_I8P)
    k.add_incoming(_I64(0), entry)
    weight.add_incoming(first_weight, entry)
    phis = [[b.phi(_VEC) for _ in range(vectors)] for _ in range(PIXELS)]
    for row in phis:
        for v, phi in enumerate(row):
            phi.add_incoming(start[v], entry)
    sums: list[list[Value]] = [list(row) for row in phis]
    offset = _load(b, tap_table, b.shl(k, _I64(3)), _I64, 8)
    reads = [_at(b, p, offset) for p in pixels]
    for u in range(lanes):
        w = [_load(b, weight, (u * vectors + v) * VECTOR_BYTES, _VEC) for v in range(vectors)]
        for p in range(PIXELS):
            x = _splat(b, _load(b, reads[p], u * 4, _F32))
            for v in range(vectors):
                sums[p][v] = _fma(b, w[v], x, sums[p][v])
            if UNROLL_FENCE and p % UNROLL_FENCE == UNROLL_FENCE - 1:
                _fence(b)
    after, next_k = _at(b, weight, lanes * vectors * VECTOR_BYTES), b.add(k, _I64(1))
    k.add_incoming(next_k, loop)
    weight.add_incoming(after, loop)
    for row, values in zip(phis, sums, strict=True):
        for phi, value in zip(row, values, strict=True):
            phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("<", next_k, count), loop, done)
    b.position_at_end(done)
    return sums


def make_dense(lanes: int, vectors: int) -> Any:
    """Micro-kernel of `PIXELS` pixels by `vectors` x 16 output channels, reading `lanes` channels per tap.

    int64 arguments: bases, taps, count (>= 1), weights, bias, activation kind, slopes, mode, outs, shift, plane,
    scratch, scratch_row, metric; float32: alpha, beta. Addresses and strides in bytes.
    """

    @intrinsic
    def dense(typing_context, bases, taps, count, weights, bias, kind, alpha, beta, slope, mode, outs, shift, plane,
              scratch, scratch_row, metric):  # type: ignore[no-untyped-def]  # fmt: skip
        def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
            rows = emit_multiply_accumulate(b, *args[:5], lanes, vectors)
            rows = emit_activation(b, *args[5:9], rows)
            emit_exit(b, args[9], rows, *args[10:])
            return context.get_dummy_value()

        i, f = types.int64, types.float32
        return types.void(i, i, i, i, i, i, f, f, i, i, i, i, i, i, i, i), codegen

    return dense


def emit_depthwise(b: Builder, bases: Value, taps: Value, count: Value, weights: Value, bias: Value) -> list[list[Value]]:
    """`rows[pixel][0]` = bias + sum over taps of input lanes times weight lanes (one block of 16 channels)."""
    table, tap_table = _pointer(b, bases), _pointer(b, taps)
    pixels = [_pointer(b, _load(b, table, p * 8, _I64, 8)) for p in range(PIXELS)]
    start, first_weight = _load(b, _pointer(b, bias), 0, _VEC), _pointer(b, weights)
    entry, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    k, weight = b.phi(_I64), b.phi(_I8P)
    k.add_incoming(_I64(0), entry)
    weight.add_incoming(first_weight, entry)
    phis = [b.phi(_VEC) for _ in range(PIXELS)]
    offset = _load(b, tap_table, b.shl(k, _I64(3)), _I64, 8)
    w = _load(b, weight, 0, _VEC)
    after, next_k = _at(b, weight, VECTOR_BYTES), b.add(k, _I64(1))
    sums = []
    for p, phi in enumerate(phis):
        phi.add_incoming(start, entry)
        sums.append(_fma(b, _load(b, _at(b, pixels[p], offset), 0, _VEC), w, phi))
        phi.add_incoming(sums[-1], loop)
    k.add_incoming(next_k, loop)
    weight.add_incoming(after, loop)
    b.cbranch(b.icmp_signed("<", next_k, count), loop, done)
    b.position_at_end(done)
    return [[s] for s in sums]


@intrinsic
def depthwise_block(typing_context, bases, taps, count, weights, bias, kind, alpha, beta, slope, mode, outs, shift, plane,
                    scratch, scratch_row, metric):  # type: ignore[no-untyped-def]  # fmt: skip
    """Micro-kernel of `PIXELS` pixels of one 16-channel block of a depthwise convolution; arguments as `make_dense`."""

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        rows = emit_depthwise(b, *args[:5])
        rows = emit_activation(b, *args[5:9], rows)
        emit_exit(b, args[9], rows, *args[10:])
        return context.get_dummy_value()

    i, f = types.int64, types.float32
    return types.void(i, i, i, i, i, i, f, f, i, i, i, i, i, i, i, i), codegen


@intrinsic
def finish_vector(typing_context, raw, kind, alpha, beta, slope, mode, out, metric):  # type: ignore[no-untyped-def]
    """Activate one lane vector in place at `raw`, then store it at `out` or add its difference to `metric`."""

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        raw, kind, alpha, beta, slope, mode, out, metric = args
        pointer = _pointer(b, raw)
        rows = emit_activation(b, kind, alpha, beta, slope, [[_load(b, pointer, 0, _VEC)]])
        # The table of one pixel is the address itself, kept in a stack slot.
        slot = cgutils.alloca_once_value(b, out)
        emit_exit(b, mode, rows, b.ptrtoint(slot, _I64), _I64(0), _I64(0), raw, _I64(0), metric)
        return context.get_dummy_value()

    i, f = types.int64, types.float32
    return types.void(i, i, f, f, i, i, i, i), codegen


def make_lane_op(compute: Callable[..., Value], sources: int, scalars: int) -> Any:
    """A memory-to-memory operation on lane vectors: destination address, source addresses, float32 scalars."""

    def codegen(context: Any, b: Builder, signature: Any, args: list[Value]) -> Value:
        vectors = [_load(b, _pointer(b, a), 0, _VEC) for a in args[1 : 1 + sources]]
        result = compute(b, *vectors, *[_splat(b, s) for s in args[1 + sources :]])
        _store(b, result, _pointer(b, args[0]), 0)
        return context.get_dummy_value()

    signature = types.void(*[types.int64] * (1 + sources), *[types.float32] * scalars)
    if (sources, scalars) == (0, 1):

        @intrinsic
        def lane_op(typing_context, dst, s):  # type: ignore[no-untyped-def]
            return signature, codegen
    elif (sources, scalars) == (1, 0):

        @intrinsic
        def lane_op(typing_context, dst, a):  # type: ignore[no-untyped-def]
            return signature, codegen
    elif (sources, scalars) == (1, 1):

        @intrinsic
        def lane_op(typing_context, dst, a, s):  # type: ignore[no-untyped-def]
            return signature, codegen
    elif (sources, scalars) == (2, 0):

        @intrinsic
        def lane_op(typing_context, dst, a, c):  # type: ignore[no-untyped-def]
            return signature, codegen
    elif (sources, scalars) == (2, 1):

        @intrinsic
        def lane_op(typing_context, dst, a, c, s):  # type: ignore[no-untyped-def]
            return signature, codegen
    else:

        @intrinsic
        def lane_op(typing_context, dst, a, c, d):  # type: ignore[no-untyped-def]
            return signature, codegen

    return lane_op


# Each is a module-level name: numba's on-disk cache cannot find intrinsics made inside a function.
dense_16x1 = make_dense(16, 1)
dense_16x2 = make_dense(16, 2)
dense_16x3 = make_dense(16, 3)
dense_3x1 = make_dense(3, 1)
dense_3x2 = make_dense(3, 2)
dense_3x3 = make_dense(3, 3)
dense_1x1 = make_dense(1, 1)
dense_1x2 = make_dense(1, 2)
dense_1x3 = make_dense(1, 3)

lane_fill = make_lane_op(lambda b, s: s, 0, 1)
lane_copy = make_lane_op(lambda b, x: x, 1, 0)
lane_scale = make_lane_op(lambda b, x, s: b.fmul(x, s), 1, 1)
lane_add = make_lane_op(lambda b, x, y: b.fadd(x, y), 2, 0)
lane_sub = make_lane_op(lambda b, x, y: b.fsub(x, y), 2, 0)
lane_mul = make_lane_op(lambda b, x, y: b.fmul(x, y), 2, 0)
lane_max = make_lane_op(_greater_or_second, 2, 0)
lane_min = make_lane_op(_less_or_second, 2, 0)
lane_add_scaled = make_lane_op(lambda b, x, y, s: _fma(b, y, s, x), 2, 1)  # x + s * y
lane_fma = make_lane_op(_fma, 3, 0)  # x * y + z


@intrinsic
def lane_sum(typing_context, address):  # type: ignore[no-untyped-def]
    """Sum of the 16 float32 at an address, in a fixed pairwise order."""

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        x = _load(b, _pointer(b, args[0]), 0, _VEC)
        n = LANES
        while n > 1:
            n //= 2
            index = ir.VectorType(_I32, n)
            undefined = ir.Constant(x.type, ir.Undefined)
            low = b.shuffle_vector(x, undefined, ir.Constant(index, list(range(n))))
            high = b.shuffle_vector(x, undefined, ir.Constant(index, list(range(n, 2 * n))))
            x = b.fadd(low, high)
        return b.extract_element(x, _I32(0))

    return types.float32(types.int64), codegen


@intrinsic
def lane_any_bits(typing_context, address):  # type: ignore[no-untyped-def]
    """Whether any bit is set in the 64 bytes at an address."""

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        bits = ir.IntType(VECTOR_BYTES * 8)
        return b.icmp_unsigned("!=", _load(b, _pointer(b, args[0]), 0, bits, 1), bits(0))

    return types.boolean(types.int64), codegen


@intrinsic
def absolute_difference_row(typing_context, sums, first, second, count):  # type: ignore[no-untyped-def]
    """sums uint16[32 * count] += |first - second| for uint8[32 * count]; sums must not overflow (<= 257 calls)."""

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        sums, first, second, count = args
        bytes32, words32 = ir.VectorType(ir.IntType(8), 32), ir.VectorType(ir.IntType(16), 32)
        s, x, y = (_pointer(b, a) for a in (sums, first, second))
        with cgutils.for_range(b, count) as loop:
            at8, at16 = b.shl(loop.index, _I64(5)), b.shl(loop.index, _I64(6))
            p, q = _load(b, x, at8, bytes32, 1), _load(b, y, at8, bytes32, 1)
            more = b.icmp_unsigned(">", p, q)
            difference = b.sub(b.select(more, p, q), b.select(more, q, p))
            total = b.add(_load(b, s, at16, words32, 2), b.zext(difference, words32))
            _store(b, total, s, at16, 2)
        return context.get_dummy_value()

    i = types.int64
    return types.void(i, i, i, i), codegen


def make_or_bytes(stride: int) -> Any:
    """target uint8[64 * count] |= every `stride`-th byte from the source address on (reads 64 * count * stride)."""

    @intrinsic
    def or_bytes(typing_context, target, source, count):  # type: ignore[no-untyped-def]
        def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
            to, source = _pointer(b, args[0]), _pointer(b, args[1])
            out, wide = ir.VectorType(ir.IntType(8), 64), ir.VectorType(ir.IntType(8), 64 * stride)
            index = ir.Constant(ir.VectorType(_I32, 64), list(range(0, 64 * stride, stride)))
            with cgutils.for_range(b, args[2]) as loop:
                at = b.shl(loop.index, _I64(6))
                read = _load(b, source, b.mul(at, _I64(stride)), wide, 1)
                if stride > 1:
                    read = b.shuffle_vector(read, ir.Constant(wide, ir.Undefined), index)
                _store(b, b.or_(_load(b, to, at, out, 1), read), to, at, 1)
            return context.get_dummy_value()

        i = types.int64
        return types.void(i, i, i), codegen

    return or_bytes


or_bytes = make_or_bytes(1)
or_even_bytes = make_or_bytes(2)


@intrinsic
def equal_bytes(typing_context, first, second):  # type: ignore[no-untyped-def]
    """Whether the 64 bytes at two addresses are equal."""

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        bits = ir.IntType(VECTOR_BYTES * 8)
        x, y = (_load(b, _pointer(b, a), 0, bits, 1) for a in args)
        return b.icmp_unsigned("==", x, y)

    i = types.int64
    return types.boolean(i, i), codegen
