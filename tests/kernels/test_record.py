"""Kernel arguments as words, and back; calls by address."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.jit import jit
from kernels.layout import Act, Map, Window
from kernels.record import (
    act_at,
    call,
    clear_masks,
    encode,
    entry,
    floats_3d_at,
    floats_at,
    index_2d_at,
    index_at,
    ints_2d_at,
    ints_at,
    map_at,
    pixels_at,
    window_at,
    words_at,
)


@jit
def _read_all(address: int) -> tuple[Map, Act, Window, float, int]:
    r = words_at(address, 64)
    total = ints_at(r, 19).sum() + ints_2d_at(r, 21).sum() + index_at(r, 24).sum() + index_2d_at(r, 26).sum()
    floats = floats_at(r, 29).sum() + floats_3d_at(r, 31).sum()
    return map_at(r, 0), act_at(r, 4), window_at(r, 9), floats, total


def test_words_are_read_back_as_they_were_written():
    place, act, window = Map(1, 2, 3, 4), Act(5, -0.1, 1e300, 64, -128), Window(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    arrays = (
        np.arange(3), np.arange(6).reshape(2, 3), np.arange(4, dtype=np.int32), np.arange(6, dtype=np.int32).reshape(3,
        2), np.arange(5, dtype=np.float32), np.ones((2, 3, 4), np.float32),
    )  # fmt: skip
    words, kept = encode(place, act, window, *arrays)
    padded = np.zeros(64, np.int64)
    padded[: words.size] = words
    assert _read_all(padded.ctypes.data) == (place, act, window, 34.0, 3 + 15 + 6 + 15)
    assert all(a is b for a, b in zip(kept, arrays, strict=True))


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(ValueError, match="C-contiguous"):
        encode(np.zeros((4, 4))[:, ::2])
    with pytest.raises(TypeError, match="got str"):
        encode("3")


@entry
def arguments(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """A digit for each argument."""
    last = pixels_at(pixels, count)[count - 1]
    return (
        words_at(record, 1)[0] + 10 * words_at(state, 1)[0] + 100 * last[0] + 1000 * last[1] + 10000 * mode
        + 100000 * int(limit * 2) + 1000000 * block + 10000000 * worker
    )  # fmt: skip


def test_an_entry_is_called_with_its_arguments():
    record, state, pixels = np.array([1]), np.array([2]), np.array([[9, 9], [3, 4]], np.int32)
    found = call(arguments.address, record.ctypes.data, state.ctypes.data, pixels.ctypes.data, 2, 5, 3.0, 7)
    assert found == 7654321


@pytest.mark.parametrize("everything", [False, True])
def test_masks_of_touched_maps_are_cleared(everything):
    around = [np.ones((size + 2, 7), np.uint8) for size in range(1, 5)]
    masks, touched = [m[1:-1] for m in around], np.array([0, 1, 2, 0], np.uint8)
    clear_masks(np.array([[m.ctypes.data, *m.shape] for m in masks], np.int64), touched, everything)
    assert [bool(m.any()) for m in masks] == [not everything, False, False, not everything]
    assert all(m[0].all() and m[-1].all() for m in around)
    assert not touched.any()
