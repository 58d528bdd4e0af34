"""Machine code of the half precision kernels: no library call for a lane, and no spill in an inner loop."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import pytest
from assembly import Loop, compile_for, innermost_loops
from llvmlite import ir
from numba.core import cgutils

from kernels.emit import F32, I64, VEC, load, pointer, store
from kernels.emit_bfloat16 import emit_dot_products, emit_narrow, has_bfloat16
from kernels.emit_finish import emit_activation, emit_exit
from kernels.emit_half import (
    BITS,
    emit_expand,
    emit_four_sums,
    emit_lane_sum,
    emit_round,
    emit_square,
    machine_has_half,
)
from kernels.target import BLOCKINGS

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
F16C = frozenset({"f16c"})
# variant, triple, CPU, features that matter, and the instructions that convert: none where integers do
CPUS = [
    ("avx512", X86, "znver4", F16C, ("vcvtph2ps", "vcvtps2ph")),
    ("avx512", X86, "skylake-avx512", F16C, ("vcvtph2ps", "vcvtps2ph")),
    ("avx2", X86, "haswell", F16C, ("vcvtph2ps", "vcvtps2ph")),
    ("neon", ARM, "cortex-a53", frozenset[str](), ("fcvtl", "fcvtn")),
    ("neon", ARM, "neoverse-n1", frozenset[str](), ("fcvtl", "fcvtn")),
    ("generic", X86, "x86-64", frozenset[str](), (None, None)),
]


def conversion_loop(has_half: bool, narrow: bool) -> str:
    """IR of a loop over vectors that expands or rounds them."""
    module = ir.Module("half")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 3), "half")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    to, source, count = pointer(b, function.args[0]), pointer(b, function.args[1]), function.args[2]
    with cgutils.for_range(b, count) as loop:
        near, far = b.shl(loop.index, I64(5)), b.shl(loop.index, I64(6))
        if narrow:
            store(b, emit_round(b, load(b, source, far, VEC), has_half), to, near, 2)
        else:
            store(b, emit_expand(b, load(b, source, near, BITS, 2), has_half), to, far)
    b.ret_void()
    return str(module)


def distance_loop(pixels: int) -> str:
    """IR of the squared distances of pixels side by side, block after block."""
    module = ir.Module("half")
    kind = ir.VectorType(F32, 16) if pixels > 1 else F32
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 4), "half")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    new, old, count = pointer(b, function.args[0]), pointer(b, function.args[1]), function.args[2]
    totals = [cgutils.alloca_once_value(b, ir.Constant(VEC, None)) for _ in range(pixels)]
    with cgutils.for_range(b, count) as loop:
        for i, total in enumerate(totals):
            x = load(b, new, b.add(b.shl(loop.index, I64(10)), I64(64 * i)), VEC)
            bits = load(b, old, b.add(b.shl(loop.index, I64(9)), I64(32 * i)), BITS, 2)
            b.store(emit_square(b, x, bits, b.load(total)), total)
    sums = [b.load(total) for total in totals]
    found = emit_four_sums(b, sums) if pixels > 1 else emit_lane_sum(b, sums[0])
    b.store(found, b.bitcast(pointer(b, function.args[3]), kind.as_pointer()))
    b.ret_void()
    return str(module)


@pytest.mark.parametrize(("variant", "triple", "cpu", "features", "instructions"), CPUS)
@pytest.mark.parametrize("narrow", [False, True])
def test_a_register_is_converted_at_a_time(
    variant: str,
    triple: str,
    cpu: str,
    features: frozenset[str],
    instructions: tuple[str | None, str | None],
    narrow: bool,
) -> None:
    has_half = machine_has_half(variant, features)
    text = compile_for(conversion_loop(has_half, narrow), triple, cpu)
    assert not re.search(r"\t(callq?|bl)\s", text)
    wanted = instructions[narrow]
    assert has_half == (wanted is not None)
    if wanted is not None:
        assert re.search(rf"\t{wanted}", text)


@pytest.mark.parametrize("pixels", [1, 4])
@pytest.mark.parametrize("cpu", ["znver4", "skylake-avx512", "sapphirerapids"])
def test_distances_keep_their_sums_in_registers(cpu: str, pixels: int) -> None:
    loops = innermost_loops(compile_for(distance_loop(pixels), X86, cpu))
    assert loops
    assert [spill for loop in loops for spill in loop.spills] == []


def dot_kernel(vectors: int) -> str:
    """The whole bfloat16 micro-kernel as one function's LLVM IR."""
    module = ir.Module("dot")
    signature = ir.FunctionType(ir.VoidType(), [I64] * 6 + [F32] * 2 + [I64] * 8)
    function = ir.Function(module, signature, "dot")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    args, blocking = list(function.args), BLOCKINGS["avx512"]
    rows = emit_dot_products(b, blocking, vectors, *args[:5])
    rows = emit_activation(b, blocking, args[5], args[6], args[7], args[8], rows)
    emit_exit(b, *args[9:16], rows)
    b.ret_void()
    return str(module)


def dots(loop: Loop) -> int:
    return len(re.findall(r"\tvdpbf16ps\s", loop.text))


@pytest.mark.parametrize("cpu", ["znver4", "sapphirerapids", "cooperlake"])
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_products_do_not_spill(cpu: str, vectors: int) -> None:
    loop = max(innermost_loops(compile_for(dot_kernel(vectors), X86, cpu)), key=dots)
    per_tap = 8 * BLOCKINGS["avx512"].pixels * vectors
    assert dots(loop) in (per_tap, 2 * per_tap)
    assert loop.spills == []


def test_inputs_are_rounded_without_a_call() -> None:
    module = ir.Module("narrow")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 2), "narrow")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    to, source = (pointer(b, a) for a in function.args)
    store(b, emit_narrow(b, load(b, source, 0, VEC)), to, 0)
    b.ret_void()
    assert not re.search(r"\tcallq?\s", compile_for(str(module), X86, "znver4"))


def test_who_has_what() -> None:
    assert has_bfloat16("avx512", frozenset({"avx512bf16"}))
    assert not has_bfloat16("avx512", frozenset())
    assert not has_bfloat16("neon", frozenset({"bf16"}))
    assert machine_has_half("neon", frozenset())
    assert not machine_has_half("avx2", frozenset())
