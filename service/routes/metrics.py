"""What a Prometheus server scrapes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

from service.collectors import Scrape, service_metrics
from service.errors import Problem
from service.routes.guards import require_admin, require_infer
from service.state import service_of

router = APIRouter(tags=["metrics"])

PLAIN = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        403: {"description": "Not for everybody; see the setting metrics"},
        404: {"description": "Turned off"},
    },
)
async def metrics(request: Request) -> Response:
    """In Prometheus' text format or OpenMetrics, by the Accept header; docs/observability.md says what each is."""
    service = service_of(request)
    wanted = service.settings.metrics
    if wanted == "off":
        raise Problem(404, "not_found", "metrics are turned off; see the setting metrics")
    if wanted == "admin":
        await require_admin(request)
    elif wanted == "infer":
        await require_infer(request)
    encode, content_type = _encoder(request.headers.get("accept", ""))
    scrape = Scrape(service_metrics(service), service.watch.metrics.registry)
    body = await asyncio.to_thread(encode, scrape)  # a large text, and files of /proc and /sys
    return Response(body, headers={"content-type": content_type})


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """What writes the answer, and its type. Plain text for a header that cannot be read."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # of a version that is none
        return generate_latest, PLAIN
