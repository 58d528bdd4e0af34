"""Windows and index tables against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import geometry

SIZES = st.integers(1, 12)


def positions(span: geometry.Span, output: int) -> list[int]:
    return list(range(int(span.low[output]), int(span.high[output]) + 1, span.step))


@given(SIZES, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4))
def test_window_lists_exactly_the_taps_inside_the_input(inputs, kernel, stride, dilation, pad, after):
    outputs = (inputs + pad + after - (kernel - 1) * dilation - 1) // stride + 1
    if outputs < 1:
        return
    span = geometry.window(inputs, outputs, kernel, stride, dilation, pad)
    for o in range(outputs):
        taps = [o * stride - pad + k * dilation for k in range(kernel)]
        assert positions(span, o) == [t for t in taps if 0 <= t < inputs]


@given(SIZES, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4))
def test_reach_covers_every_tap(inputs, kernel, stride, dilation, pad, after):
    outputs = (inputs + pad + after - (kernel - 1) * dilation - 1) // stride + 1
    if outputs < 1:
        return
    before, behind = geometry.reach(inputs, outputs, kernel, stride, dilation, pad)
    taps = [o * stride - pad + k * dilation for o in range(outputs) for k in range(kernel)]
    assert before >= -min(taps)
    assert behind >= max(taps) - (inputs - 1)


@given(SIZES, st.integers(1, 5), st.integers(1, 3), st.integers(1, 2), st.integers(0, 3), st.integers(0, 2))
def test_transposed_windows_and_phases_cover_the_scatter(inputs, kernel, stride, dilation, pad, extra):
    outputs = (inputs - 1) * stride + (kernel - 1) * dilation + 1 - 2 * pad + extra
    if outputs < 1:
        return
    reached: dict[int, set[tuple[int, int]]] = {o: set() for o in range(outputs)}
    for i in range(inputs):
        for k in range(kernel):
            o = i * stride + k * dilation - pad
            if 0 <= o < outputs:
                reached[o].add((k, i))
    span = geometry.transposed_window(inputs, outputs, kernel, stride, dilation, pad)
    for o in range(outputs):
        taps = geometry.phase_taps(o % stride, kernel, stride, dilation, pad)
        found = {(k, o // stride + offset) for k, offset in taps if 0 <= o // stride + offset < inputs}
        assert found == reached[o]
        assert {i for _, i in reached[o]} <= set(positions(span, o))


def test_everything_and_identity():
    whole = geometry.everything(5, 2)
    assert positions(whole, 0) == positions(whole, 1) == [0, 1, 2, 3, 4]
    assert [positions(geometry.identity(3), i) for i in range(3)] == [[0], [1], [2]]


def test_gather_skips_minus_one():
    span = geometry.gather(np.array([-1, 2, 0], np.int32))
    assert [positions(span, i) for i in range(3)] == [[], [2], [0]]


@pytest.mark.parametrize("mode", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest_index_rounds_halves_as_named(mode):
    index = geometry.nearest_index(np.array([0.5, 1.5], np.float32), 4, mode)
    expected = {"floor": [0, 1], "ceil": [1, 2], "round_prefer_floor": [0, 1], "round_prefer_ceil": [1, 2]}
    assert index.tolist() == expected[mode]


def test_linear_index_stays_inside():
    low, high, weight = geometry.linear_index(np.array([-0.5, 0.25, 2.9, 5.0], np.float32), 3)
    assert low.tolist() == [0, 0, 2, 2]
    assert high.tolist() == [1, 1, 2, 2]
    np.testing.assert_allclose(weight, [0, 0.25, 0, 0])


def test_unknown_modes_are_named():
    with pytest.raises(ValueError, match="unknown resize coordinates: 'sideways'"):
        geometry.source_positions(2, 2, 1.0, "sideways")
    with pytest.raises(ValueError, match="unknown nearest mode: 'up'"):
        geometry.nearest_index(np.zeros(1, np.float32), 2, "up")
