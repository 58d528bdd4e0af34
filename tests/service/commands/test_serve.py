"""`afterimage serve`: how it logs, what it hints at, and what it says of an extra that is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from own_model import write_model
from typer.testing import CliRunner

from service.cli import make_app

runner = CliRunner()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the log was set up as, and what was served; nothing listens."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr("service.commands.serve.logs.set_up", lambda *chosen: seen.update(log=chosen[:2]))
    monkeypatch.setattr(
        "service.commands.serve.server.serve",
        lambda settings, registry, try_next: seen.update(hint=try_next, settings=settings),
    )
    return seen


@pytest.mark.parametrize(("log_format", "hinted"), [("text", True), ("json", False)])
def test_the_log_is_as_the_settings_say(
    tmp_path: Path, served: dict[str, Any], monkeypatch: pytest.MonkeyPatch, log_format: str, hinted: bool
) -> None:
    """A hint for people has no place between lines of JSON."""
    monkeypatch.setenv("AFTERIMAGE_LOG_FORMAT", log_format)
    monkeypatch.setenv("AFTERIMAGE_LOG_LEVEL", "warning")
    result = runner.invoke(make_app(), ["serve", str(write_model(tmp_path / "own.onnx"))])
    assert result.exit_code == 0, result.output
    assert served["log"] == (log_format, "warning")
    assert ("stream scene" in served["hint"]) is hinted


def test_an_extra_that_is_missing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    result = runner.invoke(make_app(), ["serve", str(write_model(tmp_path / "own.onnx"))])
    assert result.exit_code == 1
    assert "pip install 'afterimage[telemetry]'" in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("options", "host"),
    [(["--lan"], "0.0.0.0"), (["--lan", "--host", "192.168.1.5"], "192.168.1.5"), ([], "127.0.0.1")],
)
def test_lan_listens_everywhere_unless_told_where(
    tmp_path: Path, served: dict[str, Any], options: list[str], host: str
) -> None:
    given = ["--set", f"state_folder={tmp_path}", *options]
    result = runner.invoke(make_app(), ["serve", str(write_model(tmp_path / "own.onnx")), *given])
    assert result.exit_code == 0, result.output
    assert (served["settings"].host, served["settings"].lan) == (host, bool(options))


def test_a_certificate_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    options = [f"--set=tls_certificate={tmp_path}/chain.pem", f"--set=tls_key={tmp_path}/key.pem", "--port=0"]
    result = runner.invoke(make_app(), ["serve", str(write_model(tmp_path / "own.onnx")), *options])
    assert result.exit_code == 1
    assert "expected a certificate in PEM" in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_keys_of_devices_that_others_could_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "joined-keys").write_text("")
    (tmp_path / "joined-keys").chmod(0o644)
    options = ["--lan", "--host=127.0.0.1", "--port=0", f"--set=state_folder={tmp_path}"]
    result = runner.invoke(make_app(), ["serve", str(write_model(tmp_path / "own.onnx")), *options])
    assert result.exit_code == 1
    assert "chmod 600" in " ".join(result.output.split())
