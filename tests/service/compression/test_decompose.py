"""Factors of weights: what they amount to, what they cost, and what they lose."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from service.compression import decompose
from service.compression.decompose import Decomposer, factors, macs, matrices, pieces, spectra
from service.compression.errors import CompressionError
from tests.service.compression.small_models import falling

WEIGHT = falling(12, 10, 3)
leading = decompose.leading


def rebuilt(form: str, parts: tuple[np.ndarray, ...]) -> np.ndarray:
    """The one weight tensor that the pieces amount to, [Cout, Cin, kh, kw]."""
    if form == "tucker2":
        core = next(number for number, part in enumerate(parts) if part.shape[2:] != (1, 1))
        found = parts[core]
        for part in parts[:core]:
            found = np.einsum("rshw,si->rihw", found, part[:, :, 0, 0])
        for part in parts[core + 1 :]:
            found = np.einsum("or,rihw->oihw", part[:, :, 0, 0], found)
    elif form == "cp":
        first, down, along, last = parts
        found = np.einsum(
            "or,rh,rw,ri->oihw", last[:, :, 0, 0], down[:, 0, :, 0], along[:, 0, 0, :], first[:, :, 0, 0],
            optimize=True,
        )  # fmt: skip
    elif form == "spatial":
        found = np.einsum("orw,rih->oihw", parts[1][:, :, 0, :], parts[0][:, :, :, 0])
    else:
        found = np.einsum("or,ri->oi", parts[1][:, :, 0, 0], parts[0][:, :, 0, 0])[:, :, None, None]
    return np.asarray(found)


def far(form: str, weight: np.ndarray, ranks: tuple[int, ...], root: np.ndarray | None = None) -> float:
    """Relative error of a form, weighed if so asked for."""
    gap = weight.astype(np.float64) - rebuilt(form, factors(form, weight, ranks, root))
    sides = [side if root is None else np.einsum("oihw,ij->ojhw", side, root) for side in (gap, weight)]
    return float(np.linalg.norm(sides[0]) / np.linalg.norm(sides[1]))


@pytest.mark.parametrize(("form", "kernel", "ranks"), [
    ("tucker2", 3, (10, 12)), ("spatial", 3, (30,)), ("pointwise", 1, (10,)), ("cp", 3, (90,)),
])  # fmt: skip
def test_with_all_its_ranks_nothing_is_lost(form, kernel, ranks):
    assert far(form, falling(12, 10, kernel), ranks) < 1e-6


@pytest.mark.parametrize(("form", "ranks"), [("tucker2", (4, 6)), ("cp", (7,)), ("spatial", (5,))])
def test_factors_are_shaped_as_the_pieces_say(form, ranks):
    parts = factors(form, WEIGHT, ranks)
    assert [part.shape for part in parts] == [piece.shape for piece in pieces(form, WEIGHT.shape, ranks)]
    assert rebuilt(form, parts).shape == WEIGHT.shape


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize(("ranks", "shapes"), [
    ((10, 5), [(5, 10, 3, 3), (12, 5, 1, 1)]), ((4, 12), [(4, 10, 1, 1), (12, 4, 3, 3)]),
    ((10, 12), [(12, 10, 3, 3)]),
])  # fmt: skip
def test_a_mode_that_is_kept_whole_has_no_convolution_of_its_own(ranks, shapes, weighed):
    root = np.linalg.cholesky(np.diag(np.logspace(0, -4, 10)) + 1e-6 * np.eye(10)) if weighed else None
    parts = factors("tucker2", WEIGHT, ranks, root)
    assert (
        [part.shape for part in parts] == shapes == [piece.shape for piece in pieces("tucker2", (12, 10, 3, 3), ranks)]
    )
    assert [piece.rows for piece in pieces("tucker2", (12, 10, 3, 3), ranks)] == [shape[2] == 3 for shape in shapes]
    other = (4, 5) if ranks != (10, 12) else (9, 11)
    assert far("tucker2", WEIGHT, ranks, root) < far("tucker2", WEIGHT, other, root)


def test_tucker_loses_no_more_than_what_is_cut_off_of_both_modes():
    into, out = spectra("tucker2", WEIGHT)
    tails = np.square(into[4:]).sum() + np.square(out[6:]).sum()
    found = far("tucker2", WEIGHT, (4, 6))
    assert 0 < found <= np.sqrt(tails) / np.linalg.norm(WEIGHT) + 1e-6


@pytest.mark.parametrize(("form", "kernel"), [("pointwise", 1), ("spatial", 3)])
def test_svd_loses_exactly_what_is_cut_off(form, kernel):
    weight = falling(12, 10, kernel)
    (values,) = spectra(form, weight)
    assert far(form, weight, (3,)) == pytest.approx(np.linalg.norm(values[3:]) / np.linalg.norm(values), rel=1e-5)


@pytest.mark.parametrize(
    ("form", "shape"), [("pointwise", (12, 10, 1)), ("pointwise", (6, 10, 1)), ("spatial", (9, 10, 3))]
)
def test_singular_vectors_are_found_once_for_all_ranks(form, shape, monkeypatch):
    calls: list[int] = []
    monkeypatch.setattr(decompose, "leading", lambda matrix, rank: calls.append(rank) or leading(matrix, rank))
    weight = falling(*shape)
    decomposer = Decomposer(form, weight)
    (values,) = spectra(form, weight)
    for rank in (1, 3, 5):
        gap = weight - rebuilt(form, decomposer.factors((rank,)))
        assert np.linalg.norm(gap) == pytest.approx(np.linalg.norm(values[rank:]), rel=1e-5)
    assert calls == [len(values)]


@pytest.mark.parametrize(("form", "kernel", "ranks"), [
    ("tucker2", 3, (3, 12)), ("pointwise", 1, (3,)), ("spatial", 3, (4,)), ("cp", 3, (4,)),
])  # fmt: skip
def test_weighed_factors_are_better_on_such_inputs(form, kernel, ranks):
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((12, 10, kernel, kernel))
    root = np.linalg.cholesky(np.diag(np.logspace(0, -4, 10)) + 1e-6 * np.eye(10))
    plain = weight - rebuilt(form, factors(form, weight, ranks))
    assert far(form, weight, ranks, root) < np.linalg.norm(np.einsum("oihw,ij->ojhw", plain, root)) / np.linalg.norm(
        np.einsum("oihw,ij->ojhw", weight, root)
    )


def test_work_is_counted_where_each_piece_runs():
    shape = (64, 32, 3, 3)
    assert macs("tucker2", shape, (8, 16), (20, 10), (10, 5)) == 200 * 32 * 8 + 50 * 8 * 16 * 9 + 50 * 16 * 64
    assert macs("cp", shape, (8,), (20, 10), (10, 5)) == 200 * 32 * 8 + 100 * 8 * 3 + 50 * 8 * 3 + 50 * 8 * 64
    assert macs("spatial", shape, (8,), (20, 10), (10, 5)) == 100 * 32 * 8 * 3 + 50 * 8 * 64 * 3
    assert macs("pointwise", (64, 32, 1, 1), (8,), (20, 10), (10, 5)) == 50 * (32 * 8 + 8 * 64)


def test_matrices_have_the_sizes_whose_values_are_told():
    for form, kernel in (("tucker2", 3), ("cp", 3), ("spatial", 3), ("pointwise", 1)):
        weight = falling(12, 10, kernel)
        found = spectra(form, weight)
        assert [len(values) for values in found] == [min(size) for size in matrices(form, weight.shape)]
        assert all((np.diff(values) <= 1e-9).all() for values in found)


@pytest.mark.parametrize("rank", [1, 7, 30, 80])
def test_cp_loses_no_more_than_what_is_cut_off_of_its_matrices(rank):
    values = np.sort(np.concatenate(spectra("cp", WEIGHT)))[::-1]
    assert far("cp", WEIGHT, (rank,)) <= np.linalg.norm(values[rank:]) / np.linalg.norm(values) + 1e-6


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(CompressionError, match=r"afterimage\[compress\]"):
        factors("tucker2", WEIGHT, (2, 2))
    factors("pointwise", falling(12, 10, 1), (2,))  # NumPy alone does these
    factors("cp", WEIGHT, (2,))
