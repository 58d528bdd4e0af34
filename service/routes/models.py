"""The models that requests may name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from service.routes.guards import require_infer
from service.state import service_of

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", summary="List the models", dependencies=[Depends(require_infer)])
async def list_models(request: Request) -> dict[str, Any]:
    """Name, state, family, input size (width, height), labels and memory of each model; what the service holds now."""
    service = service_of(request)
    return {"models": service.registry.describe(), "memory_bytes": service.memory_bytes()}
