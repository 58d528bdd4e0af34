"""Helpers: who gets them, and that they never show in the result."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.session import Session
from cache.state import Workspace
from cache.team import helpers
from tests.cache.onnx_models import build, node, weights


def wide_model() -> bytes:
    """Convolutions with work enough to be shared out: direct, Winograd, depthwise, and a sum."""
    constants = {
        "a": weights(64, 3, 3, 3), "b": weights(64, 64, 3, 3) / 24, "c": weights(64, 1, 3, 3), "d": weights(48, 64, 1,
        1) / 8,
    }  # fmt: skip
    same = [1, 1, 1, 1]
    nodes = [
        node("Conv", "x a", "p", pads=same), node("Relu", "p", "q"), node("Conv", "q b", "r", pads=same),
        node("Conv", "r c", "s", pads=same, group=64), node("Add", "s q", "t"), node("Conv", "t d", "y"),
    ]  # fmt: skip
    return build(nodes, constants, shape=(1, 3, 64, 72))


def test_a_frame_alone_gets_helpers_and_a_second_one_none():
    with helpers(3) as first:
        assert first.workers == 3
        with helpers(3) as second:
            assert second.workers == 1
    with helpers(2) as again:
        assert again.workers == 2
    with helpers(1) as single:
        assert single.workers == 1


def test_helpers_are_given_back_after_an_error():
    with pytest.raises(MemoryError), helpers(2):
        raise MemoryError
    with helpers(2) as team:
        assert team.workers == 2


@pytest.mark.parametrize("exact", [True, False])
def test_threads_do_not_show_in_the_bits(exact):
    """More threads than cores, so that helpers are interrupted at any point."""
    plan = Plan.compile(load_model(wide_model()))
    rng = np.random.default_rng(4)
    frame = rng.integers(0, 256, (64, 72, 3), dtype=np.uint8)
    alone, together = Session(plan, exact), Session(plan, exact, threads=4)
    for turn in range(30):
        top, left = rng.integers(0, 40, 2)
        frame[top : top + 24, left : left + 24] = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        if turn % 7 == 6:
            alone.reset()
            together.reset()
        a, b = alone.push(frame), together.push(frame)
        assert a.compute_fraction == b.compute_fraction
        assert np.array_equal(a.outputs["y"], b.outputs["y"]), turn


def test_helpers_take_parts_of_the_work(monkeypatch: pytest.MonkeyPatch):
    """Each helper works in scratch of its own: after a frame, a second worker's scratch has been written to."""
    plan = Plan.compile(load_model(wide_model()))
    space = Workspace()
    monkeypatch.setattr("cache.session.workspace", lambda: space)
    session = Session(plan, threads=2)
    frame = np.random.default_rng(5).integers(0, 256, (64, 72, 3), dtype=np.uint8)
    for _ in range(5000):  # a busy machine may not let the helper run for a while
        session.reset()
        session.push(frame)
        if space.scratch[space.scratch.size // 2 :].any():
            return
    pytest.fail("no helper took part in 5000 frames")


def test_many_threads_with_streams_of_their_own():
    plan = Plan.compile(load_model(wide_model()))
    frames = np.random.default_rng(6).integers(0, 256, (6, 64, 72, 3), dtype=np.uint8)
    expected = [Session(plan, exact=True).push(frame).outputs["y"].copy() for frame in frames]
    wrong = []

    def stream(start: int) -> None:
        session = Session(plan, exact=True, threads=3)
        for turn in range(start, start + 12):
            if not np.array_equal(session.push(frames[turn % 6]).outputs["y"], expected[turn % 6]):
                wrong.append((start, turn))

    threads = [threading.Thread(target=stream, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_less_than_one_thread_is_refused():
    with pytest.raises(ValueError, match="1 thread"):
        Session(Plan.compile(load_model(wide_model())), threads=0)
