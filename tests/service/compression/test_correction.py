"""Fitting the last factor of a layer."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from service.compression import correction
from service.compression.activations import Network, look
from service.compression.correction import Builder, refit, relative
from service.compression.graph import Surgeon
from service.compression.measure import Truth
from service.families import create
from service.model_spec import ModelSpec
from service.opened import OpenedModel
from tests.service.compression.small_models import SIZE, maps, spread


def planted(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, outputs, and the factor and bias that make one of the other."""
    rng = np.random.default_rng(0)
    x, last, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, 5), (7, 5), 7))
    return x + 3, (x + 3) @ last.T + bias, last, bias


def test_least_squares_find_factor_and_bias():
    x, y, last, bias = planted(400)
    found, offset = refit(x, y, last + 0.5, bias + 1)
    np.testing.assert_allclose(found, last, atol=3e-3)
    np.testing.assert_allclose(offset, bias, atol=2e-2)


def test_few_rows_tell_the_bias_alone():
    x, y, last, bias = planted(8)
    found, offset = refit(x, y, last, bias + 1)
    np.testing.assert_array_equal(found, last)
    np.testing.assert_allclose(offset, bias, atol=1e-4)


def test_where_there_is_no_bias_none_is_made():
    x, y, last, _ = planted(400)
    found, offset = refit(x, y - planted(400)[3], last + 0.5, None, takes_bias=False)
    assert offset is None
    np.testing.assert_allclose(found, last, atol=3e-2)


def test_inputs_that_are_always_zero_change_nothing():
    last = np.ones((2, 3), np.float32)
    found, bias = refit(np.zeros((50, 3), np.float32), np.full((50, 2), 4, np.float32), last, None)
    np.testing.assert_array_equal(found, last)
    np.testing.assert_array_equal(bias, [4, 4])


def test_relative_errors():
    assert relative(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(1.0)
    assert relative(np.array([3.0]), np.array([0.0])) == 3.0
    assert relative(np.zeros(0), np.zeros(0)) == 0.0


@pytest.mark.parametrize("form", ["tucker2", "spatial"])
def test_fitted_networks_stray_less(form):
    spec = ModelSpec()
    opened = OpenedModel(load_model(maps()), spec, create(spec), SIZE, None)
    net, surgeon = Network(opened), Surgeon(opened.model)
    images = [net.prepared(frame) for frame in spread(6)]
    samples = look(net, surgeon.layers, images, lambda share: None)
    forms = {"first": form, "second": form, "third": "pointwise"}
    plan = {"second": (6, 8) if form == "tucker2" else (8,), "third": (6,)}
    truth = Truth(opened, net, images)
    built = {
        correct: Builder(opened, surgeon, forms, samples, images, correct).build(plan) for correct in (False, True)
    }
    errors = {correct: truth.error(made.network) for correct, made in built.items()}
    assert errors[True] < 0.8 * errors[False]
    for made in built.values():
        assert set(made.errors) == set(plan)
        # The last layer's outputs are the network's: two measures of one error.
        assert made.errors["third"] == pytest.approx(truth.error(made.network), rel=0.2)
    plain = Builder(opened, surgeon, forms, samples, images, False)
    assert truth.error(plain.plain(plan)) == pytest.approx(errors[False], rel=1e-6)


def test_only_the_last_parts_of_a_layer_are_kept(monkeypatch):
    spec = ModelSpec()
    opened = OpenedModel(load_model(maps()), spec, create(spec), SIZE, None)
    surgeon, made = Surgeon(opened.model), list[str]()
    whole = correction.Decomposer

    def counted(form, weight, root):
        made.append(form)
        return whole(form, weight, root)

    monkeypatch.setattr(correction, "Decomposer", counted)
    forms = {"first": "cp", "second": "spatial", "third": "pointwise"}
    builder = Builder(opened, surgeon, forms, {}, [], correct=False)
    small, second, third = surgeon.layers
    first = builder.parts(second, (4,))
    assert builder.parts(second, (4,)) is first
    assert builder.parts(second, (8,))[0].shape[0] == 8
    assert builder.parts(second, (4,)) is not first
    assert made == ["spatial"], "one decomposer for all ranks of a layer"
    kept = builder.parts(third, (6,))
    assert builder.parts(second, (4,)) is builder.parts(second, (4,))
    assert builder.parts(third, (6,)) is kept
    assert made == ["spatial", "pointwise"]
    canonical = builder.parts(small, (1,))
    builder.parts(small, (2,))
    assert builder.parts(small, (1,)) is canonical, "small, and slow to find"
