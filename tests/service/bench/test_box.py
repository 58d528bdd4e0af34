"""What is measured of a box: on the fake engine by its counts, and on a tiny network for real."""

from __future__ import annotations

from pathlib import Path

import pytest
from measured_box import make_box, model_row
from own_model import write_model
from service_fakes import FakeEngine

from service.bench import box as subject
from service.bench.box import BoxBenchError, box, decoding, measure, merged, scaling
from service.bench.served import Served
from service.capacity.box import Box
from service.machine_cpus import Cores
from service.registry import Model, load
from service.settings import ModelSource


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = write_model(tmp_path_factory.mktemp("model") / "tiny.onnx", size=(256, 160))
    model = load("tiny", ModelSource(path=path))
    model.spec = model.spec.model_copy(update={"min_confidence": 1.0})  # random weights find thousands of boxes
    return model


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "PICTURES", ("320x192",))
    monkeypatch.setattr(subject, "SHARES", (0.05, 0.3))
    monkeypatch.setattr(subject.scaling, "__defaults__", (1, 0.01))


def test_a_tiny_network_gives_a_whole_box(tiny: Model) -> None:
    told: list[str] = []
    asked: list[int] = []

    def serve(model: Model, jpegs: list[bytes]) -> Served:
        asked.append(len(jpegs))
        return Served(start_s=1.5, memory_bytes=1 << 20, outside_ms=0.25)

    found, _ = box([tiny], rounds=2, workers=2, serve=serve, cold_s=30.0, name="here", progress=told.append)
    (row,) = found.models
    assert (found.name, found.workers, row.model, row.size) == ("here", 2, "tiny", "256x160")
    assert told == ["tiny", "tiny, served"]
    assert asked == [2]
    assert (row.outside_ms, found.process_bytes) == (0.25, 1 << 20)
    assert (found.start.warm_s, found.start.cold_s) == (1.5, 30.0)
    shares = [part.share for part in row.partial]
    assert shares[0] == pytest.approx(0.05, abs=0.06)
    assert shares[1] == pytest.approx(0.3, abs=0.12)
    assert row.partial[0].work < row.partial[1].work
    assert row.partial[0].tiles_bytes < row.partial[1].tiles_bytes < row.partial[1].jpeg_bytes
    assert [each.size for each in row.pictures] == ["256x160", "320x192"]
    assert [each.threads for each in row.scaling] == [1, 2]
    assert row.memory.stream == tiny.memory.stream
    assert make_box(models=[row.model_dump()]).cost("tiny", None) == row


def test_a_quota_is_what_a_box_has_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "cores", lambda: Cores(1.5, "a quota"))
    monkeypatch.setattr(subject, "measure", lambda *_: make_box().models[0])
    found, _ = box([FakeEngine().model()], workers=1)
    assert (found.cores, found.machine["cores"]) == (1.5, 1.5)
    assert found.name.endswith(", 1.5 cores")
    assert Box.model_validate_json(found.model_dump_json()) == found


def test_an_engine_that_does_not_tell_its_memory_is_not_planned_with() -> None:
    with pytest.raises(BoxBenchError, match="does not tell what memory it takes"):
        measure(FakeEngine().model(), 1, 2)


def test_a_machine_that_does_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "limit_bytes", lambda: None)
    with pytest.raises(BoxBenchError, match="how much memory it has"):
        box([])


def test_each_number_of_threads_gets_its_turn() -> None:
    engine = FakeEngine()
    found = scaling(engine.model(), 3, 1, 0.0)
    assert [row.threads for row in found] == [1, 2, 3]
    assert found[0].slowdown == 1.0
    frames = [len(session.decisions) for session in engine.sessions]
    assert frames == [2 + 3 * 2, 2 + 2 * 2, 2 + 2]  # two to begin with, two in each turn


def test_decoding_is_measured_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "PICTURES", ("64x64", "128x96"))
    found = decoding(FakeEngine().model(), 1)
    assert [row.size for row in found] == ["64x48", "64x64", "128x96"]
    assert found[2].bytes > found[1].bytes


def test_models_measured_before_are_kept_on_the_same_box_only(tmp_path: Path) -> None:
    path = tmp_path / "box.json"
    fresh = make_box(models=[model_row(model="other")])
    assert merged(fresh, path) == fresh
    make_box().write(path)
    assert [row.model for row in merged(fresh, path).models] == ["people", "other"]
    assert merged(make_box(cores=4), path).models == make_box().models
    newer = make_box(models=[model_row(model="other")], machine={"versions": {"numba": "9"}})
    assert [row.model for row in merged(newer, path).models] == ["other"]
    path.write_text("no box")
    assert merged(fresh, path) == fresh
