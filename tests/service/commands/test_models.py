"""`afterimage models list` and `pull` as a person types them, from a server on loopback."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import Served, serving
from own_model import write_model
from typer.testing import CliRunner

from service.cli import make_app

runner = CliRunner()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(write_model(tmp_path / "own.onnx").read_bytes()) as found:
        yield found


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of one model, a folder of its own, a screen wide enough, no built-in model."""
    file = tmp_path / "catalogue.toml"
    file.write_text(f"""
        [small]
        task = "faces [small]"
        licence = "BSD-3-Clause"
        url = "{served.url}"
        sha256 = "{hashlib.sha256(served.body).hexdigest()}"
        size_bytes = {len(served.body)}
        source = "https://example.com"
        authors = "somebody"
        spec = {{ family = "afterimage", labels = ["person", "face", "vehicle"] }}
    """)
    monkeypatch.setenv("AFTERIMAGE_CATALOGUE", str(file))
    monkeypatch.setenv("AFTERIMAGE_MODELS_DIR", str(tmp_path / "pulled"))
    monkeypatch.setattr("service.commands.common.out.width", 200, raising=False)


def say(*arguments: object) -> str:
    result = runner.invoke(make_app(), ["models", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: object) -> str:
    result = runner.invoke(make_app(), ["models", *map(str, arguments)])
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def row(output: str, name: str) -> list[str]:
    (line,) = [line for line in output.splitlines() if f" {name} " in line and "│" in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_model_is_listed_pulled_and_used_by_its_name(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = f"{len(served.body) / 1e6:.1f} MB"
    assert row(say("list"), "small") == ["small", "faces [small]", "BSD-3-Clause", size, "no"]
    monkeypatch.setattr("service.commands.common.own_name", lambda: "bin/afterimage")
    told = f"error: small is not in {tmp_path / 'pulled'} yet; get it with: bin/afterimage models pull small"
    assert told in fail("show", "small")
    assert f"small: pulled, {size}; SHA-256 verified. Licence: BSD-3-Clause." in say("pull", "small")
    assert row(say("list"), "small")[-1] == "pulled"
    shown = " ".join(say("show", "small").split())
    assert "family: afterimage" in shown
    assert re.search(r"memory of a stream: [\d.]+ MiB: feature maps [\d.]+ MiB, reference frame [\d.]+ MiB", shown)
    found = json.loads(say("show", "small", "--json"))
    memory = found["memory_bytes"]
    image = 2 * memory["reference_frame"]  # float32, and not the stream's; two frames are counted there
    assert memory["stream"] > memory["feature_maps"] > 0.9 * (memory["activations"] - image) > 0
    assert memory["ratio"] == round((memory["stream"] - memory["reference_frame"]) / memory["activations"], 3)
    assert f"without the reference frame: {memory['ratio']:.2f} of one set of activations" in shown
    assert found["family"] == "afterimage"
    assert "small: here already, nothing downloaded; SHA-256 verified" in say("pull", "small")
    assert len(served.requests) == 1
    say("pull", "small", "--force")
    assert len(served.requests) == 2


def test_both_speak_json(served: Served, tmp_path: Path) -> None:
    listed = {found["name"]: found for found in json.loads(say("list", "--json"))}
    assert list(listed) == ["people", "small"]
    assert listed["small"]["path"] is None
    done = json.loads(say("pull", "small", "--json"))
    path = tmp_path / "pulled" / "small.onnx"
    assert (done["path"], done["spec"], done["downloaded"]) == (str(path), str(path.with_suffix(".toml")), True)
    assert (done["licence"], done["family"], done["size_bytes"]) == ("BSD-3-Clause", "afterimage", len(served.body))
    assert json.loads(say("pull", "small", "--json"))["downloaded"] is False
    assert json.loads(say("list", "--json"))[1] == listed["small"] | {"path": str(path)}


def test_the_built_in_model_has_the_fields_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.onnx"
    monkeypatch.setattr("service.commands.models.built_in", lambda: path)
    people, small = json.loads(say("list", "--json"))
    assert list(people) == list(small)
    assert people["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (people["task"], people["source"]) == ("people, faces, vehicles", None)
    pulled = json.loads(say("pull", "people", "--json"))
    assert pulled == people | {"spec": str(path.with_suffix(".toml")), "downloaded": False}
    assert list(pulled) == list(json.loads(say("pull", "small", "--json")))


def test_what_options_lead_astray_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "by name" not in say("pull", "small")
    assert "by name" not in say("pull", "small", "--folder", "pulled", "--catalogue", "catalogue.toml")
    shown = say("pull", "small", "--folder", "my models")
    path = Path("my models") / "small.onnx"
    assert f"To use it by name set AFTERIMAGE_MODELS_DIR='{tmp_path / path.parent}', or give its path: {path}" in shown
    other = tmp_path / "other.toml"
    other.write_bytes((tmp_path / "catalogue.toml").read_bytes())
    assert f"set AFTERIMAGE_CATALOGUE={other}, or give" in say("pull", "small", "--catalogue", other)
    shown = say("pull", "small", "--catalogue", other, "--folder", "else")
    assert f"set AFTERIMAGE_MODELS_DIR={tmp_path / 'else'} AFTERIMAGE_CATALOGUE={other}, or give" in shown


def test_a_pull_that_is_stopped_says_that_it_can_go_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **fields: object) -> None:
        raise KeyboardInterrupt

    served.stall_s = 0.5  # after half of the body, so that it does not come in one piece
    with monkeypatch.context() as patched:
        patched.setattr("rich.progress.Progress.update", interrupt)
        result = runner.invoke(make_app(), ["models", "pull", "small"])
    assert result.exit_code == 130
    assert result.output == "stopped; what came is kept, pull again to go on\n"
    served.stall_s = 0.0
    say("pull", "small")
    assert served.requests[1]["Range"], "what came is kept"


def test_options_go_before_the_environment(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text((tmp_path / "catalogue.toml").read_text().replace("[small]", "[other]", 1))
    say("pull", "other", "--catalogue", other, "--folder", tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "other.onnx").is_file()
    assert str(tmp_path / "elsewhere") in say("list", "--folder", tmp_path / "elsewhere")


def test_the_built_in_model_has_nothing_to_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.onnx"
    monkeypatch.setattr("service.commands.models.built_in", lambda: path)
    assert row(say("list"), "people")[2:] == ["Apache-2.0", f"{path.stat().st_size / 1e6:.1f} MB", "built in"]
    assert "people is built in: there is nothing to pull" in say("pull", "people")
    assert json.loads(say("pull", "people", "--json"))["path"] == str(path)


def test_an_installation_without_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.catalogue.resources.files", lambda package: tmp_path / package)
    shown = say("list")
    assert row(shown, "people")[2:] == ["Apache-2.0", "", "no"]
    assert "this installation has no built-in model" in shown
    assert "this installation has no built-in model" in fail("pull", "people")
    assert json.loads(say("list", "--json"))[0]["path"] is None


def test_what_goes_wrong_is_said_in_one_line(served: Served, tmp_path: Path) -> None:
    assert "error: no model 'smal'; did you mean small?" in fail("pull", "smal")
    served.status = 404
    assert f"error: small: {served.url}: 404 Not Found" in fail("pull", "small")
    served.status, served.body = 200, bytes(len(served.body))
    assert "expected SHA-256" in fail("pull", "small")
    assert "none.toml: cannot be read" in fail("list", "--catalogue", tmp_path / "none.toml")
    (tmp_path / "file").touch()
    assert row(say("list", "--folder", tmp_path / "file"), "small")[-1] == "no"
    assert "file: " in fail("pull", "small", "--folder", tmp_path / "file")


def test_a_folder_that_may_not_be_read_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("service.catalogue.size_of", refuse)
    assert fail("list") == f"error: {tmp_path / 'pulled' / 'small.onnx'}: Permission denied"
