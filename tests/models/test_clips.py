"""Work left on clips: the rule for the factor by hand, the figures on squares."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from cache.policy import Policy
from models.default import clips as module
from models.default.clips import USUAL, WINDOWS, Score, Subject, Window, chosen, measure, tile_share
from models.default.tables import show_clips
from service.families import Detections
from tests.models.squares import picture, write_clip, write_model


def boxes(count: int) -> Detections:
    """Strong boxes in a row, all apart."""
    left = np.arange(count, dtype=np.float32) * 100
    xyxy = np.stack([left, left * 0, left + 50, left * 0 + 50], axis=1)
    return Detections(xyxy, np.full(count, 0.9, np.float32), np.zeros(count, np.int32))


def scored(floor: int, found: dict[float, int], total: int = 1000) -> Score:
    """Of `total` boxes, how many the noisy side and each factor still had."""
    score = Score.empty(tuple(found))
    score.floor.add(boxes(floor), boxes(total))
    for factor, count in found.items():
        score.factors[factor].agreement.add(boxes(count), boxes(total))
    return score


def test_the_largest_factor_near_the_floor_is_chosen():
    # Agreement is 2n / (n + total): 0.995 for 990 of 1000, 0.990 for 980, 0.987 for 975.
    assert chosen(scored(990, {0.5: 1000, 1: 990, 2: 980, 3: 950})) == 1
    assert chosen(scored(990, {0.5: 1000, 1: 984, 2: 982, 3: 950})) == 2
    assert chosen(scored(1000, {1: 950, 2: 900})) is None
    assert chosen(scored(0, {1: 0}, total=0)) is None


def test_factors_stand_for_themselves_whatever_the_model_tolerates(tmp_path):
    path = write_model(tmp_path / "people.onnx")
    path.with_suffix(".toml").write_text(path.with_suffix(".toml").read_text() + "tolerance = 3.0\n")
    streams = Subject.of(path, (1, 2)).streams
    assert {factor: session.plan.policy for factor, session in streams.items()} == {1: Policy(), 2: Policy().scaled(2)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A clip whose middle frame has one square more."""
    write_clip(tmp_path / "videos" / "walk", [picture((2, 2)), picture((2, 2), (8, 3)), picture((2, 2), (8, 3))])
    monkeypatch.setattr(module, "WINDOWS", {"walk": Window("walk", 0), "one_by_one": Window("walk", 0)})
    return tmp_path


def test_figures_of_a_clip(folder):
    report = measure([write_model(folder / "people.onnx")], folder / "videos", ["walk"], rounds=1, factors=(1, 2))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    figures = report["models"]["people"]
    assert figures["macs"] == 12 * 20 * 32 * 32 * 3 * 7
    assert figures["tile_share"] == pytest.approx(1 / 240)
    assert figures["dense_ms"]["ours"] > 0
    assert figures["dense_ms"]["onnxruntime"] > 0
    walk = figures["clips"]["walk"]
    assert (walk["frames"], walk["strong_boxes"]) == (3, 10)
    assert walk["noise_floor"] == {"iou50": 1.0, "iou75": 1.0}
    for factor in ("1", "2"):
        found = walk["factors"][factor]
        assert found["agreement"] == {"iou50": 1.0, "iou75": 1.0}
        assert 0 < found["compute_fraction"]["mean"] < 0.1  # one square of two frames; the first frame is left out
        assert found["compute_fraction"]["max"] == pytest.approx(2 * found["compute_fraction"]["mean"])
    assert walk["chosen"] == 2
    assert figures["together"] == walk
    assert figures["macs_left"] == pytest.approx(figures["macs"] * walk["factors"]["2"]["compute_fraction"]["mean"])


def test_streams_start_anew_with_each_clip(folder):
    subject = Subject.of(write_model(folder / "people.onnx"), (1,))
    totals = Score.empty((1,))
    for _ in range(2):
        module.run_clip(subject, [picture((2, 2)), picture((2, 2))], totals)
    assert totals.factors[1].fractions == [0.0, 0.0]
    assert totals.frames == 4


def test_a_tile_is_redone_where_it_is_seen(tmp_path):
    subject = Subject.of(write_model(tmp_path / "people.onnx"), (1,))
    assert tile_share(subject, picture((2, 2))) == pytest.approx(1 / 240)


def test_windows_are_known_and_usual_ones_among_them():
    assert set(USUAL) <= set(WINDOWS)
    assert all(window.start >= 0 and window.every >= 1 for window in WINDOWS.values())


def test_tables_show_the_frontier(folder):
    blind = write_model(folder / "blind.onnx", best=0.3)
    report = measure(
        [write_model(folder / "people.onnx"), blind], folder / "videos", ["walk"], rounds=1, factors=(1, 2)
    )
    written = io.StringIO()
    show_clips(report, Console(file=written, width=200))
    for expected in ("people", "blind", "walk", "k = 2", "1.000/1.000", "none (1 shown)"):
        assert expected in written.getvalue()


def test_the_command(folder):
    app = typer.Typer()
    app.command()(module.command)
    model = str(write_model(folder / "people.onnx"))
    arguments = [model, "--data", str(folder), "--clip", "walk", "--frames", "2", "--rounds", "1", "--factor", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(folder / "out.json")])
    assert result.exit_code == 0, result.output
    assert list(json.loads((folder / "out.json").read_text())["models"]) == ["people"]
    refused = CliRunner().invoke(app, [*arguments, "--clip", "nowhere"])
    assert refused.exit_code == 2
