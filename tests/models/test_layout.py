"""Boxes follow their pictures onto a canvas, on pictures with one coloured rectangle each."""

from __future__ import annotations

import numpy as np
import pytest

from models.default.data import Picture
from models.default.layout import BARELY, MAX_BOXES, SMALLEST_PX, VISIBLE, Composer, Layer, batch

COLOURED = 1
CANVASES = ((640, 384), (384, 384))


def one(boxes, classes=None, ignored=None) -> Picture:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    kinds = np.zeros(count, np.int64) if classes is None else np.asarray(classes, np.int64)
    flags = np.zeros(count, bool) if ignored is None else np.asarray(ignored, bool)
    return Picture(b"", "one", "A", "train", True, boxes, kinds, np.ones(count, np.float32), flags)


SIZES = np.array([[200, 100], [90, 180], [320, 192], [64, 64]])
BOXES = [(30, 20, 90, 80), (10, 40, 50, 160), (200, 10, 310, 150), (16, 16, 48, 60)]
PICTURES = [one([box], [number % 2]) for number, box in enumerate(BOXES)]
COMPOSER = Composer(PICTURES, SIZES, np.ones(len(BOXES)))


def draw(layers: list[Layer], width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """NumPy twin of `render.Pool.render`, nearest pixel: top layer int[H, W] (-1: bare), and where it is coloured."""
    y, x = np.mgrid[:height, :width] + 0.5
    top, coloured = np.full((height, width), -1), np.zeros((height, width), bool)
    for number, layer in enumerate(layers):
        left, upper, right, lower = layer.rect
        inside = (x >= left) & (x < right) & (y >= upper) & (y < lower)
        u, v = (x - layer.offset[0]) / layer.scale[0], (y - layer.offset[1]) / layer.scale[1]
        if layer.flip:
            u = SIZES[layer.picture][0] - u
        x0, y0, x1, y1 = BOXES[layer.picture]
        top[inside] = number
        coloured[inside] = ((u >= x0) & (u < x1) & (v >= y0) & (v < y1))[inside]
    return top, coloured


def extent(mask: np.ndarray) -> np.ndarray:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], float)


@pytest.mark.parametrize("seed", range(60))
def test_a_box_encloses_its_colour_wherever_the_picture_lands(seed):
    width, height = CANVASES[seed % 2]
    sample = COMPOSER.sample(np.random.default_rng(seed), width, height)
    top, coloured = draw(sample.layers, width, height)
    assert (sample.boxes >= 0).all()
    assert (sample.boxes <= [width, height, width, height]).all()
    for number, layer in enumerate(sample.layers):
        mine = coloured & (top == number)
        x0, y0, x1, y1 = BOXES[layer.picture]
        whole = (x1 - x0) * (y1 - y0) * np.prod(layer.scale)
        if mine.sum() < 0.45 * whole or mine.sum() < 150:
            continue
        seen = extent(mine)
        same = sample.boxes[(sample.classes == layer.picture % 2) & ~sample.ignored]
        beyond = np.maximum(same[:, :2] - seen[:2], seen[2:] - same[:, 2:]).max(1, initial=-1e9)
        off = np.abs(same - seen).max(1)
        assert beyond.min(initial=1e9) <= 1.0, f"layer {number} of a {sample.kind}: no box encloses {seen}"
        if number == len(sample.layers) - 1:  # nothing is above it
            assert off.min(initial=1e9) <= 1.0


def test_every_kind_of_canvas_comes():
    rng = np.random.default_rng(1)
    samples = [COMPOSER.sample(rng, 640, 384) for _ in range(80)]
    assert {s.kind for s in samples} == {"letterbox", "zoom", "mosaic", "grid"}
    assert {layer.flip for s in samples for layer in s.layers} == {True, False}
    assert max(len(s.layers) for s in samples) > 9  # a grid with something pasted on it


def test_a_plain_canvas_is_the_products_letterbox():
    sample = COMPOSER.plain(1, 640, 384)
    ratio = 384 / 180
    assert sample.layers == [Layer(1, (0, 0, 90 * ratio, 384), (ratio, ratio), (0, 0), False)]
    np.testing.assert_allclose(sample.boxes, [np.array(BOXES[1]) * ratio], rtol=1e-6)


def covered(share: float) -> tuple[list[Layer], Composer]:
    """A picture that is all one box, and a bare one on it from the left, so that `share` of the box is left."""
    pictures = [one([(0, 0, 100, 100)]), one([])]
    layers = [
        Layer(0, (0, 0, 100, 100), (1, 1), (0, 0), False),
        Layer(1, (0, 0, 100 * (1 - share), 100), (1, 1), (0, 0), False),
    ]
    return layers, Composer(pictures, np.array([[100, 100], [100, 100]]), np.ones(2))


@pytest.mark.parametrize(
    ("share", "ignored"),
    [(0.9, [False]), (VISIBLE + 0.01, [False]), (VISIBLE - 0.01, [True]), (BARELY + 0.01, [True]), (BARELY - 0.01, [])],
)
def test_what_is_mostly_hidden_is_ignored_or_forgotten(share, ignored):
    layers, composer = covered(share)
    assert composer._truths(layers)[3].tolist() == ignored


def test_what_is_cut_off_counts_as_hidden_and_loses_that_part():
    pictures = [one([(0, 0, 100, 100)])]
    composer = Composer(pictures, np.array([[100, 100]]), np.ones(1))
    boxes, _, _, ignored = composer._truths([Layer(0, (40, 0, 100, 100), (1, 1), (0, 0), False)])
    assert (boxes.tolist(), ignored.tolist()) == ([[40, 0, 100, 100]], [False])
    boxes, _, _, ignored = composer._truths([Layer(0, (80, 0, 100, 100), (1, 1), (0, 0), False)])
    assert (boxes.tolist(), ignored.tolist()) == ([[80, 0, 100, 100]], [True])


def test_tiny_boxes_and_ignored_ones_stay_ignored():
    side = SMALLEST_PX
    pictures = [one([(0, 0, side - 1, 40), (0, 0, side + 1, 40), (50, 50, 90, 90)], ignored=[False, False, True])]
    composer = Composer(pictures, np.array([[100, 100]]), np.ones(1))
    sample = composer.plain(0, 100, 100)
    found = {tuple(box): bool(flag) for box, flag in zip(sample.boxes.tolist(), sample.ignored, strict=True)}
    assert found == {(0, 0, side - 1, 40): True, (0, 0, side + 1, 40): False, (50, 50, 90, 90): True}


def test_truths_come_first_when_there_are_too_many():
    boxes = [(n, 0, n + 50, 50) for n in range(MAX_BOXES + 20)]
    pictures = [one(boxes, ignored=[n % 2 == 0 for n in range(len(boxes))])]
    sample = Composer(pictures, np.array([[400, 60]]), np.ones(1)).plain(0, 400, 60)
    assert (len(sample.boxes), int((~sample.ignored).sum())) == (MAX_BOXES, len(boxes) // 2)


def test_a_batch_is_padded_with_no_class():
    samples = [COMPOSER.sample(np.random.default_rng(seed), 640, 384) for seed in range(4)]
    arrays = batch(samples)
    for row, sample in enumerate(samples):
        count = len(sample.boxes)
        np.testing.assert_array_equal(arrays["boxes"][row, :count], sample.boxes)
        assert (arrays["classes"][row, count:] == -1).all()
        for number, layer in enumerate(sample.layers):
            assert arrays["picture"][row, number] == layer.picture
            assert arrays["flip"][row, number] == layer.flip
            np.testing.assert_allclose(arrays["rect"][row, number], layer.rect, rtol=1e-6)
        assert (arrays["rect"][row, len(sample.layers) :] == 0).all()  # empty: they cover nothing
