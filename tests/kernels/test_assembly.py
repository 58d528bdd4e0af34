"""No micro-kernel may spill a vector register in its inner loop, on any CPU that its blocking is for.

Read from the machine code that LLVM makes: cross-compiled for other CPUs, and that of this CPU's own
`convolve`.
"""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from assembly import EMITTERS, Loop, compile_for, dense, emit_ir, emit_straight, half, inner_loop, innermost_loops

from kernels.conv import convolve
from kernels.emit_transpose import emit_unpack
from kernels.emit_winograd import emit_winograd_output
from kernels.layout import Act, Map, Test, scratch_elements
from kernels.target import BLOCKINGS, VARIANT

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
CPUS = [
    ("avx512", X86, "znver4"),
    ("avx512", X86, "skylake-avx512"),
    ("avx512", X86, "sapphirerapids"),
    ("avx2", X86, "haswell"),
    ("avx2", X86, "znver3"),
    ("neon", ARM, "cortex-a76"),
    ("neon", ARM, "cortex-a53"),
    ("neon", ARM, "neoverse-n1"),
    ("generic", X86, "x86-64"),
]
WIDE = [cpu for cpu in CPUS if BLOCKINGS[cpu[0]].quads]
REGISTER_LANES = {"avx512": 16, "avx2": 8, "neon": 4, "generic": 4}
SHAPES = [
    (variant, triple, cpu, lanes, vectors)
    for variant, triple, cpu in CPUS
    for lanes in (16, 9, 8, 3, 1)
    for vectors in range(1, BLOCKINGS[variant].vectors + 1)
]


def expect_clean(loop: Loop, variant: str, multiply_adds: int) -> None:
    """No spill; the multiply-adds of the blocking (or of an unrolled loop), fused where the CPU can."""
    assert loop.spills == []
    registers = multiply_adds * 16 // REGISTER_LANES[variant]
    wanted, other = loop.fused, loop.multiplies
    if variant == "generic":
        wanted, other = other, wanted
    assert other == 0
    assert wanted in (registers, 2 * registers, 4 * registers)


@pytest.mark.parametrize(("variant", "triple", "cpu", "lanes", "vectors"), SHAPES)
def test_dense_micro_kernel(variant: str, triple: str, cpu: str, lanes: int, vectors: int) -> None:
    blocking = BLOCKINGS[variant]
    loop = inner_loop(compile_for(emit_ir(blocking, dense(blocking.pixels, lanes, vectors)), triple, cpu))
    expect_clean(loop, variant, blocking.pixels * lanes * vectors)


@pytest.mark.parametrize(("variant", "triple", "cpu"), [cpu for cpu in CPUS if BLOCKINGS[cpu[0]].half])
@pytest.mark.parametrize("lanes", [16, 9, 8, 3, 1])
def test_micro_kernel_of_half_a_block(variant: str, triple: str, cpu: str, lanes: int) -> None:
    blocking = BLOCKINGS[variant]
    source = emit_ir(blocking, half(blocking.half, lanes), halves=True)
    expect_clean(inner_loop(compile_for(source, triple, cpu)), variant, blocking.half * lanes // 2)


@pytest.mark.parametrize(("variant", "triple", "cpu"), WIDE)
@pytest.mark.parametrize("lanes", [16, 9])
@pytest.mark.parametrize("vectors", [1, 2])
def test_wide_micro_kernel(variant: str, triple: str, cpu: str, lanes: int, vectors: int) -> None:
    blocking = BLOCKINGS[variant]
    pixels = blocking.wide[vectors - 1]
    loop = inner_loop(compile_for(emit_ir(blocking, dense(pixels, lanes, vectors, runs=True)), triple, cpu))
    expect_clean(loop, variant, pixels * lanes * vectors)


# Not the generic one: without fused multiply-adds, weights, inputs and sums are two registers too many.
@pytest.mark.parametrize(("variant", "triple", "cpu"), CPUS[:-1])
def test_depthwise_micro_kernel(variant: str, triple: str, cpu: str) -> None:
    blocking = BLOCKINGS[variant]
    loop = inner_loop(compile_for(emit_ir(blocking, EMITTERS["depthwise"]), triple, cpu))
    expect_clean(loop, variant, blocking.pixels)


@pytest.mark.parametrize(("variant", "triple", "cpu"), WIDE)
@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_micro_kernel_of_runs(variant: str, triple: str, cpu: str, width: int, stride: int) -> None:
    blocking = BLOCKINGS[variant]
    loop = inner_loop(compile_for(emit_ir(blocking, EMITTERS[f"quads {width} {stride}"]), triple, cpu))
    expect_clean(loop, variant, 4 * blocking.quads * width)


@pytest.mark.parametrize(("variant", "triple", "cpu"), CPUS)
@pytest.mark.parametrize("name", ["fold_max", "fold_add"])
def test_pooling_micro_kernel(variant: str, triple: str, cpu: str, name: str) -> None:
    assembly = compile_for(emit_ir(BLOCKINGS[variant], EMITTERS[name]), triple, cpu)
    pattern = r"\tv?maxps|\tfcmgt|\tfmaxnm|\tv?cmp\w*ps" if name == "fold_max" else r"\tv?addps|\tfadd"
    loops = [loop for loop in innermost_loops(assembly) if re.search(pattern, loop.text)]
    assert loops
    assert [spill for loop in loops for spill in loop.spills] == []


# The others hold their rows once, in no loop, and may have to put some aside while they activate them.
@pytest.mark.parametrize(("variant", "triple", "cpu"), CPUS)
@pytest.mark.parametrize("name", ["move", "affine", "combine", "interpolate"])
def test_every_emitter_compiles_everywhere(variant: str, triple: str, cpu: str, name: str) -> None:
    assert "micro_kernel:" in compile_for(emit_ir(BLOCKINGS[variant], EMITTERS[name]), triple, cpu)


# 16 pixels, 16 rows and what passes between them: a vector or two may have to wait.
@pytest.mark.parametrize(("variant", "triple", "cpu"), WIDE)
def test_unpacking_keeps_to_registers(variant: str, triple: str, cpu: str) -> None:
    assert len(Loop(compile_for(emit_straight(emit_unpack, 5), triple, cpu)).spills) <= 4


@pytest.mark.parametrize(("variant", "triple", "cpu"), WIDE)
def test_winograd_output_keeps_to_registers(variant: str, triple: str, cpu: str) -> None:
    assert Loop(compile_for(emit_straight(emit_winograd_output, 5), triple, cpu)).spills == []


@pytest.mark.parametrize(("variant", "triple", "cpu"), [CPUS[0], CPUS[3], CPUS[5], CPUS[8]])
def test_a_spill_would_be_seen(variant: str, triple: str, cpu: str) -> None:
    blocking = BLOCKINGS[variant]
    greedy = dense(4 * blocking.pixels, 16, blocking.vectors)
    assert inner_loop(compile_for(emit_ir(blocking, greedy), triple, cpu)).spills


def compiled_convolve() -> str:
    """Assembly of this machine's own `convolve`, compiled here: numba cannot show code from its cache."""
    compiled = numba.njit(nogil=True)(convolve.py_func)  # type: ignore[attr-defined]
    arena, zeros = np.zeros(4096, np.float32), np.zeros(256, np.float32)
    layout = Map(0, 256, 64, 16)
    compiled(
        arena, layout, np.zeros(1, np.int64), np.array([[0, 1, 0, 1, 0]], np.int64), 16, zeros, zeros[:16],
        zeros[:16], layout._replace(origin=2048), np.zeros((1, 2), np.int32), 1, 1, Act(0, 0.0, 0.0),
        Test(0, 0.0, 1), np.zeros(scratch_elements(1), np.float32), np.zeros((4, 4), np.uint8),
    )  # fmt: skip
    return "\n".join(compiled.inspect_asm().values())


def test_own_convolve() -> None:
    blocking, per_vector = BLOCKINGS[VARIANT], 16 // REGISTER_LANES[VARIANT]
    loops = [x for x in innermost_loops(compiled_convolve()) if x.fused + x.multiplies >= blocking.pixels]
    sizes = {loop.fused + loop.multiplies for loop in loops}
    expected = (
        {
            blocking.pixels * lanes * vectors * per_vector
            for lanes in (16, 9, 8, 3, 1)
            for vectors in range(1, blocking.vectors + 1)
        }
        | {
            pixels * lanes * vectors * per_vector
            for vectors, pixels in enumerate(blocking.wide, 1)
            if pixels
            for lanes in (16, 9)
        }
        | {blocking.half * lanes * per_vector // 2 for lanes in (16, 9, 8, 3, 1) if blocking.half}
    )
    assert [size for size in expected if sizes.isdisjoint((size, 2 * size, 4 * size))] == []  # LLVM unrolls short ones
    assert [spill for loop in loops for spill in loop.spills] == []
