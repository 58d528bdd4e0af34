"""Codes and the keys that they are traded for."""

from __future__ import annotations

import hmac
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.keys import KeysError, Scope, add_key, read_keys
from service.lan import joins as module
from service.lan.joins import FILE, Joins


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def joins(tmp_path: Path, clock: Clock) -> Joins:
    return Joins(tmp_path, code_s=600, key_s=3600, clock=clock)


def test_a_code_gives_one_key_once(joins: Joins) -> None:
    code = joins.new_code()
    admitted = joins.admit(code)
    assert admitted is not None
    key = joins.ring.find(admitted.key)
    assert key is not None
    assert (key.name, key.scopes) == (admitted.name, {Scope.INFER})
    left_s = (key.expires - datetime.now(UTC)).total_seconds()
    assert 3500 < left_s <= 3600
    assert joins.admit(code) is None
    assert joins.taken


def test_a_wrong_code_gives_nothing_and_leaves_the_right_one(joins: Joins) -> None:
    assert joins.admit("anything") is None, "there is none yet"
    code = joins.new_code()
    for wrong in ("", code[:-1], code + "x", code.swapcase(), "\udcff"):
        assert joins.admit(wrong) is None
    assert joins.admit(code) is not None


def test_a_code_ends_with_its_time_and_with_the_next_one(joins: Joins, clock: Clock) -> None:
    first = joins.new_code()
    clock.now = 599.9
    assert joins.open
    clock.now = 600.0
    assert not joins.open
    assert joins.admit(first) is None
    second = joins.new_code()
    assert joins.open
    joins.new_code()
    assert joins.admit(second) is None


def test_codes_are_long_and_compared_in_constant_time(joins: Joins, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda *pair: compared.append(pair) or real(*pair))
    codes = {joins.new_code() for _ in range(100)}
    assert len(codes) == 100
    assert min(map(len, codes)) >= 22
    joins.admit("wrong")
    assert len(compared) == 1


def test_keys_are_kept_as_hashes_and_outlive_the_server(joins: Joins, tmp_path: Path) -> None:
    admitted = joins.admit(joins.new_code())
    assert admitted is not None
    kept = tmp_path / FILE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert admitted.key not in kept.read_text()
    later = Joins(tmp_path, code_s=600, key_s=3600)
    assert later.ring.find(admitted.key) is not None
    assert later.taken, "codes do not outlive it"


def test_keys_whose_time_is_over_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(tmp_path / FILE, "old", [Scope.INFER], datetime.now(UTC) - timedelta(seconds=1))
    add_key(tmp_path / FILE, "good", [Scope.INFER])
    joins = Joins(tmp_path, code_s=600, key_s=3600)
    assert [key.name for key in read_keys(tmp_path / FILE)] == ["good"]
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    names = [joins.admit(joins.new_code()).name for _ in range(4)]
    assert [key.name for key in read_keys(tmp_path / FILE)] == names[-3:], "the oldest go where there are too many"


def test_a_file_that_others_can_read_is_refused(joins: Joins, tmp_path: Path) -> None:
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(KeysError, match="chmod 600"):
        Joins(tmp_path, code_s=600, key_s=3600)
