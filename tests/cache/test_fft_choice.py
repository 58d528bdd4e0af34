"""Which convolutions Fourier transforms are for, on what tiles and at what effort. Needs no library of transforms."""

from __future__ import annotations

import math

import pytest

from cache import fft
from cache.graph import Graph
from cache.onnx_import import import_graph, load_model
from cache.plan import Plan
from cache.policy import Policy
from kernels.fft_grid import Grid
from tests.cache.onnx_models import build, node, weights


def data(taps: int = 9, group: int = 16, channels: int = 16, side: int = 40, **attrs: object) -> bytes:
    """A convolution with large filters."""
    made = node("Conv", "x w", "y", "conv", group=group, **{"pads": [taps // 2] * 4, **attrs})
    return build([made], {"w": weights(channels, channels // group, taps, taps)}, shape=(1, channels, side, side))


def graph(**of: object) -> Graph:
    return import_graph(load_model(data(**of)), (1, 16, 40, 40))


@pytest.mark.parametrize(
    ("of", "possible"),
    [
        ({}, True),
        ({"group": 1}, True),
        ({"taps": 7}, True),
        ({"taps": 5}, False),
        ({"strides": [2, 2]}, False),
        ({"dilations": [2, 2]}, False),
        ({"group": 2}, False),
    ],
    ids=str,
)
def test_what_may_gain_by_the_library(of, possible, monkeypatch):
    found = graph(**of)
    monkeypatch.setattr(fft, "is_there", lambda: False)
    assert fft.lacking(found) == possible
    monkeypatch.setattr(fft, "is_there", lambda: True)
    assert fft.lacking(found) == 0


def test_without_the_library_everything_is_direct(monkeypatch):
    monkeypatch.setattr(fft, "direct_ns", lambda made: float("inf"))
    monkeypatch.setattr(fft, "is_there", lambda: False)
    plan = Plan.compile(load_model(data(taps=31)))
    assert plan.fft_nodes == 0
    assert [step.step.few for step in plan.steps] == [None]
    assert not fft.surely_gains(plan.graph, plan.graph.nodes[0], 1.0)


def test_a_library_that_cannot_be_used_is_not_there(monkeypatch):
    def broken(name: str) -> None:
        raise ValueError("another numba")

    fft.is_there.cache_clear()
    monkeypatch.setattr(fft, "find_spec", lambda name: object())
    monkeypatch.setattr(fft, "import_module", broken)
    try:
        with pytest.warns(RuntimeWarning, match="rocket_fft cannot be used, .* another numba"):
            plan = Plan.compile(load_model(data(taps=31)))
    finally:
        fft.is_there.cache_clear()
    assert plan.fft_nodes == 0


def test_transforms_surely_gain_where_the_direct_method_is_guessed_to_take_a_quarter_more(monkeypatch):
    monkeypatch.setattr(fft, "is_there", lambda: True)
    found = graph(taps=31)
    (large,) = (n for n in found.nodes if n.op == "conv")
    for ratio, gains in ((1.2, False), (1.3, True)):
        monkeypatch.setattr(fft, "direct_ns", lambda made, ratio=ratio: ratio * made.whole_ns)
        assert fft.surely_gains(found, large, 1.0) == gains
    assert not fft.surely_gains(found, large, 0.0)


def test_half_maps_are_fused_whatever_the_filters(monkeypatch):
    monkeypatch.setattr(fft, "is_there", lambda: True)
    nodes = [node("Conv", "x w", "a", pads=[15] * 4, group=16), node("Conv", "a v", "y")]
    constants = {"w": weights(16, 1, 31, 31), "v": weights(16, 16, 1, 1)}
    made = load_model(build(nodes, constants, shape=(1, 16, 40, 40)))
    assert len(Plan.compile(made, policy=Policy(separable_bytes=0, cache_dtype="float16")).steps) == 1


def test_transforms_have_lengths_that_the_library_is_quick_at():
    assert [fft.good_size(n) for n in (1, 7, 62, 71, 86, 97)] == [2, 8, 64, 72, 90, 100]


def test_a_single_tile_wraps_around_zeros():
    made = fft.tiling((56, 20), (31, 15), (15, 7, 15, 7), 0, 4)
    assert made is not None
    assert (made.grid.tile, made.grid.rows, made.grid.columns) == (64, 72, 30)


def test_spectra_that_would_take_too_much_memory_are_not_made(monkeypatch):
    monkeypatch.setattr(fft, "MOST_BYTES", 1 << 20)
    made = fft.tiling((40, 40), (9, 9), (4,) * 4, 4, 4)
    assert made is None


def test_the_effort_of_each_channel_by_itself():
    """Two blocks on six tiles: transforms both ways, and four multiplications for each kept number of a channel."""
    made = fft.Tiling(Grid(8, 16, 24, 9, 9, 16, 18, 1), 0, 2, 0.5)
    found, values, points = made.effort, 16 * 18, 80
    assert made.points == points
    assert found.macs == pytest.approx(6 * (4 * 16 * 1.25 * values * math.log2(values) + 4 * points * 32))
    patches, spectra, results, filters = found.arrays
    assert patches == (values * 64, 4 * 12)
    assert spectra == (160 * 128, 4 * 12)
    assert results == (2 * 8 * 8 * 64, 12)
    assert filters == (points * 32 * 2 * 4, 5)


def test_the_effort_of_all_channels_with_all():
    """Three blocks to two on six tiles, four of which share a pass over the weights."""
    made = fft.Tiling(Grid(8, 16, 24, 9, 9, 16, 18, 4), 3, 2, 1.0)
    found, values, points = made.effort, 16 * 18, 160
    assert found.macs == pytest.approx(6 * (5 * 16 * 1.25 * values * math.log2(values) + 4 * points * 48 * 32))
    assert found.arrays[0] == (values * 64, 5 * 12)
    assert found.arrays[3:] == (
        (points * 2 * 4 * 3 * 64, 4),  # real and imaginary parts of four tiles' inputs
        (points * 2 * 4 * 4 * 64, 4),  # products with both parts of the weights
        (points * 48 * 32 * 2 * 4, 1),
    )
