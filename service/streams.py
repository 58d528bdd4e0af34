"""Streams: who may use one, what it has cached, and how long that is kept without a connection.

Tokens are stored as SHA-256 hashes and compared in constant time. Lives on the event loop; only
`Stream.pipeline` is touched by worker threads, one at a time, in the stream's lane.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.audits.stream import rounded
from service.pipeline import FramePipeline
from service.scheduler import Lane

STREAM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class TooManyStreams(RuntimeError):
    """As many streams as the settings allow are open."""


class TooManyOwned(TooManyStreams):
    """As many streams as the settings allow one key are open."""


class StreamBusy(RuntimeError):
    """Another connection has the stream."""


class NotAuthorised(RuntimeError):
    """A token is missing, wrong, or of a stream that is gone."""


class Attachment(Protocol):
    """A connection, as the stream sees it."""

    def end(self, close_code: int, reason: str) -> None:
        """Close the connection soon; called on the event loop."""


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Secrets:
    """The newest few of a kind of token, as hashes."""

    def __init__(self, keep: int) -> None:
        self._hashes: deque[bytes] = deque(maxlen=keep)

    def mint(self) -> str:
        """A new token of 256 random bits; the oldest stops being valid when there are too many."""
        token = secrets.token_urlsafe(32)
        self._hashes.append(_hash(token))
        return token

    def matches(self, token: str | None) -> bool:
        """Whether `token` is one of those kept."""
        if token is None:
            return False
        offered = _hash(token)
        found = False
        for kept in self._hashes:  # all of them, so that the time taken tells nothing
            found = hmac.compare_digest(offered, kept) or found
        return found


@dataclass
class Counters:
    """What became of a stream's frames."""

    received: int = 0
    results: int = 0
    dropped: int = 0
    refused: int = 0
    failed: int = 0
    compute_fraction_sum: float = 0.0


@dataclass
class Stream:
    """One stream of frames. `token` of None marks a stream made by connecting; `owner` names the key that made it."""

    id: str
    model: str | None
    token: Secrets | None
    resume: Secrets = field(default_factory=lambda: Secrets(keep=2))
    counters: Counters = field(default_factory=Counters)
    pipeline: FramePipeline | None = None
    lane: Lane[Any] | None = None
    attachment: Attachment | None = None
    detached_at: float = field(default_factory=time.monotonic)
    created_at: float = field(default_factory=time.time)
    owner: str | None = None

    @property
    def memory_bytes(self) -> int:
        """What it has cached and the buffers beside it; 0 before its first frame and of an engine that does not say."""
        memory = None if self.pipeline is None else self.pipeline.model.memory
        return 0 if memory is None else memory.stream

    def describe(self) -> dict[str, Any]:
        """For GET /v1/streams/{id}."""
        counters = self.counters
        mean = counters.compute_fraction_sum / counters.results if counters.results else None
        audits = None if self.pipeline is None else self.pipeline.audits
        report = None if audits is None else audits.report()
        return {
            "stream_id": self.id,
            "model": self.model,
            "connected": self.attachment is not None,
            "anonymous": self.token is None and self.owner is None,
            "created_at": self.created_at,
            "frames": {
                "received": counters.received,
                "results": counters.results,
                "dropped": counters.dropped,
                "refused": counters.refused,
                "failed": counters.failed,
            },
            "compute_fraction_mean": mean,
            "memory_bytes": self.memory_bytes,
            "audit": None if report is None else rounded(report),
        }


class StreamManager:
    """All streams of the process, bounded in number and in time. Use on the event loop only.

    freed : called with a stream that is gone, to take its lane out of service
    """

    def __init__(
        self,
        *,
        max_streams: int,
        resume_s: float,
        freed: Callable[[Stream], None] = lambda stream: None,
        max_per_owner: int | None = None,
    ) -> None:
        self._max_streams = max_streams
        self._max_per_owner = max_per_owner
        self._resume_s = resume_s
        self._freed = freed
        self._streams: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def all(self) -> list[Stream]:
        """Every stream, oldest first."""
        return list(self._streams.values())

    def create(self, model: str | None, owner: str | None = None) -> tuple[Stream, str]:
        """A new stream under a random id, and its token. Raises TooManyStreams."""
        token = Secrets(keep=1)
        stream = self._add(Stream(secrets.token_urlsafe(9), model, token, owner=owner))
        return stream, token.mint()

    def get(self, stream_id: str) -> Stream | None:
        """The stream of that id, if it is there."""
        return self._streams.get(stream_id)

    def authorise(self, stream_id: str, *, token: str | None, anonymous: bool, owner: str | None = None) -> None:
        """Raise NotAuthorised unless a connection with this token, or with the key `owner`, may ask for this stream."""
        stream = self._streams.get(stream_id)
        if owner is not None:
            if stream is not None and stream.owner != owner:
                raise NotAuthorised(f"stream {stream_id!r} is not of this key")
        elif stream is None:
            if token is not None or not anonymous:
                raise NotAuthorised(f"no stream {stream_id!r} for this token; make one with POST /v1/streams")
        elif stream.token is not None:
            if not stream.token.matches(token):
                raise NotAuthorised(f"expected the token of stream {stream_id!r}")
        elif stream.owner is not None or not anonymous:
            raise NotAuthorised(f"expected the key of stream {stream_id!r}")

    def open(
        self, stream_id: str, *, token: str | None, resume: str | None, anonymous: bool, owner: str | None = None
    ) -> tuple[Stream, bool]:
        """The stream a connection asks for, made now if it may be; and whether it resumes.

        Raises NotAuthorised, StreamBusy (somebody else's connection is on it) or TooManyStreams.
        """
        self.authorise(stream_id, token=token, anonymous=anonymous, owner=owner)
        stream = self._streams.get(stream_id)
        if stream is None:
            return self._add(Stream(stream_id, None, None, owner=owner)), False
        resumes = stream.resume.matches(resume) and stream.pipeline is not None
        if stream.token is None and stream.attachment is not None and not resumes:
            raise StreamBusy(f"stream {stream_id!r} has a connection already; use another id, or resume it")
        return stream, resumes

    def attach(self, stream: Stream, attachment: Attachment) -> Attachment | None:
        """Give the stream to a connection; returns the one that had it."""
        previous, stream.attachment = stream.attachment, attachment
        return previous

    def detach(self, stream: Stream, attachment: Attachment) -> None:
        """The connection is gone; what is cached is kept for a resume, for a time."""
        if stream.attachment is attachment:
            stream.attachment = None
            stream.detached_at = time.monotonic()

    def remove(self, stream: Stream) -> None:
        """Forget the stream and what it cached."""
        if self._streams.get(stream.id) is stream:
            del self._streams[stream.id]
            self._freed(stream)

    def sweep(self, now: float | None = None) -> list[Stream]:
        """Remove and return the streams that were without a connection for too long."""
        moment = time.monotonic() if now is None else now
        expired = [
            stream
            for stream in self._streams.values()
            if stream.attachment is None and moment - stream.detached_at >= self._resume_s
        ]
        for stream in expired:
            self.remove(stream)
        return expired

    def _add(self, stream: Stream) -> Stream:
        if stream.owner is not None and self._max_per_owner is not None:
            owned = sum(other.owner == stream.owner for other in self._streams.values())
            if owned >= self._max_per_owner:
                raise TooManyOwned(f"expected at most {self._max_per_owner} streams of one key, they are all in use")
        if len(self._streams) >= self._max_streams:
            self.sweep()
        if len(self._streams) >= self._max_streams:
            raise TooManyStreams(f"expected at most {self._max_streams} streams, they are all in use")
        self._streams[stream.id] = stream
        return stream
