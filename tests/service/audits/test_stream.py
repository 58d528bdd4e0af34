"""What audits do to a stream: its factor, a fresh start after a violation, whole frames where nothing else helps."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from service.audits.measure import Measured
from service.audits.stream import StreamAudits, rounded

FRAME = np.zeros((4, 4, 3), np.uint8)
GOOD, BAD, TERRIBLE = Measured(0.0, 0.06, 2.0), Measured(0.2, 0.06, 2.0), Measured(2.0, 0.06, 2.0)


class FakeSession:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def reset(self) -> None:
        self.done.append("reset")

    def scale_thresholds(self, factors: float) -> None:
        self.done.append(factors)


class Stream:
    """A stream whose looks are finished by hand."""

    def __init__(self, draws: Iterator[bool] | None = None) -> None:
        self.session, self.offered, self.asked = FakeSession(), [], []
        self.told: list[Measured] = []

        def draw(whole: bool) -> bool:
            self.asked.append(whole)
            return True if draws is None else next(draws)

        measure = SimpleNamespace(faultless=-0.03, margin=0.01)
        self.audits = StreamAudits(measure, draw, lambda *offered: self.offered.append(offered), 0.9, self.told.append)

    def frame(self, measured: Measured | None = None) -> list[object]:
        """One frame; the look at it ends at once where a measure is given. What was done to the session before it."""
        self.session.done.clear()
        self.audits.before(self.session)
        self.audits.after(FRAME, {})
        if measured is not None:
            assert self.offered.pop()[0] is self.audits
            self.audits.finish(measured)
        return list(self.session.done)


def test_a_good_frame_changes_nothing():
    stream = Stream()
    assert stream.frame(GOOD) == []
    assert stream.frame() == []
    assert stream.audits.factor == 1.0


def test_a_violation_lowers_the_thresholds_and_forgets_what_is_stored():
    stream = Stream()
    stream.frame(BAD)
    factor = stream.audits.factor
    assert factor == pytest.approx(np.exp(-0.07 - 0.01))
    assert stream.frame(GOOD) == [factor, "reset"], "once"
    assert stream.frame() == [stream.audits.factor]
    assert factor < stream.audits.factor < 1


def test_frames_are_whole_until_a_disaster_is_made_up_for():
    stream = Stream()
    for _ in range(3):
        stream.frame(TERRIBLE)
    assert stream.audits.factor == 0
    whole = 0
    while stream.audits.factor == 0:
        done = stream.frame()
        assert done in ([0.0, "reset"], ["reset"])
        assert stream.offered == [], "that a whole frame has no error needs no look"
        whole += 1
    assert set(stream.asked[3:]) == {True}
    assert whole == int(np.ceil((3 * 0.98 - np.log(8)) / 0.02))
    assert stream.frame(GOOD)[0] == pytest.approx(1 / 8, rel=0.05)
    assert stream.audits.report().audits == 4, "whole frames are no audits"


def test_a_look_that_ends_late_never_meets_a_frame_of_another_factor():
    """The look at frame 1 ends between frames 2 and 3: the next to be looked at is one with the new factor."""
    stream = Stream(iter([True, False, True]))
    stream.frame()
    stream.frame()
    (look,) = stream.offered
    stream.audits.before(stream.session)
    look[0].finish(BAD)
    stream.audits.after(FRAME, {})
    assert len(stream.asked) == 2, "frame 3 had the old factor"
    assert stream.audits.news().age == 2
    stream.frame()
    assert len(stream.offered) == 2


def test_news_are_told_once():
    stream = Stream()
    assert stream.audits.report() is None
    assert stream.audits.news() is None
    stream.frame(GOOD)
    stream.frame(BAD)
    news = stream.audits.news()
    assert (news.error, news.allowed, news.violation, news.age) == (0.2, 0.06, True, 0)
    assert (news.audits, news.violations, news.mean_error, news.mean_allowed) == (2, 1, 0.1, 0.06)
    assert news.bound == stream.audits.controller.bound.upper * 2
    assert news.confidence == 0.9
    assert stream.audits.news() is None
    assert stream.audits.report() == news
    assert set(rounded(news)) < set(vars(news))
    assert stream.told == [GOOD, BAD]


def test_a_frame_that_says_nothing_is_no_audit():
    stream = Stream()
    stream.frame()
    stream.offered.pop()[0].finish(None)
    assert stream.audits.report() is None
    assert stream.told == []
    assert stream.frame(GOOD) == []


def test_age_is_that_of_the_look_that_ended_though_another_has_begun():
    stream = Stream(iter([True, False, True]))
    stream.frame()
    stream.frame()
    (look,) = stream.offered
    look[0].finish(GOOD)
    stream.frame()
    assert len(stream.offered) == 2, "frame 3 is looked at already"
    assert stream.audits.news().age == 2


def test_what_is_no_number_says_nothing():
    stream = Stream()
    stream.frame(Measured(float("nan"), 0.06, 2.0))
    assert stream.audits.report() is None
    assert stream.audits.factor == 1.0


def test_a_new_session_gets_the_factor_that_the_old_one_had():
    stream = Stream()
    stream.frame(BAD)
    lowered = stream.frame()
    stream.audits.renew()
    assert stream.frame() == [stream.audits.factor]
    assert lowered[0] == stream.audits.factor
    assert stream.frame() == []
