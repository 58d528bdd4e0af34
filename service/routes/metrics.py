"""What a Prometheus server scrapes."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from service.audits.metrics import audit_metrics
from service.metrics import CONTENT_TYPE, render
from service.routes.guards import require_infer
from service.state import service_of

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    dependencies=[Depends(require_infer)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Audits: how many frames, how many violations, their errors, the time taken, and thresholds' factors by model."""
    service = service_of(request)
    pipelines = [stream.pipeline for stream in service.streams.all() if stream.pipeline is not None]
    return Response(render(audit_metrics(service.auditor, pipelines)), headers={"content-type": CONTENT_TYPE})
