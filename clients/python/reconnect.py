"""When to come back: exponential back-off with jitter, and which failures are worth another attempt."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from ssl import SSLCertVerificationError

from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)

from ..wire import ErrorMessage, is_retryable
from .errors import ClientError, Refused, ServerMisbehaved, Stalled
from .route import MovedAway

CONNECTION_ERRORS = (OSError, TimeoutError, ConnectionClosed, InvalidHandshake, InvalidURI, Stalled, MovedAway)
"""What ends a connection or an attempt at one; `as_refusal` says after which there is no other."""

_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_OUR_COMPLAINTS = frozenset({1002, 1007, 1009})
"""Codes that the WebSocket library closes with when what came is not WebSocket, not UTF-8 or too large."""


@dataclass(frozen=True)
class Reconnect:
    """How often and how fast to try again.

    attempts : consecutive failures before giving up; 0 never reconnects
    initial_s, maximum_s : first and longest wait, seconds; waits double, each is drawn from its upper half
    asked_s : the longest wait, seconds, that a server gets by asking for one; the jitter goes on top

    A connection counts as a success once a frame is settled, or after `maximum_s`.
    """

    attempts: int = 10
    initial_s: float = 0.25
    maximum_s: float = 10.0
    asked_s: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 0 or not 0 < self.initial_s <= self.maximum_s or self.asked_s < 0:
            raise ValueError(
                "expected attempts >= 0, 0 < initial_s <= maximum_s and asked_s >= 0, "
                f"got {self.attempts}, {self.initial_s}, {self.maximum_s}, {self.asked_s}"
            )


@dataclass
class Backoff:
    """The waits of one series of failures."""

    policy: Reconnect
    rng: random.Random = field(default_factory=random.Random)
    failures: int = 0
    opened_ns: int | None = None

    def opened(self) -> None:
        """A connection became ready. That is no success yet: it may break at the first frame, each time."""
        self.opened_ns = time.monotonic_ns()

    def succeeded(self) -> None:
        """A frame was settled: the series is over."""
        self.failures = 0

    def next_wait_s(self, at_least_s: float = 0.0, *, stalled: bool = False) -> float | None:
        """Count a failure; seconds to wait before the next attempt, or None when there is none left.

        The jitter goes on top of what the server asked for, so that clients do not all come back at once. stalled : the
        connection was silent, so that the time it took is none of a success.
        """
        lived_ns = 0 if self.opened_ns is None else time.monotonic_ns() - self.opened_ns
        if lived_ns > self.policy.maximum_s * 1e9 and not stalled:
            self.failures = 0
        self.opened_ns = None
        if self.failures >= self.policy.attempts:
            return None
        full = min(self.policy.maximum_s, self.policy.initial_s * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return min(at_least_s, self.policy.asked_s) + full * (0.5 + 0.5 * self.rng.random())


def asked_wait_s(error: BaseException) -> float:
    """What an HTTP answer asks for in `Retry-After`, seconds; 0 where it does not."""
    text = error.response.headers.get("Retry-After", "") if isinstance(error, InvalidStatus) else ""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def end_if_closing(connection: ClientProtocol) -> None:
    """ConnectionClosedError where this end has closed already, and the other one does not let go."""
    if connection.close_sent is not None:
        raise ConnectionClosedError(connection.close_rcvd, connection.close_sent, connection.close_rcvd_then_sent)


def stay(error: InvalidStatus) -> None:
    """Make a redirect an error like others: where it leads is forgotten, before anyone follows it."""
    if "Location" in error.response.headers:
        del error.response.headers["Location"]


def as_refusal(error: BaseException, said: ErrorMessage | None) -> ClientError | None:
    """What `error` ends the client with, or None where another attempt may succeed.

    `said` is the last error message of the server that concerned no frame.
    """
    if isinstance(error, ConnectionClosed):
        closed = error.rcvd
        if error.sent is not None and error.sent.code in _OUR_COMPLAINTS and not error.rcvd_then_sent:
            return ServerMisbehaved(f"the server broke the WebSocket protocol: {error.sent}")
        code = closed.code if closed else None
        if is_retryable(code):
            return None
        if said is not None:
            return Refused(said.code, said.detail, code)
        return Refused("closed", (closed.reason if closed else "") or "the server closed the stream", code)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status in _RETRY_STATUS:
            return None
        body = bytes(error.response.body or b"")[:300].decode(errors="replace")
        return Refused(str(status), body or error.response.reason_phrase)
    if isinstance(error, SSLCertVerificationError):
        return Refused("certificate", error.verify_message)
    if isinstance(error, InvalidURI):
        return Refused("bad_url", str(error))
    if isinstance(error, InvalidHandshake) and not isinstance(error, InvalidMessage):  # that one: cut, or no HTTP
        return Refused("handshake", str(error))
    return None
