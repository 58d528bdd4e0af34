"""The loads of `make soak`, for seconds instead of minutes; and that they would notice what they look for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.soak import identity
from benchmarks.soak.camera import Tally, _there_and_back
from benchmarks.soak.crowd import crowd
from benchmarks.soak.report import Report, percentile
from benchmarks.soak.restart import restart
from benchmarks.soak.server import MemoryWatch, ServerProcess
from clients.wire import Result, Tensor, Timing


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict:
    model = identity.write_model(tmp_path_factory.mktemp("model"))
    return {"models": {"identity": {"path": str(model)}}}


def result_of(picture: np.ndarray) -> Result:
    """As a perfect model would answer."""
    squares = picture[:: identity.SQUARE, :: identity.SQUARE, 0].astype(float)
    tensor = Tensor(name="squares", dtype="float32", shape=(1, 1, *squares.shape), data=tuple(squares.ravel()))
    times = Timing(queue=0, decode=0, diff=0, infer=0, total=0)
    return Result(
        seq=1, ack=1, capture_ts_us=0, timing_ms=times, dropped=0, compute_fraction=0, changed_tiles=0,
        decision="partial", width=1, height=1, tensors=(tensor,),
    )  # fmt: skip


@pytest.mark.parametrize(("stream", "number"), [(0, 0), (1, 2), (31, 70_000), (65_535, 2**24 - 1)])
def test_a_frame_tells_who_it_is(stream: int, number: int) -> None:
    identity.check(result_of(identity.picture(stream, number)), stream, number)


def test_another_frame_is_noticed_and_so_are_parts_of_two() -> None:
    with pytest.raises(identity.Crossed, match="expected frame 3 of stream 1, got frame 2 of stream 1"):
        identity.check(result_of(identity.picture(1, 2)), 1, 3)
    mixed = identity.picture(1, 2)
    mixed[: identity.SQUARE] = identity.picture(2, 9)[: identity.SQUARE]
    with pytest.raises(identity.Crossed, match="squares of no frame"):
        identity.read(result_of(mixed))


def test_what_is_not_accounted_for() -> None:
    assert Tally(sent=5, results=3, dropped=1, refused=1, acknowledged=5).settled
    assert not Tally(sent=5, results=3, dropped=1, acknowledged=5).settled
    assert not Tally(sent=5, results=3, dropped=2, acknowledged=4).settled


def test_reports() -> None:
    assert not Report("nothing shown").passed
    assert Report("one", {}, {"a": True}).passed
    assert not Report("one of two", {}, {"a": True, "b": False}).passed
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert [_there_and_back(number, 3) for number in range(6)] == [0, 1, 2, 1, 0, 1]


def test_growth_is_that_after_the_first_while() -> None:
    watch = MemoryWatch(SimpleNamespace())  # type: ignore[arg-type]
    watch.samples = [(float(at), 1000 if at >= 10 else 10 * at) for at in range(100)]
    assert watch.growth(10) == 0
    watch.samples += [(float(at), 1100) for at in range(100, 120)]
    assert watch.growth(10) == pytest.approx(0.1)


def test_a_server_that_is_not_ready_in_time_is_not_left_running(
    tmp_path: Path, settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.soak.server.READY_S", 0.0)
    server = ServerProcess(tmp_path, settings)
    with pytest.raises(RuntimeError, match="not ready"), server:
        raise AssertionError("it was taken to be ready")
    assert server.pid
    assert not server.running


@pytest.mark.timeout(600)  # where the kernels are not compiled yet
def test_many_clients_that_come_and_go(tmp_path: Path, settings: dict) -> None:
    with ServerProcess(tmp_path, settings) as server:
        report = crowd(server, 4.0, 12)
        assert server.stop() < 8
    del report.shown[
        next(name for name in report.shown if name.startswith("memory"))
    ]  # four seconds tell nothing of it
    assert report.passed, report.as_dict()
    assert report.figures["aborts"] + report.figures["resets"] > 0


@pytest.mark.timeout(600)
def test_killed_and_started_again(tmp_path: Path, settings: dict) -> None:
    with ServerProcess(tmp_path, settings) as server:
        report = restart(server, 1, 2.0)
    assert report.passed, report.as_dict()
    assert report.figures["results"] > 20
