"""The models that requests may name."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from service.state import service_of

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", summary="List the models")
async def list_models(request: Request) -> dict[str, Any]:
    """Name, state, family, input size (width, height), labels and memory of each model; what the service holds now.

    `energy`: joules of the machine since the start, "unknown" where it does not tell.
    """
    service = service_of(request)
    energy = await asyncio.to_thread(service.meter.describe)
    return {"models": service.registry.describe(), "memory_bytes": service.memory_bytes(), "energy": energy}
