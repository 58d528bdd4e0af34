"""How a device that scanned the code of `afterimage serve --lan` gets a key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from service.errors import Problem
from service.routes.guards import own_origin
from service.state import service_of

router = APIRouter(prefix="/v1/join", tags=["join"], dependencies=[Depends(own_origin)])

_SAID: dict[int | str, dict[str, Any]] = {
    401: {"description": "The code is wrong, was taken, or its time is over"},
    403: {"description": "A page of another origin asks"},
    404: {"description": "This server shows no codes"},
    429: {"description": "Too fast, or too many wrong codes"},
}


class Code(BaseModel):
    """What stands behind `#join=` in the address of the QR code."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=128, description="valid once, and for a short time")


class JoinedKey(BaseModel):
    """A key of the scope `infer`; it is shown only here."""

    key: str
    ends_in_s: float = Field(description="how long it works, seconds")


@router.post("", status_code=201, summary="Trade a code for a key", responses=_SAID)
async def join(request: Request, offered: Code) -> JoinedKey:
    """The code of `afterimage serve --lan` gives one key, once."""
    access = service_of(request).access
    access.pace(request, None)
    if access.joins is None:
        raise Problem(404, "no_codes", "this server was not started with --lan")
    admitted = access.joins.admit(offered.code)
    if admitted is None:
        raise access.failed(request, offered.code)
    return JoinedKey(key=admitted.key, ends_in_s=admitted.ends_in_s)
