"""Fitting frames, and the way back for boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.families.base import Detections
from service.model_spec import ModelSpec
from service.preprocess import fit

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
