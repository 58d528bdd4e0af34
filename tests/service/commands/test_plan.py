"""`afterimage plan` and `afterimage bench box` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measured_box import make_box, model_row
from own_model import write_model
from typer.testing import CliRunner

from service.bench import box as box_bench
from service.capacity.box import Box, read_box
from service.capacity.plan import Demand, Terms, plan
from service.cli import make_app
from service.commands import bench
from service.settings import Settings

runner = CliRunner()
ASKED = ("--streams", "500", "--fps", "5", "--size", "640x384", "--model", "people", "--activity", "0.1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFTERIMAGE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("service.commands.common.out.width", 200, raising=False)
    return tmp_path


def run(*arguments: object) -> tuple[int, str, str]:
    result = runner.invoke(make_app(), [*map(str, arguments)])
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_the_box_of_this_machine_is_planned_with(folder: Path) -> None:
    make_box().write(folder / "box.json")
    code, said, complaints = run("plan", *ASKED)
    assert code == 0, complaints
    found = plan(make_box(), "people", "640x384", Demand(500, 5.0, 0.1), Terms(Settings().headroom))
    assert f"{found.boxes} boxes of two cores, 1 of them may be lost: 500 streams of people" in said
    assert "<- binds" in said
    assert "assumed:" in said
    assert f"AFTERIMAGE_MAX_STREAMS={found.full}" in said


def test_without_a_measurement_it_says_how_to_make_one() -> None:
    code, _, complaints = run("plan", *ASKED)
    assert code == 1
    assert "box.json: no such file; measure this machine with: afterimage bench box MODEL" in complaints


def test_json_and_every_option(folder: Path) -> None:
    file = folder / "other.json"
    make_box().write(file)
    options = (
        "--headroom", "0.3", "--spare", "4", "--peak", "2", "--quantile", "0.95", "--frame", "1280X768",
        "--keyframe-every", "60", "--link-mbit", "100", "--tiles",
    )  # fmt: skip
    code, said, complaints = run("plan", *ASKED, "--box", file, *options, "--json")
    assert code == 0, complaints
    found = json.loads(said)
    demand = Demand(500, 5.0, 0.1, 2.0, "1280x768", True, 60.0)
    expected = plan(make_box(), "people", "640x384", demand, Terms(0.3, 0.95, 4, 100e6)).as_dict()
    assert {key: found[key] for key in expected} == json.loads(json.dumps(expected))
    assert any("the tiles that changed of 1280x768" in line for line in found["assumptions"])


def test_kinds_of_boxes_are_compared(folder: Path) -> None:
    small, large = folder / "small.json", folder / "large.json"
    make_box().write(small)
    make_box(name="eight cores", cores=8, workers=8, estimate="four times the two cores").write(large)
    code, said, complaints = run("plan", *ASKED, "--box", small, "--box", large)
    assert code == 0, complaints
    last = said[said.index("kinds of boxes") :]
    assert last.index("eight cores (estimate)") < last.index("two cores")
    assert "Estimated, not measured: four times the two cores" in said
    code, said, _ = run("plan", *ASKED, "--box", small, "--box", large, "--json")
    assert [each["workers"] for each in json.loads(said)] == [2, 8]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--model", "yolox-nano"), 1, "measure it there with: afterimage bench box yolox-nano --size 640x384"),
        (("--fps", "2000"), 2, "'--fps'"),
        (("--activity", "1.5"), 2, "'--activity'"),
        (("--frame", "big"), 2, "expected a size such as 640x384, got 'big'"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    make_box().write(folder / "box.json")
    found, _, complaints = run("plan", *ASKED, *arguments)
    assert (found, said in complaints.replace("│ ", "").replace(" │", "")) == (code, True), complaints


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A measurement that takes no time; calls of it."""
    calls: list[tuple] = []

    def pretend(models, **options) -> tuple[Box, float]:
        calls.append((models, options))
        return make_box(models=[model_row(model=model.name) for model in models]), 1.5

    monkeypatch.setattr(box_bench, "box", pretend)
    return calls


def test_a_box_is_measured_written_and_joined(folder: Path, quick: list[tuple]) -> None:
    path = write_model(folder / "tiny.onnx")
    make_box().write(folder / "box.json")
    code, said, complaints = run("bench", "box", path, "--size", "96x64", "--rounds", 2, "--workers", 1)
    assert code == 0, complaints
    (models, options), = quick  # fmt: skip
    assert [model.name for model in models] == ["tiny"]
    assert (options["rounds"], options["workers"], options["cold_s"]) == (2, 1, None)
    assert [row.model for row in read_box().models] == ["people", "tiny"]
    assert "plan with: afterimage plan" in said
    assert "other programs kept 1.5 cores busy" in complaints


def test_a_server_and_a_first_start_are_measured_on_request(
    folder: Path, quick: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(folder / "tiny.onnx")
    asked: list[tuple] = []
    monkeypatch.setattr(bench.served, "start_s", lambda *arguments: asked.append(arguments) or 42.04)
    monkeypatch.setattr(bench.served, "measure", lambda *arguments: asked.append(arguments))
    code, said, _ = run("bench", "box", path, "--cold", "--json", "-")
    assert code == 0
    assert Box.model_validate_json(said) == make_box(models=[model_row(model="tiny")])
    models, options = quick[0]
    assert options["cold_s"] == 42.0
    options["serve"](models[0], [b"jpeg"])
    assert [call[:2] for call in asked] == [(path, "96x64")] * 2
    run("bench", "box", path, "--no-server", "--json", "-")
    assert quick[1][1]["serve"] is None
