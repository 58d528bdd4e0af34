"""Bytes, what they stand for, and tables of functions of one byte."""

from __future__ import annotations

import numpy as np
import pytest

from cache.graph import IDENTITY, Activation
from cache.quantisation import Quantisation, apply, lookup_table, product_table
from tests.cache.interpreter import activate

U8, S8 = Quantisation(np.dtype(np.uint8), 0.5, 100), Quantisation(np.dtype(np.int8), 0.25, -3)


@pytest.mark.parametrize("found", [U8, S8])
def test_there_and_back(found: Quantisation) -> None:
    values = found.every_value
    np.testing.assert_array_equal(found.quantise(found.dequantise(values)), values)
    np.testing.assert_array_equal(found.store(values), np.arange(256))


def test_rounding_and_limits() -> None:
    x = np.array([0.25, 0.75, -0.25, 1e9, -1e9, np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(U8.quantise(x), [100, 102, 100, 255, 0, 255, 0, 0])  # halves go to even


@pytest.mark.parametrize(
    "activation",
    [
        Activation("relu"), Activation("clip", -1.0, 2.0), Activation("leaky_relu", 0.1), Activation("silu"),
        Activation("sigmoid"), Activation("hard_swish"), Activation("hard_sigmoid", 0.2, 0.5), IDENTITY,
    ],
    ids=str,
)  # fmt: skip
def test_apply(activation: Activation) -> None:
    x = np.linspace(-9, 9, 101, dtype=np.float32)
    found = apply(activation, x)
    assert found is not None
    np.testing.assert_allclose(found, activate(activation, x), rtol=1e-6, atol=1e-6)


def test_a_function_per_channel() -> None:
    prelu = Activation("prelu", slope=np.ones(3, np.float32))
    assert apply(prelu, np.zeros(3, np.float32)) is None
    with pytest.raises(ValueError, match="one function for all channels"):
        lookup_table(U8, prelu, S8)


def test_lookup_table() -> None:
    table = lookup_table(U8, Activation("relu"), S8)
    np.testing.assert_array_equal(table[[0, 100, 101, 110, 255]], [125, 125, 127, 145, 255])


def test_product_table() -> None:
    every = np.arange(256, dtype=np.uint8)
    table = product_table(every, every, (0.5, 0.5, 1.0), (100, 100, 0), (0, 0, 0))
    np.testing.assert_array_equal(table[[100, 102, 104, 90, 255]], [0, 1, 4, 25, 255])
