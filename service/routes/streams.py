"""Streams that a client makes before it connects, with a token of their own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from clients.wire import CloseCode
from service.errors import Problem, overloaded
from service.registry import UnknownModel
from service.routes.guards import bearer_token, own_origin
from service.state import Service, service_of
from service.streams import Stream, TooManyStreams

router = APIRouter(prefix="/v1/streams", tags=["streams"], dependencies=[Depends(own_origin)])

Authorization = Annotated[str | None, Header(max_length=1024)]


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


@router.post("", status_code=201, summary="Make a stream", responses={503: {"description": "Too many"}})
async def create_stream(request: Request, wanted: Annotated[NewStream | None, Body()] = None) -> CreatedStream:
    """A stream under a new id. It is forgotten if nobody connects in time."""
    service = service_of(request)
    if service.draining:
        raise overloaded("the server is shutting down", service.settings.retry_after_ms)
    try:
        model = service.registry.resolve(wanted.model if wanted else None)
        promised_fps = service.promised_fps(None)
        too_much = service.refuse_stream(model, promised_fps)
        if too_much is not None:
            raise overloaded(too_much, service.settings.retry_after_ms)
        stream, token = service.streams.create(model, wanted.resume_s if wanted else None)
        stream.demand.promised_fps = promised_fps
    except UnknownModel as error:
        raise Problem(404, "unknown_model", str(error)) from None
    except TooManyStreams as error:
        raise overloaded(str(error), service.settings.retry_after_ms) from None
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return CreatedStream(
        stream_id=stream.id,
        ws_url=f"{scheme}://{request.url.netloc}/v1/streams/{stream.id}/ws",
        token=token,
        resume_s=stream.resume_s,
    )


@router.get("", summary="List the streams")
async def list_streams(request: Request) -> dict[str, list[dict[str, Any]]]:
    """All streams; only where anonymous streams are allowed, since it names other people's."""
    service = service_of(request)
    if not service.settings.anonymous_allowed:
        raise Problem(403, "forbidden", "the list of streams is off where anonymous streams are not allowed")
    return {"streams": [stream.brief() for stream in service.streams.all()]}


@router.get("/{stream_id}", summary="State and figures of a stream")
async def get_stream(request: Request, stream_id: str, authorization: Authorization = None) -> dict[str, Any]:
    """Needs the stream's token, if it has one."""
    return _authorised(service_of(request), stream_id, authorization).describe()


@router.delete("/{stream_id}", status_code=204, summary="Forget a stream")
async def delete_stream(request: Request, stream_id: str, authorization: Authorization = None) -> Response:
    """Free what is cached and close the connection with 1000. Needs the stream's token, if it has one."""
    service = service_of(request)
    stream = _authorised(service, stream_id, authorization)
    if stream.attachment is not None:
        stream.attachment.end(CloseCode.NORMAL, "the stream was deleted")
    service.streams.remove(stream)
    return Response(status_code=204)


def _authorised(service: Service, stream_id: str, authorization: str | None) -> Stream:
    stream = service.streams.get(stream_id)
    if stream is None:
        raise Problem(404, "unknown_stream", f"no stream {stream_id[:64]!r}")
    if stream.token is not None:
        if not stream.token.matches(bearer_token(authorization)):
            detail = "expected the stream's token: Authorization: Bearer ..."
            raise Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
    elif not service.settings.anonymous_allowed:
        raise Problem(403, "forbidden", "anonymous streams are off")
    return stream
