"""Machine code of the micro-kernels, for this CPU or another one, and what its inner loop holds."""

from __future__ import annotations

import re
from dataclasses import dataclass

import llvmlite.binding as llvm
from llvmlite import ir

from kernels.emit import F32, I64, emit_activation, emit_depthwise, emit_exit, emit_multiply_accumulate
from kernels.target import Blocking

_X86_STACK = r"-?\d*\(%r[sb]p(?:,[^)]*)?\)"
_SPILL = re.compile(
    rf"\t\S+\s+%[xyz]mm\d+, {_X86_STACK}|\t\S*mov\S+\s+{_X86_STACK}, %[xyz]mm\d+"  # x86-64, AT&T syntax
    r"|\t(?:str|ldr|stp|ldp|stur|ldur|ld1r?|st1)\s.*\b[qvds]\d+\b.*\[(?:sp|x29)"  # aarch64
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


def emit_ir(blocking: Blocking, lanes: int, vectors: int, *, depthwise: bool = False) -> str:
    """The whole micro-kernel as one function's LLVM IR."""
    module = ir.Module("micro_kernel")
    signature = ir.FunctionType(ir.VoidType(), [I64] * 6 + [F32] * 2 + [I64] * 8)
    function = ir.Function(module, signature, "micro_kernel")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    args = list(function.args)
    if depthwise:
        rows = emit_depthwise(b, blocking, *args[:5])
    else:
        rows = emit_multiply_accumulate(b, blocking, lanes, vectors, *args[:5])
    rows = emit_activation(b, *args[5:9], rows)
    emit_exit(b, args[9], rows, *args[10:])
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
