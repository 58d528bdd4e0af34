"""The loop that measures the peak computes what it says, and is no slower than it can be."""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES
from service.bench import peak


def test_the_loop_is_a_chain_of_multiply_adds():
    """x = x / 2 + y from y = 1 on: 1.875 after three rounds, in each sum; one lane of their total comes back."""
    assert peak.chains(3) == np.float32(1.875 * peak.CHAINS)


def test_operations_count_a_multiply_add_as_two():
    assert peak.chain_operations(10) == 10 * peak.CHAINS * LANES * 2


def test_a_peak_is_a_rate(monkeypatch):
    monkeypatch.setattr(peak, "_SLICES", 3)
    assert 1e8 < peak.peak_flops(1) < 1e13
    assert 1e8 < peak.peak_flops(2) < 1e13
