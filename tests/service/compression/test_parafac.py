"""Sums of products: what they begin as, and that no step makes them worse."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from service.compression.parafac import Factors, fitted, steps, term_values, terms
from tests.service.compression.small_models import falling

WEIGHT = falling(12, 10, 3).astype(np.float64)


def summed(factors: Factors) -> np.ndarray:
    return np.einsum("or,ir,hr,wr->oihw", *factors)


def far(weight: np.ndarray, factors: Factors) -> float:
    return float(np.linalg.norm(weight - summed(factors)) / np.linalg.norm(weight))


def sides(rank: int, *lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, rank)) for n in lengths]


@pytest.mark.parametrize("shape", [(12, 10, 3, 3), (5, 9, 1, 7), (4, 4, 5, 1), (3, 20, 2, 3)])
def test_all_terms_are_the_tensor_and_those_left_out_are_what_is_lost(shape):
    weight = np.random.default_rng(1).standard_normal(shape)
    found = terms(weight)
    whole = found.values.size
    assert whole == shape[2] * shape[3] * min(shape[:2])
    assert far(weight, found.largest(whole)) < 1e-12
    values = np.sort(np.concatenate(term_values(weight)))[::-1]
    assert np.linalg.norm(values) == pytest.approx(np.linalg.norm(weight))
    for rank in (1, whole // 2):
        gap = np.linalg.norm(weight - summed(found.largest(rank)))
        assert gap == pytest.approx(np.linalg.norm(values[rank:]))


@pytest.mark.parametrize("rank", [1, 4, 20, 60])
def test_no_step_makes_it_worse_and_each_tells_its_error(rank):
    start = terms(WEIGHT).largest(rank)
    errors = [far(WEIGHT, start)]
    for factors, error in islice(steps(WEIGHT, start), 30):
        assert error == pytest.approx(far(WEIGHT, factors), abs=1e-7)
        errors.append(error)
    assert all(after <= before + 1e-9 for before, after in pairwise(errors))
    assert errors[-1] < 0.99 * errors[0]
    assert far(WEIGHT, fitted(WEIGHT, start)) <= errors[1] + 1e-9


def test_a_sum_of_few_products_is_found():
    weight = np.einsum("or,ir,hr,wr->oihw", *sides(2, 12, 10, 3, 3))
    begun = terms(weight)
    assert far(weight, fitted(weight, begun.largest(2))) < 0.02
    assert far(weight, fitted(weight, begun.largest(1))) > 0.1


def test_products_are_as_long_in_one_factor_as_in_another():
    for factors in (terms(WEIGHT).largest(7), fitted(WEIGHT, terms(WEIGHT).largest(7))):
        lengths = np.array([np.linalg.norm(factor, axis=0) for factor in factors])
        np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape), rtol=1e-9)


def test_products_that_are_alike_do_not_stop_it():
    outputs, inputs, rows, columns = terms(WEIGHT).largest(3)
    twice = tuple(np.concatenate([side, side], axis=1) for side in (outputs, inputs, rows, columns))
    errors = [error for _, error in islice(steps(WEIGHT, twice), 10)]
    assert all(after <= before + 1e-9 for before, after in pairwise(errors))
    assert errors[-1] <= far(WEIGHT, (outputs, inputs, rows, columns))


def test_a_tensor_of_zeros_stays_one():
    weight = np.zeros((4, 3, 3, 3))
    factors = fitted(weight, terms(weight).largest(2))
    assert not summed(factors).any()
    assert all(np.isfinite(factor).all() for factor in factors)
