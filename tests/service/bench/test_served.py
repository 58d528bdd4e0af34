"""A server of its own process, started and measured; and that its end is told when it does not start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from own_model import write_model
from service_fakes import image

from service.bench import served as subject
from service.bench.served import ServedError, measure, start_s

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_a_server_is_started_measured_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_MAX_STREAMS", "no number")  # its settings are not ours
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def remember(*arguments: object, **options: object) -> subprocess.Popen[str]:
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subject.subprocess, "Popen", remember)
    path = write_model(tmp_path / "tiny.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(subject.__file__).parents[2]), *sys.path]))
    found = measure(Path(path.name), "96x64", [image(40), image(80)], frames=20)
    assert 0 < found.start_s < 900
    assert found.memory_bytes > 10 << 20
    assert found.outside_ms > 0
    assert started[0].returncode in (0, -signal.SIGTERM)


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no model of that name >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(subject.sys, "executable", str(program))
    with pytest.raises(ServedError, match="the server ended: no model of that name"):
        start_s(Path("missing"), "96x64")


def test_a_process_that_is_gone_is_said() -> None:
    with pytest.raises(ServedError, match=r"/proc/0/status cannot be read"):
        subject._memory_bytes(0)
