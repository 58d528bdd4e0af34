"""A member of a cluster: the usual server on a port of its own, its place in the cluster, and a way in for the gateway.

Knows nothing of Ray: whoever starts it gives it its link to the directory, and passes on what comes by the common
address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from socket import socket

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.app import create_app
from service.cluster.forward import Forward, peers
from service.cluster.host import ServiceHost, keep_keys
from service.cluster.membership import THROUGH_GATEWAY, Link, Membership
from service.cluster.plan import ClusterError, Plan, release
from service.private_file import write_private
from service.registry import ModelRegistry
from service.serve import Server, bind, make_config
from service.settings import Settings
from service.state import Service

log = logging.getLogger("afterimage.cluster")

PORTS = 256
"""That are tried, from the setting `cluster_port` on."""
WARM_S = 600.0
"""For the default model: where kernels are not compiled yet, they are first."""
JOIN_S = 30.0
POLL_S = 0.02
HEAR_S = 0.5
"""Between two looks for newer API keys, of a member that does not beat yet."""


class MemberServer(Server):
    """The member's own listener; signals are others' affair."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


class Member:
    """Started and stopped once.

    host : this machine's address, to listen on. registry : None makes one of the plan's models
    Raises OSError where it cannot listen, KeysError, CertificateError or ModelFailed where it cannot be made.
    """

    def __init__(self, plan: Plan, host: str, link: Link, registry: ModelRegistry | None = None) -> None:
        settings, keys_file = plan.member_settings(host), None
        self._folder = tempfile.TemporaryDirectory(prefix="afterimage-member-")
        if plan.keys.version:
            keys_file = Path(self._folder.name) / "keys"
            write_private(keys_file, plan.keys.text.encode())
            settings = settings.model_copy(update={"keys_file": keys_file})
        self._keys_file = keys_file
        known = registry if registry is not None else ModelRegistry.from_settings(settings)
        self._listener = listen(host, settings.cluster_port)
        port = int(self._listener.getsockname()[1])
        self.membership = Membership(
            link,
            address_of(settings, host, port),
            (host, port),
            weight=float(settings.workers),
            resume_s=settings.resume_s,
            most_owned=settings.max_streams_per_key,
            release=release(),
            keys=plan.keys,
            origins=plan.origins,
        )
        self._peers = peers(settings.tls_certificate)
        self._app = create_app(settings, known, self.membership)
        self._app.add_middleware(Forward, membership=self.membership, client=self._peers)
        self.gateway = through_gateway(self._app)
        self._server = MemberServer(make_config(self._app, settings))
        if settings.secure:
            from service.lan.reception import Reception

            self._server.reception = Reception(settings, port, quiet=True)
        self._serving: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._host: ServiceHost | None = None

    @property
    def service(self) -> Service:
        """Of a member that was started."""
        service = self._app.state.service
        assert isinstance(service, Service)
        return service

    async def start(self) -> None:
        """Listen, warm the default model, and join; returns when that is done. Raises ClusterError, TimeoutError.

        Where the cluster has API keys it listens once it knows the newest ones, however long that takes.
        """
        if self._keys_file is not None:
            while not await self._hear_keys():
                await asyncio.sleep(HEAR_S)
            self._hearing = asyncio.create_task(self._go_on_hearing(), name="afterimage-keys")
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="afterimage-member")
        async with asyncio.timeout(WARM_S):
            while not (self._server.started and self.service.warm):
                if self._serving.done():
                    raise ClusterError("the member's own listener does not start")
                if self._server.started and self.service.warm_error is not None:
                    raise ClusterError(f"the default model cannot be used: {self.service.warm_error}")
                await asyncio.sleep(POLL_S)
        self._host = ServiceHost(self.service, self._keys_file)
        self._beating = asyncio.create_task(self.membership.run(self._host), name="afterimage-beat")
        async with asyncio.timeout(JOIN_S):
            while not self.membership.joined:
                self.check()
                await asyncio.sleep(POLL_S)
        if self._hearing is not None:
            self._hearing.cancel()  # beats bring them
        log.info("a member at %s", self.membership.own_address)

    async def _hear_keys(self) -> bool:
        """Whether the newest API keys are there."""
        return await self.membership.hear_keys(lambda text: keep_keys(self._keys_file, text))

    async def _go_on_hearing(self) -> None:
        """A model may take minutes to be warm, and no key that is removed meanwhile is to work."""
        while True:
            await asyncio.sleep(HEAR_S)
            await self._hear_keys()

    def check(self) -> None:
        """Raise ClusterError where this member is of no use any more."""
        if self._serving is None or self._serving.done() or not self._server.started or self._server.should_exit:
            raise ClusterError("the member's own listener has ended")
        if self._beating is None or self._beating.done():
            raise ClusterError("the member beats no longer")

    async def stop(self) -> None:
        """Leave, send every stream where it belongs by now, and end as a server does."""
        if self._hearing is not None:
            self._hearing.cancel()
        if self._beating is not None and self._host is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
            await self.membership.quit()
            self._host.changed()
            await self._host.settled()
        if self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])
        await self._peers.aclose()
        self._folder.cleanup()


def address_of(settings: Settings, host: str, port: int) -> str:
    """How clients reach a member."""
    if settings.cluster_advertise is not None:
        return settings.cluster_advertise.format(host=host, port=port)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.secure else 'http'}://{shown}:{port}"


def through_gateway(app: FastAPI) -> ASGIApp:
    """The app for requests that come by the common address; its lifespan is the listener's affair."""

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        token = THROUGH_GATEWAY.set(True)
        try:
            await app(scope, receive, send)
        finally:
            THROUGH_GATEWAY.reset(token)

    return gateway


def listen(host: str, first: int | None) -> socket:
    """The member's own socket: on any free port, or on the first free one from `first` on. Raises OSError."""
    if first is None:
        return bind(host, 0)
    for port in range(first, min(first + PORTS, 65536)):
        with contextlib.suppress(OSError):
            return bind(host, port)
    raise OSError(None, f"expected a free port from {first} on", host)
