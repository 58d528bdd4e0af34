"""How many components of a matrix are worth keeping: by energy, or by variational Bayes. Arrays only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.compression.unfolding import Array

BLOCK = 16
"""Channels that the kernels compute together."""
_HALF = 8
_COSTS_LITTLE = 1.25
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS, _GRID = 60, 200


def by_energy(values: Array, share: float) -> int:
    """The least rank that keeps a share (0 to 1) of the sum of squared singular values; 1 or more.

    values : float64[n], falling
    """
    squares = np.square(values)
    total = float(squares.sum())
    if total <= 0:
        return 1
    kept = np.cumsum(squares) / total
    return min(int(np.searchsorted(kept, share - 1e-12)) + 1, len(values))


def lost(values: Array, rank: int) -> float:
    """Share of the sum of squares beyond a rank."""
    squares = np.square(values)
    total = float(squares.sum())
    return float(squares[rank:].sum()) / total if total > 0 else 0.0


def rounded(rank: int, most: int) -> int:
    """A rank rounded up to whole blocks of 16 channels, else to halves of them, where that adds a quarter at most."""
    for block in (BLOCK, _HALF):
        full = -(-rank // block) * block
        if full <= rank * _COSTS_LITTLE and full <= most:
            return full
    return min(rank, most)


def by_bayes(values: Array, shape: tuple[int, int]) -> int:
    """The rank that empirical variational Bayes (EVBMF) finds in a matrix: signal that stands out of its noise.

    values : float64[min(shape)], all singular values, falling. shape : of the matrix. Can be 0: nothing but noise.
    The analytic global solution of Nakajima, Sugiyama, Babacan and Tomioka, "Global analytic solution of
    fully-observed variational Bayesian matrix factorization", JMLR 14 (2013): the variance of the noise is found by a
    search on a line (theorem 2 there), and components above a threshold that it gives are kept.
    """
    few, many = min(shape), max(shape)
    squares = np.square(values[:few]) / many
    if not squares.size or squares[0] <= 0:
        return 0
    ratio = few / many
    edge = _edge(ratio)
    # The variance lies between what it is with as many components as can be told from noise, and with none at all.
    highest = float(squares.sum()) / few
    most = min(math.ceil(few / (1 + ratio)) - 1, few - 1)
    lowest = max(float(squares[most]) / edge, float(squares[most:].mean()), highest * 1e-12)
    noise = highest if lowest >= highest else _noise(squares, ratio, edge, lowest, highest)
    return int(np.count_nonzero(squares > noise * edge))


def _edge(ratio: float) -> float:
    """x below which a component of squared singular value x (over columns and noise) is noise."""
    tau = 2.5129 * math.sqrt(ratio)  # zero of phi(tau) + phi(tau / ratio), within a thousandth (the paper's remark)
    return (1 + tau) * (1 + ratio / tau)


def _noise(squares: Array, ratio: float, edge: float, lowest: float, highest: float) -> float:
    """The variance of the noise at which free energy is least: a grid, since there may be several dips, then golden
    section."""
    grid = np.exp(np.linspace(math.log(lowest), math.log(highest), _GRID))
    energies = [_free_energy(squares / noise, ratio, edge) for noise in grid]
    best = int(np.argmin(energies))
    low, high = math.log(grid[max(best - 1, 0)]), math.log(grid[min(best + 1, _GRID - 1)])
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _free_energy(squares / math.exp(left), ratio, edge) < _free_energy(squares / math.exp(right), ratio, edge):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def _free_energy(x: NDArray[Any], ratio: float, edge: float) -> float:
    x = np.maximum(x, 1e-300)
    energy = float(np.sum(x - np.log(x)))
    strong = x[x > edge]
    if strong.size:
        rest = strong - (1 + ratio)
        tau = (rest + np.sqrt(np.maximum(rest**2 - 4 * ratio, 0.0))) / 2
        energy += float(np.sum(np.log(tau + 1) + ratio * np.log(tau / ratio + 1) - tau))
    return energy
