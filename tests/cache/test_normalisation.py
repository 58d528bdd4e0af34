"""Which tables are lines, and that a line gives the table's bits."""

from __future__ import annotations

import numpy as np
import pytest

from cache.normalisation import line


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (1 / 128, -127 / 128), (1 / 255, 0.0), (0.017, -2.1)])
def test_a_line_gives_the_bits_of_its_table(channels, slope, shift):
    factor = np.float32(slope) * np.arange(1, channels + 1, dtype=np.float32)
    table = (np.arange(256.0)[:, None] * factor + np.float32(shift)).astype(np.float32)
    found = line(table)
    assert [part.shape for part in found] == [(48,), (48,)]
    assert found[0][:channels].tolist() == found[0][-channels:].tolist()
    again = np.arange(256.0)[:, None] * found[0][:channels].astype(np.float64) + found[1][:channels]
    assert np.array_equal(again.astype(np.float32), table)


@pytest.mark.parametrize("table", [
    np.sqrt(np.arange(256, dtype=np.float32))[:, None], np.arange(256 * 5, dtype=np.float32).reshape(256, 5),
    np.full((256, 1), np.inf, np.float32),
], ids=["curve", "five channels", "infinite"])  # fmt: skip
def test_what_is_no_line_stays_a_table(table):
    assert [part.size for part in line(table)] == [0, 0]


def test_one_bit_off_is_no_line():
    table = np.arange(256, dtype=np.float32)[:, None].copy()
    assert line(table)[0].size == 48
    table[100] = np.nextafter(table[100], np.float32(0))
    assert line(table)[0].size == 0
