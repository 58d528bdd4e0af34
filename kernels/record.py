"""Arguments of a kernel as a row of int64 words, and how a compiled entry reads them back.

A plan calls its kernels through one jitted loop (`kernels.program`), which knows nothing of them but an address each:
an *entry* unpacks the words of its record and calls its kernel. Addresses in a record are only as good as the arrays
behind them: who encodes keeps what `encode` returns beside the words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from kernels.atomic import call_entry, flush_denormals, restore_denormals
from kernels.jit import intrinsic, jit
from kernels.layout import Act, Map, Window

Words = npt.NDArray[np.int64]

# record, state, pixels, count, mode, limit, block, worker
_I = types.int64
SIGNATURE = _I(_I, _I, _I, _I, _I, types.float64, _I, _I)

# Words of a stream's state. ARENA, ARENA_SIZE : feature maps, float32. MASKS : int64[maps, 3], address, height and
# width of the mask of each map. SCRATCH, WORK : of the first worker, the next one's so many float32 further. IMAGE :
# float32 elements from the arena to the image, where that lies outside it. MOVES : int64[maps, 3], how the maps were
# moved since the last frame (`kernels.program`); 0 where they were not.
ARENA, ARENA_SIZE, MASKS, SCRATCH, SCRATCH_SIZE, WORK, WORK_SIZE, IMAGE, MOVES, STATE_WORDS = range(10)


def encode(*arguments: Any) -> tuple[Words, tuple[Any, ...]]:
    """int64[:] words of kernel arguments in order, and the arrays that must outlive them.

    int : one word. float : the bits of a float64. NamedTuple (`Map`, `Act`, `Window`) : its fields. array : its
    address, then its shape; it must be C-contiguous. Raises TypeError for anything else, ValueError for an array that
    is not contiguous.
    """
    words: list[int] = []
    kept: list[Any] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            if not argument.flags.c_contiguous:
                raise ValueError(f"expected a C-contiguous array, got strides {argument.strides}")
            kept.append(argument)
            words += [argument.ctypes.data, *argument.shape]
        elif isinstance(argument, float):
            words.append(int(np.float64(argument).view(np.int64)))
        elif isinstance(argument, tuple):
            inner, more = encode(*argument)
            words += inner.tolist()
            kept += more
        elif isinstance(argument, (int, np.integer)):
            words.append(int(argument))
        else:
            raise TypeError(f"expected an int, float, tuple or array, got {type(argument).__name__}")
    return np.array(words, np.int64), tuple(kept)


class Entry:
    """A function of `SIGNATURE` that can be called by address from compiled code.

    Compiled when its address is first asked for, and cached on disk as every kernel is.
    """

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function
        self.name = function.__name__

    @cached_property
    def _compiled(self) -> Any:
        return numba.cfunc(SIGNATURE, cache=True)(self._function)

    @property
    def address(self) -> int:
        """Where the compiled function lies, for as long as this process lives."""
        return int(self._compiled.address)


def entry(function: Callable[..., int]) -> Entry:
    """Make an entry of a function (record, state, pixels, count, mode, limit, block, worker) -> pixels written."""
    return Entry(function)


@jit
def call(address: int, record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int) -> int:
    """Call an entry by address, as the first worker; arithmetic as in a frame (denormals are zeros)."""
    old = flush_denormals()
    written: int = call_entry(address, record, state, pixels, count, mode, limit, block, 0)
    restore_denormals(old)
    return written


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        return b.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(_I), codegen


@jit
def words_at(address: int, count: int) -> np.ndarray:
    """int64[count] at an address."""
    found: np.ndarray = numba.carray(_pointer(address), (count,), np.int64)
    return found


@jit
def halves_at(address: int, count: int) -> np.ndarray:
    """uint16[count] at an address."""
    found: np.ndarray = numba.carray(_pointer(address), (count,), np.uint16)
    return found


@jit
def ints_at(record: np.ndarray, at: int) -> np.ndarray:
    """The int64[n] array encoded at a word (2 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1],), np.int64)
    return found


@jit
def ints_2d_at(record: np.ndarray, at: int) -> np.ndarray:
    """The int64[n, m] array encoded at a word (3 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1], record[at + 2]), np.int64)
    return found


@jit
def index_at(record: np.ndarray, at: int) -> np.ndarray:
    """The int32[n] array encoded at a word (2 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1],), np.int32)
    return found


@jit
def index_2d_at(record: np.ndarray, at: int) -> np.ndarray:
    """The int32[n, m] array encoded at a word (3 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1], record[at + 2]), np.int32)
    return found


@jit
def floats_at(record: np.ndarray, at: int) -> np.ndarray:
    """The float32[n] array encoded at a word (2 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1],), np.float32)
    return found


@jit
def floats_3d_at(record: np.ndarray, at: int) -> np.ndarray:
    """The float32[n, m, k] array encoded at a word (4 words)."""
    shape = (record[at + 1], record[at + 2], record[at + 3])
    found: np.ndarray = numba.carray(_pointer(record[at]), shape, np.float32)
    return found


@jit
def floats_2d_at(record: np.ndarray, at: int) -> np.ndarray:
    """The float32[n, m] array encoded at a word (3 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1], record[at + 2]), np.float32)
    return found


@jit
def doubles_at(record: np.ndarray, at: int) -> np.ndarray:
    """The float64[n] array encoded at a word (2 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1],), np.float64)
    return found


@jit
def doubles_2d_at(record: np.ndarray, at: int) -> np.ndarray:
    """The float64[n, m] array encoded at a word (3 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1], record[at + 2]), np.float64)
    return found


@jit
def unsigned_at(record: np.ndarray, at: int) -> np.ndarray:
    """The uint64[n] array encoded at a word (2 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1],), np.uint64)
    return found


@jit
def bytes_at(record: np.ndarray, at: int) -> np.ndarray:
    """The uint8[n] array encoded at a word (2 words)."""
    found: np.ndarray = numba.carray(_pointer(record[at]), (record[at + 1],), np.uint8)
    return found


@jit
def bytes_3d_at(record: np.ndarray, at: int) -> np.ndarray:
    """The uint8[n, m, k] array encoded at a word (4 words)."""
    shape = (record[at + 1], record[at + 2], record[at + 3])
    found: np.ndarray = numba.carray(_pointer(record[at]), shape, np.uint8)
    return found


@jit
def map_at(record: np.ndarray, at: int) -> Map:
    """The `Map` encoded at a word (4 words)."""
    return Map(record[at], record[at + 1], record[at + 2], record[at + 3])


@jit
def act_at(record: np.ndarray, at: int) -> Act:
    """The `Act` encoded at a word (5 words)."""
    numbers = record.view(np.float64)
    return Act(record[at], numbers[at + 1], numbers[at + 2], record[at + 3], record[at + 4])


@jit
def window_at(record: np.ndarray, at: int) -> Window:
    """The `Window` encoded at a word (10 words)."""
    return Window(
        record[at], record[at + 1], record[at + 2], record[at + 3], record[at + 4], record[at + 5], record[at + 6],
        record[at + 7], record[at + 8], record[at + 9],
    )  # fmt: skip


@jit
def arena_of(state: np.ndarray) -> np.ndarray:
    """float32[:], the stream's feature maps."""
    found: np.ndarray = numba.carray(_pointer(state[ARENA]), (state[ARENA_SIZE],), np.float32)
    return found


@jit
def scratch_of(state: np.ndarray, worker: int) -> np.ndarray:
    """float32[:], the worker's candidates."""
    address = state[SCRATCH] + worker * state[SCRATCH_SIZE] * 4
    found: np.ndarray = numba.carray(_pointer(address), (state[SCRATCH_SIZE],), np.float32)
    return found


@jit
def work_of(state: np.ndarray, worker: int) -> np.ndarray:
    """float32[:], what some of the worker's kernels need besides; its first 48 stay zero."""
    address = state[WORK] + worker * state[WORK_SIZE] * 4
    found: np.ndarray = numba.carray(_pointer(address), (state[WORK_SIZE],), np.float32)
    return found


@jit
def mask_of(state: np.ndarray, index: int) -> np.ndarray:
    """uint8[H, W], the mask of a map: what this frame wrote of it."""
    row = words_at(state[MASKS] + index * 24, 3)
    found: np.ndarray = numba.carray(_pointer(row[0]), (row[1], row[2]), np.uint8)
    return found


@jit
def mask_at(address: int, height: int, width: int) -> np.ndarray:
    """uint8[height, width] at an address."""
    found: np.ndarray = numba.carray(_pointer(address), (height, width), np.uint8)
    return found


@jit
def clear_masks(table: np.ndarray, touched: np.ndarray, everything: bool) -> None:
    """Set masks to zero: those of maps that are `touched`, or all of them; then nothing is touched.

    table : int64[maps, 3], address, height and width of each mask uint8[height, width]. touched : uint8[maps].
    """
    for index in range(table.shape[0]):
        if everything or touched[index]:
            mask_at(table[index, 0], table[index, 1], table[index, 2])[:] = 0
    touched[:] = 0


@jit
def pixels_at(address: int, count: int) -> np.ndarray:
    """int32[count, 2] at an address."""
    found: np.ndarray = numba.carray(_pointer(address), (count, 2), np.int32)
    return found


@jit
def indices_at(address: int, count: int) -> np.ndarray:
    """int32[count] at an address."""
    found: np.ndarray = numba.carray(_pointer(address), (count,), np.int32)
    return found
