"""`afterimage keys` as a person types it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import make_app
from service.keys import KeyRing, Scope, read_keys

runner = CliRunner()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFTERIMAGE_KEYS_FILE", str(tmp_path / "keys"))
    return tmp_path / "keys"


def run(*words: str, status: int = 0):
    result = runner.invoke(make_app(["keys"]), ["keys", *words])
    assert result.exit_code == status, result.output
    return result


def test_a_key_is_printed_once_alone(path: Path) -> None:
    result = run("add", "door")
    secret = result.stdout.strip()
    found = KeyRing(path).find(secret)
    assert found is not None
    assert (found.name, found.scopes, found.expires) == ("door", frozenset({Scope.INFER}), None)
    listed = run("list")
    assert "door" in listed.stdout
    assert secret not in listed.stdout
    assert json.loads(run("list", "--json").stdout) == [{"name": "door", "scopes": "infer", "expires": "never"}]


def test_scopes_and_dates(path: Path) -> None:
    run("add", "ops", "--scope", "admin", "--scope", "infer", "--expires", "2091-02-03")
    run("add", "guest", "--expires", "90d")
    ops, guest = read_keys(path)
    assert (ops.scopes, ops.expires) == (frozenset(Scope), datetime(2091, 2, 3, tzinfo=UTC))
    assert guest.expires is not None
    assert timedelta(days=89) < guest.expires - datetime.now(UTC) <= timedelta(days=90)


@pytest.mark.parametrize("expires", ["yesterday", "2001-01-01", "0d", "-1d", "99999999d"])
def test_dates_that_are_none_or_over(path: Path, expires: str) -> None:
    result = run("add", "door", f"--expires={expires}", status=2)
    assert "expected" in result.output
    assert not path.exists()


def test_removing(path: Path) -> None:
    run("add", "door")
    run("add", "yard")
    run("remove", "door")
    assert [key.name for key in read_keys(path)] == ["yard"]
    assert "expected one of yard" in run("remove", "door", status=1).stderr


def test_errors_are_one_line(path: Path) -> None:
    assert "No such file" in run("list", status=1).stderr
    run("add", "door")
    assert "already" in run("add", "door", status=1).stderr
    run("add", "door", "--scope", "root", status=2)
    path.chmod(0o644)
    assert "chmod 600" in run("list", status=1).stderr
