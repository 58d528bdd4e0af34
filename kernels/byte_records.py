"""How entries of byte kernels read their arguments back from a record (see `kernels.record`)."""

from __future__ import annotations

import numpy as np

from kernels.byte_maps import Exit, Terms
from kernels.jit import jit
from kernels.record import index_at


@jit
def bytes_at(record: np.ndarray, at: int) -> np.ndarray:
    """The uint8[4 n] array encoded at a word as int32[n] (2 words)."""
    return index_at(record, at).view(np.uint8)


@jit
def signed_bytes_at(record: np.ndarray, at: int) -> np.ndarray:
    """The int8[4 n] array encoded at a word as int32[n] (2 words)."""
    return index_at(record, at).view(np.int8)


@jit
def halves_at(record: np.ndarray, at: int) -> np.ndarray:
    """The int16[2 n] array encoded at a word as int32[n] (2 words)."""
    return index_at(record, at).view(np.int16)


@jit
def exit_at(record: np.ndarray, at: int) -> Exit:
    """The `Exit` encoded at a word (3 words)."""
    numbers = record.view(np.float64)
    return Exit(numbers[at], numbers[at + 1], record[at + 2])


@jit
def terms_at(record: np.ndarray, at: int) -> Terms:
    """The `Terms` encoded at a word (5 words)."""
    numbers = record.view(np.float64)
    return Terms(numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3], numbers[at + 4])
