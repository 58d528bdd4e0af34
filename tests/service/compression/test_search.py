"""The order of moves, and how many of them."""

from __future__ import annotations

import numpy as np
import pytest

from service.compression.search import Move, Rung, Shaped, count_for, hull, ladder, moves, plan_of, probe_of, within


def shaped(form: str = "tucker2") -> Shaped:
    values = (np.arange(1, 65) ** -1.5,) * (9 if form == "cp" else 2)
    return Shaped(form, (64, 64, 3, 3), (10, 10), (10, 10), values, values)


def rung(rank: int, saved: int, loss: float) -> Rung:
    return Rung((rank,), saved, loss, float(saved))


def test_every_rung_saves_work_and_the_first_loses_least():
    layer = shaped()
    rungs = ladder(layer)
    assert len(rungs) > 4
    assert all(layer.after(rung.ranks) == layer.before - rung.saved < layer.before for rung in rungs)
    assert [rung.loss for rung in rungs] == sorted(rung.loss for rung in rungs)
    assert probe_of(rungs) in rungs


def test_a_cp_form_has_one_rank_for_all_its_matrices():
    layer = shaped("cp")
    rungs = ladder(layer)
    assert len(rungs) > 4
    assert {len(rung.ranks) for rung in rungs} == {1}
    assert [rung.loss for rung in rungs] == sorted(rung.loss for rung in rungs)
    one = np.square(layer.spectra[0])
    left = 1 - 9 * (64 + 64 + 3 + 3) / (64 * 64 * 9)
    assert layer.loss((9,)) == pytest.approx(left * one[1:].sum() / one.sum()), "the largest of each"
    assert layer.at_energy(one[:3].sum() / one.sum()) == (32,), "three of each of nine, in blocks of 16"


def test_variational_bayes_adds_what_it_finds_in_the_matrices_of_a_cp_form():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((9, 64, 64)) / 8
    noise[2, 0, 0] = noise[5, 1, 1] = noise[5, 2, 2] = 100.0
    values = tuple(np.linalg.svd(noise, compute_uv=False))
    assert Shaped("cp", (64, 64, 3, 3), (10, 10), (10, 10), values, values).by_bayes() == (3,)


def test_modes_of_a_tucker_form_may_be_kept_whole():
    found = {rung.ranks for rung in ladder(shaped())}
    assert any(r1 == 64 > r2 for r1, r2 in found)
    assert any(r2 == 64 > r1 for r1, r2 in found)
    assert (64, 64) not in found
    assert shaped().after((64, 16)) == 100 * (64 * 16 * 9 + 16 * 64)


def test_where_time_counts_rungs_save_time_too():
    layer = shaped()
    by_time = ladder(layer, by_time=True)
    assert {rung.ranks for rung in by_time} < {rung.ranks for rung in ladder(layer)}
    assert all(rung.gain == layer.time_saved(rung.ranks) > 0 for rung in by_time)
    # Winograd's method computes a 3x3 convolution in less time than half of its multiply-accumulates take as 1x1 ones.
    assert layer.time_saved((48, 48)) < 0 < layer.before - layer.after((48, 48))
    picture = Shaped(
        "tucker2", (32, 3, 6, 6), (384, 640), (96, 160), (np.ones(3), np.ones(32)), (np.ones(3), np.ones(32))
    )
    assert picture.before > picture.after((2, 32)), "a third of the multiply-accumulates less"
    assert picture.time_saved((2, 32)) < 0, "with a map of the size of the picture, a block of lanes at each pixel"


def test_moves_are_weighed_by_what_is_gained():
    rungs = {"a": [Rung((1,), 100, 0.1, 1.0)], "b": [Rung((1,), 10, 0.1, 5.0)]}
    assert [move.layer for move in moves(rungs, {"a": 1.0, "b": 1.0})] == ["b", "a"]


def test_a_layer_that_cannot_save_has_no_rungs():
    flat = Shaped("pointwise", (4, 2, 1, 1), (10, 10), (10, 10), (np.ones(2),), (np.ones(2),))
    assert [rung.ranks for rung in ladder(flat)] == [(1,)], "two would cost as much as the layer itself"
    single = Shaped("pointwise", (1, 9, 1, 1), (10, 10), (10, 10), (np.ones(1),), (np.ones(1),))
    assert ladder(single) == ()


def test_the_hull_leaves_out_what_a_mixture_beats():
    rungs = [rung(4, 10, 0.1), rung(3, 20, 0.5), rung(2, 30, 0.35), rung(1, 40, 0.9)]
    assert [rung.saved for rung in hull(rungs)] == [10, 30, 40]


def test_moves_go_by_price_and_keep_the_order_of_a_layer():
    rungs = {"a": [rung(2, 10, 0.1), rung(1, 20, 0.4)], "b": [rung(5, 10, 0.2)]}
    found = moves(rungs, {"a": 1.0, "b": 1.0})
    assert [(move.layer, move.ranks) for move in found] == [("a", (2,)), ("b", (5,)), ("a", (1,))]
    assert [move.saved for move in found] == [10, 10, 10]
    assert sum(move.damage for move in found) == pytest.approx(0.6)
    assert plan_of(found) == {"a": (1,), "b": (5,)}
    dearer = moves(rungs, {"a": 10.0, "b": 1.0})
    assert dearer[0].layer == "b"


def test_as_many_moves_as_a_saving_takes():
    some = [Move("a", (1,), 5, 0.1), Move("b", (1,), 5, 0.1)]
    assert [count_for(some, saved) for saved in (0, 1, 5, 6, 10, 11)] == [0, 1, 1, 2, 2, None]


@pytest.mark.parametrize("damage", [1e-6, 0.01, 0.5])
@pytest.mark.parametrize("holds", [1, 7, 20, 40])
def test_the_search_ends_where_the_error_passes_the_budget(damage, holds):
    some = [Move(str(n), (1,), 1, damage) for n in range(40)]
    asked: list[int] = []

    def measure(count: int) -> float:
        asked.append(count)
        return 0.05 if count <= holds else 0.2

    assert within(some, 0.1, measure) == (holds, None)
    assert all(1 <= count <= 40 for count in asked)
    assert len(asked) < 12


def test_the_least_error_is_told_where_no_move_holds():
    some = [Move(str(n), (1,), 1, 0.1) for n in range(10)]
    assert within(some, 0.1, lambda count: 0.2 + count) == (0, pytest.approx(1.2))
