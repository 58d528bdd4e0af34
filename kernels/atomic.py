"""What threads of one frame need of the machine: atomic words, a pause, a clock, a call by address.

Addresses are int64, of words aligned to 8 bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernels.jit import intrinsic
from kernels.target import VARIANT

_I = types.int64
I64 = ir.IntType(64)
I32 = ir.IntType(32)
F64 = ir.DoubleType()
WORD = I64.as_pointer()
_ENTRY = ir.FunctionType(I64, [I64] * 5 + [F64] + [I64] * 2).as_pointer()
MONOTONIC_CLOCK = 1


@intrinsic
def call_entry(
    typing_context: Any, address: Any, record: Any, state: Any, pixels: Any, count: Any, mode: Any, limit: Any,
    block: Any, worker: Any,
) -> Any:  # fmt: skip
    """Call the entry (`kernels.record.SIGNATURE`) at an address."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        address, *rest = args
        record, state, pixels, count, mode, limit, block, worker = rest
        return b.call(b.inttoptr(address, _ENTRY), [record, state, pixels, count, mode, limit, block, worker])

    return _I(_I, _I, _I, _I, _I, _I, types.float64, _I, _I), codegen


@intrinsic
def atomic_load(typing_context: Any, address: Any) -> Any:
    """The word at an address; what was stored before it is seen."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        return b.load_atomic(b.inttoptr(args[0], WORD), "acquire", 8)

    return _I(_I), codegen


@intrinsic
def atomic_store(typing_context: Any, address: Any, value: Any) -> Any:
    """Store a word; who loads it sees all that was stored before."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        b.store_atomic(args[1], b.inttoptr(args[0], WORD), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(_I, _I), codegen


@intrinsic
def atomic_add(typing_context: Any, address: Any, value: Any) -> Any:
    """Add to a word; returns what it was."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        return b.atomic_rmw("add", b.inttoptr(args[0], WORD), args[1], "seq_cst")

    return _I(_I, _I), codegen


@intrinsic
def atomic_replace(typing_context: Any, address: Any, old: Any, new: Any) -> Any:
    """Store `new` where the word is `old`; whether it was."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        result = b.cmpxchg(b.inttoptr(args[0], WORD), args[1], args[2], "seq_cst", "seq_cst")
        return b.extract_value(result, 1)

    return types.boolean(_I, _I, _I), codegen


@intrinsic
def pause(typing_context: Any) -> Any:
    """Wait a few cycles."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        # Two names of one idea: an instruction that tells the core that it waits for another one.
        if VARIANT == "neon":
            name, hint = "llvm.aarch64.hint", [I32(1)]
        else:
            name, hint = "llvm.x86.sse2.pause", []
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in hint])
        b.call(cgutils.get_or_insert_function(b.module, kind, name), hint)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def give_way(typing_context: Any) -> Any:
    """Let the operating system run another thread on this core (`sched_yield`)."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        kind = ir.FunctionType(I32, [])
        b.call(cgutils.get_or_insert_function(b.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def now_ns(typing_context: Any) -> Any:
    """Nanoseconds of the monotonic clock."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        slot = cgutils.alloca_once(b, I64, size=2)
        kind = ir.FunctionType(I32, [I32, WORD])
        b.call(cgutils.get_or_insert_function(b.module, kind, "clock_gettime"), [I32(MONOTONIC_CLOCK), slot])
        seconds, rest = b.load(slot), b.load(b.gep(slot, [I32(1)]))
        return b.add(b.mul(seconds, I64(10**9)), rest)

    return _I(), codegen


@intrinsic
def flush_denormals(typing_context: Any) -> Any:
    """From now on this thread takes denormal numbers for zeros; returns its mode before.

    Numbers below 1.2e-38 mean nothing in a feature map, but cost a CPU a hundred times an ordinary one.
    """

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        old = _float_mode(b)
        _set_float_mode(b, b.or_(old, I64(ZERO_DENORMALS)))
        return old

    return _I(), codegen


@intrinsic
def restore_denormals(typing_context: Any, mode: Any) -> Any:
    """Go back to the mode that `flush_denormals` returned."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        _set_float_mode(b, args[0])
        return context.get_dummy_value()

    return types.void(_I), codegen


ZERO_DENORMALS = 1 << 24 if VARIANT == "neon" else 1 << 15 | 1 << 6
"""FZ of the ARM register FPCR; FTZ and DAZ of the x86 register MXCSR."""


def _float_mode(b: Any) -> Any:
    if VARIANT == "neon":
        return b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(I64, []), "llvm.aarch64.get.fpcr"), [])
    slot = cgutils.alloca_once(b, I32)
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    read = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse.stmxcsr")
    b.call(read, [b.bitcast(slot, ir.IntType(8).as_pointer())])
    return b.zext(b.load(slot), I64)


def _set_float_mode(b: Any, mode: Any) -> None:
    if VARIANT == "neon":
        kind = ir.FunctionType(ir.VoidType(), [I64])
        b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.aarch64.set.fpcr"), [mode])
        return
    slot = cgutils.alloca_once(b, I32)
    b.store(b.trunc(mode, I32), slot)
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    write = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse.ldmxcsr")
    b.call(write, [b.bitcast(slot, ir.IntType(8).as_pointer())])
