"""Low-rank forms of one weight tensor: what convolutions take its place, and their weights. Arrays only.

Forms, of a weight float32[Cout, Cin, kh, kw]:

==========  ==============================================================  =======================================
form        convolutions in its place                                       source
==========  ==============================================================  =======================================
tucker2     1x1 (Cin to r1), kh x kw (r1 to r2), 1x1 (r2 to Cout)           Kim et al. 2016, arXiv:1511.06530
            of full rank in a mode: without the 1x1 of that mode
cp          1x1 (Cin to r), kh x 1 and 1 x kw by channel, 1x1 (r to Cout)   Lebedev et al. 2015, arXiv:1412.6553
spatial     kh x 1 (Cin to r), 1 x kw (r to Cout)                           Jaderberg et al. 2014, arXiv:1405.3866
pointwise   two 1x1 (Cin to r to Cout); kh = kw = 1                         Denton et al. 2014, arXiv:1404.0736
==========  ==============================================================  =======================================

A `root` float64[Cin, Cin], where one is given, is R of the covariance R R^T of the input's channels: the error is then
that of outputs on such inputs rather than that of weights.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.compression.errors import CompressionError
from service.compression.parafac import Terms, fitted, term_values, terms
from service.compression.unfolding import Array, leading, singular_values, unfold

Shape: TypeAlias = tuple[int, int, int, int]
Ranks: TypeAlias = tuple[int, ...]
Form = Literal["tucker2", "cp", "spatial", "pointwise"]

_HOOI_STEPS = 5
_SLACK = 16
"""Channels beyond the rank in which orthogonal iteration looks for a better subspace."""


@dataclass(frozen=True)
class Piece:
    """One convolution of a form. shape : of its weights, [Cout, Cin / groups, kh, kw]. rows, columns : whether it takes
    stride, padding and dilation of the original along that axis."""

    shape: Shape
    groups: int = 1
    rows: bool = False
    columns: bool = False


def pieces(form: Form, shape: Shape, ranks: Ranks) -> tuple[Piece, ...]:
    """The convolutions in the place of one of weights [Cout, Cin, kh, kw], in the order in which they run."""
    c_out, c_in, kh, kw = shape
    r = ranks[0]
    if form == "tucker2":
        r1, r2 = ranks
        core = Piece((r2, r1, kh, kw), rows=True, columns=True)
        first, last = Piece((r1, c_in, 1, 1)), Piece((c_out, r2, 1, 1))
        return (*(() if r1 == c_in else (first,)), core, *(() if r2 == c_out else (last,)))
    if form == "cp":
        return (
            Piece((r, c_in, 1, 1)), Piece((r, 1, kh, 1), r, rows=True), Piece((r, 1, 1, kw), r, columns=True),
            Piece((c_out, r, 1, 1)),
        )  # fmt: skip
    if form == "spatial":
        return Piece((r, c_in, kh, 1), rows=True), Piece((c_out, r, 1, kw), columns=True)
    return Piece((r, c_in, 1, 1), rows=True, columns=True), Piece((c_out, r, 1, 1))


def sized(
    form: Form, shape: Shape, ranks: Ranks, size_in: tuple[int, int], size_out: tuple[int, int]
) -> Iterator[tuple[Piece, tuple[int, int]]]:
    """The pieces with height and width of what each makes. size_in, size_out : of the original's input and output."""
    height, width = size_in
    for piece in pieces(form, shape, ranks):
        height, width = size_out[0] if piece.rows else height, size_out[1] if piece.columns else width
        yield piece, (height, width)


def macs(form: Form, shape: Shape, ranks: Ranks, size_in: tuple[int, int], size_out: tuple[int, int]) -> int:
    """Multiply-accumulates of a form. size_in, size_out : height and width of the original's input and output."""
    made = sized(form, shape, ranks, size_in, size_out)
    return sum(height * width * int(np.prod(piece.shape)) for piece, (height, width) in made)


def factors(form: Form, weight: NDArray[Any], ranks: Ranks, root: Array | None = None) -> tuple[Array, ...]:
    """Weights of the pieces of a form, float64, shaped as `pieces` says; of one choice of ranks (`Decomposer`).

    weight : [Cout, Cin, kh, kw], any float. Raises CompressionError where the packages that this needs are not here.
    """
    return Decomposer(form, weight, root).factors(ranks)


class Decomposer:
    """Decomposes one tensor with any ranks: what does not depend on them is computed once, when first needed."""

    def __init__(self, form: Form, weight: NDArray[Any], root: Array | None = None) -> None:
        """weight : [Cout, Cin, kh, kw], any float."""
        self._form, self._root = form, root
        self._weighed = _weighed(weight, root)
        self._inverse: Array | None = None
        self._singular: _Singular | None = None
        self._terms: Terms | None = None

    def factors(self, ranks: Ranks) -> tuple[Array, ...]:
        """Weights of the pieces, float64, shaped as `pieces` says. Raises CompressionError where the packages that this
        needs are not here."""
        found = self._factors(ranks)
        if self._form != "tucker2":
            return found
        into, core, out = found
        c_out, c_in = self._weighed.shape[:2]
        chain = [into, core, out]
        if ranks[0] == c_in:  # a mode that is kept whole has no 1x1: it is part of the core
            chain[:2] = [np.einsum("rshw,si->rihw", core, into[:, :, 0, 0])]
        if ranks[1] == c_out:
            chain[-2:] = [np.einsum("or,rihw->oihw", out[:, :, 0, 0], chain[-2])]
        return tuple(chain)

    def _factors(self, ranks: Ranks) -> tuple[Array, ...]:
        first, *rest = self._parts(ranks)
        if self._root is not None:  # the first one reads the input itself: R's inverse goes there
            if self._inverse is None:
                self._inverse = np.asarray(np.linalg.inv(self._root), np.float64)
            first = np.einsum("rjhw,ji->rihw", first, self._inverse)
        return first, *rest

    def _parts(self, ranks: Ranks) -> tuple[Array, ...]:
        if self._form == "tucker2":
            return _tucker2(self._weighed, ranks)
        if self._form == "cp":
            return self._cp(ranks[0])
        c_out, c_in, kh, kw = self._weighed.shape
        rank = ranks[0]
        if self._singular is None:
            spatial = self._form == "spatial"
            self._singular = _Singular(_separated(self._weighed) if spatial else self._weighed[:, :, 0, 0])
        left, right = self._singular.split(rank)
        if self._form == "pointwise":
            return right[:, :, None, None], left[:, :, None, None]
        return left.T.reshape(rank, c_in, kh, 1), np.ascontiguousarray(
            right.reshape(rank, c_out, kw).transpose(1, 0, 2)[:, :, None, :]
        )

    def _cp(self, rank: int) -> tuple[Array, ...]:
        if self._terms is None:
            self._terms = terms(self._weighed)
        outputs, inputs, rows, columns = fitted(self._weighed, self._terms.largest(rank))
        return (
            inputs.T[:, :, None, None], rows.T[:, None, :, None], columns.T[:, None, None, :],
            outputs[:, :, None, None],
        )  # fmt: skip


def spectra(form: Form, weight: NDArray[Any], root: Array | None = None) -> tuple[Array, ...]:
    """Singular values, falling, of each matrix that a rank of the form cuts; a cp form's one rank cuts them all."""
    whole = _weighed(weight, root)
    if form == "cp":
        return term_values(whole)
    if form == "tucker2":
        return singular_values(unfold(whole, 1)), singular_values(unfold(whole, 0))
    return (singular_values(_separated(whole) if form == "spatial" else whole[:, :, 0, 0]),)


def matrices(form: Form, shape: Shape) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the matrices of `spectra`."""
    c_out, c_in, kh, kw = shape
    if form == "cp":
        return ((c_out, c_in),) * (kh * kw)
    if form == "tucker2":
        return (c_in, c_out * kh * kw), (c_out, c_in * kh * kw)
    return ((c_in * kh, c_out * kw),) if form == "spatial" else ((c_out, c_in),)


def _tucker2(weight: Array, ranks: Ranks) -> tuple[Array, ...]:
    """Projection on the leading singular vectors of both modes, then a few steps of orthogonal iteration (tensorly)."""
    partial_tucker = _tensorly("decomposition").partial_tucker
    r1, r2 = ranks
    out, into = (leading(unfold(weight, mode), min(r + _SLACK, weight.shape[mode])) for mode, r in ((0, r2), (1, r1)))
    small = np.einsum("oihw,or,is->rshw", weight, out, into, optimize=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (core, (u, v)), _ = partial_tucker(small, rank=[r2, r1], modes=[0, 1], n_iter_max=_HOOI_STEPS, init="svd")
    return (into @ v).T[:, :, None, None], np.asarray(core), (out @ u)[:, :, None, None]


class _Singular:
    """Singular vectors of a matrix on its shorter side, all of them, and the other side's for a rank at a time."""

    def __init__(self, matrix: Array) -> None:
        rows, columns = matrix.shape
        self._wide = matrix if rows <= columns else matrix.T
        self._turned = rows > columns
        self._vectors = leading(self._wide, len(self._wide))

    def split(self, rank: int) -> tuple[Array, Array]:
        """[rows, rank] and [rank, columns] whose product is the nearest matrix of that rank, both as long."""
        left = self._vectors[:, :rank]
        right = left.T @ self._wide
        half = np.sqrt(np.maximum(np.linalg.norm(right, axis=1), 1e-150))
        left, right = left * half, right / half[:, None]
        return (right.T, left.T) if self._turned else (left, right)


def _weighed(weight: NDArray[Any], root: Array | None) -> Array:
    """In the metric of the inputs' covariance, where that is known."""
    whole = weight.astype(np.float64)
    return whole if root is None else np.asarray(np.einsum("oihw,ij->ojhw", whole, root))


def _separated(weight: Array) -> Array:
    """[Cin * kh, Cout * kw]"""
    c_out, c_in, kh, kw = weight.shape
    return weight.transpose(1, 2, 0, 3).reshape(c_in * kh, c_out * kw)


def _tensorly(module: str) -> Any:
    """A module of tensorly. Raises CompressionError, with what to install, where it is not here."""
    try:
        return importlib.import_module(f"tensorly.{module}")
    except ImportError as error:
        raise CompressionError(
            "Tucker decompositions need tensorly and SciPy, which are not installed: pip install 'afterimage[compress]'"
        ) from error
