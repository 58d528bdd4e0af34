"""Pixels of canvases: the same as OpenCV's, and damage that stays within a picture's range."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; only training needs it")

from models.default import render
from models.default.data import Picture
from models.default.layout import Composer, Layer, Sample, batch

CPU = torch.device("cpu")


def smooth(width: int, height: int, seed: int) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(image, (0, 0), 5), None, 0, 255, cv2.NORM_MINMAX)


IMAGES = [smooth(96, 64, 1), smooth(50, 70, 2)]
JPEGS = [bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1]) for image in IMAGES]
DECODED = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in JPEGS]


def nothing() -> tuple[np.ndarray, ...]:
    """No boxes, no classes, no scores, no flags."""
    return np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, bool)


def drawn(pool, layers, width, height):
    sample = Sample(layers, *nothing(), "letterbox")
    arrays = {key: torch.from_numpy(value) for key, value in batch([sample]).items()}
    canvas, top = pool.render(arrays, width, height)
    return canvas[0].numpy().transpose(1, 2, 0), top[0].numpy()


@pytest.fixture(scope="module")
def pool():
    return render.Pool(JPEGS, CPU)


def test_a_picture_at_its_own_size_is_itself(pool):
    assert pool.sizes.tolist() == [[96, 64], [50, 70]]
    canvas, top = drawn(pool, [Layer(0, (0, 0, 96, 64), (1, 1), (0, 0), False)], 128, 96)
    np.testing.assert_allclose(canvas[:64, :96], DECODED[0], atol=0.01)
    assert (canvas[64:] == render.PAD_VALUE).all()
    assert (canvas[:, 96:] == render.PAD_VALUE).all()
    assert (top[:64, :96] == 0).all()
    assert (top[64:] == -1).all()


def test_flips_offsets_and_what_lies_on_top(pool):
    layers = [
        Layer(0, (0, 0, 96, 64), (1, 1), (0, 0), True),
        Layer(1, (10, 20, 40, 60), (1, 1), (5, 10), False),
    ]
    canvas, top = drawn(pool, layers, 96, 64)
    np.testing.assert_allclose(canvas[:20], DECODED[0][:20, ::-1], atol=0.01)
    np.testing.assert_allclose(canvas[20:60, 10:40], DECODED[1][10:50, 5:35], atol=0.01)
    assert (top[20:60, 10:40] == 1).all()
    assert (top == 1).sum() == 40 * 30


@pytest.mark.parametrize("scale", [2.0, 0.5, 0.3])
def test_other_sizes_are_near_opencvs(pool, scale):
    size = (int(96 * scale), int(64 * scale))
    layer = Layer(0, (0, 0, *size), (size[0] / 96, size[1] / 64), (0, 0), False)
    canvas, _ = drawn(pool, [layer], *size)
    wanted = cv2.resize(DECODED[0], size, interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA)
    assert np.abs(canvas - wanted).mean() < 3


def test_the_products_letterbox(pool):
    pictures = [Picture(data, "one", "A", "val", True, *nothing()) for data in JPEGS]
    composer = Composer(pictures, pool.sizes, np.ones(2))
    canvas, top = drawn(pool, composer.plain(1, 100, 35).layers, 100, 35)
    assert (top[:, :25] == 0).all()
    assert (top[:, 25:] == -1).all()
    wanted = cv2.resize(DECODED[1], (25, 35), interpolation=cv2.INTER_AREA)
    assert np.abs(canvas[:, :25] - wanted).mean() < 3


@pytest.mark.parametrize("change", [render.recolour, render.degrade])
def test_damage_keeps_shape_and_range_and_depends_on_the_seed(change):
    image = torch.from_numpy(np.stack([smooth(96, 64, n) for n in range(6)])).permute(0, 3, 1, 2).float()
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(change(image))
    assert results[0].shape == image.shape
    assert torch.isfinite(results[0]).all()
    assert results[0].min() >= 0
    assert results[0].max() <= 255
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_jpeg_is_near_the_codecs_own():
    image = smooth(96, 64, 3)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    ours = render.jpeg(tensor, torch.ones(1, 1, 1, 1))[0].permute(1, 2, 0).numpy()
    options = [cv2.IMWRITE_JPEG_QUALITY, 50, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    codec = cv2.imdecode(cv2.imencode(".jpg", image, options)[1], cv2.IMREAD_COLOR).astype(float)
    assert np.abs(ours - codec).mean() < np.abs(codec - image).mean()
    assert np.abs(ours - image).mean() == pytest.approx(np.abs(codec - image).mean(), rel=0.5)
