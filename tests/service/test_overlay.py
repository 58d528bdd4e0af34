"""What was recomputed, drawn: which pixels are tinted, what stays visible, and the strip."""

from __future__ import annotations

import numpy as np
import pytest

from clients.wire import Changes, Detection
from service.annotate import annotate, colour_of
from service.overlay import HEAT, covered_pixels, strip, tiles_of, tint


def changes(counts: tuple[int, ...] = (1, 1, 2), xyxy: tuple = (0, 0, 40, 20), stages: tuple = (0.5,) * 8) -> Changes:
    return Changes(size=(2, 2), counts=counts, xyxy=xyxy, stages=stages)


def test_runs_become_tiles() -> None:
    assert tiles_of(changes()).tolist() == [[False, True], [False, False]]
    assert tiles_of(changes((0, 4))).all()
    assert not tiles_of(changes((4,))).any()


def test_tiles_cover_their_pixels_and_nothing_beyond_the_grid() -> None:
    mask = covered_pixels(changes(), 40, 20)
    assert mask[:10, 20:].all()
    assert mask.sum() == 200
    padded = covered_pixels(changes((0, 4), (10, 5, 30, 15)), 40, 20)
    assert padded[5:15, 10:30].all()
    assert padded.sum() == 200
    beyond = covered_pixels(changes((0, 4), (-40, -20, 80, 40)), 40, 20)
    assert beyond.all()
    assert not covered_pixels(changes((0, 4), (5, 5, 5, 5)), 40, 20).any()


def test_recomputed_tiles_are_tinted_and_others_are_not() -> None:
    image = np.full((20, 40, 3), 100, np.uint8)
    tint(image, changes())
    assert (image[:, :19] == 100).all()
    assert (image[12:] == 100).all()
    blue, _, red = image[5, 30].tolist()
    assert blue < 100 < red, "towards the colour"
    assert abs(red - 100) < abs(int(HEAT[2]) - red), "the picture shows through"
    untouched = np.full((20, 40, 3), 100, np.uint8)
    tint(untouched, changes((4,)))
    assert (untouched == 100).all()


def test_a_keyframe_is_tinted_less_than_a_tile() -> None:
    few, whole = (np.full((200, 400, 3), 100, np.uint8) for _ in range(2))
    tint(few, changes((1, 1, 2), (0, 0, 400, 200)))
    tint(whole, changes((0, 4), (0, 0, 400, 200)))
    assert few[50, 300, 2] > whole[50, 300, 2] > 100


def test_the_strip_is_filled_as_far_as_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("service.overlay.cv2.putText", lambda image, text, *rest: written.append(text))
    image = np.full((400, 640, 3), 200, np.uint8)
    strip(image, changes(stages=(1.0, 0.5, 0.0)), 0.073)
    strip(image.copy(), changes(stages=(1.0, 0.5, 0.0)))
    assert written == ["recomputed 7% of the network", "recomputed 50% of the network"]
    hot = (image == HEAT).all(axis=2)
    heights = [int(column.sum()) for column in hot.T if column.any()]
    assert len(set(heights)) == 2, "one column is full, one is half, one is empty"
    assert min(heights) == pytest.approx(max(heights) / 2, abs=1)
    assert (image[:300] == 200).all(), "it is in the lower corner"


def test_where_there_is_no_room_there_is_no_strip() -> None:
    image = np.full((20, 60, 3), 200, np.uint8)
    strip(image, changes(), 0.5)
    assert (image == 200).all()


def test_boxes_lie_above_the_tint() -> None:
    box = Detection(xyxy=(40, 50, 120, 100), score=0.9, class_id=3, label="cat")
    whole = changes((0, 4), (0, 0, 160, 120))
    drawn = annotate(np.zeros((120, 160, 3), np.uint8), [box], changes=whole)
    assert tuple(drawn[100, 80]) == colour_of(3)
    assert drawn[75, 80].any(), "and the inside is tinted"
    assert not annotate(np.zeros((120, 160, 3), np.uint8), [box])[75, 80].any()
