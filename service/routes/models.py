"""The models that requests may name, and what becomes of them while the server runs (docs/life.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service import limits
from service.errors import Problem, overloaded
from service.life import ModelInUse, TooManyLoads
from service.registry import ModelFailed, NoMemory, UnknownModel
from service.routes.guards import require_admin, require_infer
from service.settings import ModelName
from service.state import Service, service_of

router = APIRouter(prefix="/v1", tags=["models"])

T = TypeVar("T")
Name = Annotated[str, Field(max_length=128)]
_FAILURES: dict[int | str, dict[str, Any]] = {
    404: {"description": "Unknown model"},
    409: {"description": "In use, or the name is taken"},
    422: {"description": "It cannot be loaded, and why"},
    503: {"description": "Too little memory, too many loads are waiting, or the server is shutting down"},
}


class WantedModel(BaseModel):
    """What to load, and how to call it."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        min_length=1,
        max_length=512,
        description="a name that `afterimage models list` shows, or a file below the setting model_folder",
    )
    name: ModelName | None = Field(default=None, description="None: its own")
    size: tuple[Annotated[int, Field(ge=8, le=8192)], Annotated[int, Field(ge=8, le=8192)]] | None = Field(
        default=None, description="width and height of the network's input, pixels; None: the model's own"
    )


@router.get("/models", summary="List the models", dependencies=[Depends(require_infer)])
async def list_models(request: Request) -> dict[str, Any]:
    """Name, state, family, input size (width, height), labels and memory of each model; what the service holds now.

    `limits`: cores and memory that the machine or the container gives, who says so, and what is left of the memory.
    `energy`: joules of the machine since the start, "unknown" where it does not tell.
    """
    service = service_of(request)
    energy, found = await asyncio.to_thread(lambda: (service.meter.describe(), limits.describe()))
    return {
        "models": service.registry.describe(), "memory_bytes": service.memory_bytes(), "limits": found,
        "energy": energy,
    }  # fmt: skip


@router.post(
    "/models", status_code=201, summary="Load a model", dependencies=[Depends(require_admin)], responses=_FAILURES
)
async def load_model(request: Request, wanted: Annotated[WantedModel, Body()]) -> dict[str, Any]:
    """Answers once it is compiled and has run; streams go on meanwhile."""
    service = service_of(request)
    model = await changing(service, lambda: service.life.load(wanted.model, wanted.name, wanted.size))
    return described(service, model.name)


@router.post(
    "/models/{name}/reload", summary="Load a model's file again", dependencies=[Depends(require_admin)],
    responses=_FAILURES,
)  # fmt: skip
async def reload_model(request: Request, name: Name) -> dict[str, Any]:
    """It is compiled beside the old one, and streams go on with their next frame. If it fails, the old one stays."""
    service = service_of(request)
    model = await changing(service, lambda: service.life.reload(name))
    return described(service, model.name)


@router.delete(
    "/models/{name}", status_code=204, summary="Unload a model", dependencies=[Depends(require_admin)],
    responses=_FAILURES,
)  # fmt: skip
async def unload_model(
    request: Request,
    name: Name,
    force: Annotated[bool, Query(description="also the default model, and with its streams")] = False,
) -> Response:
    """Requests that wait for it are answered first."""
    service = service_of(request)
    await changing(service, lambda: service.life.unload(name, force=force))
    return Response(status_code=204)


def described(service: Service, name: str) -> dict[str, Any]:
    """A model as the list tells it."""
    found = next((entry for entry in service.registry.describe() if entry["name"] == name), None)
    if found is None:
        raise Problem(404, "unknown_model", f"model {name!r} was unloaded meanwhile")
    return found


async def changing(service: Service, change: Callable[[], Awaitable[T]]) -> T:
    """What a change of models gives; its errors as problems."""
    retry_ms = service.settings.retry_after_ms
    if service.draining:
        raise overloaded("the server is shutting down", retry_ms)
    try:
        return await change()
    except UnknownModel as error:
        raise Problem(404, "unknown_model", str(error)) from None
    except ModelInUse as error:
        raise Problem(409, "model_in_use", str(error)) from None
    except NoMemory as error:
        raise overloaded(str(error), retry_ms) from None
    except ModelFailed as error:
        raise Problem(422, "model_failed", str(error)) from None
    except TooManyLoads as error:
        raise overloaded(str(error), retry_ms) from None
