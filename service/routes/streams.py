"""Streams that a client makes before it connects, with a token of their own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from clients.wire import CloseCode
from service.access import too_many
from service.admission import Overloaded
from service.errors import Problem, overloaded
from service.keys import Scope
from service.placement import Alone, ws_url
from service.registry import UnknownModel
from service.routes.guards import caller_of, offered_key, own_origin, require_infer
from service.state import Service, service_of
from service.streams import STREAM_ID, Stream, StreamTaken, TooManyOwned, TooManyStreams
from service.token_store import KeptStream

router = APIRouter(prefix="/v1/streams", tags=["streams"], dependencies=[Depends(own_origin)])

_ONE: dict[int | str, dict[str, Any]] = {
    307: {"description": "It belongs to another member of the cluster: `Location` is there"},
    401: {"description": "The token or key is missing or wrong"},
    403: {"description": "Another key's, or anonymous streams are off"},
    404: {"description": "No such stream"},
    429: {"description": "Too fast"},
    503: {"description": "The other members of the cluster do not answer"},
}
_CREATE: dict[int | str, dict[str, Any]] = {
    404: {"description": "Unknown model"},
    429: {"description": "Too fast, or too many of this key"},
    503: {"description": "Too many"},
}
_DELETE: dict[int | str, dict[str, Any]] = {**_ONE, 409: {"description": "A camera of the server's configuration"}}


class NewStream(BaseModel):
    """What the stream is to run."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, min_length=1, max_length=128, description="None: the default model")
    resume_s: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description="how long to keep the stream without a connection, seconds, within the server's bound; "
        "None: the server's default",
    )


class CreatedStream(BaseModel):
    """Connect to `ws_url` with the token; it is shown only here."""

    stream_id: str
    ws_url: str
    token: str
    resume_s: float


@router.post("", status_code=201, summary="Make a stream", dependencies=[Depends(require_infer)], responses=_CREATE)
async def create_stream(request: Request, wanted: Annotated[NewStream | None, Body()] = None) -> CreatedStream:
    """A stream under a new id. It is forgotten if nobody connects in time."""
    return await _create(request, wanted, None)


@router.post(
    "/{stream_id}",
    status_code=201,
    summary="Make a stream under an id of the caller's choice",
    dependencies=[Depends(require_infer)],
    responses={**_CREATE, 409: {"description": "There is a stream of this id already"}},
)
async def create_named_stream(
    request: Request,
    stream_id: Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$")],
    wanted: Annotated[NewStream | None, Body()] = None,
) -> CreatedStream:
    """The same, for gateways that find a stream's server by its id, and so must know it beforehand."""
    return await _create(request, wanted, stream_id)


async def _create(request: Request, wanted: NewStream | None, stream_id: str | None) -> CreatedStream:
    """A stream of the caller's, under a random id where none is given. Raises Problem."""
    service = service_of(request)
    if service.draining:
        raise overloaded("the server is shutting down", service.settings.retry_after_ms)
    try:
        model = service.registry.resolve(wanted.model if wanted else None)
        resume_s, owner = wanted.resume_s if wanted else None, caller_of(request).key
        kept, token = service.streams.draft(model, resume_s, owner, stream_id)
        address = await _settle(service, kept, model)
    except UnknownModel as error:
        raise Problem(404, "unknown_model", str(error)) from None
    except StreamTaken as error:
        raise Problem(409, "stream_exists", str(error)) from None
    except TooManyOwned as error:
        raise too_many("too_many_streams", str(error), 1.0) from None
    except (TooManyStreams, Overloaded) as error:
        raise overloaded(str(error), service.settings.retry_after_ms) from None
    base = f"{request.url.scheme}://{request.url.netloc}" if address is None else address
    return CreatedStream(
        stream_id=kept.id,
        ws_url=ws_url(base, kept.id),
        token=token,
        resume_s=kept.resume_s,
    )


async def _settle(service: Service, kept: KeptStream, model: str) -> str | None:
    """Have a new stream counted, and keep it where it belongs: the address of another member, or None for here.

    Raises TooManyStreams, StreamTaken, or Overloaded with figures.
    """
    promised_fps = service.promised_fps(None)
    await service.ask(service.placement.make(kept, service.has_room(model, promised_fps)))
    address = service.placement.address(kept.id)
    if address is None:
        try:
            too_much = service.refuse_stream(model, promised_fps)
            if too_much is not None:
                raise Overloaded(too_much)
            stream = service.streams.adopt(kept)
            if stream.token is None or stream.token.newest != kept.token:
                raise StreamTaken(f"there is a stream {kept.id!r} by now; use another id")
            stream.demand.promised_fps = promised_fps
        except (TooManyStreams, Overloaded):
            service.placement.release(kept.id)
            raise
    return address


@router.get("", summary="List the streams", dependencies=[Depends(require_infer)])
async def list_streams(request: Request) -> dict[str, list[dict[str, Any]]]:
    """All streams, for an admin and where anonymous streams are allowed; else those of the key that asks.

    The server's own cameras are in every list.
    """
    return {"streams": listed(request)}


def listed(request: Request) -> list[dict[str, Any]]:
    """What `require_infer` has let the caller see of this server's streams. Raises Problem."""
    service, caller = service_of(request), caller_of(request)
    if caller.key is None and not service.access.anonymous:
        raise Problem(403, "forbidden", "the list of streams is off where anonymous streams are not allowed")
    everything = caller.admin or caller.key is None
    streams = [s for s in service.streams.all() if everything or s.owner == caller.key or s.source is not None]
    return [stream.brief() for stream in streams]


@router.get("/{stream_id}", summary="State and figures of a stream", responses=_ONE)
async def get_stream(request: Request, stream_id: str) -> dict[str, Any]:
    """Needs the stream's token, or the key that made it, if it has one."""
    return (await authorised(request, stream_id)).describe()


@router.delete("/{stream_id}", status_code=204, summary="Forget a stream", responses=_DELETE)
async def delete_stream(request: Request, stream_id: str) -> Response:
    """Free what is cached and close the connection with 1000. Needs what `GET` needs."""
    service = service_of(request)
    stream = await authorised(request, stream_id)
    if stream.source is not None:
        raise Problem(409, "configured", f"stream {stream_id!r} is a camera of the server's configuration, and stays")
    if stream.attachment is not None:
        stream.attachment.end(CloseCode.NORMAL, "the stream was deleted")
    service.streams.remove(stream)
    service.placement.delete(stream.id, stream.kept())
    return Response(status_code=204)


async def authorised(request: Request, stream_id: str, offered: str | None = None) -> Stream:
    """The stream, for whoever has its token, its key or an admin's, or where anybody may use it. Raises Problem.

    One that another member of the cluster has is a Problem 307, for those who might use it. offered : token or key;
    None: that of the headers.
    """
    service, offered = service_of(request), offered or offered_key(request)
    stream, kept = service.streams.get(stream_id), None
    if stream is None:
        kept = await _sought(request, stream_id)
    _permit(request, stream_id, Stream.of(kept) if stream is None and kept is not None else stream, offered)
    if stream is None:
        _send_elsewhere(request, stream_id)
    if stream is not None:
        return stream
    if kept is None:
        raise Problem(404, "unknown_stream", f"no stream {stream_id[:64]!r}")
    try:
        return service.streams.adopt(kept)
    except TooManyStreams as error:
        raise overloaded(str(error), service.settings.retry_after_ms) from None


def _permit(request: Request, stream_id: str, stream: Stream | None, offered: str | None) -> None:
    """Raise Problem for whoever may not use the stream. stream : None where nothing is known of it"""
    service = service_of(request)
    if stream is not None and stream.token is not None and stream.token.matches(offered):
        return service.access.pace(request, None)
    if stream is not None and stream.token is not None and service.access.keys is None:
        raise service.access.failed(request, offered)
    caller = service.access.permit(request, Scope.INFER, offered)
    if stream is None:
        return None
    owned = stream.owner is not None or stream.token is not None
    if owned and not caller.admin and (caller.key is None or stream.owner != caller.key):
        if caller.key is None:
            raise service.access.failed(request, offered)
        raise Problem(403, "forbidden", f"stream {stream_id[:64]!r} is not of this key")
    if not owned and caller.key is None and not service.access.anonymous:
        raise Problem(403, "forbidden", "anonymous streams are off")


async def _sought(request: Request, stream_id: str) -> KeptStream | None:
    """What other members know of a stream that is not here. Raises Problem, 429 where the caller asks too often."""
    service = service_of(request)
    if isinstance(service.placement, Alone) or not STREAM_ID.match(stream_id):
        return None
    service.access.pace(request, None)
    try:
        return await service.sought(stream_id)
    except Overloaded as error:
        raise overloaded(str(error), service.settings.retry_after_ms) from None


def _send_elsewhere(request: Request, stream_id: str) -> None:
    """Raise Problem 307 where the stream belongs to another member of the cluster."""
    address = service_of(request).placement.address(stream_id) if STREAM_ID.match(stream_id) else None
    if address is not None:
        raise elsewhere(request, stream_id, address)


def elsewhere(request: Request, stream_id: str, address: str) -> Problem:
    """The same is to be asked at another address of the cluster."""
    path, query = f"/v1/streams/{stream_id}", request.url.query
    there = f"{address}{path}{request.url.path.partition(path)[2]}{f'?{query}' if query else ''}"
    return Problem(307, "elsewhere", "another server of the cluster has the stream", headers={"Location": there})
