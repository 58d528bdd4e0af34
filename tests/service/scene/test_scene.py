"""The scene as a whole: the same again, alive and at rest, with boxes around what is to be seen."""

import numpy as np
import pytest

from service.scene import FPS, Scene


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.fixture(scope="module")
def boxes(scene):
    """Boxes of every eighth frame."""
    return {index: scene.boxes(index) for index in range(0, scene.period, 8)}


def test_is_the_same_again_in_any_order_and_another_with_another_seed(scene):
    frame = scene.frame(100)
    assert frame.shape == (384, 640, 3)
    assert frame.dtype == np.uint8
    frame[:] = 0  # the caller's own
    scene.frame(3)
    again = Scene()
    np.testing.assert_array_equal(scene.frame(100), again.frame(100))
    assert scene.boxes(100) == again.boxes(100)
    assert (scene.frame(100) != Scene(1).frame(100)).mean() > 0.5


def test_has_no_end(scene):
    assert 20 * FPS < scene.period < 120 * FPS
    far = 1_000_000 * scene.period + 100
    assert scene.boxes(far) == scene.boxes(100)
    gap = np.abs(scene.frame(far).astype(int) - scene.frame(100))
    assert 0.3 < gap.mean() < 4, "only the noise differs"


def test_people_and_faces_come_and_sometimes_nobody_is_there(boxes):
    counts = [sum(label == "person" for label, _ in found) for found in boxes.values()]
    assert counts.count(0) > 0.05 * len(counts)
    assert sum(count > 0 for count in counts) > 0.6 * len(counts)
    assert max(counts) >= 2
    faces = [box for found in boxes.values() for label, box in found if label == "face"]
    heights = [bottom - top for _, top, _, bottom in faces]
    assert sum(60 <= height <= 150 for height in heights) > 5, "somebody comes near"
    assert min(heights) < 40, "somebody is far"


def test_boxes_lie_in_the_frame_and_faces_in_persons(boxes):
    for found in boxes.values():
        persons = [box for label, box in found if label == "person"]
        for label, (left, top, right, bottom) in found:
            assert label in ("person", "face")
            assert 0 <= left < right <= 640
            assert 0 <= top < bottom <= 384
            if label == "face":
                inside = [p for p in persons if p[0] - 3 <= left and right <= p[2] + 3 and p[1] - 3 <= top]
                assert inside


def test_boxes_hold_what_moves(scene, boxes):
    """Against the empty room: most of what differs strongly is inside of the boxes."""
    empty = next(index for index, found in boxes.items() if not found)
    background = scene.frame(empty).astype(int)
    busy = [index for index, found in boxes.items() if len(found) >= 2][:5]
    assert busy
    for index in busy:
        strong = np.abs(scene.frame(index) - background).max(axis=2) > 60
        covered = np.zeros(strong.shape, bool)
        for _, (left, top, right, bottom) in scene.boxes(index):
            covered[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
        assert strong[covered].mean() > 0.05
        assert (strong & ~covered).sum() < 0.05 * strong.sum() + 20


def test_at_rest_only_the_sensor_makes_a_difference(scene, boxes):
    empty = [index for index, found in boxes.items() if not found and not scene.boxes(index + 1)]
    first, second = scene.frame(empty[0]).astype(int), scene.frame(empty[0] + 1)
    inner = (first > 20).all(axis=2) & (first < 235).all(axis=2)
    sigma = (first - second)[inner].std() / np.sqrt(2)
    assert 1.0 < sigma < 2.2
    assert np.abs(first - second).max() < 20


def test_other_sizes_show_the_same_kind_of_thing():
    small = Scene(3, (320, 192))
    assert small.frame(0).shape == (192, 320, 3)
    found = [box for index in range(0, small.period, 40) for _, box in small.boxes(index)]
    assert found
    assert max(right for _, _, right, _ in found) <= 320


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_places_differ_in_light_and_people(seed):
    one, other = Scene(seed, (320, 192)), Scene(seed + 10, (320, 192))
    assert one.period != other.period
    assert 60 < one.frame(0).mean() < 180


def test_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="a seed of 0 or more, got -1"):
        Scene(-1)
    with pytest.raises(ValueError, match="at least 64x64, got 32x384"):
        Scene(0, (32, 384))
    with pytest.raises(ValueError, match="index of 0 or more, got -5"):
        Scene(0, (64, 64)).frame(-5)
