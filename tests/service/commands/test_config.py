"""`afterimage config`, and the options of `serve` that say settings."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

from service.cli import make_app
from service.commands import config
from service.configuration import Effective
from service.settings import Settings

runner = CliRunner()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AFTERIMAGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> tuple[int, str, str]:
    result = runner.invoke(make_app(), [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result.exit_code, result.stdout, result.stderr


def test_what_is_shown_as_yaml_is_right_and_says_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_MODELS", '{"door": {"path": "/m/x.onnx", "size": [640, 384]}}')
    code, shown, _ = run("config", "show", "--set", "port=9000", "--source")
    assert code == 0
    assert shown.startswith("# limits: ")
    assert "port: 9000  # --set port\n" in shown
    assert "models:  # AFTERIMAGE_MODELS\n" in shown
    assert "window: 2  # default\n" in shown
    Path("again.yaml").write_text(shown)
    assert run("config", "check", "again.yaml")[:2] == (0, "again.yaml: right\n")
    monkeypatch.delenv("AFTERIMAGE_MODELS")
    assert yaml.safe_load(run("config", "show", "--config", "again.yaml")[1]) == yaml.safe_load(shown)


def test_json_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("afterimage.yaml").write_text("models: {door: {path: my model.onnx}}\nallowed_origins: ['https://a.b']\n")
    values = json.loads(run("config", "show", "--format", "json")[1])
    assert (values["models"]["door"]["path"], values["port"]) == ("my model.onnx", 8000)
    told = json.loads(run("config", "show", "--format", "json", "--source")[1])
    assert told["allowed_origins"] == {"value": ["https://a.b"], "source": "afterimage.yaml:2"}
    lines = run("config", "show", "--format", "env")[1].splitlines()
    Path("afterimage.yaml").unlink()
    for line in lines:
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, "".join(shlex.split(value)))
    assert json.loads(run("config", "show", "--format", "json")[1]) == values


def test_secrets_are_masked_at_any_depth() -> None:
    class Guarded(Settings):
        admin_key: str = "hunter2"
        api_keys: tuple[SecretStr, ...] = (SecretStr("hunter2"),)
        cameras: dict[str, dict[str, Any]] = {"door": {"url": "x", "password": "hunter2"}}  # noqa: RUF012
        hooks: list[dict[str, str]] = [{"token": "hunter2"}]  # noqa: RUF012

    for form in config.Form:
        shown = config.render(Effective(Guarded(), {}), form, source=True)
        assert "hunter2" not in shown
        assert shown.count(config.MASK) == 4


def test_check_tells_everything_and_fails() -> None:
    Path("bad.yaml").write_text("prot: 1\nwindow: 0\n")
    code, out, err = run("config", "check", "bad.yaml")
    assert (code, out) == (1, "")
    assert "bad.yaml:1: unknown setting 'prot'; did you mean 'port'?" in err
    assert "bad.yaml:2: window: expected at least 1, got 0" in err
    assert run("config", "check", "none.yaml")[0] == 1


def test_serve_takes_settings_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr("service.commands.serve.server.serve", lambda *args, **kwargs: None)

    class Nothing:
        def get(self) -> None: ...

    def registry(settings: Settings) -> Nothing:
        served.append(settings)
        return Nothing()

    monkeypatch.setattr("service.commands.serve.ModelRegistry.from_settings", registry)
    Path("mine.yaml").write_text("window: 3\nport: 1\nworkers: 1\n")
    monkeypatch.setenv("AFTERIMAGE_PORT", "2")
    code, _, err = run("serve", "--config", "mine.yaml", "--workers", 5, "--set", "drain_s=2", "--set", "exact=true")
    assert code == 0, err
    (settings,) = served
    assert (settings.window, settings.port, settings.workers, settings.drain_s, settings.exact) == (3, 2, 5, 2, True)
    assert list(settings.models) == ["people"]


def test_serve_says_what_is_wrong_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_PROT", "2")
    code, _, err = run("serve", "--set", "widnow=3")
    assert code == 1
    assert "AFTERIMAGE_PROT: no setting has this name; did you mean AFTERIMAGE_PORT?" in err
    assert "--set widnow: unknown setting 'widnow'; did you mean 'window'?" in err


def test_addresses_of_cameras_are_masked() -> None:
    settings = Settings(sources={"door": {"url": "rtsp://a:geheim@cam/x"}})
    for form in config.Form:
        shown = config.render(Effective(settings, {}), form, source=False)
        assert "door" in shown
        assert "cam/x" not in shown
