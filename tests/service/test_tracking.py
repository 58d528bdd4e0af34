"""Ids: steady where the object is the same, new where it is another, whatever the rate, the reuse and the gaps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clients.wire import Detection
from service import codec, tracking
from service.catalogue import find_model
from service.pipeline import FramePipeline
from service.registry import ModelRegistry
from service.settings import ModelSource, Settings
from service.sources import open_source
from service.tracking import GAP_S, LOW_SCORE, MAX_BOXES, MAX_TRACKS, Tracker, TrackingUnavailable, load, weakest

pytest.importorskip("trackers")

SIZE = (640, 384)
START = 60
CLIP = Path(__file__).parents[3] / "shared/data/videos/intel_one-by-one-person-detection.mp4"


def box(x: float, y: float = 100, *, score: float = 0.9, kind: int = 0, side: float = 80) -> Detection:
    return Detection(xyxy=(x, y, x + side, y + 2 * side), score=score, class_id=kind, label=f"kind{kind}")


class Camera:
    """Feeds a tracker at a rate, by the sender's clock."""

    def __init__(self, fps: float = 30, lost_s: float = 2.0) -> None:
        self.tracker = Tracker(lost_s)
        self.fps = fps
        self.at_us = 1_700_000_000_000_000

    def see(self, *boxes: Detection, size: tuple[int, int] = SIZE, shown: float = 0.4) -> list[int | None]:
        self.at_us += round(1e6 / self.fps)
        return [found.track_id for found in self.tracker.update(boxes, size, shown, self.at_us, 0)]

    def wait(self, seconds: float) -> None:
        self.at_us += round(seconds * 1e6)


def test_an_object_has_its_id_from_its_second_frame_on() -> None:
    camera = Camera()
    assert camera.see(box(10)) == [None], "an object that was seen once may be noise"
    assert camera.see(box(12)) == [1]
    assert camera.see(box(14), box(400)) == [1, None]
    assert camera.see(box(16), box(402)) == [1, 2]
    assert camera.tracker.given == 2


def test_one_frame_of_noise_takes_no_id() -> None:
    camera = Camera()
    for frame in range(6):
        camera.see(box(10 + frame), *[box(400)] * (frame == 3))
    assert camera.see(box(18), box(300)) == [1, None]
    assert camera.see(box(20), box(301)) == [1, 2]


@pytest.mark.parametrize("fps", [2, 5, 15, 30, 60])
def test_two_objects_that_cross_keep_their_ids_at_any_rate(fps: float) -> None:
    """They walk 60 px/s in opposite directions, one behind the other."""
    camera = Camera(fps)
    for frame in range(round(8 * fps)):
        t = frame / fps
        left, right = box(40 + 60 * t, 90), box(540 - 60 * t, 150)
        ids = camera.see(left, right)
        assert frame == 0 or ids == [1, 2], frame


@pytest.mark.parametrize("fps", [2, 10, 30])
def test_an_object_that_vanishes_keeps_its_id_for_the_time_set_and_no_longer(fps: float) -> None:
    camera = Camera(fps, lost_s=2.0)
    for _ in range(4):
        camera.see(box(100), box(400))
    for _ in range(round(1.5 * fps)):
        assert camera.see(box(100)) == [1]
    assert camera.see(box(100), box(400)) == [1, 2]
    for _ in range(round(3 * fps)):
        camera.see(box(100))
    camera.see(box(100), box(400))
    assert camera.see(box(100), box(400)) == [1, 3]


def test_reused_frames_keep_ids_and_cost_no_more_than_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera()
    same = (box(100), box(400))
    camera.see(*same)
    calls: list[int] = []
    associate = Tracker._associate
    monkeypatch.setattr(Tracker, "_associate", lambda self, *rest: calls.append(1) or associate(self, *rest))
    for frame in range(300):
        assert camera.see(*same) == [1, 2], frame
    assert 60 <= len(calls) <= 65, "while something may still be lost, and not after"


def test_what_moved_and_rests_is_found_where_it_rests() -> None:
    """Speeds are zero before frames are passed over: an object is not looked for where it would have gone."""
    camera = Camera()
    for frame in range(30):
        camera.see(box(20 + 6 * frame))
    for _ in range(300):
        assert camera.see(box(200)) == [1]
    for frame in range(30):
        assert camera.see(box(200 - 6 * frame)) == [1], frame


def test_lost_objects_are_forgotten_while_frames_are_reused() -> None:
    camera = Camera(lost_s=1.0)
    for _ in range(3):
        camera.see(box(100), box(400))
    for _ in range(300):
        camera.see(box(100))
    camera.see(box(100), box(400))
    assert camera.see(box(100), box(400)) == [1, 3]


def test_dropped_frames_and_jitter() -> None:
    rng = np.random.default_rng(3)
    camera = Camera()
    t = 0.0
    for frame in range(200):
        step = rng.uniform(0.01, 0.25)
        t += step
        camera.wait(step - 1 / camera.fps)
        x = 200 + 150 * np.sin(t)
        assert camera.see(box(x)) in ([1], [None] * (frame == 0)), frame


def test_a_gap_of_seconds_without_frames_is_no_absence() -> None:
    camera = Camera(lost_s=2.0)
    for _ in range(10):
        camera.see(box(100))
    camera.wait(GAP_S - 5)
    assert camera.see(box(104)) == [1]
    camera.wait(GAP_S + 1)
    assert camera.see(box(104)) == [None]
    assert camera.see(box(104)) == [2]


def test_a_clock_that_stands_still_or_goes_back_is_replaced_by_arrival() -> None:
    tracker = Tracker(2.0)
    for frame in range(60):
        captured = 0 if frame % 2 else 1_000_000 - frame
        (found,) = tracker.update([box(100 + 2 * frame)], SIZE, 0.4, captured, frame * 33_000_000)
        assert found.track_id == (1 if frame else None)
    for frame in range(60, 63):
        tracker.update([], SIZE, 0.4, 0, frame * 33_000_000 + 3_000_000_000)
    assert tracker.update([box(222)], SIZE, 0.4, 0, 66 * 33_000_000)[0].track_id == 1


def test_classes_do_not_take_over_each_others_ids() -> None:
    camera = Camera()
    for _ in range(5):
        camera.see(box(100, kind=0))
    assert camera.see(box(100, kind=2)) == [None]
    assert camera.see(box(100, kind=2)) == [2]
    assert camera.see(box(100, kind=0), box(100, kind=2)) == [1, 2]


def test_weak_boxes_carry_on_an_id_and_are_not_shown() -> None:
    camera = Camera()
    for frame in range(40):
        score = 0.15 if 10 <= frame < 30 else 0.9
        x = 50.0 + 10 * frame
        ids = camera.see(box(x, score=score), box(x + 90, 20, score=0.2, side=20))
        assert ids == ([] if score < 0.4 else [1 if frame else None]), frame
    assert camera.tracker.given == 1, "a weak box begins nothing"
    assert camera.see(box(450, score=0.15), shown=0.1) == [1], "what is shown is the client's"


def test_decoding_goes_down_to_weak_boxes_and_never_above_what_is_shown() -> None:
    assert weakest(0.4) == LOW_SCORE
    assert weakest(0.05) == 0.05


def test_boxes_keep_their_order_and_their_fields() -> None:
    camera = Camera()
    boxes = [box(300, score=0.5), box(10, score=0.95), box(150, score=0.45, kind=1)]
    camera.see(*boxes)
    camera.at_us += 33_333
    found = camera.tracker.update(boxes, SIZE, 0.4, camera.at_us, 0)
    assert [(item.xyxy, item.score, item.class_id, item.label) for item in found] == [
        (item.xyxy, item.score, item.class_id, item.label) for item in boxes
    ]
    assert sorted(item.track_id or 0 for item in found) == [1, 2, 3]


def test_two_streams_know_nothing_of_each_other() -> None:
    first, second = Camera(), Camera()
    for _ in range(3):
        first.see(box(10), box(300))
        second.see(box(200))
    assert (first.see(box(10), box(300)), second.see(box(200))) == ([1, 2], [1])


def test_reset_and_another_shape_of_frame_forget_and_numbers_go_on() -> None:
    camera = Camera()
    for _ in range(3):
        camera.see(box(100))
    camera.tracker.reset()
    assert camera.see(box(100)) == [None]
    assert camera.see(box(100)) == [2]
    assert camera.see(box(50, 50, side=40), size=(320, 192)) == [2], "the same view in fewer pixels"
    assert camera.see(box(100), size=(480, 640)) == [None], "another view"
    assert camera.see(box(100), size=(480, 640)) == [3]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(lost_s=60)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(tracking, "MAX_TRACKS", 40)
    for frame in range(60):
        if frame % 2 == 0:
            places = rng.uniform(0, 5000, (30, 2))
        camera.see(*[box(x, y, side=4, kind=int(x) % 3) for x, y in places], size=(5000, 5000))
    classes = camera.tracker._classes
    assert set(classes) == {0, 1, 2}
    assert all(len(one.tracker.tracks) <= 40 and len(one.numbers) <= 40 for one in classes.values())
    assert max(len(one.tracker.tracks) for one in classes.values()) == 40
    assert MAX_TRACKS == 512
    short = Camera(lost_s=0.1)
    for frame in range(40):
        short.see(box(100, kind=frame // 10))
    assert list(short.tracker._classes) == [3], "classes that are gone are forgotten"


def test_too_many_boxes_are_tracked_from_the_strongest_on() -> None:
    camera = Camera()
    crowd = [box(20 * (i % 50), 20 * (i // 50), side=8, score=0.9 - i / 1000) for i in range(MAX_BOXES + 20)]
    camera.see(*crowd, size=(1000, 1000))
    ids = camera.see(*crowd, size=(1000, 1000))
    assert [number is not None for number in ids] == [True] * MAX_BOXES + [False] * 20


def test_an_error_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera()
    for _ in range(3):
        camera.see(box(100))
    with monkeypatch.context() as broken:
        broken.setattr(Tracker, "_associate", lambda *rest: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            camera.see(box(100))
    assert camera.see(box(100)) == [None]
    assert camera.see(box(100)) == [2]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load(2.0), Tracker)
    assert load(2.0).given == 0
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrackingUnavailable, match=r"afterimage\[tracking\]"):
        load(2.0)


def test_a_package_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Tracker) -> None:
        raise ImportError("libGL.so.1 is missing")

    monkeypatch.setattr(Tracker, "_make", broken)
    with pytest.raises(TrackingUnavailable, match=r"afterimage\[tracking\].*libGL\.so\.1 is missing"):
        load(2.0)


@pytest.mark.data
@pytest.mark.skipif(not CLIP.exists(), reason="the real clips are not beside the checkout")
def test_a_real_person_keeps_one_id() -> None:
    """130 frames in which one person walks through a room, at 10 frames a second."""
    registry = ModelRegistry.from_settings(
        Settings(models={"people": ModelSource(path=find_model("people"), size=SIZE)})
    )
    model = registry.get("people")
    pipeline = FramePipeline(model, model.open_session(), codec.DEFAULT_LIMITS)
    tracker, shown = load(2.0), model.spec.min_confidence
    seen: Counter[int | None] = Counter()
    with open_source(str(CLIP), start=START, frames=130) as clip:
        for number, frame in enumerate(clip):
            outcome = pipeline.run(codec.encode_jpeg(frame.image, 90), min_confidence=weakest(shown))
            followed = tracker.follow(outcome, shown, 1 + number * 100_000, 0)
            assert followed.found.detections is not None
            seen.update(item.track_id for item in followed.found.detections if item.label == "person")
    ids = [number for number in seen if number is not None]
    assert len(ids) == 1
    assert seen[ids[0]] >= 100
    assert seen[None] <= 1
