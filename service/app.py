"""Makes the ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import configuration, errors, ws
from service.registry import ModelRegistry
from service.routes import deepstack, detect, health, metrics, models, open_inference, streams
from service.settings import Settings
from service.state import Service
from service.traces import open_traces

TITLE = "Afterimage"


def create_app(settings: Settings | None = None, registry: ModelRegistry | None = None) -> FastAPI:
    """The application; its `state.service` is the running Service.

    settings : None reads the environment and the file of settings, if there is one
    registry : None makes one of the settings' models
    Raises TracesError where spans are asked for and cannot be made.
    """
    chosen = settings if settings is not None else configuration.load().settings
    known = registry if registry is not None else ModelRegistry.from_settings(chosen)
    traces = open_traces(chosen)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(chosen, known, traces)
        app.state.service = service
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(title=TITLE, summary="Video inference that computes only what changed", lifespan=lifespan)
    errors.install(app)
    for router in (health.router, metrics.router, models.router, detect.router, streams.router, ws.router):
        app.include_router(router)
    for router in (open_inference.router, deepstack.router):
        app.include_router(router)
    return app
