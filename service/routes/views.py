"""Pictures of streams: the last frame, an endless MJPEG, and tickets for those who cannot set headers."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.access import too_many
from service.errors import Problem, overloaded
from service.keys import Scope
from service.mjpeg import Mjpeg
from service.placement import ENDLESS_AT
from service.routes.guards import offered_key, own_origin
from service.routes.streams import authorised, elsewhere
from service.state import Service, service_of
from service.streams import Stream
from service.tickets import MAX_CHARACTERS
from service.viewing import Look, Shown, TooManyOfStream, TooManyViewers, Viewer

router = APIRouter(prefix="/v1/streams/{stream_id}", tags=["streams"], dependencies=[Depends(own_origin)])

NEXT_S = 2.0
"""How long a snapshot waits for the next frame where the last one is not kept."""
MAX_FPS = 60.0

_REFUSALS: dict[int | str, dict[str, Any]] = {
    307: {"description": "The stream belongs to another member of the cluster: `Location` is there"},
    401: {"description": "The token, key or ticket is missing, wrong or too old"},
    403: {"description": "Another key's, or anonymous streams are off"},
    404: {"description": "No such stream, or no picture of it yet"},
    429: {"description": "Too fast, or too many viewers of the stream"},
    503: {"description": "Too many viewers, or the server is shutting down"},
}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "The picture"}}
_MJPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"multipart/x-mixed-replace": {}}, "description": "Pictures, until the stream or the client ends"}
}


class Overlay(StrEnum):
    """What is drawn below the boxes."""

    NONE = "none"
    CHANGES = "changes"


Ticket = Annotated[str | None, Query(max_length=MAX_CHARACTERS, description="of POST .../views")]
MaxFps = Annotated[float, Query(gt=0, le=MAX_FPS, description="pictures a second, at most; the server may send fewer")]


def _look(
    boxes: Annotated[bool, Query(description="with what was found")] = True,
    overlay: Annotated[
        Overlay, Query(description="changes: tint what was recomputed, and tell how much of the network")
    ] = Overlay.NONE,
    width: Annotated[
        int | None, Query(ge=16, le=8192, description="scaled down to so many pixels, if it is wider")
    ] = None,
) -> Look:
    return Look(boxes, overlay is Overlay.CHANGES, width)


class NewView(BaseModel):
    """For how long the addresses are to be good."""

    model_config = ConfigDict(extra="forbid")

    seconds: int = Field(default=300, ge=1, le=3600, description="how long the ticket admits new requests, seconds")


class View(BaseModel):
    """Addresses with a ticket in them: whoever has one may look at this stream's pictures until it ends."""

    snapshot_url: str
    mjpeg_url: str
    expires_s: int


@router.get("/snapshot.jpg", summary="The last frame", response_class=Response, responses={**_JPEG, **_REFUSALS})
async def snapshot(
    request: Request,
    stream_id: str,
    look: Annotated[Look, Depends(_look)],
    ticket: Ticket = None,
) -> Response:
    """The stream's last frame with what was found in it. Needs what `GET` of the stream needs, or a ticket."""
    service, stream = service_of(request), await _may_look(request, stream_id, ticket)
    with _viewer(service, stream) as viewer:
        shown = service.viewing.last(stream)
        if shown is None and stream.counters.results and stream.attachment is not None:
            try:
                async with asyncio.timeout(NEXT_S):
                    shown = await viewer.next()
            except TimeoutError:
                raise _no_frame(stream, "its last frame is not kept (see view_keep_bytes), and no other came") from None
        if shown is None:
            raise _no_frame(stream, "no frame of it has been computed yet")
        jpeg = await service.viewing.picture(shown, look)
    headers = {"X-Afterimage-Seq": str(shown.number), "Last-Modified": formatdate(shown.at, usegmt=True)}
    return Response(jpeg, media_type="image/jpeg", headers=headers | _sharing(ticket))


@router.get("/mjpeg", summary="Frames as they are computed", response_class=Response, responses={**_MJPEG, **_REFUSALS})
async def mjpeg(
    request: Request,
    stream_id: str,
    look: Annotated[Look, Depends(_look)],
    max_fps: MaxFps = MAX_FPS,
    ticket: Ticket = None,
) -> Response:
    """An endless answer for an <img>, a player or a recorder: the newest frame, whenever the last one has been taken.

    It ends when the stream is deleted, when no frame comes for a time, and when the server stops. By a cluster's common
    address, and at another member than the stream's, it is a 307 to the stream's member.
    """
    service, stream = service_of(request), await _may_look(request, stream_id, ticket)
    address, settings = request.scope.get(ENDLESS_AT), service.settings
    if address is not None:
        problem = elsewhere(request, stream_id, address)
        problem.headers |= _sharing(ticket)
        raise problem

    async def draw(shown: Shown) -> bytes:
        return await service.viewing.picture(shown, look)

    return Mjpeg(
        _viewer(service, stream),
        draw,
        max_fps=min(max_fps, settings.view_fps),
        idle_s=settings.view_idle_s,
        take_s=settings.send_timeout_s,
        headers=_sharing(ticket),
        still_allowed=_still_allowed(request, stream, ticket),
    )


@router.post("/views", status_code=201, summary="Addresses for an <img>", responses=_REFUSALS)
async def create_view(request: Request, stream_id: str, wanted: Annotated[NewView | None, Body()] = None) -> View:
    """Addresses of the stream's pictures that need no header: they hold a ticket, which opens nothing else."""
    service, stream = service_of(request), await _authorised(request, stream_id, offered_key(request))
    seconds = (wanted or NewView()).seconds
    ticket = service.tickets.issue(stream, seconds)
    base = f"{request.url.scheme}://{request.url.netloc}/v1/streams/{stream.id}"
    return View(
        snapshot_url=f"{base}/snapshot.jpg?ticket={ticket}",
        mjpeg_url=f"{base}/mjpeg?ticket={ticket}",
        expires_s=seconds,
    )


@contextmanager
def _viewer(service: Service, stream: Stream) -> Iterator[Viewer]:
    """A viewer of the stream. Raises Problem where there are too many."""
    retry_ms = service.settings.retry_after_ms
    if service.draining:
        raise overloaded("the server is shutting down", retry_ms)
    with ExitStack() as stack:
        try:
            viewer = stack.enter_context(service.viewing.watch(stream))
        except TooManyOfStream as error:
            raise too_many("too_many_viewers", str(error), retry_ms / 1e3) from None
        except TooManyViewers as error:
            raise overloaded(str(error), retry_ms) from None
        yield viewer


async def _may_look(request: Request, stream_id: str, ticket: str | None) -> Stream:
    """The stream, for a ticket of it or whoever may `GET` it. Raises Problem.

    Players and recorders that know no bearer may send the token, or key, as the password of HTTP's basic scheme. The
    server never asks for that: a browser would offer it to pages of other origins.
    """
    if ticket is None:
        return await _authorised(request, stream_id, _offered(request))
    service = service_of(request)
    stream = service.streams.get(stream_id)
    if stream is None or not service.tickets.admits(stream, ticket):
        raise service.access.failed(request, ticket)
    service.access.pace(request, None)
    return stream


async def _authorised(request: Request, stream_id: str, offered: str | None) -> Stream:
    """The stream, for whoever may `GET` it; a camera's pictures need a key, but on the server's own machine.

    Raises Problem.
    """
    stream, access = await authorised(request, stream_id, offered), service_of(request).access
    if stream.source is not None and access.owner(offered) is None:
        # With keys this asks for one; without, for loopback and no proxy.
        access.permit(request, Scope.ADMIN, offered)
    return stream


def _still_allowed(request: Request, stream: Stream, ticket: str | None) -> Callable[[], bool]:
    """Whether what an answer began with is good still: its key or its token. Tickets may go on, by their design."""
    service, offered = service_of(request), _offered(request)
    if ticket is not None or offered is None:
        return lambda: True
    token = stream.token
    if token is not None and token.matches(offered):
        return lambda: service.streams.get(stream.id) is stream and token is stream.token and token.matches(offered)
    if service.access.owner(offered) is not None:
        return lambda: service.access.owner(offered) is not None
    return lambda: True


def _offered(request: Request) -> str | None:
    return offered_key(request) or _password(request.headers.get("authorization"))


def _password(authorization: str | None) -> str | None:
    """The password of an Authorization header of the basic scheme."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password or None


def _sharing(ticket: str | None) -> dict[str, str]:
    """Headers: pages of other origins may show what they have a ticket for, and nothing else."""
    return {} if ticket is None else {"Cross-Origin-Resource-Policy": "cross-origin"}


def _no_frame(stream: Stream, why: str) -> Problem:
    return Problem(404, "no_frame", f"expected a frame of stream {stream.id!r}: {why}")
