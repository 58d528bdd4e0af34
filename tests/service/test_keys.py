"""Key files: hashes alone, for the owner alone, written as a whole; rings that follow them."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service import keys
from service.keys import Key, KeyRing, KeyRings, KeysError, Scope, add_key, digest_of, read_keys, remove_key

INFER = frozenset({Scope.INFER})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "keys"


def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings look at their file each time."""
    monkeypatch.setattr(keys, "CHECK_S", 0.0)


def test_a_key_is_shown_once_and_kept_as_a_hash(path: Path) -> None:
    secret = add_key(path, "door", [Scope.INFER])
    assert secret.startswith("aik_")
    assert len(secret) == 4 + 43, "256 bits in base64url"
    assert secret not in path.read_text()
    assert secret[4:] not in path.read_text()
    assert read_keys(path) == (Key("door", INFER, None, digest_of(secret)),)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["keys"], "no temporary file is left"
    assert add_key(path, "yard", [Scope.INFER]) != secret


def test_what_is_written_is_read_again(path: Path) -> None:
    expires = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    add_key(path, "a", [Scope.ADMIN, Scope.INFER], expires)
    add_key(path, "b", [Scope.ADMIN])
    first, second = read_keys(path)
    assert (first.name, first.scopes, first.expires) == ("a", frozenset(Scope), expires)
    assert (second.scopes, second.expires) == (frozenset({Scope.ADMIN}), None)
    remove_key(path, "a")
    assert read_keys(path) == (second,)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o602])
def test_a_file_that_others_can_read_or_write_is_refused(path: Path, mode: int) -> None:
    add_key(path, "door", INFER)
    path.chmod(mode)
    with pytest.raises(KeysError, match=f"its mode is {mode:o}; chmod 600"):
        read_keys(path)
    path.chmod(0o640)
    assert len(read_keys(path)) == 1, "a group may read: that is how secrets are mounted into containers"


@pytest.mark.parametrize(
    "line",
    [
        "door",
        "door infer - xyz",
        f"door infer - {'z' * 64}",
        f"door infer - {'a' * 62}",
        f"door root - {'a' * 64}",
        f"do/or infer - {'a' * 64}",
        f"door infer tomorrow {'a' * 64}",
        f"door infer - {'a' * 64}\ndoor admin - {'b' * 64}",
    ],
)
def test_lines_that_say_something_else_are_refused_and_not_quoted(path: Path, line: str) -> None:
    path.parent.mkdir()
    path.write_text(f"# comment\n\n{line}\n")
    path.chmod(0o600)
    with pytest.raises(KeysError, match=r"line \d: expected") as caught:
        read_keys(path)
    assert line.split()[-1] not in str(caught.value)


def test_names_and_numbers_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "a b", "x" * 65, "a\nb", "-a"):
        with pytest.raises(KeysError, match="expected a name"):
            add_key(path, name, INFER)
    add_key(path, "door", INFER)
    with pytest.raises(KeysError, match="a key 'door' already"):
        add_key(path, "door", INFER)
    with pytest.raises(KeysError, match="expected one of door, got 'yard'"):
        remove_key(path, "yard")
    monkeypatch.setattr(keys, "MAX_KEYS", 1)
    with pytest.raises(KeysError, match="at most 1"):
        add_key(path, "yard", INFER)
    with pytest.raises(KeysError, match="afterimage keys add"):
        read_keys(path.parent / "none")
    monkeypatch.setattr(keys, "MAX_FILE_BYTES", 10)
    with pytest.raises(KeysError, match="at most 10 bytes"):
        read_keys(path)


def test_wrong_keys(path: Path) -> None:
    secret = add_key(path, "door", INFER)
    ring = KeyRing(path)
    found = ring.find(secret)
    assert found is not None
    assert found.name == "door"
    for wrong in (None, "", secret[:-1], secret + "A", secret.lower(), "aik_" + "A" * 43, "x" * 100_000):
        assert ring.find(wrong) is None


def test_every_key_is_compared_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [add_key(path, name, INFER) for name in "abc"]
    ring, compared = KeyRing(path), []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    for secret in secrets:
        compared.clear()
        assert ring.find(secret) is not None
        assert len(compared) == 3, "the first that fits ends nothing"
        assert all(len(a) == len(b) == 32 for a, b in compared)


def test_a_key_ends_with_its_time(path: Path) -> None:
    now = datetime.now(UTC)
    soon, over = add_key(path, "soon", INFER, now + timedelta(hours=1)), add_key(path, "over", INFER, now)
    ring = KeyRing(path)
    assert ring.find(soon) is not None
    assert ring.find(over) is None
    assert (ring.has("soon"), ring.has("over"), ring.has("never")) == (True, False, False)


def test_several_files_are_one_ring(tmp_path: Path) -> None:
    first, second = (add_key(tmp_path / name, name, [Scope.INFER]) for name in ("one", "two"))
    rings = KeyRings(KeyRing(tmp_path / "one"), KeyRing(tmp_path / "two"))
    assert [rings.find(key).name for key in (first, second)] == ["one", "two"]
    assert rings.find(add_key(tmp_path / "three", "three", [Scope.INFER])) is None
    assert [rings.has(name) for name in ("one", "two", "three")] == [True, True, False]


def test_admin_may_infer_and_infer_may_not_admin() -> None:
    infer, admin = (Key("k", frozenset({scope}), None, bytes(32)) for scope in Scope)
    assert [infer.allows(scope) for scope in Scope] == [True, False]
    assert [admin.allows(scope) for scope in Scope] == [True, True]


def test_a_ring_follows_its_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried(monkeypatch)
    first = add_key(path, "first", INFER)
    ring = KeyRing(path)
    second = add_key(path, "second", INFER)
    assert ring.find(second) is not None
    remove_key(path, "first")
    assert ring.find(first) is None
    assert not ring.has("first")


def test_a_ring_looks_at_its_file_once_a_second_at_most(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = add_key(path, "door", INFER)
    ring, reads = KeyRing(path), []
    monkeypatch.setattr(KeyRing, "_stamp", lambda self: reads.append(1))
    for _ in range(100):
        ring.find(secret)
    assert not reads


def test_while_the_file_cannot_be_read_no_key_works(path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    hurried(monkeypatch)
    secret = add_key(path, "door", INFER)
    ring, good = KeyRing(path), path.read_text()
    path.write_text("half a li")
    for _ in range(3):
        assert ring.find(secret) is None
    assert ring.has("door"), "streams are not cut off by a file that is being edited"
    assert caplog.text.count("no key works") == 1
    path.write_text(good)
    assert ring.find(secret) is not None
    path.chmod(0o644)
    assert ring.find(secret) is None
    path.unlink()
    assert ring.find(secret) is None
    with pytest.raises(KeysError):
        KeyRing(path)
