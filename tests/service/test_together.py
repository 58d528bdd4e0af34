"""Several streams' frames through the engine at once: each has its own decoding, audits, errors and answer."""

from __future__ import annotations

import threading

import pytest
from service_fakes import FakeEngine, image

from service import codec
from service.caches import CacheFull, Caches
from service.pipeline import FramePipeline, Outcome
from service.together import Request, run_together


class Audits:
    """Notes what a stream's audits are asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told = 0

    def renew(self) -> None:
        self.asked.append("renew")

    def before(self, session) -> None:
        self.asked.append("before")

    def after(self, frame, outputs) -> None:
        assert frame.shape == (48, 64, 3)
        assert "grey" in outputs
        self.asked.append("after")

    def news(self) -> None:
        return None


def pipelines(engine: FakeEngine, count: int, caches: Caches | None = None) -> list[FramePipeline]:
    model = engine.model()
    model.ready()
    return [
        FramePipeline(model, None, codec.DEFAULT_LIMITS, Audits(), caches)  # type: ignore[arg-type]
        for _ in range(count)
    ]


def run(requests: list[Request]) -> dict[int, Outcome | Exception]:
    told: dict[int, Outcome | Exception] = {}

    def tell(index: int, found: Outcome | Exception) -> None:
        assert index not in told
        told[index] = found

    run_together(requests, tell)
    assert sorted(told) == list(range(len(requests)))
    return told


def classes(told: dict[int, Outcome | Exception]) -> list[int]:
    return [told[index].found.detections[0].class_id for index in sorted(told)]


@pytest.mark.parametrize(("limit", "batches"), [(4, [3]), (2, []), (1, [])])
def test_each_gets_its_own(limit: int, batches: list[int]) -> None:
    engine = FakeEngine(together=limit)
    streams = pipelines(engine, 3)
    told = run([Request(each, image(level)) for each, level in zip(streams, (50, 100, 150), strict=True)])
    assert classes(told) == [5, 10, 15]
    assert engine.batches == batches
    assert [each.audits.asked for each in streams] == [["renew", "before", "after"]] * 3


def test_ones_error_is_its_own() -> None:
    engine = FakeEngine(together=4)
    streams = pipelines(engine, 4)
    run([Request(each, image()) for each in streams])
    engine.failures.append(RuntimeError("the first that is pushed"))
    told = run(
        [Request(each, data) for each, data in zip(streams, (b"nothing", image(), image(), image()), strict=True)]
    )
    assert isinstance(told[0], codec.CodecError)
    assert isinstance(told[1], RuntimeError)
    assert [told[index].decision for index in (2, 3)] == ["reuse", "reuse"]
    again = run([Request(each, image()) for each in streams])
    assert [again[index].decision for index in range(4)] == ["reuse", "keyframe", "reuse", "reuse"]


def test_an_engine_that_fails_as_a_whole_resets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(together=4)
    streams = pipelines(engine, 2)
    run([Request(each, image()) for each in streams])
    monkeypatch.setattr(streams[0].model.together, "push", lambda sessions, frames, at_s, within: [])
    told = run([Request(each, image()) for each in streams])
    assert all("expected 2 results" in str(told[index]) for index in range(2))
    monkeypatch.undo()
    assert [found.decision for found in run([Request(each, image()) for each in streams]).values()] == ["keyframe"] * 2


def test_one_after_the_other_each_is_told_before_the_next_is_computed() -> None:
    engine = FakeEngine()
    streams = pipelines(engine, 2)
    first_told = threading.Event()
    engine.failures.append(RuntimeError("first"))

    def tell(index: int, found: Outcome | Exception) -> None:
        if index == 0:
            assert len(engine.sessions[1].decisions) == 0
            first_told.set()
        else:
            assert first_told.is_set()

    run_together([Request(each, image()) for each in streams], tell)
    assert engine.sessions[1].decisions == ["keyframe"]


def test_no_room_for_one_is_no_matter_for_the_others() -> None:
    engine = FakeEngine(together=4, stream_bytes=60)
    small, large = pipelines(engine, 2, Caches(100)), pipelines(engine, 1, Caches(50))
    told = run([Request(each, image()) for each in (*small, *large)])
    assert [told[index].decision for index in (0, 1)] == ["keyframe"] * 2, "one after the other"
    assert isinstance(told[2], CacheFull)


def test_options_are_each_requests_own() -> None:
    engine = FakeEngine(together=4)
    streams = pipelines(engine, 2)
    run([Request(each, image()) for each in streams])
    told = run([Request(streams[0], image(), reset=True), Request(streams[1], image(), min_confidence=0.9)])
    assert [told[0].decision, told[1].decision] == ["keyframe", "reuse"]
    assert [len(told[index].found.detections) for index in range(2)] == [1, 0]


def test_nothing_to_do() -> None:
    assert run([]) == {}


def test_streams_of_two_models_are_computed_one_after_the_other() -> None:
    """One of them may have been loaded anew since the frames were queued."""
    engine = FakeEngine(together=4)
    streams = [*pipelines(engine, 1), *pipelines(engine, 1)]
    assert classes(run([Request(streams[0], image(50)), Request(streams[1], image(100))])) == [5, 10]
    assert engine.batches == []


def test_what_memory_has_no_room_for_together_is_computed_alone() -> None:
    engine = FakeEngine(together=4, stream_bytes=60)
    caches = Caches(130)
    streams = pipelines(engine, 4, caches)
    told = run([Request(each, image(10 * number)) for number, each in enumerate(streams)])
    assert classes(told) == [0, 1, 2, 3]
    assert caches.held_bytes <= 130


def test_a_stream_that_has_no_session_and_fails_leaves_the_others_alone() -> None:
    engine = FakeEngine(together=4)
    streams = pipelines(engine, 3)
    streams[0].evict()

    def no_memory() -> None:
        raise MemoryError

    streams[0].model._factory, opened = lambda: no_memory(), streams[0].model._factory
    streams[1]._session, streams[2]._session = opened(), opened()
    told = run([Request(each, image(10 * number)) for number, each in enumerate(streams)])
    assert isinstance(told[0], MemoryError)
    assert [told[index].found.detections[0].class_id for index in (1, 2)] == [1, 2]
