"""POST /v1/detect: one image in, what the model finds in it out."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from clients.wire import ClassScore, Detection, Mask, Tensor, Timing
from service import codec
from service.annotate import annotate
from service.errors import Problem
from service.jobs import timing
from service.pipeline import Outcome
from service.routes.forms import read_form
from service.routes.guards import read_body, require_infer
from service.single import admit_image, check_image, compute, require_model
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
    name = admit_image(service, require_model(service, model))
    data = await _image_of(request, service)
    started = time.perf_counter_ns()
    outcome, queue_ns = await compute(
        service, name, lambda pipeline: pipeline.run(data, min_confidence=min_confidence, reset=True)
    )
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
        data, media_type = (await read_form(request.headers, data)).file("image"), ""
    check_image(service, data, media_type)
    return data


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
