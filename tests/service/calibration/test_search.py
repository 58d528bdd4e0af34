"""The search: deterministic, resumable, and within its budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.session import Session
from service.calibration.budget import Budget
from service.calibration.footage import Footage, look, replay
from service.calibration.search import CalibrationError, Found, Probes, finer_blocks, search, search_key
from service.catalogue import find_model
from service.opened import OpenedModel, open_model
from service.sources import open_source

FRAMES = 6


def quiet(name: str, share: float) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def opened() -> OpenedModel:
    """The built-in model, small."""
    return open_model(find_model("people"), (320, 192))


@pytest.fixture(scope="module")
def session(opened: OpenedModel) -> Session:
    """A budget session of it."""
    return Session(opened.compile())


@pytest.fixture(scope="module")
def finer(opened: OpenedModel, session: Session) -> Session:
    """The same in half the blocks."""
    return Session(opened.compile(replace(opened.policy, blocks=finer_blocks(session.plan))))


@pytest.fixture(scope="module")
def footage(opened: OpenedModel, session: Session) -> Footage:
    """A few frames of the built-in scene."""
    with open_source("scene", frames=FRAMES) as source:
        *_, last = look(opened, Session(session.plan, exact=True), "scene", (frame.image for frame in source))
    assert isinstance(last, Footage)
    return last


@pytest.fixture(scope="module")
def found(opened: OpenedModel, session: Session, finer: Session, footage: Footage) -> Found:
    """A search with a budget on outputs, as few frames hold few boxes."""
    return search(opened, session, finer, [footage], Budget("error", 0.02), Probes(None, ""), quiet)


def test_footage_is_the_dense_run(session, footage):
    assert len(footage.frames) == len(footage.boxes) == len(footage.outputs) == FRAMES
    assert footage.noise.error > 0
    assert all(value > 0 for value in footage.spreads.values())


def test_no_thresholds_no_damage(opened, session, footage):
    session.scale_thresholds(0.0)
    exact = replay(opened, Session(session.plan, exact=True), footage)
    assert (exact.error, exact.boxes or 0.0) == (0.0, 0.0)
    session.scale_thresholds(1.0)
    assert replay(opened, session, footage).error > 0


def test_the_budget_is_kept_and_work_saved(footage, found):
    assert Budget("error", 0.02).holds(found.chosen.clips[0], footage.noise)
    assert found.chosen.fraction <= min(p.fraction for p in (*found.frontier, *found.default_frontier) if
                                        p.clips[0].error <= 0.02) + 0.01  # fmt: skip
    fractions = [p.fraction for p in found.default_frontier]
    assert fractions == sorted(fractions, reverse=True)


def test_a_profile_gives_what_was_measured(opened, footage, found):
    plan = opened.compile(replace(opened.policy, factors=found.factors, blocks=found.blocks))
    again = replay(opened, Session(plan), footage)
    assert again.fraction == pytest.approx(found.chosen.fraction, abs=0.01)
    assert again.error == pytest.approx(found.chosen.clips[0].error, rel=0.1)


def test_a_search_that_was_stopped_goes_on_and_ends_alike(opened, session, finer, footage, found, tmp_path):
    path = tmp_path / "p.probes"
    key = search_key(opened, [footage])

    class StoppedError(Exception):
        pass

    def stop(name: str, share: float) -> None:
        if share > 0.3:
            raise StoppedError

    with pytest.raises(StoppedError):
        search(opened, session, finer, [footage], Budget("error", 0.02), Probes(path, key), stop)
    kept = Probes(path, key)
    assert 0 < len(kept.found) < len(session.plan.steps)
    assert Probes(path, "another").found == {}
    again = search(opened, session, finer, [footage], Budget("error", 0.02), kept, quiet)
    assert (again.factors, again.blocks) == (found.factors, found.blocks)
    kept.done()
    assert not path.exists()


def test_a_broken_file_of_probes_is_begun_anew(tmp_path: Path):
    path = tmp_path / "p.probes"
    for text in ("", "[]", '{"key": "k", "probes": 3}'):
        path.write_text(text)
        assert Probes(path, "k").found == {}


def test_a_budget_that_cannot_be_kept_is_said(opened, session, finer, footage):
    session_known = Probes(None, "")
    session_known.found = {s.step.name: (0.01, 0.1) for s in session.plan.steps}
    with pytest.raises(CalibrationError, match="expected thresholds that keep the budget error=1e-12"):
        search(opened, session, finer, [footage], Budget("error", 1e-12), session_known, quiet)


def test_thresholds_scale_from_the_next_frame_on(session, footage):
    stream = Session(session.plan)
    with pytest.raises(ValueError, match="expected finite factors of 0 or more"):
        stream.scale_thresholds(np.full(len(session.plan.steps), -1.0))
    fractions = []
    for factor in (0.1, 1.0, 4.0):
        stream.scale_thresholds(factor)
        stream.reset()
        fractions.append(np.mean([stream.push(frame).compute_fraction for frame in footage.frames][1:]))
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[0] > fractions[2]


def test_finer_blocks_are_half_of_those_that_can_be_halved(session, finer):
    blocks = finer_blocks(session.plan)
    assert blocks
    for coarse, fine in zip(session.plan.steps, finer.plan.steps, strict=True):
        assert coarse.step.name == fine.step.name
        if coarse.step.method.grain != fine.step.method.grain:
            continue  # measured anew, and another method was faster
        halved = coarse.step.name in blocks
        assert fine.block == (max(blocks[coarse.step.name], fine.step.method.grain) if halved else coarse.block)


def test_finer_blocks_leave_less_work(opened, session, finer, footage):
    fractions = []
    for stream in (session, finer):
        stream.scale_thresholds(1.0)
        fractions.append(replay(opened, stream, footage).fraction)
    assert fractions[1] < fractions[0]
