"""Liveness and readiness."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from service.errors import Problem
from service.state import service_of

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> dict[str, str]:
    """Always ok while the event loop turns."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether to send work here", responses={503: {"description": "Not yet"}})
async def readyz(request: Request) -> dict[str, Any]:
    """200 once kernels are compiled and the default model is warm; 503 before, and while draining."""
    service = service_of(request)
    reason = service.not_ready_because()
    if reason is not None:
        raise Problem(503, "not_ready", reason, headers={"Retry-After": "1"})
    return {"status": "ready", "default_model": service.registry.default}
