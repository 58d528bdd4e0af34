"""POST /v1/detect: one image in, what the model finds in it out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from clients.wire import ClassScore, Detection, ErrorCode, Mask, Tensor, Timing
from service import codec
from service.annotate import annotate
from service.errors import Problem, overloaded
from service.jobs import Refused, check_header, code_of, timing
from service.pipeline import FramePipeline, Outcome
from service.registry import ModelFailed, UnknownModel
from service.routes.guards import read_body, require_infer
from service.state import Service, service_of

router = APIRouter(prefix="/v1", tags=["detect"])

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
Format = Literal["json", "coco", "jpeg"]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"image": {"type": "string", "format": "binary"}},
        "required": ["image"],
    }
}
_BODY = {"content": {**dict.fromkeys(IMAGE_TYPES, _BINARY), "multipart/form-data": _FORM}, "required": True}


class DetectReply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The JSON reply; of the last four, those that the model gives."""

    model: str
    width: int
    height: int
    timing_ms: Timing
    detections: tuple[Detection, ...] | None = None
    classes: tuple[ClassScore, ...] | None = None
    masks: tuple[Mask, ...] | None = None
    tensors: tuple[Tensor, ...] | None = None


@router.post(
    "/detect",
    summary="Detect in one image",
    response_class=Response,
    openapi_extra={"requestBody": _BODY},
    dependencies=[Depends(require_infer)],
    responses={
        200: {"content": {"application/json": {}, "image/jpeg": _BINARY}},
        400: {"description": "No image, or one that cannot be decoded"},
        404: {"description": "Unknown model"},
        413: {"description": "Too many bytes or pixels"},
        415: {"description": "Not an image type that is taken"},
        503: {"description": "Overloaded, or the model failed"},
    },
)
async def detect(
    request: Request,
    format: Annotated[Format, Query(description="json, COCO results, or the image with boxes")] = "json",
    model: Annotated[str | None, Query(min_length=1, max_length=128)] = None,
    min_confidence: Annotated[float | None, Query(ge=0, le=1)] = None,
) -> Response:
    """Send the image as the body, or as the field `image` of a form. Nothing is cached between requests."""
    service = service_of(request)
    if service.draining:
        raise overloaded("the server is shutting down", service.settings.retry_after_ms)
    try:
        name = service.registry.resolve(model)
    except UnknownModel as error:
        raise Problem(404, "unknown_model", str(error)) from None
    data = await _image_of(request, service)
    started = time.perf_counter_ns()
    outcome, queue_ns = await _compute(service, name, data, min_confidence)
    if format == "jpeg":
        body = await asyncio.to_thread(_draw, outcome, service.settings.jpeg_quality)
        return Response(body, media_type="image/jpeg")
    times = timing(outcome, queue_ns, time.perf_counter_ns() - started)
    reply = _coco(name, outcome) if format == "coco" else _json(name, outcome, times)
    return Response(msgspec.json.encode(reply), media_type="application/json")


async def _image_of(request: Request, service: Service) -> bytes:
    """The encoded image in the body or in the form's field `image`, checked by its header."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (*IMAGE_TYPES, "multipart/form-data"):
        expected = f"{', '.join(IMAGE_TYPES)} or multipart/form-data"
        raise Problem(415, "unsupported_media_type", f"expected {expected}, got {media_type[:100] or 'none'}")
    data = await read_body(request, service.settings.max_message_bytes)
    if media_type == "multipart/form-data":
        data = await _form_image(request.headers, data)
        media_type = ""
    if not data:
        raise Problem(400, "empty_body", "expected an image, got 0 bytes")
    try:
        media_type = media_type or codec.read_header(data).content_type
    except codec.CodecError as error:
        raise _codec_problem(error) from None
    refused = check_header(data, media_type, service.limits)
    if refused is not None:
        raise _refusal(refused)
    return data


async def _form_image(headers: Headers, body: bytes) -> bytes:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(headers, stream(), max_files=1, max_fields=8).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError, ValueError) as error:
        detail = getattr(error, "message", None) or f"not a multipart form: {error}"
        raise Problem(400, "bad_form", detail) from None
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(form.close)
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise Problem(400, "bad_form", f"expected a file in the field 'image', got {sorted(form)[:8]}")
        return await image.read()


async def _compute(service: Service, name: str, data: bytes, min_confidence: float | None) -> tuple[Outcome, int]:
    """Compute in the model's lane; (outcome, nanoseconds waited). Raises Problem."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[Outcome, int]] = loop.create_future()
    submitted = time.perf_counter_ns()

    def settle(outcome: tuple[Outcome, int] | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        elif outcome is not None:
            future.set_result(outcome)

    def job() -> None:
        if future.cancelled():
            return
        waited = time.perf_counter_ns() - submitted
        outcome, failure = None, None
        try:
            outcome = (_pipeline(service, name).run(data, min_confidence=min_confidence, reset=True), waited)
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, outcome, failure)

    taken, _ = service.scheduler.submit(service.detect_lane(name), job)
    if not taken:
        waiting = service.settings.detect_queue
        raise overloaded(f"expected at most {waiting} requests waiting", service.settings.retry_after_ms)
    try:
        async with asyncio.timeout(service.settings.detect_timeout_s):
            return await future
    except codec.CodecError as error:
        raise _codec_problem(error) from None
    except ModelFailed as error:
        raise Problem(503, "model_failed", str(error)) from None
    except TimeoutError:
        raise overloaded("the image was not computed in time", service.settings.retry_after_ms) from None


def _pipeline(service: Service, name: str) -> FramePipeline:
    """The pipeline for single images of a model; used by one worker at a time, in the model's lane."""
    pipeline = service.detect_pipelines.get(name)
    if pipeline is None:
        pipeline = service.make_pipeline(name, audited=False)
        service.detect_pipelines[name] = pipeline
    return pipeline


def _codec_problem(error: codec.CodecError) -> Problem:
    return _refusal(Refused(code_of(error), str(error)))


def _refusal(refused: Refused) -> Problem:
    return Problem(413 if refused.code is ErrorCode.IMAGE_TOO_LARGE else 400, refused.code, refused.detail)


def _json(model: str, outcome: Outcome, times: Timing) -> DetectReply:
    found = outcome.found
    return DetectReply(
        model=model,
        width=outcome.width,
        height=outcome.height,
        timing_ms=times,
        detections=found.detections,
        classes=found.classes,
        masks=found.masks,
        tensors=found.tensors,
    )


def _coco(model: str, outcome: Outcome) -> list[dict[str, Any]]:
    """COCO's results format: boxes as [left, top, width, height], category_id = class_id."""
    if outcome.found.detections is None:
        raise Problem(400, "no_boxes", f"format coco needs boxes, and model {model!r} gives none; use json")
    return [
        {
            "image_id": 0,
            "category_id": found.class_id,
            "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
            "score": found.score,
        }
        for found in outcome.found.detections
        for left, top, right, bottom in (found.xyxy,)
    ]


def _draw(outcome: Outcome, quality: int) -> bytes:
    return codec.encode_jpeg(annotate(outcome.image, outcome.found.detections, outcome.found.classes), quality)
