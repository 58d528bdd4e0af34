"""Frames as the workers see them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from service_fakes import FakeEngine, huge_jpeg, image

from clients.wire import ErrorCode, Flags, FrameMessage, Op, decode_frame
from service import codec
from service.caches import CacheFull
from service.jobs import (
    Computed,
    FrameJob,
    Refused,
    capture_age_ms,
    check_header,
    code_of,
    compute,
    compute_together,
    result_message,
)
from service.pipeline import FramePipeline
from service.tracking import Tracker


def run(
    engine: FakeEngine, payload: bytes, *, abandoned: bool = False, quality: int | None = None, pixels=None
) -> list:
    model = engine.model()
    answers: list = []
    job = FrameJob(
        stream_id="door",
        frame=FrameMessage(Op.IMAGE, Flags.NONE, 3, 99, payload),
        pipeline=FramePipeline(model, model.open_session(), codec.DEFAULT_LIMITS),
        deliver=lambda job, answer: answers.append((job, answer)),
        abandoned=lambda: abandoned,
        received_ns=time.perf_counter_ns(),
        reset=False,
        annotate_quality=quality,
        pixels=pixels,
    )
    compute(job)
    return answers


def test_decoded_pixels_stand_in_for_an_encoded_image(engine: FakeEngine) -> None:
    pixels = np.full((96, 128, 3), 70, np.uint8)
    ((job, answer),) = run(engine, b"", pixels=pixels)
    message = result_message(job, answer, ack=3, dropped=0)
    assert (message.width, message.height, message.detections[0].class_id) == (128, 96, 7)
    assert answer.outcome.decode_ns == 0
    assert "pixels" not in repr(job)


def test_computed_with_an_annotated_frame(engine: FakeEngine) -> None:
    ((job, answer),) = run(engine, image(70), quality=80)
    assert isinstance(answer, Computed)
    drawn = decode_frame(answer.annotated)
    assert (drawn.op, drawn.seq, drawn.capture_ts_us) == (Op.ANNOTATED, 3, 99)
    message = result_message(job, answer, ack=3, dropped=4)
    assert (message.seq, message.ack, message.dropped, message.capture_ts_us) == (3, 3, 4, 99)
    assert message.detections[0].class_id == 7
    assert message.timing_ms.total >= message.timing_ms.queue >= 0


def test_a_tracker_sees_weak_boxes_and_numbers_those_that_are_shown(engine: FakeEngine) -> None:
    pytest.importorskip("trackers")
    model = engine.model(min_confidence=0.5)
    pipeline, tracker = FramePipeline(model, model.open_session(), codec.DEFAULT_LIMITS), Tracker(2.0)
    answers: list = []
    for seq, shown, reset in ((1, None, False), (2, None, False), (3, 0.8, False), (4, None, False), (5, None, True)):
        compute(
            FrameJob(
                stream_id="door",
                frame=FrameMessage(Op.IMAGE, Flags.NONE, seq, seq * 40_000, image(70)),
                pipeline=pipeline,
                deliver=lambda job, answer: answers.append(answer.outcome.found.detections),
                abandoned=lambda: False,
                received_ns=0,
                reset=reset,
                min_confidence=shown,
                tracker=tracker,
            )
        )
    assert [[box.track_id for box in boxes] for boxes in answers] == [[None], [1], [], [1], [None]]


def test_an_abandoned_frame_costs_nothing(engine: FakeEngine) -> None:
    assert run(engine, image(), abandoned=True) == []
    assert engine.sessions[0].decisions == []


def test_refusals_name_whose_fault_it_is(engine: FakeEngine, caplog) -> None:
    ((_, answer),) = run(engine, b"\xff\xd8\xff nothing")
    assert isinstance(answer, Refused)
    assert answer.error_id is None
    engine.failures.append(RuntimeError("inside"))
    ((_, answer),) = run(engine, image())
    assert (answer.code, answer.error_id in caplog.text) == (ErrorCode.INTERNAL, True)


@pytest.mark.parametrize(
    ("data", "content_type", "code"),
    [
        (image(), "image/jpeg", None),
        (image(kind=".webp"), "image/webp", None),
        (image(kind=".png"), "image/jpeg", ErrorCode.WRONG_IMAGE_TYPE),
        (huge_jpeg(), "image/jpeg", ErrorCode.IMAGE_TOO_LARGE),
        (b"GIF89a" + bytes(50), "image/jpeg", ErrorCode.BAD_IMAGE),
        (image()[:10], "image/jpeg", ErrorCode.INCOMPLETE_IMAGE),
    ],
)
def test_headers_are_checked_before_anything_is_queued(data: bytes, content_type: str, code) -> None:
    refused = check_header(data, content_type, codec.DEFAULT_LIMITS)
    assert (refused.code if refused else None) is code


def test_every_codec_error_has_a_code() -> None:
    kinds = codec.CodecError.__subclasses__()
    assert len(kinds) >= 5
    assert {code_of(kind("x")) for kind in kinds} == {
        ErrorCode.BAD_IMAGE,
        ErrorCode.INCOMPLETE_IMAGE,
        ErrorCode.IMAGE_TOO_LARGE,
        ErrorCode.REFERENCE_MISMATCH,
    }


def test_together_each_is_answered_and_told_what_it_took() -> None:
    engine, answers = FakeEngine(together=4), []
    model = engine.model()
    model.ready()
    gone = [False, True, False]
    jobs = [
        FrameJob(
            stream_id=f"door{number}",
            frame=FrameMessage(Op.IMAGE, Flags.NONE, number + 1, 0, b"nothing" if number == 2 else image(70)),
            pipeline=FramePipeline(model, None, codec.DEFAULT_LIMITS),
            deliver=lambda job, answer: answers.append((job.frame.seq, answer)),
            abandoned=lambda number=number: gone[number],
            received_ns=time.perf_counter_ns(),
            reset=False,
        )
        for number in range(3)
    ]
    took = compute_together(jobs)
    assert [seq for seq, _ in answers] == [3, 1], "what cannot be decoded is known first"
    assert isinstance(answers[0][1], Refused)
    assert answers[1][1].outcome.found.detections[0].class_id == 7
    assert took[0] >= 3000
    assert took[1:] == [0, 0]


def test_no_memory_is_told_as_overload(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self) -> None:
        raise CacheFull("expected room")

    monkeypatch.setattr(FramePipeline, "held", full)
    ((_, answer),) = run(engine, image())
    assert (answer.code, answer.detail) == (ErrorCode.OVERLOADED, "expected room")


@pytest.mark.parametrize(
    ("capture_us", "received_us", "age_ms"),
    [
        (1_000_000_000, 1_000_250_000, 255.0),
        (1_000_040_000, 1_000_000_000, 5.0),
        (1_000_060_000, 1_000_000_000, None),
        (1_000_000_000, 1_061_000_000, None),
        (0, 1_000_000, None),
        (1_000_000, 0, None),
    ],
    ids=["before", "a clock a little ahead", "a clock ahead", "another clock", "not said", "no clock here"],
)
def test_age_since_capture_where_clocks_agree(capture_us: int, received_us: int, age_ms: float | None) -> None:
    assert capture_age_ms(capture_us, received_us, 5_000_000) == age_ms
