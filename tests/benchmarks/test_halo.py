"""The model of convolutions with a halo: which pairs there are, and that its figures are those of the shapes."""

from __future__ import annotations

import pytest

from benchmarks.halo import BYTES_PER_NS, HEAD, MACS_PER_NS, pairs, summary
from cache.onnx_import import load_model
from cache.plan import Plan
from tests.cache.onnx_models import build, node, weights


@pytest.fixture(scope="module")
def plan():
    constants = {"a": weights(32, 16, 3, 3), "b": weights(16, 32, 3, 3), "c": weights(16, 16, 1, 1)}
    nodes = [
        node("Conv", "x a", "p", "first", pads=[1, 1, 1, 1]), node("Conv", "p b", "q", "second", pads=[1, 1, 1, 1]),
        node("Conv", "q c", "y", "third"),
    ]  # fmt: skip
    return Plan.compile(load_model(build(nodes, constants, shape=(1, 16, 40, 30))), (1, 16, 40, 30))


def test_a_pair_is_two_convolutions_of_which_the_second_sees_several_rows(plan):
    (found,) = pairs(plan, 1 << 20)
    assert (found.first, found.second) == ("first", "second")
    assert found.between_bytes == 32 * 40 * 30 * 4


def test_a_band_that_holds_the_map_computes_nothing_again(plan):
    (found,) = pairs(plan, 1 << 30)
    assert (found.rows, found.again_macs) == (40, 0)
    assert found.saved_ns == pytest.approx(2 * found.between_bytes / BYTES_PER_NS)


def test_smaller_bands_compute_their_halo_again(plan):
    (whole,) = pairs(plan, 1 << 30)
    (found,) = pairs(plan, whole.weights_bytes + 64 * 30 * (2 * 3 + 10 * 4))
    assert found.rows == 10
    assert found.again_macs == plan.steps[0].step.macs * 2 * 3 // 40
    assert found.saved_ns == pytest.approx(whole.saved_ns - found.again_macs / MACS_PER_NS)


def test_nothing_is_gained_where_weights_alone_fill_the_cache(plan):
    (whole,) = pairs(plan, 1 << 30)
    (found,) = pairs(plan, whole.weights_bytes)
    assert (found.rows, found.saved_ns) == (0, 0.0)


def test_a_row_of_the_table_has_the_heads_columns(plan):
    row = summary("net", plan, 1 << 20)
    assert row.startswith("| net | 1 | 0 | 0 | 0.0 |")
    assert row.count("|") == HEAD.splitlines()[0].count("|")
