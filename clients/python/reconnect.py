"""When to come back: exponential back-off with jitter, and which failures are worth another attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from ..wire import ErrorMessage, is_retryable
from .errors import Refused

_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Reconnect:
    """How often and how fast to try again.

    attempts : consecutive failures before giving up; 0 never reconnects
    initial_s, maximum_s : first and longest wait, seconds; waits double, each is drawn from its upper half
    """

    attempts: int = 10
    initial_s: float = 0.25
    maximum_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 0 or not 0 < self.initial_s <= self.maximum_s:
            raise ValueError(
                "expected attempts >= 0 and 0 < initial_s <= maximum_s, "
                f"got {self.attempts}, {self.initial_s}, {self.maximum_s}"
            )


@dataclass
class Backoff:
    """The waits of one series of failures."""

    policy: Reconnect
    rng: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def succeeded(self) -> None:
        """A connection became ready: the series is over."""
        self.failures = 0

    def next_wait_s(self, at_least_s: float = 0.0) -> float | None:
        """Count a failure; seconds to wait before the next attempt, or None when there is none left.

        The jitter goes on top of what the server asked for, so that clients do not all come back at once.
        """
        if self.failures >= self.policy.attempts:
            return None
        full = min(self.policy.maximum_s, self.policy.initial_s * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return at_least_s + full * (0.5 + 0.5 * self.rng.random())


def as_refusal(error: BaseException, said: ErrorMessage | None) -> Refused | None:
    """The final refusal that `error` means, or None where another attempt may succeed.

    `said` is the last error message of the server that concerned no frame.
    """
    if isinstance(error, ConnectionClosed):
        closed = error.rcvd
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
    if isinstance(error, InvalidURI):
        return Refused("bad_url", str(error))
    if isinstance(error, InvalidHandshake):
        return Refused("handshake", str(error))
    return None
