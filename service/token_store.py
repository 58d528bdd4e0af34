"""Keeps the streams that clients made, with hashes of their tokens, over a restart or a crash of the server.

One small file, written whole on every change: streams are made and forgotten a few times a second at most. Tokens
cannot be got back from it: who reads the file can connect to nothing.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

log = logging.getLogger("afterimage.streams")

FILE = "streams.json"
MAX_BYTES = 4 << 20


class KeptStream(BaseModel):
    """A stream that was made by POST /v1/streams.

    token : its SHA-256, hexadecimal. owner : name of the key that made it. resume_s : as the stream's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
    model: str | None
    token: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created_at: float
    owner: str | None = None
    resume_s: Annotated[float, Field(ge=0)] = 0.0


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    streams: tuple[KeptStream, ...] = ()


class TokenStore:
    """The file in a folder, which is made where it is missing; one server per folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._failed = False

    def load(self) -> tuple[KeptStream, ...]:
        """What is kept; nothing where there is no file, and (said in the log) where it cannot be used."""
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise ValueError(f"expected at most {MAX_BYTES} bytes")
            return _File.model_validate_json(self._path.read_bytes()).streams
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError, ValueError) as error:
            log.error("%s: cannot be used, streams made before are forgotten: %s", self._path, _first_line(error))
            return ()

    def save(self, streams: tuple[KeptStream, ...]) -> None:
        """Replace what is kept. A folder that cannot be written is said in the log, once: the server goes on."""
        fresh = self._path.with_name(FILE + ".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(_File(streams=streams).model_dump_json().encode())
            fresh.replace(self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("%s: cannot be written, streams will not outlive the server: %s", self._path, error.strerror)
            self._failed = True


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
