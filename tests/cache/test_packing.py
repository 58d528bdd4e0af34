"""How a convolution's weights and taps are laid out for its kernels."""

from __future__ import annotations

import numpy as np
import pytest

from cache.packing import block_groups, lanes_per_tap, pack_interleaved, pack_weights, window_taps
from cache.values import Blocks, Value
from tests.cache.onnx_models import weights


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("blocks", range(1, 20))
def test_block_groups_cover_every_block_once_and_leave_none_alone(monkeypatch, blocks, most):
    monkeypatch.setattr("cache.packing.MAX_VECTORS", most)
    groups = block_groups(blocks)
    assert [b for first, count in groups for b in range(first, first + count)] == list(range(blocks))
    assert max(count for _, count in groups) <= most
    assert most < 3 or blocks == 1 or min(count for _, count in groups) > 1


def test_window_taps_are_byte_offsets():
    assert window_taps((2, 3), row=100, pixel=16, dilations=(2, 1)).tolist() == [[0, 64, 128], [800, 864, 928]]


def test_interleaved_weights_of_a_permuted_image():
    value = Value(4, 4, np.zeros(3, np.int64), np.array([2, 1, 0], np.int64))
    weight = weights(1, 3, 1, 1)
    taps, spans, packed, lanes = pack_interleaved(weight, 12, 3, (1, 1), value)
    assert (taps.tolist(), lanes) == ([0], 3)
    assert spans.tolist() == [[0, 1, 0, 1, 0]]
    np.testing.assert_array_equal(packed.reshape(3, 16)[:, 0], weight[0, ::-1, 0, 0])


def scattered() -> Blocks:
    """Eight channels in three blocks, the last of them in the first block."""
    positions = np.array([3, 17, 1, 47, 32, 20, 16, 0], np.int64)
    return Blocks(np.zeros(3, np.int64), np.arange(3, dtype=np.int64), positions)


@pytest.mark.parametrize("lanes", [8, 1])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_parts_of_blocks_list_what_whole_blocks_list_without_the_idle_ones(groups, lanes):
    weight = weights(20, 8 // groups, 2, 1)
    offsets = np.array([0, 500, 1000], np.int64)
    whole, parts = (pack_weights(weight, groups, scattered(), offsets, 64, (1, 1), n) for n in (16, lanes))
    for (first, count, tap, taps, at), span in zip(whole[1].tolist(), parts[1].tolist(), strict=True):
        assert span[:2] == [first, count]
        offsets = (whole[0][tap : tap + taps, None] + np.arange(0, 16, lanes) * 4).reshape(-1)
        rows = whole[2][at : at + taps * 16 * count * 16].reshape(taps * 16 // lanes, -1)
        used = rows.any(axis=1)
        assert parts[0][span[2] : span[2] + span[3]].tolist() == offsets[used].tolist()
        kept = parts[2][span[4] : span[4] + span[3] * lanes * count * 16]
        np.testing.assert_array_equal(kept.reshape(-1, lanes * count * 16), rows[used])
    assert parts[0].size * lanes < whole[0].size * 16


def test_views_with_idle_lanes_are_read_in_halves_or_lane_by_lane():
    def first(channels: int) -> Blocks:
        blocks = -(-channels // 16)
        return Blocks(np.zeros(blocks, np.int64), np.arange(blocks, dtype=np.int64), np.arange(channels))

    assert lanes_per_tap(scattered()) == 1
    read = {n: lanes_per_tap(first(n)) for n in (3, 8, 15, 16, 20, 24, 28, 29, 40, 48, 58, 72, 96, 116)}
    assert {n for n, lanes in read.items() if lanes == 1} == {3, 20, 28}
    assert {n for n, lanes in read.items() if lanes == 8} == {8, 24, 40, 72, 116}
