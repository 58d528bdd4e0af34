"""API keys: a file of hashes with names, scopes and dates, and the ring that a running server checks keys against.

A key is 256 random bits, so that one SHA-256 is enough: nobody can try them all, and there is no word in it to guess.
Slow hashes (bcrypt, Argon2) make up for passwords that people think of, and would let anybody burn a core with wrong
keys. Knows files and clocks; no requests.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from service.private_file import write_private

log = logging.getLogger("afterimage.keys")

PREFIX = "aik_"
"""Every key starts so: a scanner of repositories can find one that leaked."""
MAX_KEYS = 1000
MAX_FILE_BYTES = 256 << 10
CHECK_S = 1.0
"""How often the file is looked at, at most: a removed key works that much longer."""

_KEY = re.compile(r"aik_[A-Za-z0-9_-]{43}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_HEADER = "# Afterimage API keys: name, scopes, expiry (UTC, - for never), SHA-256 of the key. The keys are not here.\n"
_FOREIGN = stat.S_IWGRP | stat.S_IRWXO
"""Permissions that the file must not give: to write to a group, anything to everybody."""


class Scope(StrEnum):
    """What a key is for. `admin` may all that `infer` may."""

    INFER = "infer"
    ADMIN = "admin"


class KeysError(Exception):
    """A key file cannot be used, or a key cannot be made; the message says what was expected and what came."""


@dataclass(frozen=True)
class Key:
    """An entry of the file. digest : SHA-256 of the key. expires : aware, UTC; None: never."""

    name: str
    scopes: frozenset[Scope]
    expires: datetime | None
    digest: bytes

    def allows(self, scope: Scope) -> bool:
        """Whether a request of this scope may be made with it."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires

    def line(self) -> str:
        """As the file has it."""
        expires = "-" if self.expires is None else self.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{self.name} {','.join(sorted(self.scopes))} {expires} {self.digest.hex()}\n"


def digest_of(key: str) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def find(offered: str | None, keys: Iterable[Key], now: datetime) -> Key | None:
    """The key that was offered, if it is among `keys` and not expired; compares with all, in constant time."""
    if offered is None or not _KEY.match(offered):
        return None
    digest, found = digest_of(offered), None
    for key in keys:  # all of them, so that the time taken tells nothing
        if hmac.compare_digest(digest, key.digest):
            found = key
    return None if found is None or found.has_expired(now) else found


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises KeysError: not there, open to others, or a line that says something else."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if os.name == "posix" and status.st_mode & _FOREIGN:
                mode = f"{stat.S_IMODE(status.st_mode):o}"
                raise KeysError(f"{path}: expected a file that others cannot read, its mode is {mode}; chmod 600")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}; `afterimage keys add NAME` makes one") from error
    if len(data) > MAX_FILE_BYTES:
        raise KeysError(f"{path}: expected at most {MAX_FILE_BYTES} bytes of keys")
    return _parse(path, data.decode("utf-8", "replace"))


def _parse(path: Path, text: str) -> tuple[Key, ...]:
    keys: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, scopes, expires, digest = line.split()
            if not _NAME.match(name) or len(digest) != 64 or name in keys:
                raise ValueError
            when = None if expires == "-" else datetime.strptime(expires, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            keys[name] = Key(name, frozenset(map(Scope, scopes.split(","))), when, bytes.fromhex(digest))
        except ValueError:  # whose words might quote the line
            raise KeysError(f"{path}: line {number}: expected a new name, scopes, expiry and SHA-256") from None
    if len(keys) > MAX_KEYS:
        raise KeysError(f"{path}: expected at most {MAX_KEYS} keys, got {len(keys)}")
    return tuple(keys.values())


def write_keys(path: Path, keys: Iterable[Key]) -> None:
    """Replace the file as a whole, for its owner alone. Raises OSError."""
    write_private(path, (_HEADER + "".join(key.line() for key in keys)).encode())


def add_key(path: Path, name: str, scopes: Iterable[Scope], expires: datetime | None = None) -> str:
    """Add a new key to the file, made if it is not there; returns the key, which is kept nowhere.

    Raises KeysError where the name is taken or no name, or the file cannot be used.
    """
    if not _NAME.match(name):
        raise KeysError(f"expected a name of 1 to 64 characters of A-Z a-z 0-9 . _ -, got {name!r}")
    keys = read_keys(path) if path.exists() else ()
    if any(key.name == name for key in keys):
        raise KeysError(f"expected a new name, there is a key {name!r} already")
    if len(keys) >= MAX_KEYS:
        raise KeysError(f"expected at most {MAX_KEYS} keys, {path} has as many")
    secret = PREFIX + secrets.token_urlsafe(32)
    write_keys(path, (*keys, Key(name, frozenset(scopes), expires, digest_of(secret))))
    return secret


def remove_key(path: Path, name: str) -> None:
    """Take a key out of the file. Raises KeysError if it is not in there."""
    keys = read_keys(path)
    left = tuple(key for key in keys if key.name != name)
    if len(left) == len(keys):
        raise KeysError(f"expected one of {', '.join(key.name for key in keys) or 'no keys'}, got {name!r}")
    write_keys(path, left)


class KeyRing:
    """The keys of a file, read again when it changes. While it cannot be read, no key works. Not for several threads.

    Raises KeysError where the file cannot be used at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._keys = read_keys(path)
        self._checked = time.monotonic()
        self._broken = False

    def find(self, offered: str | None) -> Key | None:
        """The key that was offered, if it is valid now."""
        self._refresh()
        return find(offered, self._keys, datetime.now(UTC))

    def has(self, name: str) -> bool:
        """Whether a key of that name is valid now; also while the file cannot be read, so that nothing is cut off."""
        self._refresh()
        now = datetime.now(UTC)
        return self._broken or any(key.name == name and not key.has_expired(now) for key in self._keys)

    def look(self) -> None:
        """Read the file now, if it has changed."""
        self._checked = time.monotonic()
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._keys, self._broken = read_keys(self._path), False
            log.info("keys were read again: %d", len(self._keys))
        except KeysError as error:
            self._keys, self._broken = (), True
            log.error("no key works until the file can be read: %s", error)

    def _refresh(self) -> None:
        if time.monotonic() - self._checked >= CHECK_S:
            self.look()

    def _stamp(self) -> tuple[int, int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode


class KeyRings:
    """Several files of keys as one."""

    def __init__(self, *rings: KeyRing) -> None:
        self._rings = rings

    def find(self, offered: str | None) -> Key | None:
        """The key that was offered, if it is valid in one of them."""
        found = [ring.find(offered) for ring in self._rings]
        return next((key for key in found if key is not None), None)

    def has(self, name: str) -> bool:
        """Whether a key of that name is valid in one of them."""
        return any(ring.has(name) for ring in self._rings)
