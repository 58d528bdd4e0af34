"""The model's input of a picture that changes by tiles: it is the whole fit, and what differs is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.change import TileGrid
from clients.wire import grid_of
from service.kept_input import take_in
from service.preprocess import fit
from service.reference import Picture

TILE = 16


@dataclass
class Rule:
    fit: str
    colour: str = "BGR"
    pad_value: int = 114


def padded(size: tuple[int, int]) -> np.ndarray:
    rows, columns = grid_of(*size, TILE)
    return np.zeros((rows * TILE, columns * TILE, 3), np.uint8)


def picture_of(source: object, canvas: np.ndarray, size: tuple[int, int], changed: np.ndarray | None) -> Picture:
    return Picture(source, canvas, canvas[: size[1], : size[0]].copy(), changed, TILE)


@given(
    st.tuples(st.integers(1, 130), st.integers(1, 130)),
    st.sampled_from([(96, 64), (64, 96), (33, 50)]),
    st.sampled_from(["letterbox", "letterbox_centre", "stretch", "crop_centre"]),
    st.sampled_from(["BGR", "RGB", "GRAY"]),
    st.sampled_from([4, 8]),
    st.integers(0, 2**31),
)
def test_what_is_kept_follows_the_picture(size, model, how, colour, cell, seed) -> None:
    rng, source, rule = np.random.default_rng(seed), object(), Rule(how, colour)
    canvas, grid = padded(size), TileGrid(model[1], model[0], cell)
    canvas[:] = rng.integers(0, 256, canvas.shape)
    kept, within = take_in(picture_of(source, canvas, size, None), None, model, rule, grid)
    assert within is None
    for share in (0.0, 0.1, 1.0):
        before = kept.frame.copy()
        changed = rng.random(grid_of(*size, TILE)) < share
        cells = changed.repeat(TILE, 0).repeat(TILE, 1)
        canvas[cells] = rng.integers(0, 256, (int(cells.sum()), 3))
        picture = picture_of(source, canvas, size, changed)
        kept, within = take_in(picture, kept, model, rule, grid)
        expected, placement = fit(np.ascontiguousarray(picture.image), model, rule)
        np.testing.assert_array_equal(kept.frame, expected)
        assert kept.placement == placement
        assert within is not None
        assert within.any() or not changed.any() or not (before != kept.frame).any()
        differs = (before != kept.frame).any(axis=2)
        rows, columns = np.nonzero(differs)
        assert within[rows // cell, columns // cell].all()
        assert share or not within.any()


def test_a_picture_of_the_models_size_is_told_of_exactly() -> None:
    source, grid, rule = object(), TileGrid(64, 96, 8), Rule("letterbox", "RGB")
    canvas = padded((96, 64))
    kept, _ = take_in(picture_of(source, canvas, (96, 64), None), None, (96, 64), rule, grid)
    changed = np.zeros((4, 6), bool)
    changed[1, 2] = True
    canvas[16:32, 32:48] = 9
    _, within = take_in(picture_of(source, canvas, (96, 64), changed), kept, (96, 64), rule, grid)
    assert within is not None
    assert np.argwhere(within).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


@pytest.mark.parametrize("other", ["source", "changed"])
def test_another_picture_is_fitted_whole(other: str) -> None:
    grid, rule = TileGrid(64, 96, 8), Rule("letterbox")
    first = picture_of(object(), padded((96, 64)), (96, 64), None)
    kept, _ = take_in(first, None, (96, 64), rule, grid)
    fields = {"source": first.source, "changed": np.zeros((4, 6), bool)}
    fields[other] = {"source": object(), "changed": None}[other]
    canvas = padded((96, 64)) + np.uint8(7)
    again, within = take_in(picture_of(canvas=canvas, size=(96, 64), **fields), kept, (96, 64), rule, grid)
    assert within is None
    assert (again.frame == 7).all()
