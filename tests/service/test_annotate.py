"""Drawing: where it draws, what it leaves alone, and that odd results do not break it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from clients.wire import ClassScore, Detection
from service.annotate import annotate, colour_of


def test_a_box_is_drawn_on_a_copy_in_its_colour() -> None:
    frame = np.zeros((120, 160, 3), np.uint8)
    drawn = annotate(frame, [Detection(xyxy=(40, 50, 120, 100), score=0.9, class_id=3, label="cat")])
    assert not frame.any()
    assert tuple(drawn[100, 80]) == colour_of(3)
    assert tuple(drawn[75, 120]) == colour_of(3)
    assert not drawn[70:90, 60:100].any(), "the inside stays as it was"
    assert drawn[30:50, 40:60].any(), "the caption stands on the box"


def test_the_number_of_an_object_stands_before_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("service.annotate.cv2.putText", lambda image, text, *rest: written.append(text))
    boxes = [
        Detection(xyxy=(10, 50, 40, 100), score=0.9, class_id=0, label="person", track_id=3),
        Detection(xyxy=(90, 50, 120, 100), score=0.5, class_id=0, label="person"),
    ]
    annotate(np.zeros((200, 400, 3), np.uint8), boxes)
    assert sorted(written) == ["#3 person 90%", "person 50%"]


def test_nothing_to_draw() -> None:
    frame = np.full((10, 10, 3), 9, np.uint8)
    assert np.array_equal(annotate(frame), frame)
    assert annotate(frame) is not frame


def test_keypoints_classes_and_labels_beyond_ascii() -> None:
    frame = np.zeros((200, 200, 3), np.uint8)
    points = ((100.0, 150.0, 1.0), (20.0, 190.0, 0.0))
    drawn = annotate(
        frame,
        [Detection(xyxy=(50, 50, 150, 180), score=1, class_id=0, label="Füße 🚋", keypoints=points)],
        [ClassScore(class_id=1, label="tabby", score=0.5)],
    )
    assert tuple(drawn[150, 100]) == colour_of(0)
    assert not drawn[190, 20].any(), "an invisible point is not drawn"
    assert drawn[:20, :20].any()


@pytest.mark.parametrize("box", [(-50, -50, 500, 500), (0, 0, 0, 0), (9, 9, 1, 1), (1e6, 0, 2e6, 5)])
def test_boxes_outside_and_tiny_images(box: tuple) -> None:
    for shape in ((1, 1, 3), (8, 300, 3)):
        frame = np.zeros(shape, np.uint8)
        assert annotate(frame, [Detection(xyxy=box, score=1, class_id=7, label="x" * 80)]).shape == shape


def test_colours_are_steady_and_apart() -> None:
    assert colour_of(5) == colour_of(5)
    assert len({colour_of(class_id) for class_id in range(80)}) == 80


def test_wrong_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        annotate(np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        annotate(np.zeros((5, 5, 3), np.float32))


def opaque_captions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, int], tuple[int, int]]]:
    """Filled in as annotate draws: text, left top and right bottom of every caption, in the order of drawing."""
    drawn: list[tuple[str, tuple[int, int], tuple[int, int]]] = []
    rectangle, put_text = cv2.rectangle, cv2.putText
    grounds = []

    def filled(image, first, second, colour, thickness):
        if thickness == -1:
            grounds.append((first, second))
        else:
            assert not grounds, "a box is drawn over a caption"
        return rectangle(image, first, second, colour, thickness)

    def text(image, shown, *others):
        drawn.append((shown, *grounds[-1]))
        return put_text(image, shown, *others)

    monkeypatch.setattr(cv2, "rectangle", filled)
    monkeypatch.setattr(cv2, "putText", text)
    return drawn


def overlap(one: tuple, other: tuple) -> bool:
    return all(one[1][side] <= other[2][side] and other[1][side] <= one[2][side] for side in (0, 1))


def test_captions_of_a_person_and_a_face_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = opaque_captions(monkeypatch)
    frame = np.zeros((360, 640, 3), np.uint8)
    person = Detection(xyxy=(100, 80, 180, 300), score=0.93, class_id=0, label="person")
    face = Detection(xyxy=(120, 84, 160, 130), score=0.8, class_id=1, label="face")
    third = Detection(xyxy=(104, 82, 178, 290), score=0.4, class_id=2, label="vehicle")
    annotate(frame, [third, face, person])
    assert sorted(text for text, *_ in drawn) == ["face 80%", "person 93%", "vehicle 40%"]
    assert not any(overlap(drawn[a], drawn[b]) for a in range(3) for b in range(a))
    assert next(place for place in drawn if place[0] == "person 93%")[2][1] == 80, "the strongest stands on its box"


def test_where_there_is_no_room_the_strongest_is_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = opaque_captions(monkeypatch)
    boxes = [
        Detection(xyxy=(0, 0, 30, 14), score=score, class_id=0, label="person") for score in (0.5, 0.9, 0.6, 0.7, 0.8)
    ]
    annotate(np.zeros((16, 40, 3), np.uint8), boxes)
    assert (len(drawn), drawn[-1][0]) == (5, "person 90%")
    assert all(overlap(drawn[-1], other) for other in drawn)


def test_captions_stay_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = opaque_captions(monkeypatch)
    whole = [Detection(xyxy=(0, 0, 319, 199), score=s, class_id=0, label="person") for s in (0.9, 0.8, 0.7)]
    annotate(np.zeros((200, 320, 3), np.uint8), whole, [ClassScore(class_id=1, label="tabby", score=0.5)])
    assert len(drawn) == 4
    assert all(first[0] >= 0 and first[1] >= 0 and second[0] <= 320 and second[1] <= 200 for _, first, second in drawn)
