"""The Open Inference Protocol, version 2, under /v2: health, metadata, inference, and the repository of models.

Errors are {"error": ...} (`service.errors.respond`).
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from service.collectors import product_version
from service.entry import ModelState
from service.errors import Problem
from service.open_inference.messages import MessageError, TooLarge, decode, encode, inflate
from service.open_inference.signature import Signature
from service.open_inference.tensors import TensorError
from service.routes.guards import own_origin, read_body, require_admin, require_infer
from service.routes.models import changing
from service.single import admit_image, compute, require_model
from service.state import Service, service_of

router = APIRouter(prefix="/v2", tags=["open inference"], dependencies=[Depends(own_origin)])

EXTENSIONS = ["binary_tensor_data", "model_repository"]
CommandT = TypeVar("CommandT")
HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_COMMAND_BYTES = 64 << 10
_STATES = {ModelState.READY: "READY", ModelState.LOADING: "LOADING", ModelState.UNLOADING: "UNLOADING"}


class IndexRequest(msgspec.Struct):
    """Body of POST /v2/repository/index."""

    ready: bool = False


class Command(msgspec.Struct):
    """Body of a load or unload."""

    parameters: dict[str, Any] = {}


@router.get("", summary="Open Inference: the server")
async def server_metadata() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "afterimage", "version": product_version(), "extensions": EXTENSIONS}


@router.get("/health/live", summary="Open Inference: whether the process answers")
async def live() -> dict[str, bool]:
    """Always true while the event loop turns."""
    return {"live": True}


@router.get("/health/ready", summary="Open Inference: whether to send work here", response_model=None)
async def ready(request: Request) -> Response:
    """200, or 400 with the reason: this protocol's answer for not yet."""
    reason = service_of(request).not_ready_because()
    if reason is None:
        return JSONResponse({"ready": True})
    return JSONResponse({"ready": False, "error": reason}, 400)


@router.get("/models/{name}", summary="Open Inference: a model's tensors", dependencies=[Depends(require_infer)])
@router.get("/models/{name}/versions/{number}", include_in_schema=False, dependencies=[Depends(require_infer)])
async def model_metadata(request: Request, name: str, number: str | None = None) -> dict[str, Any]:
    """Its inputs and outputs; loads a model that was not used yet."""
    service = service_of(request)
    return (await _signature(service, require_model(service, name), number)).metadata()


@router.get("/models/{name}/ready", summary="Open Inference: whether a model answers at once", response_model=None,
            dependencies=[Depends(require_infer)])  # fmt: skip
@router.get("/models/{name}/versions/{number}/ready", include_in_schema=False, response_model=None,
            dependencies=[Depends(require_infer)])  # fmt: skip
async def model_ready(request: Request, name: str, number: str | None = None) -> Response:
    """200, or 400 for a model that is registered and not ready; loads nothing."""
    service = service_of(request)
    chosen = require_model(service, name)
    state = service.registry.state(chosen)
    if state is ModelState.READY:
        _check_version(service.registry.get(chosen).version, number)
        return JSONResponse({"name": chosen, "ready": True})
    return JSONResponse({"name": chosen, "ready": False, "error": f"{chosen} is {state}"}, 400)


_INFER: dict[str, Any] = {
    "requestBody": {"content": {"application/json": {}, "application/octet-stream": {}}, "required": True}
}


@router.post("/models/{name}/infer", summary="Open Inference: inference", response_class=Response,
             openapi_extra=_INFER, dependencies=[Depends(require_infer)])  # fmt: skip
@router.post("/models/{name}/versions/{number}/infer", include_in_schema=False, dependencies=[Depends(require_infer)])
async def infer(request: Request, name: str, number: str | None = None) -> Response:
    """One image, or the network's own input. Nothing is cached between requests."""
    service = service_of(request)
    chosen = admit_image(service, require_model(service, name))
    body = _inflated(request, await read_body(request, service.settings.max_message_bytes), service)
    signature = await _signature(service, chosen, number)
    try:
        asked = await asyncio.to_thread(decode, body, _header_length(request))
        call = signature.call(asked, service.limits)
    except (MessageError, TensorError) as error:
        raise Problem(400, "bad_request", str(error)) from None
    tensors, _ = await compute(service, chosen, call, _timeout_s(asked.parameters.get("timeout"), service))
    reply, header_length = encode(chosen, signature.model.version, asked, list(tensors.values()))
    if header_length is None:
        return Response(reply, media_type="application/json")
    return Response(reply, headers={HEADER_LENGTH: str(header_length)}, media_type="application/octet-stream")


@router.post("/repository/index", summary="Open Inference: what could be loaded", response_model=None,
             dependencies=[Depends(require_infer)])  # fmt: skip
async def index(request: Request) -> list[dict[str, str]]:
    """Models that are registered, then those of the library that are not; body {"ready": true}: ready ones alone."""
    service = service_of(request)
    asked = await _command(request, IndexRequest)
    known = {entry["name"]: entry for entry in service.registry.describe()}
    listed = [_indexed(entry) for entry in known.values()]
    for name in await asyncio.to_thread(service.life.library.names):
        if name not in known:
            listed.append({"name": name, "version": "", "state": "UNAVAILABLE", "reason": "not loaded"})
    return [entry for entry in listed if entry["state"] == "READY" or not asked.ready]


@router.post("/repository/models/{name:path}/load", summary="Open Inference: load or reload a model",
             dependencies=[Depends(require_admin)])  # fmt: skip
async def load(request: Request, name: str) -> dict[str, str]:
    """A model that is served is loaded again beside itself; another one comes from the library."""
    service = service_of(request)
    given = (await _command(request, Command)).parameters
    if given:
        got = ", ".join(map(repr, list(given)[:8]))
        raise Problem(400, "bad_request", f"expected no parameters: models come from the server's disk; got {got}")
    state = service.registry.state(name)
    again = state not in (None, ModelState.FAILED)
    await changing(service, lambda: service.life.reload(name) if again else service.life.load(name))
    return {}


@router.post("/repository/models/{name}/unload", summary="Open Inference: unload a model",
             dependencies=[Depends(require_admin)])  # fmt: skip
async def unload(request: Request, name: str) -> dict[str, str]:
    """Refused with 409 for the default model and one that has streams; DELETE /v1/models can force it."""
    service = service_of(request)
    await _command(request, Command)
    await changing(service, lambda: service.life.unload(name))
    return {}


async def _signature(service: Service, name: str, number: str | None) -> Signature:
    model = await changing(service, lambda: service.life.ready(name))
    _check_version(model.version, number)
    return Signature.of(model)


def _check_version(present: int, number: str | None) -> None:
    if number is not None and number != str(present):
        raise Problem(404, "unknown_version", f"expected version {present}, got {number[:32]!r}")


def _inflated(request: Request, body: bytes, service: Service) -> bytes:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    try:
        return inflate(body, encoding, service.settings.max_message_bytes)
    except KeyError:
        detail = f"Content-Encoding: expected gzip, deflate or none, got {encoding[:32]!r}"
        raise Problem(415, "unsupported_media_type", detail) from None
    except TooLarge as error:
        raise Problem(413, "too_large", str(error)) from None
    except MessageError as error:
        raise Problem(400, "bad_request", str(error)) from None


def _header_length(request: Request) -> int | None:
    given = request.headers.get(HEADER_LENGTH)
    if given is not None and not (given.isascii() and given.isdigit() and len(given) < 12):
        raise Problem(400, "bad_request", f"{HEADER_LENGTH}: expected a number of bytes, got {given[:32]!r}")
    return None if given is None else int(given)


def _timeout_s(given: object, service: Service) -> float:
    """The request's `timeout`, microseconds, where it is shorter than the settings'."""
    longest = service.settings.detect_timeout_s
    if given is None or given == 0:
        return longest
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise Problem(400, "bad_request", f"timeout: expected microseconds, got {given!r:.32}")
    return min(longest, given / 1e6)


def _indexed(entry: dict[str, Any]) -> dict[str, str]:
    state = _STATES.get(ModelState(entry["state"]), "UNAVAILABLE")
    reason = entry.get("error", "" if state == "READY" else entry["state"])
    return {"name": entry["name"], "version": str(entry.get("version", "")), "state": state, "reason": reason}


async def _command(request: Request, kind: type[CommandT]) -> CommandT:
    body = await read_body(request, MAX_COMMAND_BYTES)
    try:
        return msgspec.json.decode(body, type=kind) if body.strip() else kind()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "bad_request", f"not a command: {error}") from None
