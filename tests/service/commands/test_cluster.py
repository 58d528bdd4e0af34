"""`afterimage cluster` as a person types it, with a Ray that only notes what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import make_app
from service.cluster.note import Note, began, read_note
from service.cluster.plan import ClusterError, Plan
from service.commands import cluster
from service.keys import Scope, add_key

runner = CliRunner()
STATUS = {
    "address": "http://127.0.0.1:8000",
    "wanted": 2,
    "members": [
        {
            "slot": "0", "address": "http://127.0.0.1:8100", "streams": 5, "live": 4, "load": 0.25, "room": False,
            "version": "0.1.0",
        }
    ],
    "streams": 5,
}  # fmt: skip


class Ray:
    """In the place of `service.cluster.control`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.error: Exception | None = None
        self.plan = Plan()

    def start_ray(self, plan: Plan, node: str, folder: Path) -> Note:
        note = Note(f"{node}:6379", self.pid, began(self.pid) or 0, str(folder))
        note.write()
        return note

    def up(self, plan: Plan, address: str) -> None:
        self.plan = plan
        self.told.append(("up", address))
        if self.error is not None:
            raise self.error

    def __getattr__(self, name: str) -> Any:
        def act(*arguments: Any) -> Any:
            self.told.append((name, arguments if len(arguments) > 1 else arguments[0]))
            if self.error is not None:
                raise self.error
            return STATUS if name == "status" else None

        return act

    pid = 0


@pytest.fixture
def ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import os
    import subprocess
    import sys

    made, process = Ray(), subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    made.pid = process.pid
    monkeypatch.setenv("AFTERIMAGE_CLUSTER", str(tmp_path / "cluster.json"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "_control", lambda: made)
    monkeypatch.setattr(os, "environ", os.environ | {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield made
    process.kill()
    process.communicate()


def run(*words: str, status: int = 0) -> Any:
    result = runner.invoke(make_app(["cluster"]), ["cluster", *words])
    assert result.exit_code == status, result.output
    return result


def test_up_starts_a_ray_and_down_ends_it(ray: Ray, tmp_path: Path) -> None:
    said = run("up", "--replicas", "3", "--workers", "1", "--set", "drain_s=3").output
    assert "http://127.0.0.1:8100" in said
    assert "1 of 2 members" in said
    assert (ray.plan.replicas, ray.plan.settings) == (3, {"workers": 1, "drain_s": 3.0})
    assert ray.plan.origins == ("http://127.0.0.1:8000",)
    note = read_note()
    assert note is not None
    assert ray.told == [("up", "127.0.0.1:6379"), ("status", "127.0.0.1:6379")]
    run("scale", "5")
    assert ("scale", (5, "127.0.0.1:6379")) in ray.told
    run("down")
    assert ray.told[-1] == ("down", "127.0.0.1:6379")
    assert read_note() is None
    assert not Path(note.folder).exists()


def test_down_ends_a_ray_that_does_not_answer(ray: Ray) -> None:
    run("up")
    ray.error = ClusterError("no Ray answers")
    assert "no Ray answers" in run("down", status=1).output
    assert read_note() is None


def test_up_again_uses_what_runs(ray: Ray) -> None:
    run("up")
    note = read_note()
    run("up", "--replicas", "4")
    assert read_note() == note
    assert ray.plan.replicas == 4


def test_members_that_cannot_be_started_leave_nothing_behind(ray: Ray, tmp_path: Path) -> None:
    ray.error = ClusterError("members cannot be started: no such model")
    assert "no such model" in run("up", status=1).output
    assert read_note() is None
    assert list(tmp_path.glob("afterimage-ray-*")) == []


def test_somebody_elses_ray_is_used_and_left(ray: Ray) -> None:
    run("up", "--address", "10.0.0.7:6379", "--workers", "2")
    assert ray.plan.reserve_cores == 2.0
    run("down", "--address", "10.0.0.7:6379")
    assert ray.told[-1] == ("down", "10.0.0.7:6379")
    assert read_note() is None


def test_status_as_json(ray: Ray) -> None:
    assert json.loads(run("status", "--json", "--address", "10.0.0.7:6379").stdout) == STATUS


def test_keys_are_read_before_anything_is_started(ray: Ray, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert "keys" in run("up", "--keys", str(file), status=1).output
    assert ray.told == []
    add_key(file, "door", [Scope.INFER])
    run("up", "--keys", str(file))
    assert ray.plan.keys.text == file.read_text()
    run("keys", str(file))
    (name, arguments) = ray.told[-1]
    assert name == "set_keys"
    assert arguments[0].version > ray.plan.keys.version


@pytest.mark.parametrize("words", [["status"], ["scale", "2"], ["down"]])
def test_no_cluster_is_said_with_the_way_to_one(ray: Ray, words: list[str]) -> None:
    assert "afterimage cluster up" in " ".join(run(*words, status=1).output.split())
    assert ray.told == []


def test_settings_of_a_server_that_is_alone(ray: Ray) -> None:
    assert "not in a cluster" in run("up", "--set", "mqtt_host=broker", status=1).output


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFTERIMAGE_CLUSTER", str(tmp_path / "cluster.json"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = run("status", "--address", "10.0.0.7:6379", status=1).output
    assert "afterimage[cluster]" in said.replace("\\", "")


def test_the_module_that_knows_ray_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    monkeypatch.setattr("importlib.import_module", lambda name: name)
    assert cluster._control() == "service.cluster.control"
