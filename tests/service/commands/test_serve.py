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
        "service.commands.serve.server.serve", lambda settings, registry, try_next: seen.update(hint=try_next)
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
