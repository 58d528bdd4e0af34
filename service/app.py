"""Makes the ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message

from service import configuration, errors, ws
from service.body_guard import BodyGuard, BodyLimits
from service.headers import SecurityHeaders
from service.mqtt.link import open_link
from service.placement import Placement
from service.registry import ModelRegistry
from service.room import Room
from service.routes import deepstack, detect, health, join, metrics, models, open_inference, page, streams, views
from service.settings import Settings
from service.state import Service
from service.traces import open_traces

TITLE = "Afterimage"


class _App(FastAPI):
    """With security headers on whatever is answered, errors of the framework included."""

    strict_transport = True

    def build_middleware_stack(self) -> ASGIApp:
        return SecurityHeaders(super().build_middleware_stack(), strict_transport=self.strict_transport)


def create_app(
    settings: Settings | None = None, registry: ModelRegistry | None = None, placement: Placement | None = None
) -> FastAPI:
    """The application; its `state.service` is the running Service.

    settings : None reads the environment and the file of settings, if there is one
    registry : None makes one of the settings' models
    placement : of a cluster's member; None for a server that is alone
    Raises TracesError where spans are asked for and cannot be made, MqttError where a broker is and cannot be used.
    """
    chosen = settings if settings is not None else configuration.load().settings
    known = registry if registry is not None else ModelRegistry.from_settings(chosen)
    traces = open_traces(chosen)
    link = open_link(chosen)
    room = Room()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(chosen, known, traces, link=link, placement=placement, room=room)
        app.state.service = service
        await service.start()
        await _build_routes(app)
        try:
            yield
        finally:
            await service.stop()

    summary = "Video inference that computes only what changed"
    # Swagger's and ReDoc's pages run scripts of a foreign host; /openapi.json is there for tools that one trusts.
    app = _App(title=TITLE, summary=summary, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.room = room
    # A certificate of our own making is for today's network; the host's name, localhost too, has plain ports as well.
    app.strict_transport = not chosen.lan or chosen.tls_certificate is not None
    errors.install(app)
    app.add_middleware(BodyGuard, limits=BodyLimits.of(chosen), room=room)
    if chosen.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=chosen.allowed_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "X-API-Key"),
            expose_headers=("Retry-After",),
        )
    for router in (health.router, metrics.router, models.router, detect.router, streams.router, ws.router):
        app.include_router(router)
    app.include_router(views.router)
    for router in (open_inference.router, deepstack.router, page.router, join.router):
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
