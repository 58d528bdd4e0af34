"""Makes the ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import Message

from service import errors, ws
from service.registry import ModelRegistry
from service.routes import deepstack, detect, health, metrics, models, open_inference, streams
from service.settings import Settings
from service.state import Service

TITLE = "Afterimage"


def create_app(settings: Settings | None = None, registry: ModelRegistry | None = None) -> FastAPI:
    """The application; its `state.service` is the running Service.

    settings : None reads the environment; registry : None makes one of the settings' models
    """
    chosen = settings if settings is not None else Settings()
    known = registry if registry is not None else ModelRegistry.from_settings(chosen)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(chosen, known)
        app.state.service = service
        await service.start()
        await _build_routes(app)
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


async def _build_routes(app: FastAPI) -> None:
    """Pass a request for nothing through the routes: the first that reaches them builds them, in up to 0.1 s."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        """Nobody asked."""

    scope = {"type": "http", "method": "GET", "path": "/-", "root_path": "", "headers": [], "query_string": b""}
    await app.router(scope, receive, send)
