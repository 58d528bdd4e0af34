"""Every frame through every row in turn; figures by hand with a clock of our own."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from service.bench import techniques as subject
from service.bench.errors import BenchError
from service.bench.joules import MODEL
from service.bench.subjects import LABELS, Footprint, Subject
from service.bench.techniques import Track, add_ratios, drift, evenly, made, relative_rms, row, run, techniques
from service.evaluate import EvaluationError

ROWS = ("im2col", "direct", "caching", "deepmon", "fft")


class NoMeter:
    known, source = False, "unknown"

    def read(self):
        return None


class Meter:
    """A joule passes at each look."""

    known, source = True, "rapl"

    def __init__(self):
        self._counts = count()

    def read(self):
        return float(next(self._counts))


def test_a_clip_on_a_small_network(opened, clip, model_file):
    told = []
    found = techniques(
        opened, clip, source=str(model_file), only=ROWS, meter=NoMeter(), progress=lambda *said: told.append(said)
    )
    rows = {one["key"]: one for one in found["rows"]}
    assert list(rows) == [key for key in LABELS if key in ROWS]
    assert (found["size"], found["frames"], found["threads"]) == ("96x64", 5, 1)
    assert found["energy"] == MODEL
    assert found["all_over_caching"] is None
    assert rows["fft"]["reason"] == "no kernel of 7x7 or more in this model"
    assert rows["fft"]["p50_ms"] is None
    assert rows["direct"]["error_max"] == 0
    assert rows["im2col"]["error_max"] < 1e-4
    assert rows["im2col"]["matrix_bytes"] > 0
    assert rows["caching"]["work"] < rows["direct"]["work"] == 1
    assert all(len(rows[key]["series"]["frame_ms"]) == 4 for key in ROWS if key != "fft")
    assert all(rows[key]["energy"] == "estimated" for key in ROWS if key != "fft")
    assert rows["caching"]["joules"] < rows["direct"]["joules"]
    assert rows["im2col"]["speed"] == 1
    assert ("measuring", 5) in told
    assert ("preparing im2col + BLAS", 0) in told


def test_both_rows_give_how_much_all_is_over_caching(opened, clip, model_file):
    found = techniques(opened, clip[:3], source=str(model_file), only=("caching", "all"), meter=NoMeter())
    assert found["all_over_caching"] > 0
    assert [one["key"] for one in found["rows"]] == ["direct", "caching", "all"]


def test_a_compression_looks_at_frames_that_are_given_to_it(opened, clip, model_file):
    rows = ("caching", "float32", "all")
    found = techniques(
        opened, clip[:3], source=str(model_file), samples=clip[3:], error=0.4, only=rows, meter=NoMeter()
    )
    assert (found["samples_apart"], [one["key"] for one in found["rows"]]) == (True, ["direct", *rows])
    assert found["float32_over_caching"] > 0
    assert [len(evenly(clip, count)) for count in (1, 3, 99)] == [1, 3, len(clip)]


def fake(key, ms, clock, outputs=1.0):
    """A subject that takes so many milliseconds of the clock."""

    def network(image):
        clock.now += round(ms * 1e6)
        return {"y": np.full((1, 1, 2, 2), outputs, np.float32)}, 0.5

    spec = SimpleNamespace(min_confidence=0.3, model_copy=lambda update: SimpleNamespace(**update))
    family = SimpleNamespace(decode=lambda outputs, spec, size: outputs)
    opened = SimpleNamespace(size=(8, 8), spec=spec, family=family)
    return Subject(key, opened, network, Footprint(1, 2, 3), lambda: 0.25, lambda: clock.resets.append(key), scale=0.5)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(subject, "fit", lambda image, size, spec: (image, None))
    return SimpleNamespace(now=0, resets=[])


def test_times_by_a_clock_of_our_own(clock):
    subjects = {"direct": fake("direct", 8, clock), "caching": fake("caching", 2, clock, outputs=1.5)}
    frames = [np.zeros((8, 8, 3), np.uint8)] * 3
    tracks = run(subjects, frames, NoMeter(), lambda: clock.now, 1, lambda what, done: None)
    assert tracks["direct"].ms == [8, 8]
    assert tracks["caching"].ms == [2, 2]
    assert tracks["caching"].error == [0.5, 0.5]
    assert tracks["caching"].work == [0.25, 0.25]
    assert tracks["caching"].estimated == [0.25, 0.25]
    assert tracks["caching"].measured == []
    assert clock.resets == ["direct", "caching"]


def test_a_meter_comes_before_the_estimate(clock):
    subjects = {"direct": fake("direct", 8, clock)}
    frames = [np.zeros((8, 8, 3), np.uint8)] * 2
    tracks = run(subjects, frames, Meter(), lambda: clock.now, 1, lambda what, done: None)
    found = row("direct", subjects["direct"], tracks["direct"], None, "rapl")
    assert (found["joules"], found["energy"]) == (1.0, "rapl")
    assert (found["model_bytes"], found["stream_bytes"], found["workspace_bytes"]) == (1, 2, 3)


def test_the_order_moves_on_and_more_threads_wait_for_quiet(clock, monkeypatch):
    ran, waits = [], []
    monkeypatch.setattr(subject, "settle", lambda: waits.append(1))
    monkeypatch.setattr(subject, "_warm", lambda subjects, image: None)
    subjects = {key: fake(key, 1, clock) for key in ("direct", "caching", "all")}
    original = subject._one

    def one(who, *rest, **more):
        ran.append(who.key)
        return original(who, *rest, **more)

    monkeypatch.setattr(subject, "_one", one)
    run(subjects, [np.zeros((8, 8, 3), np.uint8)] * 2, NoMeter(), lambda: clock.now, 2, lambda what, done: None)
    assert ran == ["direct", "caching", "all", "caching", "all", "direct"]
    assert len(waits) == 6


def test_figures_of_a_row_by_hand(clock):
    track = Track([1.0, 3.0], [0.1, 0.3], [0.1, 0.2], estimated=[2.0, 4.0])
    found = row("caching", fake("caching", 1, clock), track, None, "unknown")
    assert (found["mean_ms"], found["p50_ms"], found["fps"]) == (2.0, 2.0, 500.0)
    assert found["p99_ms"] == pytest.approx(2.98)
    assert found["work"] == pytest.approx(0.2)
    assert (found["joules"], found["energy"]) == (3.0, "estimated")
    assert (found["error_mean"], found["error_max"], found["drift"]) == (pytest.approx(0.15), 0.2, 2.0)
    assert found["agreement"] is None


def test_drift_compares_quarters():
    assert drift([1, 9, 9, 9, 9, 9, 9, 4]) == pytest.approx(6.5 / 5)
    assert drift([0.0, 0.0]) is None


def test_speed_is_over_the_baseline_or_the_reference():
    rows = [{"key": "im2col", "mean_ms": 8.0}, {"key": "direct", "mean_ms": 4.0}, {"key": "fft", "mean_ms": None}]
    add_ratios(rows)
    assert [found["speed"] for found in rows] == [1, 2, None]
    add_ratios(rows[1:])
    assert rows[1]["speed"] == 1


def test_relative_rms_by_hand():
    truth = {"a": np.array([3.0, 4.0]), "b": np.zeros(2), "c": np.zeros((0, 4))}
    assert relative_rms({**truth, "a": np.array([3.0, 5.0])}, truth) == pytest.approx(np.sqrt(0.5 / 12.5 / 2))
    assert relative_rms({**truth, "b": np.full(2, 0.5)}, truth) == pytest.approx(0.5 / np.sqrt(2))
    assert relative_rms(truth, truth) == relative_rms({}, {}) == 0


@pytest.mark.parametrize(("outputs", "said"), [
    ({"a": np.zeros((2, 1))}, r"'a' of shape \(2,\), got one of shape \(2, 1\)"),
    ({"b": np.zeros(2)}, "'a'.* got none"),
])  # fmt: skip
def test_outputs_of_another_model_are_refused(outputs, said):
    with pytest.raises(BenchError, match=said):
        relative_rms(outputs, {"a": np.ones(2)})


def test_the_reference_must_run():
    def refuse(key):
        raise BenchError(f"no {key}")

    maker = SimpleNamespace(make=refuse)
    assert made(maker, ["fft"], lambda what, done: None) == ({}, {"fft": "no fft"})
    with pytest.raises(BenchError, match="no direct"):
        made(maker, ["fft", "direct"], lambda what, done: None)


def test_what_cannot_be_measured_is_refused(opened, clip):
    with pytest.raises(EvaluationError, match="at least 2 frames"):
        techniques(opened, clip[:1], source="")
    with pytest.raises(BenchError, match=r"expected rows among im2col, .* got nothing"):
        techniques(opened, clip, source="", only=("nothing",))
