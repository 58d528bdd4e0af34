"""DeepStack's API, which Blue Iris, Home Assistant and Frigate's `deepstack` detector speak.

What its clients rely on: predictions come best first (Frigate stops at the first below 0.4, and at the first label
that it does not know), there are at most 20 of them (Frigate has room for no more), and boxes are whole pixels.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Request

from clients.wire import Detection
from service.errors import Problem
from service.pipeline import Outcome
from service.routes.forms import Form, read_form
from service.routes.guards import authorise_key, own_origin, read_body
from service.single import admit_image, check_image, compute, require_model
from service.state import Service, service_of

router = APIRouter(prefix="/v1", tags=["deepstack"], dependencies=[Depends(own_origin)])

MAX_PREDICTIONS = 20
DEFAULT_CONFIDENCE = 0.4
"""CodeProject.AI's; what a client means that names none."""
FACE = "face"
FORM = "multipart/form-data"

_FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "format": "binary"},
        "min_confidence": {"type": "number", "minimum": 0, "maximum": 1, "default": DEFAULT_CONFIDENCE},
        "api_key": {"type": "string"},
    },
}
_EXTRA = {"requestBody": {"content": {FORM: {"schema": _FORM}}, "required": True}}
_FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"description": "No image, one that cannot be decoded, or a confidence that is none"},
    404: {"description": "Unknown model"},
    413: {"description": "Too many bytes or pixels"},
    415: {"description": "Not a multipart form"},
    503: {"description": "Overloaded, or the model failed"},
}


@router.post("/vision/detection", summary="DeepStack: objects", openapi_extra=_EXTRA, responses=_FAILURES)
async def detection(request: Request) -> dict[str, Any]:
    """Boxes of the default model, best first, at most 20; faces are /v1/vision/face's."""
    return await _detect(request, None, "detect", faces=False)


@router.post("/vision/face", summary="DeepStack: faces", openapi_extra=_EXTRA, responses=_FAILURES)
async def face(request: Request) -> dict[str, Any]:
    """Faces that the default model finds, where it has a label "face"."""
    return await _detect(request, None, "detect", faces=True)


@router.get("/vision/custom/list", summary="DeepStack: the models")
@router.post("/vision/custom/list", summary="DeepStack: the models")
async def custom_list(request: Request) -> dict[str, Any]:
    """Names for /v1/vision/custom/{model}."""
    started, service = time.perf_counter_ns(), service_of(request)
    form = await _form_of(request, service) if _media_type(request) == FORM else Form({}, {})
    await authorise_key(request, form.fields.get("api_key"))
    names = list(service.registry.names())
    return _envelope(started, "list-custom") | {"models": names}


@router.post("/vision/custom/{model}", summary="DeepStack: a named model", openapi_extra=_EXTRA, responses=_FAILURES)
async def custom(request: Request, model: str) -> dict[str, Any]:
    """Boxes of all classes of a model; `.onnx` at the end of its name is ignored."""
    return await _detect(request, model.removesuffix(".onnx"), "custom", faces=None)


@router.get("/status/updateavailable", summary="DeepStack: whether there is an update")
async def update_available() -> dict[str, Any]:
    """Blue Iris asks for it when it starts; there never is one."""
    return {"success": True, "code": 200, "message": "", "updateAvailable": False}


@router.api_route("/vision/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
async def not_served(rest: str) -> None:
    """Recognition of faces, scenes, plates and so on."""
    served = "detection, face, custom/list and custom/{model}"
    raise Problem(404, "not_served", f"/v1/vision/{rest[:64]} is not served here; expected one of {served}")


async def _detect(request: Request, model: str | None, command: str, *, faces: bool | None) -> dict[str, Any]:
    """faces : those alone; none of them, where the model finds other things too; None: whatever it finds."""
    started, service = time.perf_counter_ns(), service_of(request)
    form = await _form_of(request, service)
    await authorise_key(request, form.fields.get("api_key"))
    name, confidence, image = admit_image(service, require_model(service, model)), _confidence(form), form.file("image")
    check_image(service, image)
    (outcome, labels), queue_ns = await compute(
        service,
        name,
        lambda pipeline: (
            pipeline.run(image, min_confidence=confidence, reset=True), frozenset(pipeline.model.spec.labels)
        ),
    )  # fmt: skip
    found = outcome.found.detections
    if found is None:
        raise Problem(400, "no_boxes", f"expected a model that finds boxes, and {name!r} does not")
    if faces is not None:
        found = _of_kind(found, faces, labels)
    predictions = [_prediction(one, outcome, service.settings.deepstack_labels) for one in _best(found, confidence)]
    inference_ms = round((outcome.diff_ns + outcome.infer_ns) / 1e6)
    process_ms = round((time.perf_counter_ns() - started - queue_ns) / 1e6)
    return _envelope(started, command) | {
        "message": _message(predictions),
        "predictions": predictions,
        "count": len(predictions),
        "inferenceMs": inference_ms,
        "processMs": process_ms,
    }


async def _form_of(request: Request, service: Service) -> Form:
    if _media_type(request) != FORM:
        got = _media_type(request)[:100] or "none"
        raise Problem(415, "unsupported_media_type", f"expected {FORM}, got {got}")
    return await read_form(request.headers, await read_body(request, service.settings.max_message_bytes))


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _confidence(form: Form) -> float:
    given = form.fields.get("min_confidence", "").strip()
    try:
        value = float(given) if given else DEFAULT_CONFIDENCE
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise Problem(400, "bad_confidence", f"min_confidence: expected a number from 0 to 1, got {given[:32]!r}")
    return value


def _of_kind(found: tuple[Detection, ...], faces: bool, labels: frozenset[str]) -> tuple[Detection, ...]:
    if faces and FACE not in labels:
        raise Problem(
            404, "not_served", f"the default model finds no faces; its labels are {', '.join(sorted(labels))}"
        )
    if not faces and labels == {FACE}:
        return found
    return tuple(one for one in found if (one.label == FACE) == faces)


def _best(found: tuple[Detection, ...], confidence: float) -> list[Detection]:
    sure = [one for one in found if one.score >= confidence]
    return sorted(sure, key=lambda one: one.score, reverse=True)[:MAX_PREDICTIONS]


def _prediction(one: Detection, outcome: Outcome, labels: dict[str, str]) -> dict[str, Any]:
    left, top, right, bottom = (round(side) for side in one.xyxy)
    return {
        "confidence": one.score,
        "label": labels.get(one.label, one.label),
        "x_min": min(max(left, 0), outcome.width),
        "y_min": min(max(top, 0), outcome.height),
        "x_max": min(max(right, 0), outcome.width),
        "y_max": min(max(bottom, 0), outcome.height),
    }


def _message(predictions: list[dict[str, Any]]) -> str:
    labels = dict.fromkeys(one["label"] for one in predictions)
    return f"Found {', '.join(labels)}" if labels else "No objects found"


def _envelope(started_ns: int, command: str) -> dict[str, Any]:
    """What every reply has; times are whole milliseconds, as CodeProject.AI's."""
    return {
        "success": True,
        "code": 200,
        "command": command,
        "moduleId": "afterimage",
        "moduleName": "Afterimage",
        "executionProvider": "CPU",
        "canUseGPU": False,
        "inferenceDevice": "CPU",
        "processedBy": "localhost",
        "timestampUTC": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "analysisRoundTripMs": round((time.perf_counter_ns() - started_ns) / 1e6),
    }
