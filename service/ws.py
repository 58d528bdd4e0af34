"""The WebSocket endpoint of a stream: who may connect, and in which subprotocol."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from clients.wire import WireError, parse_subprotocols
from service.admission import Overloaded
from service.connection import StreamConnection
from service.errors import Problem, overloaded
from service.origin import origin_allowed
from service.routes.guards import offered_key
from service.settings import is_loopback
from service.state import Service, service_of
from service.streams import STREAM_ID, NotAuthorised

router = APIRouter()


@router.websocket("/v1/streams/{stream_id}/ws")
async def stream_socket(websocket: WebSocket, stream_id: str) -> None:
    """One stream's connection; the protocol is in clients/wire/PROTOCOL.md."""
    service = service_of(websocket)
    headers, settings = websocket.headers, service.settings
    loopback = is_loopback(settings.host)
    if not origin_allowed(headers, websocket.url.scheme, service.allowed_origins, loopback=loopback):
        detail = "this page's origin may not use the server; see the setting allowed_origins"
        return await _deny(websocket, Problem(403, "forbidden_origin", detail))
    if not STREAM_ID.match(stream_id):
        return await _deny(websocket, Problem(404, "bad_stream_id", "expected 1 to 64 characters of A-Z a-z 0-9 _ -"))
    try:
        offer = parse_subprotocols(websocket.scope.get("subprotocols", []))
    except WireError as error:
        return await _deny(websocket, Problem(400, "bad_subprotocol", error.detail))
    token = offer.token or offered_key(websocket)
    owner = service.access.owner(token)
    try:
        refused = await _check_rates(websocket, service, stream_id, token, owner)
    except Problem as problem:
        return await _deny(websocket, problem)
    await websocket.accept(subprotocol=offer.encoding.value)
    connection = StreamConnection(websocket, service, stream_id, offer, None if owner else token, owner, refused)
    service.connections.add(connection)
    try:
        await connection.run()
    finally:
        service.connections.discard(connection)


async def _check_rates(
    websocket: WebSocket, service: Service, stream_id: str, token: str | None, owner: str | None
) -> NotAuthorised | None:
    """Raise Problem for handshakes that come too fast, wait in too great a number, or are wrong too often.

    Another wrong one is returned: the connection is accepted and closed with 1008, which a browser can read.
    """
    service.access.pace(websocket, owner)
    waiting = sum(not connection.greeted for connection in service.connections)
    if waiting >= service.settings.max_greeting:
        raise overloaded(f"expected at most {waiting} connections without a hello", service.settings.retry_after_ms)
    try:
        kept = await service.sought(stream_id)
        anonymous = service.access.anonymous
        service.streams.authorise(stream_id, token=token, anonymous=anonymous, owner=owner, kept=kept)
    except Overloaded as error:
        raise overloaded(str(error), service.settings.retry_after_ms) from None
    except NotAuthorised as error:
        refused = service.access.failed(websocket, token)
        if refused.status == 429:
            raise refused from None
        return error
    return None


async def _deny(websocket: WebSocket, problem: Problem) -> None:
    """Refuse before accepting, with a problem document where the server can send one."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(problem.response())
    else:
        await websocket.close()
