"""A stream's pictures as one endless answer: multipart/x-mixed-replace, which browsers show in an <img>.

The newest frame wins: none is drawn before the client has taken the one before. A client that takes none for a time
is cut off. Chromium shows a picture when the next one begins: one that is not followed soon is sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.closing import cancel
from service.http_guard import ABORT
from service.viewing import Shown, Viewer

BOUNDARY = "afterimage"
REPEAT_S = 0.1


class Mjpeg(Response):
    """Pictures of one viewer until either side has had enough.

    watching : entered when the answer begins, before anything is sent; may raise then. draw : the JPEG of a frame.
    max_fps : pictures a second, at most. idle_s : without a frame for so long it ends. take_s : that a client has for
    taking a picture, seconds. still_allowed : asked before each picture; once it says no the answer ends.
    """

    media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"

    def __init__(
        self,
        watching: AbstractContextManager[Viewer],
        draw: Callable[[Shown], Awaitable[bytes]],
        *,
        max_fps: float,
        idle_s: float,
        take_s: float,
        headers: dict[str, str],
        still_allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]  # there is none
        self._watching, self._draw = watching, draw
        self._interval_s, self._idle_s, self._take_s = 1 / max_fps, idle_s, take_s
        self._still_allowed = still_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send pictures; whoever leaves ends it."""
        with self._watching as viewer:
            sender = asyncio.create_task(self._send(viewer, send), name="afterimage-mjpeg")
            leaving = asyncio.create_task(_left(receive), name="afterimage-mjpeg-left")
            try:
                await asyncio.wait({sender, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if sender.done() and isinstance(sender.exception(), TimeoutError):
                    abort = scope.get("extensions", {}).get(ABORT)
                    if abort is not None:
                        abort()
                        await leaving
                elif sender.done():
                    sender.result()
            finally:
                await cancel(sender, leaving)

    async def _send(self, viewer: Viewer, send: Send) -> None:
        """Raises TimeoutError where the client takes nothing."""
        loop = asyncio.get_running_loop()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._put(send, f"--{BOUNDARY}\r\n".encode())
        while (shown := await self._next(viewer)) is not None and self._still_allowed():
            begun = loop.time()
            jpeg = await self._draw(shown)
            head = (
                f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\nX-Afterimage-Seq: {shown.number}\r\n\r\n"
            )
            part = head.encode() + jpeg + f"\r\n--{BOUNDARY}\r\n".encode()
            await self._put(send, part)
            await self._put(send, b"")  # comes back once little of it waits
            if not await self._followed(viewer):
                await self._put(send, part)
            await viewer.pause(begun + self._interval_s - loop.time())
        async with asyncio.timeout(self._take_s):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _followed(self, viewer: Viewer) -> bool:
        """Whether another picture comes soon after one."""
        await viewer.pause(min(self._interval_s, REPEAT_S))
        return self._interval_s < REPEAT_S and await viewer.newer_within(REPEAT_S - self._interval_s)

    async def _next(self, viewer: Viewer) -> Shown | None:
        try:
            async with asyncio.timeout(self._idle_s):
                return await viewer.next()
        except TimeoutError:
            return None

    async def _put(self, send: Send, body: bytes) -> None:
        async with asyncio.timeout(self._take_s):
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
