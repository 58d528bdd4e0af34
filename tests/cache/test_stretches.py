"""Where stretches of steps end."""

from __future__ import annotations

import pytest

from cache import stretches
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.stretches import stretches_of, weights_bytes
from tests.cache.onnx_models import build, node
from tests.cache.onnx_models import weights as random_weights


def chain() -> Plan:
    """Four convolutions of 32 channels, 3 x 3: 36 KiB of weights or more each, but the first, which reads the image."""
    constants = {"a": random_weights(32, 3, 3, 3), **{n: random_weights(32, 32, 3, 3) for n in "bcd"}}
    nodes = [node("Conv", f"{x} {w}", y, pads=[1] * 4) for x, w, y in ("xap", "pbq", "qcr", "rdy")]
    return Plan.compile(load_model(build(nodes, constants, shape=(1, 3, 12, 16))))


@pytest.mark.parametrize(("nbytes", "expected"), [(1, [1, 2, 3, 4]), (1 << 30, [1, 4])])
def test_stretches_end_where_their_weights_fill_the_cache(nbytes, expected, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stretches, "STRETCH_BYTES", nbytes)
    plan = chain()
    assert plan.stretches.tolist() == expected


def test_two_steps_of_three_fit(monkeypatch: pytest.MonkeyPatch):
    plan = chain()
    steps = [planned.step for planned in plan.steps]
    sizes = [weights_bytes(step) for step in steps]
    assert all(size >= 32 * 32 * 9 * 4 for size in sizes[1:])
    monkeypatch.setattr(stretches, "STRETCH_BYTES", sizes[1] + sizes[2])
    assert stretches_of(steps, True).tolist() == [1, 3, 4]
    assert stretches_of(steps[:1], True).tolist() == [1]
    assert stretches_of([], False).tolist() == [0]


def test_an_image_in_the_arena_waits_for_no_step():
    constants = {"a": random_weights(8, 3, 1, 1)}
    nodes = [node("Conv", "x a", "p"), node("Relu", "x", "y")]
    plan = Plan.compile(load_model(build(nodes, constants, shape=(1, 3, 12, 16), outputs=["p", "y"])))
    assert not plan.maps[0].outside
    assert plan.stretches.tolist() == [0, 2]
