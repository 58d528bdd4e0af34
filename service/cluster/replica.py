"""A member of a cluster in a process of Ray Serve: one of the modules that know Ray.

Ray's proxy, the cluster's common address, passes requests to any member; clients of streams are sent on to the owning
member's own listener, which is the server's usual one. Both are the same app and the same Service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from socket import socket
from typing import Any

import ray
from ray import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from service import logs
from service.app import create_app
from service.cluster.actor import RayLink
from service.cluster.forward import Forward
from service.cluster.host import ServiceHost
from service.cluster.membership import THROUGH_GATEWAY, Membership
from service.cluster.plan import DRAINS, MARGIN_S, ClusterError, Plan, release
from service.commands.common import err
from service.malloc import bound_pools
from service.private_file import write_private
from service.registry import ModelRegistry
from service.serve import Server, bind, make_config
from service.settings import Settings
from service.state import Service

log = logging.getLogger("afterimage.cluster")

NAME = "member"
PORTS = 256
"""That are tried, from the setting `cluster_port` on."""
WARM_S = 600.0
"""For the default model: where kernels are not compiled yet, they are first."""
JOIN_S = 30.0
HEALTH_S = 2.0
REQUESTS = 1000
"""That the proxies hand a member at once; single images wait in its own queue, which is bounded."""


class MemberServer(Server):
    """The member's own listener; signals are Ray's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


class Member:
    """Made by Ray Serve, which awaits `__init__`, asks for `check_health`, and awaits `__del__` at the end."""

    async def __init__(self, plan: Plan) -> None:  # type: ignore[misc]  # as Serve has it
        bound_pools()
        host = str(ray.util.get_node_ip_address())
        self._folder = tempfile.TemporaryDirectory(prefix="afterimage-member-")
        settings, keys_file = plan.member_settings(host), None
        logs.set_up(settings.log_format, settings.log_level, err)
        if plan.keys.version:
            keys_file = Path(self._folder.name) / "keys"
            write_private(keys_file, plan.keys.text.encode())
            settings = settings.model_copy(update={"keys_file": keys_file})
        registry = ModelRegistry.from_settings(settings)
        listener = _listen(host, settings.cluster_port)
        port = int(listener.getsockname()[1])
        self._membership = Membership(
            RayLink(),
            address_of(settings, host, port),
            (host, port),
            weight=float(settings.workers),
            resume_s=settings.resume_s,
            most_owned=settings.max_streams_per_key,
            release=release(),
            keys=plan.keys,
            origins=plan.origins,
        )
        app = create_app(settings, registry, self._membership)
        app.add_middleware(Forward, membership=self._membership, trust=_trust(settings))
        self._server = MemberServer(make_config(app, settings))
        if settings.secure:
            from service.lan.reception import Reception

            self._server.reception = Reception(settings, port, quiet=True)
        self._gateway = through_gateway(app)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="afterimage-member")
        service = await self._warm(app)
        self._host = ServiceHost(service, keys_file)
        self._service = service
        self._beating = asyncio.create_task(self._membership.run(self._host), name="afterimage-beat")
        async with asyncio.timeout(JOIN_S):
            while not self._membership.joined:
                await asyncio.sleep(0.02)
        log.info("a member at %s", self._membership.own_address)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Ray's proxy reaches."""
        return self._gateway

    async def check_health(self) -> None:
        """Raise where this member is of no use; that it answers at all is seen to by Ray."""
        if self._serving.done() or not self._server.started or self._server.should_exit:
            raise ClusterError("the member's own listener has ended")
        if self._beating.done():
            raise ClusterError("the member beats no longer")

    async def __del__(self) -> None:
        """Leave, send every stream where it belongs by now, and end as a server does."""
        self._beating.cancel()
        await asyncio.wait([self._beating])
        await self._membership.quit()
        self._host.changed()
        await self._host.settled()
        self._server.should_exit = True
        await asyncio.wait([self._serving])
        self._folder.cleanup()

    async def _warm(self, app: Any) -> Service:
        """The service, once its default model has run. Raises ClusterError with the reason where it cannot."""
        async with asyncio.timeout(WARM_S):
            while not (self._server.started and app.state.service.warm):
                if self._serving.done():
                    raise ClusterError("the member's own listener does not start")
                if self._server.started and app.state.service.warm_error is not None:
                    raise ClusterError(f"the default model cannot be used: {app.state.service.warm_error}")
                await asyncio.sleep(0.02)
        service = app.state.service
        assert isinstance(service, Service)
        return service


def application(plan: Plan) -> Any:
    """The plan as an application of Ray Serve."""
    settings = plan.member_settings(plan.host)
    deployment = serve.deployment(
        serve.ingress()(Member),
        name=NAME,
        num_replicas=plan.replicas,
        ray_actor_options={"num_cpus": plan.reserve_cores},
        max_ongoing_requests=REQUESTS,
        graceful_shutdown_timeout_s=DRAINS * settings.drain_s + MARGIN_S,
        health_check_period_s=HEALTH_S,
    )
    deployment._version = plan.digest  # or all members would be started anew when one is to be added
    return deployment.bind(plan)


def address_of(settings: Settings, host: str, port: int) -> str:
    """How clients reach a member."""
    if settings.cluster_advertise is not None:
        return settings.cluster_advertise.format(host=host, port=port)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.secure else 'http'}://{shown}:{port}"


def through_gateway(app: ASGIApp) -> ASGIApp:
    """The app for requests that come by the common address; its lifespan is the listener's affair."""

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async for _ in _lifespan(receive, send):
                pass
            return
        token = THROUGH_GATEWAY.set(True)
        try:
            await app(scope, receive, send)
        finally:
            THROUGH_GATEWAY.reset(token)

    return gateway


async def _lifespan(receive: Receive, send: Send) -> AsyncIterator[None]:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})
        yield


def _trust(settings: Settings) -> ssl.SSLContext | None:
    """Members call each other by address, and show the certificate that all of them have."""
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(cafile=str(settings.tls_certificate))
    context.check_hostname = False
    return context


def _listen(host: str, first: int | None) -> socket:
    """The member's own socket: on any free port, or on the first free one from `first` on. Raises OSError."""
    if first is None:
        return bind(host, 0)
    for port in range(first, min(first + PORTS, 65536)):
        with contextlib.suppress(OSError):
            return bind(host, port)
    raise OSError(None, f"expected a free port from {first} on", host)
