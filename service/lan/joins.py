"""Codes that let a device in, shown by the server's terminal, and the keys that they are traded for.

A code is 128 random bits, lives for minutes, and is taken once. A key is like those of `service.keys`, of the scope
`infer`, with an end; its hash stands in a file of the same form, so that devices stay let in over a restart. Not for
several threads.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kernels import cache_folder
from service.keys import MAX_KEYS, KeyRing, Scope, add_key, digest_of, read_keys, write_keys
from service.settings import Settings

log = logging.getLogger("afterimage.lan")

FILE = "joined-keys"
CODE_BYTES = 16
NAME = "joined"


@dataclass(frozen=True)
class Admitted:
    """A new key, which is kept nowhere. ends_in_s : how long it works, seconds"""

    key: str
    name: str
    ends_in_s: float


class Joins:
    """The code of the moment and the keys that were given for those before it.

    folder : where the keys' hashes are kept
    code_s, key_s : how long a code and a key are valid, seconds
    clock : seconds that only grow, for codes
    Raises KeysError where the file of keys cannot be used, OSError where it cannot be written.
    """

    def __init__(
        self, folder: Path, *, code_s: float, key_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = folder / FILE
        self._code_s, self._key_s, self._clock = code_s, key_s, clock
        self._digest: bytes | None = None
        self._ends = 0.0
        self._prune()
        self.ring = KeyRing(self._path)

    @property
    def open(self) -> bool:
        """Whether there is a code that was neither taken nor has expired."""
        return self._digest is not None and self._clock() < self._ends

    @property
    def taken(self) -> bool:
        """Whether there is none because the last one was taken; at the start, too."""
        return self._digest is None

    def new_code(self) -> str:
        """A new code; those before it are void. It is told only here."""
        code = secrets.token_urlsafe(CODE_BYTES)
        self._digest, self._ends = digest_of(code), self._clock() + self._code_s
        return code

    def admit(self, code: str) -> Admitted | None:
        """Trade a code for a key; None where it is not the one of the moment. Raises KeysError, OSError."""
        if self._digest is None or not hmac.compare_digest(digest_of(code), self._digest) or not self.open:
            return None
        self._digest = None
        self._prune()
        name = f"{NAME}-{secrets.token_hex(4)}"
        ends = datetime.now(UTC) + timedelta(seconds=self._key_s)
        key = add_key(self._path, name, [Scope.INFER], ends)
        self.ring.look()
        log.info("a device joined with a code; its key is %s", name)
        return Admitted(key, name, self._key_s)

    def _prune(self) -> None:
        """Drop keys whose time is over, and the oldest where there are too many; make the file where it is missing."""
        now = datetime.now(UTC)
        keys = read_keys(self._path) if self._path.exists() else ()
        valid = [key for key in keys if not key.has_expired(now)][-(MAX_KEYS - 1) :]
        if len(valid) != len(keys) or not self._path.exists():
            write_keys(self._path, valid)


def lan_folder(settings: Settings) -> Path:
    """Where the certificate and the keys of devices are kept."""
    return settings.state_folder or cache_folder() / "lan"


def open_joins(settings: Settings) -> Joins:
    """The codes and keys of these settings. Raises KeysError, OSError."""
    return Joins(lan_folder(settings), code_s=settings.join_code_s, key_s=settings.join_key_s)
