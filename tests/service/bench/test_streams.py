"""Cameras: pacing, ages and the search, by hand and on the fake engine behind the real scheduler."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from service_fakes import FakeEngine, image

from service.bench import streams as subject
from service.bench.streams import (
    Camera,
    StreamsError,
    activity,
    measured,
    p99_of_all,
    room_for,
    run,
    search,
    there_and_back,
)


def camera(number, ages, offered, dropped=0, fractions=(0.5,)):
    return Camera(number, None, None, offered, dropped, list(ages), list(fractions))


def test_there_and_back():
    assert there_and_back(4) == [0, 1, 2, 3, 2, 1]
    assert there_and_back(2) == [0, 1]
    assert there_and_back(1) == [0]


def test_figures_by_hand():
    found = measured([camera(0, [10, 30], 2), camera(1, [20], 2, 1, [0.25])], 10.0, 0.5, 1.25)
    assert found["age_ms"] == {"p50": 20, "p99": pytest.approx(29.8), "max": 30}
    assert (found["offered"], found["results"], found["dropped"]) == (4, 3, 1)
    assert found["fps"] == 3.0  # 3 results in half a second from 2 cameras
    assert (found["cpu"], found["compute_fraction"]) == (1.25, 0.375)
    assert found["p99_ms_all"] is None
    assert found["fits"] is False
    assert found["ages_ms"] == [10, 20, 30]
    assert found["activity"] is None


def test_activity_is_a_mean_and_a_peak():
    assert activity([0.1, 0.1]) == {"mean": 0.1, "peak": 1.0}
    assert activity([0.3, 0.0, 0.0]) == {"mean": 0.1, "peak": 3.0}
    assert activity([0.0]) is None


@pytest.mark.parametrize(("worst", "fits"), [(200.0, True), (200.1, False)])
def test_a_count_fits_up_to_the_limit(worst, fits):
    assert measured([camera(0, [worst] * 3, 3)], 1.0, 1.0, 1.0)["fits"] is fits


def test_no_result_at_all_fits_nothing():
    found = measured([camera(0, [], 5, 5, [])], 1.0, 1.0, 1.0)
    assert found["age_ms"] == {"p50": None, "p99": None, "max": None}
    assert (found["fits"], found["compute_fraction"]) == (False, None)


def test_a_dropped_frame_is_older_than_any_limit():
    assert p99_of_all([1.0] * 99, 100) == 1.0
    assert p99_of_all([1.0] * 98, 100) is None
    assert p99_of_all([*[1.0] * 98, 7.0, 9.0], 100) == 7.0
    assert p99_of_all([], 0) is None


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7, 8, 9, 100])
def test_the_search_finds_the_largest_count_and_asks_each_once(most):
    asked = []

    def fits(count):
        asked.append(count)
        return count <= most

    assert search(fits, limit=64) == min(most, 64)
    assert len(asked) == len(set(asked))
    assert max(asked) <= 64
    assert len(asked) <= 12


@pytest.fixture
def engine():
    made = FakeEngine()
    yield made
    made.gate.set()


@pytest.fixture
def jpegs():
    return [image(level) for level in (40, 80, 120, 160)]


def test_paced_cameras_get_their_results(engine, jpegs):
    found = run(engine.model(), jpegs, 3, 40.0, 0.5, 2)
    assert found["streams"] == 3
    assert found["offered"] == 60
    assert found["results"] + found["dropped"] == 60
    assert found["activity"] == {"mean": 1.0, "peak": 1.0}, "every tile of every frame differs"
    assert len(engine.sessions) == 3
    assert all(session.decisions.count("keyframe") == 1 for session in engine.sessions), "each keeps its own cache"


def test_a_slow_engine_drops_frames_and_does_not_fit(engine, jpegs):
    engine.push_s = 0.1
    found = run(engine.model(), jpegs, 1, 50.0, 0.5, 1)
    assert found["dropped"] > 0
    assert found["fits"] is False


def test_a_frame_that_is_refused_ends_the_measurement(engine, jpegs):
    model = engine.model()
    with pytest.raises(StreamsError, match=r"a frame was refused: .*starts afresh"):
        run_failing(engine, model, jpegs)


def run_failing(engine, model, jpegs):
    original = engine.open

    def open_session():
        session = original()
        push = session.push

        def fail_later(frame, **about):
            if session.decisions:
                raise RuntimeError("broken")
            return push(frame, **about)

        session.push = fail_later
        return session

    engine.open = open_session
    run(model, jpegs, 1, 50.0, 0.2, 1)


def test_a_given_count_is_measured_alone(engine, jpegs):
    found = subject.streams(engine.model(), jpegs, count=2, fps=20.0, seconds=0.3, workers=2)
    assert (found["streams"], found["searched"], found["workers"]) == (2, False, 2)
    assert [one["streams"] for one in found["runs"]] == [2]
    assert "ages_ms" not in found["runs"][0]
    assert len(found["ages_ms"]) == found["results"]
    assert found["frame"] == "{1}x{0}".format(*cv2.imdecode(np.frombuffer(jpegs[0], np.uint8), 1).shape)


def test_a_search_reports_every_count_that_it_tried(engine, jpegs, monkeypatch):
    def pretend(model, frames, count, fps, seconds, workers):
        return measured([camera(0, [50.0 * count], 1)], fps, 1.0, 1.0) | {"streams": count}

    monkeypatch.setattr(subject, "run", pretend)
    tried = []
    found = subject.streams(
        engine.model(), jpegs, count=None, fps=20.0, seconds=1.0, progress=lambda one: tried.append(one["streams"])
    )
    assert found["streams"] == 4  # 50 ms a camera, 200 at most
    assert found["searched"] is True
    assert [one["streams"] for one in found["runs"]] == sorted(tried)
    assert found["age_ms"]["p99"] == 200


def test_not_even_one_camera(engine, jpegs, monkeypatch):
    monkeypatch.setattr(subject, "run", lambda *a: measured([camera(0, [900.0], 1)], 1.0, 1.0, 1.0))
    found = subject.streams(engine.model(), jpegs, count=None, fps=20.0, seconds=1.0)
    assert found["streams"] == 0
    assert found["age_ms"]["p99"] == 900


def test_sessions_are_bounded_by_memory(monkeypatch):
    class Sized:
        nbytes = 1 << 20

    monkeypatch.setattr(subject.os, "sysconf", {"SC_AVPHYS_PAGES": 4096, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert room_for(Sized()) == 8  # half of 16 MiB
    assert room_for(object()) == subject.MAX_STREAMS
