"""Fitting frames, and the way back for boxes."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.families.base import Detections
from service.model_spec import ModelSpec
from service.preprocess import fit, resize

MODES = ["letterbox", "letterbox_centre", "stretch", "crop_centre"]


def frame(width=64, height=32):
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 200, 100, 50
    return image


def test_letterbox_pads_at_right_and_bottom():
    image, placement = fit(frame(), (32, 32), ModelSpec(colour="BGR", fit="letterbox", pad_value=114))
    assert image.shape == (32, 32, 3)
    assert (image[:16] == [200, 100, 50]).all()
    assert (image[16:] == 114).all()
    assert (placement.scale, placement.offset) == ((0.5, 0.5), (0.0, 0.0))


def test_letterbox_centre_pads_on_both_sides():
    image, placement = fit(frame(), (32, 32), ModelSpec(colour="RGB", fit="letterbox_centre", pad_value=7))
    assert (image[8:24] == [50, 100, 200]).all()
    assert (image[:8] == 7).all()
    assert (image[24:] == 7).all()
    assert placement.offset == (0.0, 8.0)


def test_stretch_fills_and_crop_keeps_the_centre():
    wide = frame()
    wide[:, :16], wide[:, 48:] = 0, 0
    image, _ = fit(wide, (32, 32), ModelSpec(colour="BGR", fit="crop_centre"))
    assert (image == [200, 100, 50]).all()
    image, placement = fit(wide, (32, 32), ModelSpec(colour="BGR", fit="stretch"))
    assert (image[:, :8] == 0).all()
    assert placement.scale == (0.5, 1.0)


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize(("colour", "depth"), [("BGR", 3), ("RGB", 3), ("GRAY", 1)])
def test_any_channel_count_becomes_what_the_plan_wants(channels, colour, depth):
    shape = (20, 30) if channels is None else (20, 30, channels)
    image, _ = fit(np.full(shape, 80, np.uint8), (16, 16), ModelSpec(colour=colour))
    assert image.shape == (16, 16, depth)
    assert image.flags.c_contiguous
    assert (image == 80).all()


def test_a_frame_that_fits_is_not_copied():
    image = frame()
    fitted, _ = fit(image, (64, 32), ModelSpec(colour="BGR", fit="letterbox"))
    assert fitted is image or np.shares_memory(fitted, image)


@given(
    st.integers(8, 2000),
    st.integers(8, 2000),
    st.integers(8, 800),
    st.integers(8, 800),
    st.sampled_from(MODES),
)
def test_boxes_come_back_to_where_they_were(width, height, plan_w, plan_h, mode):
    tiny = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (height, width, 3))
    fitted, placement = fit(tiny, (plan_w, plan_h), ModelSpec(fit=mode, colour="BGR"))
    assert fitted.shape == (plan_h, plan_w, 3)
    box = np.array([[width * 0.3, height * 0.3, width * 0.7, height * 0.7]], np.float32)
    scale, offset = np.array(placement.scale * 2), np.array(placement.offset * 2)
    back = placement.boxes_to_frame((box * scale + offset).astype(np.float32))
    np.testing.assert_allclose(back, box, rtol=1e-3, atol=0.05)


def test_boxes_are_clipped_to_the_frame_and_points_are_not():
    _, placement = fit(frame(), (32, 32), ModelSpec(fit="letterbox"))
    points = np.array([[[-4, 4, 0.5]]], np.float32)
    one = Detections(np.array([[-9, -9, 99, 99]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32), points)
    moved = placement.detections_to_frame(one)
    assert moved.xyxy.tolist() == [[0, 0, 64, 32]]
    assert moved.keypoints.tolist() == [[[-8, 8, 0.5]]]
    assert placement.detections_to_frame(Detections.empty()).xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_refuses_what_is_no_frame(bad):
    with pytest.raises(ValueError, match=r"expected a frame uint8\[H, W, 3\], got"):
        fit(bad, (8, 8), ModelSpec())


@pytest.mark.parametrize(("frame", "size"), [((128, 96), (64, 48)), ((192, 96), (64, 48)), ((320, 240), (64, 48))])
def test_whole_multiples_shrink_by_areas(frame, size):
    image = np.random.default_rng(0).integers(0, 256, (frame[1], frame[0], 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, size), cv2.resize(image, size, interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    "frame", [(76, 57), (80, 60), (96, 72), (104, 78), (120, 90), (150, 118), (200, 150), (333, 77)]
)
def test_what_shrinks_by_a_fraction_keeps_means_and_has_no_moire(frame):
    """Stripes two pixels wide and noise; bilinear alone would show the stripes as others."""
    size, (width, height) = (64, 48), frame
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width))
    image = np.stack([rows % 4 // 2 * 120 + noise, columns % 4 // 2 * 120 + noise, 2 * columns % 200 + noise], -1)
    found = resize(image.astype(np.uint8), size).astype(float)
    wanted = cv2.resize(image.astype(np.uint8), size, interpolation=cv2.INTER_AREA).astype(float)
    assert found.shape == (48, 64, 3)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), wanted.mean(axis=(0, 1)), atol=1.5)
    assert np.sqrt(np.square(found - wanted).mean()) < 16


def test_what_grows_is_bilinear():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, (64, 48)), cv2.resize(image, (64, 48), interpolation=cv2.INTER_LINEAR))
