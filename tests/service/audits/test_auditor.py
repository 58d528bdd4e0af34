"""Audits of real sessions: found, paid for, acted upon; and none where there is no time."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from own_model import write_model
from service_fakes import FakeEngine, image, wait_until

from cache.session import Session
from clients.wire import Policy
from service.audits.auditor import FIRST_S, UNUSED_S, Auditor
from service.audits.measure import Look
from service.calibration.budget import SLACK
from service.codec import DEFAULT_LIMITS, encode_jpeg
from service.pipeline import FramePipeline
from service.registry import Engine, Model, load
from service.scheduler import Scheduler
from service.settings import ModelSource
from service.sources import open_source

STEP_S = 0.02
"""What a dense frame takes by the clock of these tests."""
FRAMES = 240


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowSession:
    """A session for dense frames that takes time by that clock; broken on demand."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self.session, self.clock, self.pushed, self.broken = session, clock, 0, False

    def reset(self) -> None:
        self.session.reset()

    def push(self, frame: np.ndarray, at_s: float | None = None, within: np.ndarray | None = None):
        self.clock.now += STEP_S
        self.pushed += 1
        if self.broken:
            raise MemoryError("no room")
        return self.session.push(frame)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A small detector, compiled."""
    found = load("own", ModelSource(path=write_model(tmp_path / "own.onnx", labels=("person",))))
    found.warm()
    return found


class Server:
    """One stream of a model, and an auditor whose steps are done by hand."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch, share: float = 0.02, chance=lambda: 0.0) -> None:
        self.clock, self.dense = Clock(), list[SlowSession]()
        make = model.open_dense

        def open_dense() -> SlowSession:
            self.dense.append(SlowSession(make(), self.clock))
            return self.dense[-1]

        monkeypatch.setattr(model, "open_dense", open_dense)
        self.auditor = Auditor(share, 0.95, self.clock, chance)
        self.pipeline = FramePipeline(model, model.open_session(), DEFAULT_LIMITS, self.auditor.stream(model))

    def idle(self) -> int:
        """Do what there is to do; how many steps that were."""
        steps = 0
        while (step := self.auditor.spare()) is not None:
            step()
            steps += 1
        return steps


def test_a_look_costs_what_it_may_and_is_told_with_the_next_frame(model, monkeypatch):
    server = Server(model, monkeypatch)
    assert server.pipeline.run(image(90)).audit is None
    assert server.idle() == 0, "nothing was earned yet"
    server.clock.now += FIRST_S / 0.02 + 0.1
    assert server.pipeline.run(image(90)).audit is None
    assert server.idle() == 2
    assert server.auditor.ledger.spent_s == pytest.approx(2 * STEP_S)
    told = server.pipeline.run(image(90)).audit
    assert (told.audits, told.age, told.violation) == (1, 1, False)
    assert server.pipeline.run(image(90)).audit is None
    figures = server.auditor.figures()["own"]
    assert (figures.audits, figures.violations, sum(figures.errors)) == (1, 0, 1)


def test_over_an_hour_audits_take_their_share_and_no_more(model, monkeypatch):
    server, rng = Server(model, monkeypatch), np.random.default_rng(3)
    looks = 0
    for number in range(150):
        server.clock.now += float(rng.uniform(0.5, 3))
        server.pipeline.run(image(90 + number % 5))
        looks += server.idle() > 0
        whole = STEP_S  # that a frame above its budget asks for, and that nobody had foreseen
        assert server.auditor.ledger.spent_s <= 0.02 * server.clock.now + whole
    assert server.auditor.ledger.spent_s > 0.01 * server.clock.now
    assert looks > 20


def test_one_look_at_a_time_whatever_the_number_of_streams(model, monkeypatch):
    server = Server(model, monkeypatch)
    other = FramePipeline(model, model.open_session(), DEFAULT_LIMITS, server.auditor.stream(model))
    server.clock.now += 100
    for pipeline in (server.pipeline, other, server.pipeline):
        pipeline.run(image(90))
    assert server.idle() == 2, "the first frame waited until there was time, the others were not looked at"
    server.pipeline.run(image(91))
    other.run(image(91))
    assert server.idle() == 2
    assert len(server.dense) == 1, "one set of maps for all streams"


def test_dense_sessions_are_counted_and_freed(model, monkeypatch):
    server = Server(model, monkeypatch)
    assert server.auditor.memory_bytes == 0
    server.clock.now += 100
    server.pipeline.run(image(90))
    server.idle()
    assert server.auditor.memory_bytes == model.memory.stream
    server.auditor.sweep()
    assert server.auditor.memory_bytes == model.memory.stream
    server.clock.now += UNUSED_S
    server.auditor.sweep()
    assert server.auditor.memory_bytes == 0
    server.pipeline.run(image(90))
    server.idle()
    assert len(server.dense) == 2


def test_a_look_that_fails_is_logged_paid_for_and_not_the_last(model, monkeypatch, caplog):
    server = Server(model, monkeypatch)
    server.clock.now += 100
    server.pipeline.run(image(90))
    server.idle()
    server.dense[0].broken = True
    server.pipeline.run(image(90))
    assert server.idle() == 1
    assert "an audit of model own failed" in caplog.text
    assert server.auditor.ledger.spent_s == pytest.approx(3 * STEP_S)
    server.dense[0].broken = False
    server.clock.now += 100
    server.pipeline.run(image(90))
    assert server.idle() == 2
    assert server.pipeline.run(image(90)).audit.audits == 2


def test_frames_are_drawn_by_chance_alone(model, monkeypatch):
    server = Server(model, monkeypatch, chance=lambda: 0.5)
    server.clock.now += 1000
    for _ in range(20):
        server.pipeline.run(image(90))
        assert server.idle() == 0


def test_nothing_to_audit(model, tmp_path):
    assert Auditor(0.0, 0.95).stream(model) is None, "turned off"
    fake = FakeEngine().model()
    fake.warm()
    assert Auditor(0.02, 0.95).stream(fake) is None, "an engine without thresholds"
    exact = load("exact", ModelSource(path=write_model(tmp_path / "exact.onnx")), Engine(exact=True))
    exact.warm()
    assert Auditor(0.02, 0.95).stream(exact) is None


def test_workers_that_are_never_idle_do_no_audits(model, monkeypatch):
    server = Server(model, monkeypatch)
    server.clock.now += 100
    gate, done = threading.Event(), list[int]()
    scheduler = Scheduler(2, server.auditor.spare)
    held = scheduler.lane(lambda item: gate.wait(20), policy=Policy.ALL, capacity=1)
    scheduler.submit(held, 0)
    frames = scheduler.lane(lambda level: done.append(server.pipeline.run(image(level)).changed_tiles),
                            policy=Policy.ALL, capacity=100)  # fmt: skip
    scheduler.start()
    wait_until(lambda: held.running)
    for level in range(60, 90):
        scheduler.submit(frames, level)
    wait_until(lambda: len(done) == 30 and frames.idle)
    assert server.dense == []
    assert server.auditor.figures()["own"].audits == 0
    gate.set()
    wait_until(lambda: server.auditor.figures()["own"].audits == 1)  # the frame that was drawn has waited
    assert scheduler.stop(5.0)


class Kept:
    """A session that keeps its last frame and outputs."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.reset, self.scale_thresholds = session.reset, session.scale_thresholds
        self.grid = session.grid

    def push(self, frame: np.ndarray, at_s: float | None = None, within: np.ndarray | None = None):
        result = self.session.push(frame)
        self.frame, self.outputs = frame, result.outputs
        return result


def test_thresholds_that_are_far_too_loose_come_inside_the_budget(tmp_path, monkeypatch):
    """The built-in model on the built-in scene, at ten times its thresholds, beside a stream without audits."""
    spec = tmp_path / "loose.toml"
    spec.write_text('family = "afterimage"\ntolerance = 15.0\n')
    model = load("loose", ModelSource(path="people", size=(320, 192), spec=spec))
    model.warm()
    server = Server(model, monkeypatch)
    session = server.pipeline._session = Kept(server.pipeline._session)
    alone, whole, measure = model.open_session(), model.open_dense().session, server.pipeline.audits.measure

    def dense(frame: np.ndarray):
        whole.reset()
        return whole.push(frame).outputs

    excess = {"audited": list[float](), "alone": list[float]()}
    with open_source("scene", frames=FRAMES) as source:
        for number, shown in enumerate(source):
            server.clock.now += 10
            server.pipeline.run(encode_jpeg(shown.image, 90))
            server.idle()
            looks = {
                "audited": Look(measure, session.outputs),
                "alone": Look(measure, alone.push(session.frame).outputs),
            }
            for name, look in looks.items() if number >= FRAMES // 2 else ():
                if look.dense(dense(session.frame)):
                    look.noise(dense(measure.noisy(session.frame)))
                if look.measured is not None:
                    excess[name].append(look.measured.error - look.measured.allowed)
    report = server.pipeline.audits.report()
    assert np.mean(excess["alone"]) > 1.0, "hardly a box is where it should be"
    assert np.mean(excess["audited"]) < SLACK / 2, "inside the budget, but for the luck of 120 frames"
    assert report.violations > 0
    assert 0 < report.factor < 0.7


def test_a_closed_auditor_begins_nothing():
    auditor = Auditor(0.5, 0.95)
    auditor._step = lambda: None
    auditor.close()
    assert auditor.spare() is None


def test_a_reloaded_models_counts_go_on_and_an_unloaded_ones_are_gone(model: Model, tmp_path: Path) -> None:
    auditor = Auditor(0.5, 0.95)
    fresh = load("own", ModelSource(path=write_model(tmp_path / "fresh.onnx", labels=("person",), seed=1)))
    fresh.warm()
    assert auditor.stream(model) is not None
    figures = auditor.figures()["own"]
    figures.audits = 7
    assert auditor.stream(fresh) is not None
    assert auditor.figures()["own"] is figures
    assert auditor._models["own"].model is fresh, "looks are at what is served"
    auditor.forget("own")
    assert auditor.figures() == {}
