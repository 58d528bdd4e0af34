"""Ranks: by energy, by variational Bayes, and in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from service.compression.ranks import by_bayes, by_energy, lost, rounded


def planted(shape: tuple[int, int], rank: int, noise: float, seed: int) -> np.ndarray:
    """Singular values of a matrix of this rank, its strengths about 1, with noise."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    return np.linalg.svd(signal + noise * rng.standard_normal(shape), compute_uv=False)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (32, 288)])
@pytest.mark.parametrize("rank", [1, 5, 12])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_bayes_finds_the_signal_in_noise(shape, rank, noise):
    assert by_bayes(planted(shape, rank, noise, rank), shape) == rank


@pytest.mark.parametrize("seed", range(3))
def test_bayes_finds_nothing_in_noise_alone(seed):
    assert by_bayes(noise_only(seed), (40, 60)) == 0


def noise_only(seed: int) -> np.ndarray:
    return np.linalg.svd(np.random.default_rng(seed).standard_normal((40, 60)), compute_uv=False)


def test_bayes_does_not_depend_on_the_scale():
    values = planted((40, 60), 7, 0.3, 1)
    assert {by_bayes(values * scale, (40, 60)) for scale in (1e-6, 1.0, 1e6)} == {7}


def test_bayes_of_nothing_is_nothing():
    assert by_bayes(np.zeros(8), (8, 9)) == 0
    assert by_bayes(np.array([3.0]), (1, 1)) in (0, 1)


def test_energy_is_a_share_of_squares():
    values = np.array([3.0, 2.0, 1.0])  # 9, 4, 1 of 14
    assert [by_energy(values, share) for share in (0.5, 9 / 14, 0.65, 13 / 14, 0.95, 1.0)] == [1, 1, 2, 2, 3, 3]
    assert lost(values, 1) == pytest.approx(5 / 14)
    assert by_energy(np.zeros(4), 0.9) == 1
    assert lost(np.zeros(4), 1) == 0


@pytest.mark.parametrize(("rank", "most", "found"), [
    (13, 64, 16), (12, 64, 12), (7, 64, 8), (3, 64, 3), (17, 64, 17), (20, 64, 24), (27, 64, 32), (50, 64, 56),
    (58, 64, 64), (50, 56, 56), (70, 64, 64), (60, 61, 60),
])  # fmt: skip
def test_ranks_fill_blocks_where_that_costs_little(rank, most, found):
    assert rounded(rank, most) == found
