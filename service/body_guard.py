"""Request bodies: bounded in bytes and in time while they are read, and not unpacked here.

Most are read before a key is looked at. What a head announces takes no memory, and counts for none: that grows with
what has come, within what all bodies together may take (`service.room`).
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Problem, shaped
from service.room import NoRoom, Room
from service.settings import Settings

COPIES = 2
"""Of a body, while it is put together."""
STEP_BYTES = 1 << 20
"""Of what has come, after which more memory is asked for."""
UNPACKING = "/v2/models/"
"""Below it bodies may be packed: the route unpacks them, no further than a body may be long."""


class BodyRefused(HTTPException):
    """A body that is not read on. An HTTPException, since FastAPI turns others into 400 while it reads."""

    def __init__(self, status: int, code: str, detail: str, retry_after: str | None = None) -> None:
        retry = {} if retry_after is None else {"Retry-After": retry_after}
        super().__init__(status, detail, {"Connection": "close", **retry})
        self.code = code

    def problem(self) -> Problem:
        """As a problem document."""
        return Problem(self.status_code, self.code, self.detail, headers=self.headers)


@dataclass(frozen=True)
class BodyLimits:
    """max_bytes : of a body. timeout_s : what may be waited for it, plus what has come over `min_rate`, bytes/s."""

    max_bytes: int
    timeout_s: float
    min_rate: int

    @classmethod
    def of(cls, settings: Settings) -> BodyLimits:
        """As the settings say."""
        return cls(settings.max_message_bytes, settings.body_timeout_s, settings.min_body_rate)

    def too_large(self) -> BodyRefused:
        """The refusal of a body that is, or will be, larger."""
        return BodyRefused(413, "too_large", f"expected at most {self.max_bytes} bytes")


class BodyGuard:
    """ASGI middleware. What is counted is the time that the app waits, not the time it takes for other things."""

    def __init__(self, app: ASGIApp, limits: BodyLimits, room: Room | None = None) -> None:
        self._app = app
        self._limits = limits
        self._room = Room() if room is None else room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse by the head alone what can be; else pass on and watch the body."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        refused = self._refusal(scope["path"], headers)
        if refused is not None:
            return await shaped(scope["path"], refused.problem())(scope, receive, send)
        with ExitStack() as held:
            await self._app(scope, _Watch(receive, self._limits, self._room, held), send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> BodyRefused | None:
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"", b"identity") and not path.startswith(UNPACKING):
            return BodyRefused(415, "encoded_body", "expected a body without Content-Encoding")
        declared = headers.get(b"content-length", b"")
        if not declared.isdigit():
            return None
        nbytes = int(declared[:20])
        if nbytes > self._limits.max_bytes:
            return self._limits.too_large()
        reason = self._room.lacks_body(COPIES * nbytes)
        return None if reason is None else _no_room(reason)


def _no_room(reason: str) -> BodyRefused:
    return BodyRefused(503, "overloaded", reason, retry_after="1")


class _Watch:
    """`receive` of one request. held : what is given back once the body is there: then it is seen to be taken."""

    def __init__(self, receive: Receive, limits: BodyLimits, room: Room, held: ExitStack) -> None:
        self._receive = receive
        self._limits = limits
        self._room = room
        self._held = held
        self._held_for = 0
        self._bytes = 0
        self._waited_s = 0.0
        self._more = True

    async def __call__(self) -> Message:
        if not self._more:
            return await self._receive()  # waits for the client to go away: that may take its time
        limits, loop = self._limits, asyncio.get_running_loop()
        begun = loop.time()
        allowed_s = limits.timeout_s + self._bytes / limits.min_rate - self._waited_s
        try:
            async with asyncio.timeout(max(0.0, allowed_s)):
                message = await self._receive()
        except TimeoutError:
            detail = f"expected a body within {limits.timeout_s:g} s and {limits.min_rate} bytes a second"
            raise BodyRefused(408, "body_too_slow", detail) from None
        self._waited_s += loop.time() - begun
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._more = message.get("more_body", False)
            if self._bytes > limits.max_bytes:
                raise limits.too_large()
            if self._more:
                self._hold()
            else:
                self._held.close()
        return message

    def _hold(self) -> None:
        """Memory for each whole step that has come."""
        steps = (self._bytes - self._held_for) // STEP_BYTES
        if not steps:
            return
        try:
            self._held.enter_context(self._room.hold_body(COPIES * steps * STEP_BYTES))
        except NoRoom as error:
            raise _no_room(str(error)) from None
        self._held_for += steps * STEP_BYTES
