"""Sums of rank-one products (CP, PARAFAC) that come near a weight tensor. Arrays only.

Of a weight float64[Cout, Cin, kh, kw], R products of four vectors: factors [Cout, R], [Cin, R], [kh, R], [kw, R].
Fitted by alternating least squares, each factor in turn (Carroll and Chang 1970, Harshman 1970). Two things are a
convolution's own. It begins from a sum of products that is found at once: turned into the bases of its rows and columns
the tensor is kh * kw matrices, and the largest singular components of all of them are orthogonal to each other, so that
what a number of them loses is known before anything is fitted. And the axes of a window are short: both of its factors
follow from one product with the outputs' factor, where the usual step multiplies with a matrix of Cout * Cin * kw rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from service.compression.unfolding import Array, leading, unfold

Factors: TypeAlias = tuple[Array, Array, Array, Array]
"""Of outputs, inputs, rows and columns, a product in each column."""

STEPS = 100
TOLERANCE = 1e-4
"""Of the relative error: a step that gains less is the last."""
_RIDGE = 1e-4
"""Pulls each factor towards what it was: products that are alike make equations singular without it. No step makes
the sum worse by it."""
_LEAST = 1e-30


@dataclass(frozen=True, eq=False)
class Terms:
    """A tensor as the sum of rank-one products that are orthogonal to each other.

    values : float64[kh, kw, n], falling along the last axis, n = min(Cout, Cin). outputs, inputs :
    float64[kh, kw, n, Cout] and [..., Cin]. rows, columns : float64[kh, kh] and [kw, kw], a basis in their columns.
    """

    values: Array
    outputs: Array
    inputs: Array
    rows: Array
    columns: Array

    def largest(self, rank: int) -> Factors:
        """So many of them; each product is as long in one factor as in another."""
        best = np.argsort(-self.values, axis=None, kind="stable")[:rank]
        row, column, number = np.unravel_index(best, self.values.shape)
        length = self.values[row, column, number] ** 0.25
        outputs, inputs = self.outputs[row, column, number].T, self.inputs[row, column, number].T
        return outputs * length, inputs * length, self.rows[:, row] * length, self.columns[:, column] * length


def terms(weight: Array) -> Terms:
    """All kh * kw * min(Cout, Cin) of them. weight : float64[Cout, Cin, kh, kw]"""
    turned, rows, columns = _turned(weight)
    left, values, right = np.linalg.svd(turned, full_matrices=False)
    return Terms(values, left.swapaxes(2, 3), right, rows, columns)


def term_values(weight: Array) -> tuple[Array, ...]:
    """The values of `terms`, falling, of each of the kh * kw matrices."""
    values = np.linalg.svd(_turned(weight)[0], compute_uv=False)
    return tuple(values.reshape(-1, values.shape[2]))


def fitted(weight: Array, start: Factors) -> Factors:
    """What alternating least squares makes of factors that come near a weight float64[Cout, Cin, kh, kw]."""
    found, before = start, np.inf
    for number, (factors, error) in enumerate(steps(weight, start), 1):
        found = factors
        if number == STEPS or before - error < TOLERANCE:
            break
        before = error
    return found


def steps(weight: Array, start: Factors) -> Iterator[tuple[Factors, float]]:
    """The factors after each step, without end, and the relative error, which does not rise."""
    outputs, inputs, rows, columns = start
    c_out, c_in, kh, kw = weight.shape
    by_output = np.ascontiguousarray(weight).reshape(c_out, -1)
    by_input = np.ascontiguousarray(weight.swapaxes(0, 1)).reshape(c_in, -1)
    energy = float(np.square(weight).sum())
    while True:
        window = _paired(rows, columns)
        inner = _gram(rows) * _gram(columns)
        outputs = _solved(inner * _gram(inputs), by_output @ _paired(inputs, window), outputs)
        inputs = _solved(inner * _gram(outputs), by_input @ _paired(outputs, window), inputs)
        outer = _gram(outputs) * _gram(inputs)
        seen = np.einsum("isr,ir->sr", (by_output.T @ outputs).reshape(c_in, kh * kw, -1), inputs)
        taps = seen.reshape(kh, kw, -1)
        rows = _solved(outer * _gram(columns), np.einsum("hwr,wr->hr", taps, columns), rows)
        product = np.einsum("hwr,hr->wr", taps, rows)
        columns = _solved(outer * _gram(rows), product, columns)
        gap = energy - 2 * (product * columns).sum() + (outer * _gram(rows) * _gram(columns)).sum()
        outputs, inputs, rows, columns = factors = _balanced((outputs, inputs, rows, columns))
        yield factors, float(np.sqrt(max(gap, 0.0) / max(energy, _LEAST)))


def _turned(weight: Array) -> tuple[Array, Array, Array]:
    """float64[kh, kw, Cout, Cin], a weight in bases of its rows and columns, which come in columns beside it."""
    rows, columns = (leading(unfold(weight, axis), weight.shape[axis]) for axis in (2, 3))
    return np.einsum("oihw,ha,wb->aboi", weight, rows, columns, optimize=True), rows, columns


def _solved(gram: Array, product: Array, before: Array) -> Array:
    """The factor whose least squares have these normal equations, held by the ridge to what it was."""
    ridge = _RIDGE * np.trace(gram) / len(gram) + _LEAST
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), (product + ridge * before).T).T)


def _paired(one: Array, other: Array) -> Array:
    """[m * n, R], all products of a row of one [m, R] with a row of the other [n, R] (Khatri-Rao)."""
    return (one[:, None] * other[None]).reshape(-1, one.shape[1])


def _gram(factor: Array) -> Array:
    return np.asarray(factor.T @ factor)


def _balanced(factors: Factors) -> Factors:
    """The same products, each as long in one factor as in another: float16 and least squares bear that best."""
    lengths = [np.maximum(np.linalg.norm(factor, axis=0), _LEAST) for factor in factors]
    mean = np.prod(lengths, axis=0) ** 0.25
    outputs, inputs, rows, columns = (factor * (mean / length) for factor, length in zip(factors, lengths, strict=True))
    return outputs, inputs, rows, columns
