"""One frame through the engine: what is kept over errors and sizes, and how results become wire structs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_fakes import SIZE, FakeEngine, image

from service.caches import Caches
from service.codec import CodecError, Limits, TooManyPixels
from service.families.base import Detections, Mask, RawOutputs
from service.model_spec import ModelSpec
from service.pipeline import MAX_TENSOR_VALUES, FramePipeline, Recomputed, changes_of, describe, run_lengths
from service.preprocess import Placement
from service.room import NoRoom, Room
from service.together import Request, run_together

LETTERBOXED = Placement((100, 50), (0.64, 0.64), (0.0, 8.0))


def make(engine: FakeEngine, **limits) -> FramePipeline:
    model = engine.model()
    return FramePipeline(model, model.open_session(), Limits(**limits))


def test_an_undecodable_image_leaves_the_cache(engine: FakeEngine) -> None:
    pipeline = make(engine)
    assert pipeline.run(image()).decision == "keyframe"
    with pytest.raises(CodecError):
        pipeline.run(b"\xff\xd8\xff nothing")
    assert pipeline.run(image()).decision == "reuse"


def test_any_other_error_resets(engine: FakeEngine) -> None:
    pipeline = make(engine)
    pipeline.run(image())
    engine.failures.append(MemoryError())
    with pytest.raises(MemoryError):
        pipeline.run(image())
    assert pipeline.run(image()).decision == "keyframe"


def test_an_error_of_decoding_that_is_not_the_images_resets(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make(engine)
    pipeline.run(image())
    with monkeypatch.context() as patch:
        patch.setattr("service.codec.decode", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            pipeline.run(image())
    assert pipeline.run(image()).decision == "keyframe"


def test_a_frame_for_which_there_is_no_memory_leaves_the_cache(engine: FakeEngine) -> None:
    left = [1 << 40]
    model, room = engine.model(), Room(lambda: left[0], itertools.count().__next__)
    pipeline = FramePipeline(model, model.open_session(), Limits(room=room.hold))
    large = image(size=(1000, 1000))
    pipeline.run(large)
    left[0] = 0
    with pytest.raises(NoRoom, match="an image of 1000x1000 pixels"):
        pipeline.run(large)
    told: list[object] = []
    run_together([Request(pipeline, large)], lambda _, found: told.append(found))
    assert isinstance(told[0], NoRoom)
    left[0] = 1 << 40
    assert pipeline.run(large).decision == "reuse"


def test_a_session_is_filled_by_a_frame_that_is_computed() -> None:
    engine = FakeEngine(stream_bytes=60)
    caches = Caches(100)
    pipeline = FramePipeline(engine.model(), None, Limits(), None, caches)
    pipeline.open()
    with pytest.raises(CodecError):
        pipeline.run(b"\xff\xd8\xff nothing")
    engine.failures.append(RuntimeError())
    with pytest.raises(RuntimeError):
        pipeline.run(image())
    assert caches.unfilled_bytes == 60, "the machine sees nothing of it yet"
    pipeline.run(image())
    assert caches.unfilled_bytes == 0


def test_reset_even_with_a_bad_image(engine: FakeEngine) -> None:
    pipeline = make(engine)
    pipeline.run(image())
    with pytest.raises(CodecError):
        pipeline.run(b"\xff\xd8\xff nothing", reset=True)
    assert pipeline.run(image()).decision == "keyframe"
    assert pipeline.run(image(), reset=True).decision == "keyframe"


def test_limits_come_before_the_engine(engine: FakeEngine) -> None:
    pipeline = make(engine, max_pixels=100)
    with pytest.raises(TooManyPixels):
        pipeline.run(image())
    assert engine.sessions[0].decisions == []


def test_min_confidence_overrides_for_one_call(engine: FakeEngine) -> None:
    pipeline = make(engine)
    assert pipeline.run(image(), min_confidence=0.9).found.detections == ()
    assert len(pipeline.run(image()).found.detections) == 1


@given(st.lists(st.booleans(), max_size=50))
def test_run_lengths_add_up_and_decode(values: list[bool]) -> None:
    mask = np.asarray(values, bool).reshape(1, -1)
    counts = run_lengths(mask)
    assert sum(counts) == len(values)
    decoded = [bool(index % 2) for index, count in enumerate(counts) for _ in range(count)]
    assert decoded == values


def test_boxes_that_are_not_finite_never_reach_the_wire() -> None:
    boxes = np.asarray([[0, 8, 64, 40], [np.nan, 0, 1, 1], [0, 0, np.inf, 1]], np.float32)
    found = Detections(boxes, np.asarray([0.5, 0.6, 0.7], np.float32), np.zeros(3, np.int32))
    (kept,) = describe(found, ModelSpec(), LETTERBOXED, (64, 48)).detections
    assert kept.xyxy == (0, 0, 100, 50)


def test_keypoints_are_mapped() -> None:
    points = np.asarray([[[32, 24, 1]]], np.float32)
    one = np.zeros(1, np.float32)
    found = Detections(np.asarray([[0, 8, 64, 40]], np.float32), one, np.zeros(1, np.int32), points)
    (kept,) = describe(found, ModelSpec(), LETTERBOXED, (64, 48)).detections
    assert kept.keypoints == ((50, 25, 1),)


def test_masks_by_class_without_background_and_with_their_place() -> None:
    classes = np.asarray([[0, 1], [2, 2]], np.int32)
    mask = Mask(classes, np.ones((2, 2), np.float32), Detections.empty())
    spec = ModelSpec(labels=("road", "car", "sky"), background=0)
    found = describe(mask, spec, LETTERBOXED, (64, 48)).masks
    assert [(entry.label, entry.counts) for entry in found] == [("car", (1, 1, 2)), ("sky", (2, 2))]
    assert found[0].size == (2, 2)
    assert found[0].xyxy == (0, -12.5, 100, 62.5), "the padding lies outside of the frame"


def test_changes_lie_where_their_tiles_are_in_the_frame(engine: FakeEngine) -> None:
    tiles = np.zeros((6, 8), bool)
    tiles[1, 2:4] = True
    found = changes_of(Recomputed(tiles, 8, np.array([0.5, 0.123456, 1.02]), LETTERBOXED))
    assert (found.size, found.counts, found.stages) == ((6, 8), (10, 2, 36), (0.5, 0.1235, 1.0))
    assert found.xyxy == (0.0, -12.5, 100.0, 62.5), "with the padding above and below"
    pipeline = make(engine)
    assert changes_of(pipeline.run(image()).recomputed).counts == (0, 48)
    assert changes_of(pipeline.run(image()).recomputed).counts == (48,)


def test_a_one_channel_mask_is_its_only_class() -> None:
    mask = Mask(np.asarray([[0, 1]], np.int32), np.ones((1, 2), np.float32), Detections.empty())
    (found,) = describe(mask, ModelSpec(labels=("text",)), LETTERBOXED, (64, 48)).masks
    assert (found.class_id, found.label, found.counts) == (0, "text", (1, 1))


def test_raw_tensors_are_copied_bounded_and_finite() -> None:
    small = np.asarray([1.5, np.nan, np.inf], np.float32)
    large = np.zeros(MAX_TENSOR_VALUES + 1, np.float32)
    found = describe(RawOutputs({"a": small, "b": large}), ModelSpec(), LETTERBOXED, (64, 48)).tensors
    assert [entry.data for entry in found] == [(1.5, None, None), None]
    assert found[1].shape == (MAX_TENSOR_VALUES + 1,)


def test_an_evicted_session_comes_back_as_a_keyframe_that_says_so() -> None:
    engine = FakeEngine(stream_bytes=60)
    model, caches = engine.model(), Caches(100)
    first, second = (FramePipeline(model, None, Limits(), None, caches) for _ in range(2))
    first.open()
    assert (first.held_bytes, second.held_bytes) == (60, 0)
    assert not first.run(image()).evicted
    outcome = second.run(image())
    assert (outcome.decision, outcome.evicted) == ("keyframe", False), "its first frame: nothing was freed"
    assert (first.held_bytes, caches.held_bytes) == (0, 60)
    outcome = first.run(image())
    assert (outcome.decision, outcome.evicted) == ("keyframe", True)
    outcome = first.run(image())
    assert (outcome.decision, outcome.evicted) == ("reuse", False)


def test_what_failed_after_an_eviction_does_not_hide_it() -> None:
    engine = FakeEngine()
    pipeline = make(engine)
    pipeline.run(image())
    pipeline.evict()
    engine.failures.append(RuntimeError())
    with pytest.raises(RuntimeError):
        pipeline.run(image())
    assert pipeline.run(image()).evicted


def test_a_new_session_gets_the_streams_thresholds() -> None:
    class Audits:
        renewed = 0

        def renew(self) -> None:
            self.renewed += 1

        def before(self, session) -> None:
            assert self.renewed == len(engine.sessions)

        def after(self, frame, outputs) -> None: ...

        def news(self) -> None: ...

    engine = FakeEngine()
    pipeline = FramePipeline(engine.model(), None, Limits(), Audits())  # type: ignore[arg-type]
    pipeline.run(image())
    pipeline.evict()
    pipeline.run(image())
    assert len(engine.sessions) == 2


def test_pixels_need_no_decoder(engine: FakeEngine) -> None:
    pipeline = make(engine)
    pixels = np.full((96, 128, 3), 120, np.uint8)
    outcome = pipeline.run_pixels(pixels)
    assert (outcome.found.detections[0].class_id, outcome.decode_ns, outcome.decision) == (12, 0, "keyframe")
    assert pipeline.run_pixels(pixels).decision == "reuse"
    assert pipeline.run_pixels(pixels, reset=True, min_confidence=0.9).found.detections == ()
    engine.failures.append(MemoryError())
    with pytest.raises(MemoryError):
        pipeline.run_pixels(pixels)
    assert pipeline.run_pixels(pixels).decision == "keyframe"


def test_a_tensor_leaves_nothing_behind(engine: FakeEngine) -> None:
    pipeline = make(engine)
    pipeline.run(image(70))
    x = np.full((1, 3, SIZE[1], SIZE[0]), 70, np.float32)
    outputs = pipeline.run_tensor(x)
    assert outputs["grey"].item() == 70
    assert outputs["grey"].flags.owndata, "a copy"
    with pytest.raises(ValueError, match="expected a tensor"):
        pipeline.run_tensor(x[:, :1])
    assert pipeline.run(image(70)).decision == "keyframe"
    assert engine.sessions[0].decisions == ["keyframe"] * 3


def test_the_next_frame_goes_to_the_model_that_a_reload_put_in_place(engine: FakeEngine) -> None:
    asked: list[object] = []
    first, second, third = (engine.model() for _ in range(3))
    pipeline = FramePipeline(first, first.open_session(), Limits(), audits_of=lambda model: asked.append(model))
    pipeline.run(image())
    first.successor, second.successor = second, third
    assert [pipeline.run(image()).decision for _ in range(2)] == ["keyframe", "reuse"]
    assert (pipeline.model, asked) == (third, [third])
    assert [session.decisions for session in engine.sessions] == [["keyframe"], ["keyframe", "reuse"]]


def test_a_new_model_that_cannot_open_a_session_is_tried_again(engine: FakeEngine) -> None:
    pipeline = make(engine)
    fresh, opens = engine.model(), engine.open

    def no_memory():
        fresh._factory = opens
        raise MemoryError

    fresh._factory = no_memory
    pipeline.model.successor = fresh
    with pytest.raises(MemoryError):
        pipeline.run(image())
    assert pipeline.run(image()).decision == "keyframe"
    assert pipeline.model is fresh
