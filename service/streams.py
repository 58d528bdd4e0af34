"""Streams: who may use one, what it has cached, and how long that is kept without a connection.

A stream's life is a machine of four states; `LEGAL` is the whole of it:

    made  --connect-->  live  --connection lost-->  kept  --connect-->  live
      any of them  --expired, deleted, bye, moved-->  gone

Tokens are stored as SHA-256 hashes and compared in constant time. Lives on the event loop; only
`Stream.pipeline` is touched by worker threads, one at a time, in the stream's lane.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from clients.wire import ResumeReason
from service.admission import Demand
from service.audits.stream import rounded
from service.figures import Figures
from service.metrics import Ending
from service.pipeline import FramePipeline
from service.reference import Reference
from service.scheduler import Lane
from service.token_store import KeptStream, TokenStore
from service.tracking import Tracker

log = logging.getLogger("afterimage.streams")

STREAM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


GONE_KEPT = 256  # streams that are gone, remembered so that a client can be told why


class StreamState(StrEnum):
    """Where a stream is in its life."""

    MADE = "made"  # by POST /v1/streams; nobody has connected yet
    LIVE = "live"  # a connection has it
    KEPT = "kept"  # without a connection; what is cached waits for a resume, for `resume_s`
    GONE = "gone"  # expired, deleted, ended by bye, or sent to another server; its id may be used again


LEGAL = MappingProxyType({
    StreamState.MADE: frozenset({StreamState.LIVE, StreamState.GONE}),
    StreamState.LIVE: frozenset({StreamState.LIVE, StreamState.KEPT, StreamState.GONE}),  # LIVE: taken over
    StreamState.KEPT: frozenset({StreamState.LIVE, StreamState.GONE}),
    StreamState.GONE: frozenset[StreamState](),
})  # fmt: skip


class IllegalTransition(RuntimeError):
    """A stream was to go where its state does not lead: a fault of the server."""


class TooManyStreams(RuntimeError):
    """As many streams as the settings allow are open."""


class TooManyOwned(TooManyStreams):
    """As many streams as the settings allow one key are open."""


class StreamBusy(RuntimeError):
    """Another connection has the stream."""


class StreamTaken(RuntimeError):
    """A stream was to be made under the id of one that is there."""


class NotAuthorised(RuntimeError):
    """A token is missing, wrong, or of a stream that is gone."""


class Attachment(Protocol):
    """A connection, as the stream sees it."""

    def end(self, close_code: int, reason: str) -> None:
        """Close the connection soon; called on the event loop."""


class Source(Protocol):
    """A camera that the server watches by itself, as its stream shows it."""

    def brief(self) -> dict[str, Any]:
        """State, reason and figures of the camera."""


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

    @classmethod
    def of(cls, hexadecimal: str) -> Secrets:
        """One token, by its hash."""
        made = cls(keep=1)
        made._hashes.append(bytes.fromhex(hexadecimal))
        return made

    @property
    def newest(self) -> str:
        """The hash of the newest token, hexadecimal."""
        return self._hashes[-1].hex()

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
    paced: int = 0  # of the dropped ones: came sooner than max_fps or the idle rate allow
    evicted: int = 0  # keyframes because what was cached had been freed for other streams


@dataclass
class Stream:
    """One stream of frames. `token` of None marks a stream made by connecting; `owner` names the key that made it."""

    id: str
    model: str | None
    token: Secrets | None
    resume: Secrets = field(default_factory=lambda: Secrets(keep=2))
    counters: Counters = field(default_factory=Counters)
    pipeline: FramePipeline | None = None
    tracker: Tracker | None = None
    state: StreamState = StreamState.MADE
    resume_s: float = 0.0
    lane: Lane[Any] | None = None
    demand: Demand = field(default_factory=Demand)
    attachment: Attachment | None = None
    reference: Reference | None = None  # of its connection, where frames may come as tiles
    detached_at: float = 0.0
    created_at: float = field(default_factory=time.time)
    owner: str | None = None
    figures: Figures = field(default_factory=Figures)
    source: Source | None = None
    """The camera of the server's configuration that it is of; None: frames come from a client."""
    ending: Ending = "removed"
    """Why it is forgotten, once it is."""

    def move(self, state: StreamState) -> None:
        """Go on to a state. Raises IllegalTransition."""
        if state not in LEGAL[self.state]:
            legal = ", ".join(sorted(LEGAL[self.state])) or "nothing"
            raise IllegalTransition(f"stream {self.id!r}: expected {legal} after {self.state}, got {state}")
        self.state = state

    @property
    def memory_bytes(self) -> int:
        """What it has cached and the buffers beside it; 0 where that was freed, and of an engine that does not say."""
        return 0 if self.pipeline is None else self.pipeline.held_bytes

    @classmethod
    def of(cls, kept: KeptStream) -> Stream:
        """One that was made elsewhere, or earlier."""
        return cls(
            kept.id, kept.model, Secrets.of(kept.token), owner=kept.owner, created_at=kept.created_at,
            resume_s=kept.resume_s,
        )  # fmt: skip

    def kept(self) -> KeptStream | None:
        """What must be known of it to take it up elsewhere, or again; None where it has no token."""
        if self.token is None:
            return None
        return KeptStream(
            id=self.id, model=self.model, token=self.token.newest, created_at=self.created_at,
            owner=self.owner, resume_s=self.resume_s,
        )  # fmt: skip

    def brief(self) -> dict[str, Any]:
        """For GET /v1/streams."""
        counters = self.counters
        mean = counters.compute_fraction_sum / counters.results if counters.results else None
        return {
            "stream_id": self.id,
            "model": self.model,
            "state": self.state.value,
            "resume_s": self.resume_s,
            "connected": self.attachment is not None,
            "anonymous": self.token is None and self.owner is None and self.source is None,
            "created_at": self.created_at,
            "frames": {
                "received": counters.received,
                "results": counters.results,
                "dropped": counters.dropped,
                "refused": counters.refused,
                "failed": counters.failed,
                "paced": counters.paced,
                "evicted": counters.evicted,
            },
            "compute_fraction_mean": mean,
            "objects": None if self.tracker is None else self.tracker.given,
            "memory_bytes": self.memory_bytes,
            "source": None if self.source is None else self.source.brief(),
            **self.figures.brief(),
        }

    def describe(self) -> dict[str, Any]:
        """For GET /v1/streams/{id}: the same, and all other figures."""
        audits = None if self.pipeline is None else self.pipeline.audits
        report = None if audits is None else audits.report()
        lane = self.lane
        return {
            **self.brief(),
            **self.figures.describe(),
            "policy": None if lane is None else lane.policy.value,
            "window": None if lane is None else lane.capacity,
            "tiles": None if self.reference is None else self.reference.describe(),
            "waiting": 0 if lane is None else len(lane.pending),
            "audit": None if report is None else rounded(report),
        }


class StreamManager:
    """All streams of the process, bounded in number and in time. Use on the event loop only.

    resume_s : how long a stream without a connection is kept, seconds, if it asks for nothing else
    max_resume_s : the most it may ask for; None: resume_s
    freed : called with a stream that is gone, to take its lane out of service
    clock : seconds that only grow
    reserved : ids of streams that the server makes itself, and that no connection is given
    store : keeps streams that have a token, without what they cached, for the next start; None: nothing is kept
    """

    def __init__(
        self,
        *,
        max_streams: int,
        resume_s: float,
        max_resume_s: float | None = None,
        freed: Callable[[Stream], None] = lambda stream: None,
        clock: Callable[[], float] = time.monotonic,
        max_per_owner: int | None = None,
        store: TokenStore | None = None,
        reserved: Collection[str] = (),
    ) -> None:
        self._max_streams = max_streams
        self._max_per_owner = max_per_owner
        self._resume_s = resume_s
        self._max_resume_s = max(resume_s, max_resume_s or 0.0)
        self._freed = freed
        self._clock = clock
        self._streams: dict[str, Stream] = {}
        self._gone: dict[str, tuple[Secrets, ResumeReason]] = {}
        self._store: TokenStore | None = None
        self._reserved = frozenset(reserved)
        self._restore(store)

    def __len__(self) -> int:
        return len(self._streams)

    def all(self) -> list[Stream]:
        """Every stream, oldest first."""
        return list(self._streams.values())

    def create(
        self,
        model: str | None,
        resume_s: float | None = None,
        owner: str | None = None,
        stream_id: str | None = None,
    ) -> tuple[Stream, str]:
        """A new stream and its token; as `draft`. Raises StreamTaken and TooManyStreams."""
        kept, minted = self.draft(model, resume_s, owner, stream_id)
        return self.adopt(kept), minted

    def draft(
        self,
        model: str | None,
        resume_s: float | None = None,
        owner: str | None = None,
        stream_id: str | None = None,
    ) -> tuple[KeptStream, str]:
        """What `create` would make, and its token: a stream that is nowhere yet. `resume_s` as in `keep_for`.

        stream_id : None: a random one. Raises StreamTaken where it is a stream's or a camera's here already
        """
        if stream_id is not None and (stream_id in self._streams or stream_id in self._reserved):
            raise StreamTaken(f"there is a stream {stream_id!r} already; use another id")
        token = Secrets(keep=1)
        minted = token.mint()
        patience_s = self._resume_s if resume_s is None else min(resume_s, self._max_resume_s)
        stream_id, now = stream_id or secrets.token_urlsafe(9), time.time()
        kept = KeptStream(
            id=stream_id, model=model, token=token.newest, created_at=now, owner=owner, resume_s=patience_s
        )
        return kept, minted

    def adopt(self, kept: KeptStream) -> Stream:
        """Take up a stream that was made elsewhere, or earlier; it has time to be connected to. Raises TooManyStreams.

        One of that id that is here by now stays as it is.
        """
        known = self._streams.get(kept.id)
        if known is not None:
            return known
        stream = self._add(Stream.of(kept))
        self.keep_for(stream, kept.resume_s)
        self._save()
        return stream

    def create_own(self, stream_id: str, model: str | None, source: Source) -> Stream:
        """The stream of a camera of the configuration, under its reserved id, however many others there are."""
        return self._place(Stream(stream_id, model, None, source=source))

    def keep_for(self, stream: Stream, resume_s: float | None) -> None:
        """Have the stream kept so long without a connection, within the bound; None leaves it as it is."""
        if resume_s is not None:
            stream.resume_s = self.patience_s(resume_s)

    def patience_s(self, resume_s: float) -> float:
        """How long a stream that asks for so much is kept without a connection, seconds."""
        return min(resume_s, self._max_resume_s)

    def get(self, stream_id: str) -> Stream | None:
        """The stream of that id, if it is there."""
        return self._streams.get(stream_id)

    def authorise(
        self,
        stream_id: str,
        *,
        token: str | None,
        anonymous: bool,
        owner: str | None = None,
        kept: KeptStream | None = None,
    ) -> None:
        """Raise NotAuthorised unless a connection with this token, or with the key `owner`, may ask for this stream.

        kept : what others know of it, where it is not here
        """
        stream = self._streams.get(stream_id) or (None if kept is None else Stream.of(kept))
        if stream_id in self._reserved:
            raise NotAuthorised(f"stream {stream_id!r} is a camera of the server's configuration; use another id")
        if owner is not None:
            if stream is not None and stream.owner != owner:
                raise NotAuthorised(f"stream {stream_id!r} is not of this key")
        elif stream is None:
            if token is not None or not anonymous:
                _, why = self._gone.get(stream_id, (None, None))
                was = f"; it was {why.value}" if why is not None and token is not None else ""
                raise NotAuthorised(f"no stream {stream_id!r} for this token{was}; make one with POST /v1/streams")
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

    def reason(self, stream: Stream, resume: str | None, model: str) -> ResumeReason | None:
        """Why a connection to the stream, with this model, does not resume; None if it does, or never asked.

        To be asked before the stream is given what the connection wants.
        """
        if resume is None:
            return None
        if not stream.resume.matches(resume):
            known, why = self._gone.get(stream.id, (None, ResumeReason.UNKNOWN))
            return why if known is not None and known.matches(resume) else ResumeReason.UNKNOWN
        if stream.pipeline is None:
            return ResumeReason.NOT_CACHED
        return None if stream.model == model else ResumeReason.OTHER_MODEL

    def attach(self, stream: Stream, attachment: Attachment) -> Attachment | None:
        """Give the stream to a connection; returns the one that had it."""
        stream.move(StreamState.LIVE)
        previous, stream.attachment = stream.attachment, attachment
        return previous

    def detach(self, stream: Stream, attachment: Attachment) -> None:
        """The connection is gone; what is cached is kept for a resume, for a time."""
        if stream.attachment is attachment:
            stream.attachment = None
            stream.detached_at = self._clock()
            if stream.state is StreamState.LIVE:
                stream.move(StreamState.KEPT)

    def remove(self, stream: Stream, why: ResumeReason | None = ResumeReason.DELETED) -> None:
        """Forget the stream and what it cached; for a while it is known why. why : None: it goes on elsewhere"""
        if why is None:
            stream.ending = "moved"
        self._remove(stream, why)
        if stream.token is not None:
            self._save()

    def _remove(self, stream: Stream, why: ResumeReason | None) -> None:
        if self._streams.get(stream.id) is stream:
            del self._streams[stream.id]
            stream.move(StreamState.GONE)
            self._gone.pop(stream.id, None)
            if why is not None:
                self._gone[stream.id] = (stream.resume, why)
            while len(self._gone) > GONE_KEPT:
                del self._gone[next(iter(self._gone))]
            self._freed(stream)

    def sweep(self, now: float | None = None) -> list[Stream]:
        """Remove and return the streams that were without a connection for too long."""
        moment = self._clock() if now is None else now
        expired = [
            stream
            for stream in self._streams.values()
            if stream.attachment is None and moment - stream.detached_at >= self._patience_s(stream)
        ]
        for stream in expired:
            stream.ending = "expired"
            self._remove(stream, ResumeReason.EXPIRED)
        if any(stream.token is not None for stream in expired):
            self._save()
        return expired

    def _patience_s(self, stream: Stream) -> float:
        """How long it may be without a connection; one that was just made has time to be connected to."""
        return stream.resume_s if stream.state is StreamState.KEPT else max(stream.resume_s, self._resume_s)

    def _add(self, stream: Stream) -> Stream:
        if stream.owner is not None and self._max_per_owner is not None:
            owned = sum(other.owner == stream.owner for other in self._streams.values())
            if owned >= self._max_per_owner:
                raise TooManyOwned(f"expected at most {self._max_per_owner} streams of one key, they are all in use")
        if len(self._streams) >= self._max_streams:
            self.sweep()
        if len(self._streams) >= self._max_streams:
            raise TooManyStreams(f"expected at most {self._max_streams} streams, they are all in use")
        return self._place(stream)

    def _place(self, stream: Stream) -> Stream:
        self._streams[stream.id] = stream
        stream.resume_s, stream.detached_at = self._resume_s, self._clock()
        return stream

    def _restore(self, store: TokenStore | None) -> None:
        """Take up the streams that an earlier process kept; each has time to be connected to."""
        for kept in () if store is None else store.load()[: self._max_streams]:
            try:
                self.adopt(kept)
            except TooManyStreams as error:  # there may be fewer than there might be before
                log.warning("stream %s is not taken up again: %s", kept.id, error)
        self._store = store

    def _save(self) -> None:
        if self._store is None:
            return
        kept = (stream.kept() for stream in self._streams.values())
        self._store.save(tuple(stream for stream in kept if stream is not None))
