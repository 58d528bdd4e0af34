"""Choosing between two ways to compute a node: what was measured is kept, and decides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache import tuning
from cache.onnx_import import load_model
from cache.ops.conv import convolution
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import Session
from cache.steps import Cost
from cache.tuning import ALL_STEPS, BLOCKS, FIRST, NEXT, ROWS, WHOLES, choose, measure, tuned
from cache.winograd import winograd_convolution
from tests.cache.closed_loop import largest_excess
from tests.cache.onnx_models import build, node, weights
from tests.cache.random_models import ModelMaker

FAST, DIRECT = winograd_convolution.name, convolution.name


def plan(precision: str = "fast") -> Plan:
    """Two 3x3 convolutions of 48 channels on a map of 20 x 24 pixels, decided in blocks of 2."""
    constants = {name: weights(48, 48, 3, 3) / 20 for name in "ab"}
    nodes = [node("Conv", "x a", "m", "first", pads=[1] * 4), node("Conv", "m b", "y", "second", pads=[1] * 4)]
    data = build(nodes, constants, shape=(1, 48, 20, 24))
    rules = (Level(float("inf"), 0.01, 2),)
    policy = Policy(rules, precision=precision)  # type: ignore[arg-type]
    return Plan.compile(load_model(data), policy=policy)


def costs(fast: Cost, direct: Cost) -> tuning.Costs:
    """The same for both convolutions."""
    of_convolutions = {name: {FAST: fast, DIRECT: direct} for name in ("first", "second")}
    return of_convolutions | {ALL_STEPS: wholes()}


def wholes(rows: float = 80, blocks: float = 100, first: float = 100, following: float = 100) -> dict[str, Cost]:
    """Costs of all steps."""
    return {ROWS: Cost(0, rows), BLOCKS: Cost(0, blocks), FIRST: Cost(0, first), NEXT: Cost(0, following)}


def methods(made: Plan) -> list[tuple[str, str | None]]:
    """Names of the ways of each convolution."""
    found = [p.step for p in made.steps if p.step.op == "conv"]
    return [(s.method.entry.name, s.few.entry.name if s.few is not None else None) for s in found]


def test_the_faster_one_on_the_whole_map_comes_first():
    assert methods(choose(plan(), costs(Cost(500, 1), Cost(10, 3)))) == [(FAST, DIRECT)] * 2
    assert methods(choose(plan(), costs(Cost(5000, 3), Cost(10, 1)))) == [(DIRECT, None)] * 2


def test_blocks_and_lists_follow_the_method():
    first = next(p for p in choose(plan(), costs(Cost(5000, 3), Cost(10, 1))).steps if p.step.op == "conv")
    assert (first.block, first.few_block, len(first.everything)) == (2, 0, 480)
    strict = plan("strict")
    assert choose(strict, {}).steps == strict.steps


@pytest.mark.parametrize(("direct", "taken"), [(Cost(0, 2), "direct"), (Cost(1e9, 2), "fast")])
def test_short_lists_take_the_cheaper_one_and_exact_sessions_always_the_first(direct: Cost, taken: str):
    """One pixel of the input changes: four blocks of 2 of the first map, or four of 4."""
    made = choose(plan(), costs(Cost(0, 1.5), direct))
    x = np.random.default_rng(1).standard_normal((1, 48, 20, 24)).astype(np.float32)
    budget, exact = Session(made), Session(made, exact=True)
    for session in (budget, exact):
        session.push_tensor(x)
    x[0, :, 3, 3] += 5
    first = next(i for i, p in enumerate(made.steps) if p.step.name == "first")
    assert np.array_equal(exact.push_tensor(x).outputs["y"], Session(made, exact=True).push_tensor(x).outputs["y"])
    assert exact._shares[first] * 480 == pytest.approx(4 * 16)
    budget.push_tensor(x)
    listed = {"direct": 4 * 4, "fast": 4 * 16}[taken]
    assert budget._shares[first] * 480 == pytest.approx(listed)
    assert largest_excess(budget) < 1e-4


def test_costs_are_measured_for_nodes_with_two_methods():
    found = dict(measure(plan()))
    of_all = found.pop(ALL_STEPS)
    assert set(of_all) == WHOLES
    assert all(cost.pixel_ns > 0 for cost in of_all.values())
    assert set(found) == {"first", "second"}
    for ways in found.values():
        assert set(ways) == {FAST, DIRECT}
        assert all(cost.call_ns >= 0 and cost.pixel_ns > 0 for cost in ways.values())


def test_the_file_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slow = costs(Cost(9e9, 9), Cost(1, 1))
    monkeypatch.setattr(tuning, "measure", lambda plan: slow)
    assert methods(tuned(plan(), "a" * 64, tmp_path)) == [(DIRECT, None)] * 2
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(tuning, "measure", lambda plan: pytest.fail("it was measured already"))
    assert methods(tuned(plan(), "a" * 64, tmp_path)) == [(DIRECT, None)] * 2
    quick = {name: {FAST: [0, 1], DIRECT: [0, 9]} for name in ("first", "second")} | {
        "": {"rows": [0, 7], "blocks": [0, 8], "first": [0, 9], "next": [0, 9]}
    }
    file.write_text(json.dumps(quick))
    assert methods(tuned(plan(), "a" * 64, tmp_path)) == [(FAST, DIRECT)] * 2, "single pixels may still be cheaper"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"first": 1}', '{"first": {"convolution": [1]}}',
                '{"first": {"convolution": [-1, 2], "winograd_convolution": [1, 2]}, "second": {"convolution": [1, 2], '
                '"winograd_convolution": [1, 2]}}'],
)  # fmt: skip
def test_a_file_of_something_else_is_measured_again(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tuning, "measure", lambda plan: costs(Cost(0, 1), Cost(0, 2)))
    tuned(plan(), "b" * 64, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert methods(tuned(plan(), "b" * 64, tmp_path)) == [(FAST, DIRECT)] * 2
    assert json.loads(file.read_text())["second"][FAST] == [0, 1]


def test_a_folder_that_cannot_be_written_is_warned_of(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        tuned(plan(), "c" * 64, blocked)


def test_without_two_methods_only_rows_and_blocks_are_measured(tmp_path: Path):
    strict = plan("strict")
    assert set(measure(strict)) == {ALL_STEPS}
    assert methods(tuned(strict, "d" * 64, tmp_path)) == methods(strict)


@pytest.mark.parametrize(("rows", "blocks", "expected"), [(80, 100, 0.8), (100, 80, 1.0), (10, 100, 0.5), (0, 0, 0.5)])
def test_from_which_share_of_the_work_a_whole_frame_is_cheaper(rows: float, blocks: float, expected: float):
    found = {ALL_STEPS: wholes(rows, blocks)}
    assert choose(plan("strict"), found).whole_from == expected
    assert choose(plan("strict"), {}).whole_from == 0.9


def test_an_image_larger_than_the_arena_is_measured_in_its_own_place():
    """One convolution that takes patches: the image lies outside the arena, which is much smaller."""
    m = ModelMaker(2, 3, 640, 640)
    patches = Plan.compile(load_model(m.finish([m.conv("image", 3, 16, 16, strides=[16, 16])])))
    assert patches.maps[0].outside
    assert patches.maps[0].room > 4 * patches.arena_elements
    assert set(measure(patches)) == {ALL_STEPS}


@pytest.mark.parametrize(("first", "following", "expected"), [(100, 79, 4), (100, 81, 1), (100, 120, 1), (0, 0, 1)])
def test_frames_go_together_where_it_saves_enough(first: float, following: float, expected: int):
    """Of four frames three are the next ones: 3 x 21% of 4 is just more than 15%."""
    found = {ALL_STEPS: wholes(first=first, following=following)}
    assert plan("strict").together == 1
    assert choose(plan("strict"), found).together == expected
    assert choose(replace(plan("strict"), together=2), {}).together == 2


def test_a_file_from_before_frames_went_together_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tuning, "measure", lambda plan: {ALL_STEPS: wholes(following=50)})
    assert tuned(plan("strict"), "e" * 64, tmp_path).together == 4
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps({"": {"rows": [0, 7], "blocks": [0, 8]}}))
    assert tuned(plan("strict"), "e" * 64, tmp_path).together == 4
