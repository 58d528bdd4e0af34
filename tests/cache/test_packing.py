"""How a convolution's weights and taps are laid out for its kernels."""

from __future__ import annotations

import numpy as np
import pytest

from cache.packing import block_groups, pack_interleaved, window_taps
from cache.values import Value
from tests.cache.onnx_models import weights


@pytest.mark.parametrize("blocks", range(1, 20))
def test_block_groups_cover_every_block_once_and_leave_none_alone(blocks):
    groups = block_groups(blocks)
    assert [b for first, count in groups for b in range(first, first + count)] == list(range(blocks))
    assert max(count for _, count in groups) <= 3
    assert blocks == 1 or min(count for _, count in groups) > 1


def test_window_taps_are_byte_offsets():
    assert window_taps((2, 3), row=100, pixel=16, dilations=(2, 1)).tolist() == [[0, 64, 128], [800, 864, 928]]


def test_interleaved_weights_of_a_permuted_image():
    value = Value(4, 4, np.zeros(3, np.int64), np.array([2, 1, 0], np.int64))
    weight = weights(1, 3, 1, 1)
    taps, spans, packed, lanes = pack_interleaved(weight, 12, 3, (1, 1), value)
    assert (taps.tolist(), lanes) == ([0], 3)
    assert spans.tolist() == [[0, 1, 0, 1, 0]]
    np.testing.assert_array_equal(packed.reshape(3, 16)[:, 0], weight[0, ::-1, 0, 0])
