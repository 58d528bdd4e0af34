"""What becomes of a frame is told to the stream, its figures, the metrics and the spans, each once."""

from __future__ import annotations

import time

import pytest
from service_fakes import FakeEngine, image

from clients.wire import ErrorCode, Flags, FrameMessage, Op
from service import codec
from service.errors import Problem
from service.jobs import Computed, FrameJob, Refused
from service.metrics import Metrics
from service.pipeline import FramePipeline
from service.streams import Stream
from service.watch import Watch

NOW_S = 1_790_000_000.0


class Spans:
    def __init__(self) -> None:
        self.frames: list[tuple] = []

    def frame(self, *said) -> None:
        self.frames.append(said)


class Seen:
    """A watch with a stream and a computed frame of it."""

    def __init__(self, engine: FakeEngine, capture_s: float) -> None:
        self.spans, self.metrics, self.stream = Spans(), Metrics(), Stream("door", "fake", None)
        self.watch = Watch(self.metrics, self.spans, lambda: NOW_S)
        model = engine.model()
        pipeline = FramePipeline(model, model.open_session(), codec.DEFAULT_LIMITS)
        self.frame = FrameMessage(Op.IMAGE, Flags.NONE, 3, int(capture_s * 1e6), image())
        self.job = FrameJob(
            "door", self.frame, pipeline, lambda *_: None, lambda: False, time.perf_counter_ns(), False
        )  # fmt: skip
        self.computed = Computed(pipeline.run(self.frame.payload), 1_000_000)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"afterimage_{name}", {"model": "fake", **labels})


@pytest.fixture
def seen(engine: FakeEngine) -> Seen:
    return Seen(engine, NOW_S - 2)


def test_a_frame_from_arrival_to_its_result(seen: Seen) -> None:
    seen.watch.received(seen.stream, seen.frame)
    assert seen.stream.counters.received == 1
    assert seen.sample("received_bytes_total") == len(seen.frame.payload) == seen.stream.figures.bytes_received
    sent = seen.watch.computed(seen.stream, seen.job, seen.computed)
    assert (seen.stream.counters.results, seen.stream.counters.compute_fraction_sum) == (1, 1.0)
    assert seen.sample("frames_total", outcome="computed") == 1
    assert seen.sample("frame_latency_seconds_sum", stage="queue") == pytest.approx(0.001)
    assert seen.sample("frame_age_seconds_count", since="receipt") is None, "it has not been sent"
    assert seen.spans.frames == []
    sent()
    assert seen.sample("frame_age_seconds_count", since="receipt") == 1
    assert seen.sample("frame_age_seconds_sum", since="capture") == pytest.approx(2)
    ((model, job, computed, answered_ns, sent_ns),) = seen.spans.frames
    assert (model, job, computed) == ("fake", seen.job, seen.computed)
    assert seen.job.received_ns < answered_ns <= sent_ns
    assert seen.stream.figures.describe()["age_ms"] is not None


def test_a_clock_that_is_not_ours_tells_no_age(engine: FakeEngine) -> None:
    seen = Seen(engine, 0.000007)
    seen.watch.received(seen.stream, seen.frame)
    seen.watch.computed(seen.stream, seen.job, seen.computed)()
    assert seen.sample("frame_age_seconds_count", since="capture") is None
    seen.watch.opened(seen.stream)
    assert seen.stream.figures.clock_usable is None, "the next connection may have another"


def test_drops_refusals_and_failures(seen: Seen) -> None:
    seen.watch.dropped(seen.stream, 0, "left")
    assert seen.stream.figures.drops == {}
    seen.watch.dropped(seen.stream, 2, "replaced")
    seen.watch.refused(seen.stream)
    seen.watch.refused(seen.stream, Refused(ErrorCode.BAD_IMAGE, "x"))
    seen.watch.refused(seen.stream, Refused(ErrorCode.INTERNAL, "x", "ab12"))
    counters = seen.stream.counters
    assert (counters.dropped, counters.refused, counters.failed) == (2, 2, 1)
    assert seen.stream.figures.drops == {"replaced": 2}
    outcomes = {name: seen.sample("frames_total", outcome=name) for name in ("dropped", "refused", "failed")}
    assert outcomes == {"dropped": 2, "refused": 2, "failed": 1}
    assert seen.sample("drops_total", cause="replaced") == 2


def test_single_images(seen: Seen) -> None:
    for failure in (None, codec.CodecError("x"), Problem(503, "overloaded", "x"), RuntimeError("x")):
        seen.watch.image("fake", failure)
    counted = {name: seen.sample("images_total", outcome=name) for name in ("computed", "refused", "failed")}
    assert counted == {"computed": 1, "refused": 2, "failed": 1}
