"""How a convolution's weights and taps are laid out for its kernels."""

from __future__ import annotations

import numpy as np
import pytest

from cache.packing import block_groups, lanes_of_blocks, lanes_per_tap, pack_interleaved, pack_weights, window_taps
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


@pytest.mark.parametrize("half_pixels", [0, 8])
def test_interleaved_weights_of_a_permuted_image(monkeypatch, half_pixels):
    monkeypatch.setattr("cache.packing.HALF_PIXELS", half_pixels)
    value = Value(4, 4, np.zeros(3, np.int64), np.array([2, 1, 0], np.int64))
    weight = weights(1, 3, 1, 1)
    taps, spans, packed, lanes = pack_interleaved(weight, 12, 3, (1, 1), value)
    assert (taps.tolist(), lanes) == ([0], 3)
    assert spans.tolist() == [[0, 0 if half_pixels else 1, 0, 1, 0]]
    np.testing.assert_array_equal(packed.reshape(3, -1)[:, 0], weight[0, ::-1, 0, 0])


def scattered() -> Blocks:
    """Eight channels in three blocks, the last of them in the first block."""
    positions = np.array([3, 17, 1, 47, 32, 20, 16, 0], np.int64)
    return Blocks(np.zeros(3, np.int64), np.arange(3, dtype=np.int64), positions)


@pytest.mark.parametrize("lanes", [8, 1])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_parts_of_blocks_list_what_whole_blocks_list_without_the_idle_ones(monkeypatch, groups, lanes):
    monkeypatch.setattr("cache.packing.HALF_PIXELS", 0)
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


@pytest.mark.parametrize(("outputs", "vectors"), [(8, [0]), (9, [1]), (24, [1, 0]), (32, [1, 1])])
def test_the_last_outputs_are_half_a_block_where_they_fill_no_more(monkeypatch, outputs, vectors):
    monkeypatch.setattr("cache.packing.MAX_VECTORS", 1)
    weight, offsets = weights(outputs, 8, 1, 1), np.array([0, 500, 1000], np.int64)
    made = []
    for half_pixels in (0, 8):
        monkeypatch.setattr("cache.packing.HALF_PIXELS", half_pixels)
        made.append(pack_weights(weight, 1, scattered(), offsets, 64, (1, 1)))
    (taps, whole, every), (same_taps, spans, packed) = made
    np.testing.assert_array_equal(taps, same_taps)
    assert spans[:, 1].tolist() == vectors
    for old, new in zip(whole.tolist(), spans.tolist(), strict=True):
        size = new[1] * 16 or 8
        rows = every[old[4] : old[4] + old[3] * 256].reshape(-1, 16)
        np.testing.assert_array_equal(packed[new[4] : new[4] + new[3] * 16 * size].reshape(-1, size), rows[:, :size])


def test_views_with_idle_lanes_are_read_in_halves_or_lane_by_lane(monkeypatch):
    def first(channels: int) -> Blocks:
        blocks = -(-channels // 16)
        return Blocks(np.zeros(blocks, np.int64), np.arange(blocks, dtype=np.int64), np.arange(channels))

    def read_by(lanes: int) -> set[int]:
        return {n for n in (3, 8, 15, 16, 20, 24, 28, 29, 40, 48, 58, 72, 96, 116) if lanes_per_tap(first(n)) == lanes}

    assert lanes_per_tap(scattered()) == 1
    assert read_by(1) == {3, 20, 28}
    monkeypatch.setattr("cache.packing.WIDE", False)
    assert read_by(8) == {8, 24, 40, 72, 116}
    assert [lanes_of_blocks(first(n)) for n in (20, 24, 28)] == [8, 8, 16]
    monkeypatch.setattr("cache.packing.WIDE", True)  # larger calls read whole blocks
    assert read_by(8) == {8, 24, 40}
    assert [lanes_of_blocks(first(n)) for n in (20, 24, 28)] == [16, 16, 16]
