"""Machine code of the micro-kernels, for this CPU or another one, and what its inner loop holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import llvmlite.binding as llvm
from llvmlite import ir

from kernels.emit import (
    F32,
    HALF_VEC,
    I64,
    Builder,
    Rows,
    Value,
    emit_depthwise,
    emit_depthwise_quads,
    emit_fold,
    emit_multiply_accumulate,
    join_pairs,
)
from kernels.emit_finish import emit_activation, emit_exit
from kernels.emit_rows import emit_affine, emit_combine, emit_interpolate, emit_move
from kernels.target import Blocking

_X86_STACK = r"-?\d*\(%rsp(?:,[^)]*)?\)"  # frames have no base pointer here: %rbp holds what it likes
_SPILL = re.compile(
    rf"\t\S+\s+%[xyz]mm\d+, {_X86_STACK}|\t\S*mov\S+\s+{_X86_STACK}, %[xyz]mm\d+"  # x86-64, AT&T syntax
    r"|\t(?:str|ldr|stp|ldp|stur|ldur|ld1r?|st1)\s.*\b[qvds]\d+\b.*\[sp\b"  # aarch64: nor has x29
)
_LABEL = re.compile(r"^(\.?LBB\S*?):", re.MULTILINE)


@dataclass(frozen=True)
class Loop:
    """The instructions of one loop, one per line."""

    text: str

    @property
    def spills(self) -> list[str]:
        """Instructions that move a vector register to or from the stack."""
        return [line.strip() for line in self.text.splitlines() if _SPILL.match(line)]

    @property
    def fused(self) -> int:
        """Vector multiply-adds."""
        return len(re.findall(r"\tvfn?madd\d+ps|\tfmla\s", self.text))

    @property
    def multiplies(self) -> int:
        """Vector multiplications that are not fused."""
        return len(re.findall(r"\tv?mulps|\tfmul\s", self.text))


# What a kernel's sums take, in front of the activation: how many int64 arguments, and how they are emitted.
EMITTERS: dict[str, tuple[int, Callable[..., Rows]]] = {
    "depthwise": (6, emit_depthwise),
    "fold_max": (5, lambda b, blocking, *a: emit_fold(b, blocking, True, *a[:4], b.sitofp(a[4], F32))),
    "fold_add": (5, lambda b, blocking, *a: emit_fold(b, blocking, False, *a[:4], b.sitofp(a[4], F32))),
    "move": (2, emit_move),
    "affine": (4, emit_affine),
    "combine": (5, emit_combine),
    "interpolate": (7, lambda b, blocking, *a: emit_interpolate(b, blocking, list(a[:4]), list(a[4:6]), a[6])),
}
for width, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
    EMITTERS[f"quads {width} {stride}"] = (
        6,
        partial(lambda shape, b, blocking, *a: emit_depthwise_quads(b, blocking, *shape, *a), (width, stride)),
    )


def dense(pixels: int, lanes: int, vectors: int, *, runs: bool = False) -> tuple[int, Callable[..., Rows]]:
    """As in `EMITTERS`, for a dense convolution; with `runs`, of runs of four neighbouring pixels."""

    def emit(b: Builder, blocking: Blocking, *a: Value) -> Rows:
        step = a[:1] if runs else (None,)
        return emit_multiply_accumulate(b, blocking, pixels, lanes, vectors, *step, *a[-5:])

    return 6 if runs else 5, emit


def half(pixels: int, lanes: int) -> tuple[int, Callable[..., Rows]]:
    """As `dense`, for half a block of outputs."""

    def emit(b: Builder, blocking: Blocking, *a: Value) -> Rows:
        return join_pairs(b, emit_multiply_accumulate(b, blocking, pixels, lanes, 1, None, *a, kind=HALF_VEC))

    return 5, emit


def emit_ir(blocking: Blocking, emitter: tuple[int, Callable[..., Rows]], *, halves: bool = False) -> str:
    """The whole micro-kernel as one function's LLVM IR. halves : see `kernels.emit_finish`."""
    count, emit = emitter
    module = ir.Module("micro_kernel")
    signature = ir.FunctionType(ir.VoidType(), [I64] * (count + 1) + [F32] * 2 + [I64] * 8)
    function = ir.Function(module, signature, "micro_kernel")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    args = list(function.args)
    rows = emit_activation(b, blocking, *args[count : count + 4], emit(b, blocking, *args[:count]), halves=halves)
    emit_exit(b, *args[count + 4 :], rows, halves=halves)
    b.ret_void()
    return str(module)


def emit_straight(emit: Callable[..., None], count: int) -> str:
    """IR of code without a loop that takes `count` int64."""
    module = ir.Module("straight")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * count), "straight")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    emit(b, *function.args)
    b.ret_void()
    return str(module)


def compile_for(source: str, triple: str, cpu: str) -> str:
    """Assembly of LLVM IR for a CPU, optimised as numba does."""
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    module = llvm.parse_assembly(source.replace('"unknown-unknown-unknown"', f'"{triple}"'))
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    builder.getModulePassManager().run(module, builder)
    return str(machine.emit_assembly(module))


def innermost_loops(assembly: str) -> list[Loop]:
    """Stretches of code from a label to the first jump back to it, without another label between."""
    loops = []
    labels = list(_LABEL.finditer(assembly))
    ends = [label.start() for label in labels[1:]] + [len(assembly)]
    for label, end in zip(labels, ends, strict=True):
        body = assembly[label.start() : end]
        jump = re.search(rf"\t(?:j\w+|b|b\.\w+|cbn?z\s+\w+,|tbn?z\s.*,)\s+{re.escape(label[1])}\b", body)
        if jump:
            loops.append(Loop(body[: jump.end()]))
    return loops


def inner_loop(assembly: str) -> Loop:
    """The loop that does the most arithmetic."""
    return max(innermost_loops(assembly), key=lambda loop: loop.fused + loop.multiplies)
