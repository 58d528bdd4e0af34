"""The byte micro-kernels for every CPU: no spill in the inner loop, the right instructions, and exact sums."""

from __future__ import annotations

import ctypes
import re

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from assembly import compile_for, innermost_loops
from llvmlite import ir

from kernels.emit import F32, I64
from kernels.emit_int8 import (
    BYTE_BLOCKINGS,
    BYTE_HOST,
    BYTE_VARIANT,
    BYTE_VECTORS,
    QUADS,
    ByteBlocking,
    byte_variant,
    emit_byte_convolution,
    emit_byte_depthwise,
    emit_lookup,
    emit_requantise,
)
from kernels.layout import CHUNK
from kernels.target import cpu_features

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
llvm.initialize_native_target()

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
CPUS = [
    ("vnni512", X86, "sapphirerapids"),
    ("vnni512", X86, "znver4"),
    ("vnni512", X86, "cascadelake"),
    ("madd512", X86, "skylake-avx512"),
    ("vnni256", X86, "alderlake"),
    ("madd256", X86, "haswell"),
    ("madd256", X86, "znver3"),
    ("madd128", X86, "x86-64"),
    ("usdot", ARM, "neoverse-v1"),
    ("sdot", ARM, "cortex-a76"),
    ("sdot", ARM, "neoverse-n1"),
    ("plain", ARM, "cortex-a53"),
]
PRODUCTS = {
    "vnni": r"vpdpbusd\s", "madd": r"v?pmaddwd\s", "usdot": r"usdot\s", "sdot": r"sdot\s", "plain": r"mla\s",
}  # fmt: skip
NEEDS = {
    "vnni512": {"avx512vnni"}, "vnni256": {"avxvnni"}, "madd512": {"avx512bw"}, "madd256": {"avx2"},
    "madd128": {"sse2"}, "usdot": {"i8mm"}, "sdot": {"dotprod"}, "plain": set(),
}  # fmt: skip


def emit_ir(blocking: ByteBlocking, vectors: int, *, depthwise: bool = False) -> str:
    """The whole micro-kernel as one function's LLVM IR."""
    module = ir.Module("micro_kernel")
    signature = ir.FunctionType(ir.VoidType(), [I64] * 7 + [F32] * 2 + [I64] * 4)
    function = ir.Function(module, signature, "micro_kernel")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    args = list(function.args)
    if depthwise:
        rows = emit_byte_depthwise(b, 4, *args[:6])
    else:
        rows = emit_byte_convolution(b, blocking, vectors, *args[:6])
    emit_requantise(b, rows, *args[6:])
    b.ret_void()
    return str(module)


SHAPES = [(*cpu, v) for cpu in CPUS for v in range(1, len(BYTE_BLOCKINGS[cpu[0]].pixels) + 1)]


@pytest.mark.parametrize(("variant", "triple", "cpu", "vectors"), SHAPES)
def test_no_spill_and_no_more_products_than_needed(variant: str, triple: str, cpu: str, vectors: int) -> None:
    blocking = BYTE_BLOCKINGS[variant]
    assembly = compile_for(emit_ir(blocking, vectors), triple, cpu)
    assert "pmaddubsw" not in assembly, "it saturates"
    pattern = re.compile(r"\t(?:\{vex\} )?" + PRODUCTS[blocking.dot])
    loop = max(innermost_loops(assembly), key=lambda found: len(pattern.findall(found.text)))
    lanes = 4 if blocking.dot == "plain" else blocking.lanes  # the plain form is for NEON's registers here
    per_quad = {"madd": 2, "plain": 4}.get(blocking.dot, 1)
    wanted = blocking.pixels[vectors - 1] * vectors * (16 // lanes) * QUADS * per_quad
    assert len(pattern.findall(loop.text)) == wanted
    assert loop.spills == []


def test_a_spill_would_be_seen() -> None:
    greedy = ByteBlocking("vnni", 16, (16, 16, 16))
    loops = innermost_loops(compile_for(emit_ir(greedy, 3), X86, "znver4"))
    assert any(loop.spills for loop in loops)


def test_calls_fill_a_chunk() -> None:
    for blocking in BYTE_BLOCKINGS.values():
        assert all(CHUNK % pixels == 0 for pixels in blocking.pixels), "a chunk's last call would pass its tables"


@pytest.mark.parametrize(
    ("variant", "features", "expected"),
    [
        ("avx512", {"avx512vnni"}, "vnni512"),
        ("avx512", {"avx512bw"}, "madd512"),
        ("avx2", {"avxvnni"}, "vnni256"),
        ("avx2", set(), "madd256"),
        ("generic", {"sse2"}, "madd128"),
        ("generic", set(), "plain"),
        ("neon", {"i8mm", "dotprod"}, "usdot"),
        ("neon", {"dotprod"}, "sdot"),
        ("neon", set(), "plain"),
    ],
)
def test_variant(variant: str, features: set[str], expected: str) -> None:
    assert byte_variant(variant, features) == expected


def test_host_values_come_from_its_blocking() -> None:
    assert BYTE_BLOCKINGS[BYTE_VARIANT] == BYTE_HOST
    assert len(BYTE_HOST.pixels) == BYTE_VECTORS


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy on a 64-byte boundary."""
    buffer = np.zeros(values.nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    view = buffer[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


KINDS = [ctypes.c_int64] * 7 + [ctypes.c_float] * 2 + [ctypes.c_int64] * 4


def run(source: str, arguments: list[int | float], kinds: list[type] = KINDS) -> None:
    """Compile LLVM IR for this machine and call it."""
    features = ",".join(f"+{name}" for name in sorted(cpu_features()))
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=numba.config.CPU_NAME or llvm.get_host_cpu_name(), features=features, opt=3
    )
    module = llvm.parse_assembly(source.replace('"unknown-unknown-unknown"', f'"{llvm.get_default_triple()}"'))
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address("micro_kernel"))(*arguments)


def call(
    blocking: ByteBlocking, vectors: int, x: np.ndarray, w: np.ndarray, bias: np.ndarray, *, depthwise: bool = False
) -> np.ndarray:
    """int32 sums of pixels x uint8[p, taps, 16] with packed weights, requantised to bytes."""
    pixels, taps = x.shape[:2]
    data, packed, starts = aligned(x), aligned(w), aligned(bias)
    bases = aligned(data.ctypes.data + np.arange(pixels, dtype=np.int64) * taps * 16)
    offsets, biases = aligned(np.arange(taps, dtype=np.int64) * 16), aligned(np.full(pixels, starts.ctypes.data))
    source, out = emit_ir(blocking, vectors, depthwise=depthwise), np.zeros((pixels, vectors * 16), np.uint8)
    outs = aligned(out.ctypes.data + np.arange(pixels, dtype=np.int64) * vectors * 16)
    scale = aligned(np.full(vectors * 16, 2.0**-12, np.float32))
    run(source, [
        bases.ctypes.data, offsets.ctypes.data, taps, packed.ctypes.data, biases.ctypes.data, 0, scale.ctypes.data,
        -128.0, 127.0, 128, outs.ctypes.data, 0, 64,
    ])  # fmt: skip
    return out


def requantised(sums: np.ndarray) -> np.ndarray:
    """What `call` makes of int64 sums."""
    return (np.clip(np.rint(sums.astype(np.float32) * np.float32(2.0**-12)), -128, 127) + 128).astype(np.uint8)


HERE = [name for name, needed in NEEDS.items() if needed <= cpu_features()]


@pytest.mark.parametrize("variant", HERE)
@pytest.mark.parametrize("extreme", [True, False])
def test_every_form_that_runs_here_is_exact(variant: str, extreme: bool) -> None:
    blocking, rng, taps = BYTE_BLOCKINGS[variant], np.random.default_rng(0), 5
    for vectors, pixels in enumerate(blocking.pixels, 1):
        x = rng.integers(0, 256, (pixels, taps, 16)).astype(np.uint8)
        w = rng.integers(-128, 128, (taps, QUADS, vectors, 16, 4)).astype(np.int8)
        if extreme:  # where 16-bit sums would saturate
            x[:] = 255
            w = np.where(rng.random(w.shape) < 0.9, rng.choice([-128, 127]), w).astype(np.int8)
        bias = rng.integers(-(2**16), 2**16, vectors * 16).astype(np.int32)
        flat = w.transpose(0, 1, 4, 2, 3).reshape(taps * 16, vectors * 16).astype(np.int64)
        sums = bias + (x.reshape(pixels, -1).astype(np.int64) - blocking.offset) @ flat
        np.testing.assert_array_equal(call(blocking, vectors, x, w, bias), requantised(sums))


def test_depthwise_is_exact() -> None:
    rng = np.random.default_rng(1)
    x = rng.choice([0, 1, 254, 255], (4, 25, 16)).astype(np.uint8)
    w = rng.choice([-128, -127, 127], (25, 16)).astype(np.int16)
    bias = rng.integers(-(2**16), 2**16, 16).astype(np.int32)
    sums = bias + (x.astype(np.int64) * w).sum(axis=1)
    np.testing.assert_array_equal(call(BYTE_HOST, 1, x, w, bias, depthwise=True), requantised(sums))


@pytest.mark.parametrize("features", [set(), {"avx512vbmi"}])
def test_lookup_with_and_without_byte_permutes(features: set[str]) -> None:
    if not features <= cpu_features():
        pytest.skip("not on this CPU")
    module = ir.Module("lookup")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 3), "micro_kernel")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    emit_lookup(b, features, *function.args)
    b.ret_void()
    rng = np.random.default_rng(2)
    x, table, out = rng.permutation(256).astype(np.uint8), rng.permutation(256).astype(np.uint8), np.zeros(64, np.uint8)
    for start in range(0, 256, 64):
        run(str(module), [x.ctypes.data + start, table.ctypes.data, out.ctypes.data], [ctypes.c_int64] * 3)
        np.testing.assert_array_equal(out, table[x[start : start + 64]])
