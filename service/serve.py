"""Runs the app under uvicorn, with the defaults that hurt a video service overridden."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.http_guard import Gate, guarded
from service.lan.door import open_doors
from service.placement import Placement
from service.registry import ModelRegistry
from service.settings import EVERYWHERE, Settings, is_loopback
from service.state import Service
from service.supervisor import Supervisor
from service.threads import in_thread

if TYPE_CHECKING:
    from service.lan.reception import Reception

log = logging.getLogger("afterimage.serve")

BACKLOG = 128
STALLED_PEER_MS = 60_000
DEFAULT_ADDRESS = ("127.0.0.1", 8000)
"""Where the clients of the command line look for a server."""


def make_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """uvicorn's configuration.

    The pinned WebSocket implementation stops reading from the socket while a message waits for the app, so
    that stale frames pile up at the sender, who sees it, and not here; `ws_max_queue` says the same to the
    other implementation. Deflate would only burn CPU on JPEG, and let small messages become large ones.
    """
    http, websocket = guarded(Gate(settings, app.state.room))
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=http,
        ws=websocket,
        ws_max_size=settings.max_message_bytes,
        ws_max_queue=1,
        ws_per_message_deflate=False,
        ws_ping_interval=settings.ping_s,
        ws_ping_timeout=settings.ping_s,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        backlog=BACKLOG,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        access_log=False,
        log_config=None,
        lifespan="on",
    )


class Server(uvicorn.Server):
    """Drains before uvicorn closes connections: frames under way are answered, clients told to return.

    hint : what is printed on stderr once the default model is warm, in lines that can be copied
    reception : of a server that speaks https; None for plain http
    supervisor : hears when the default model is warm, and of the end
    """

    hint = ""
    reception: Reception | None = None
    _looking: asyncio.Task[None] | None = None

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.supervisor = Supervisor()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then listen: as uvicorn does, or through doors that speak TLS."""
        self.supervisor.starting()
        if self.reception is None or sockets is None:
            return await super().startup(sockets)
        await super().startup([])
        self.servers = open_doors(self, sockets, self.reception.context, self.reception.gate)

    async def on_tick(self, counter: int) -> bool:
        """Say once that the server is ready to be tried; whether to stop, as uvicorn decides."""
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
        self.supervisor.alive(time.monotonic())
        if isinstance(service, Service) and service.warm:
            self.supervisor.ready()
            if self.hint:
                print(self.hint, file=sys.stderr, flush=True)  # a log handler may wrap it
                self.hint = ""
            if self.reception is not None and service.access.joins is not None:
                try:
                    self.reception.greet(service.access.joins)
                except Exception:  # such as a terminal that is gone
                    log.exception("the invitation cannot be shown")
        if self.reception is not None and self.reception.due and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(_look(self.reception), name="afterimage-look")
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal. SIGTERM is not raised again at the end, as uvicorn does: the process ends with status 0."""
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, drain, then shut down as uvicorn does."""
        self.supervisor.stopping()
        for server in self.servers:
            server.close()
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
        if isinstance(service, Service):
            begun = time.monotonic()
            await service.drain()
            left_s = service.settings.drain_s - (time.monotonic() - begun)
            self.config.timeout_graceful_shutdown = max(1, round(left_s))  # for answers that are on their way
        await super().shutdown(sockets)


async def _look(reception: Reception) -> None:
    """Look at addresses and certificate beside the loop; what goes wrong is logged and ends nothing."""
    try:
        await in_thread(reception.look, "afterimage-look")
    except Exception:
        log.exception("addresses and certificate cannot be looked at")


def bind(host: str, port: int, *, ipv6_only: bool = False) -> socket.socket:
    """A listening socket, so that port 0 is known before the server runs. Raises OSError.

    ipv6_only : of `::`, which takes the IPv4 addresses as well otherwise
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it: a peer that takes no data is dropped by the kernel, buffers and all.
        with contextlib.suppress(OSError, AttributeError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_PEER_MS)
        if ipv6_only:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
    return listener


def make_server(
    settings: Settings, registry: ModelRegistry | None = None, placement: Placement | None = None
) -> Server:
    """A server that is not running yet. placement : of a cluster's member"""
    return Server(make_config(create_app(settings, registry, placement), settings))


def serve(settings: Settings, registry: ModelRegistry | None = None, *, try_next: str = "") -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError if the address cannot be listened on.

    Raises CertificateError where one is needed and cannot be used.
    try_next : a command that is printed once the server is ready, below the live page's address; it gets the server's
        --url if it needs one. Left out where streams need a token
    """
    server = make_server(settings, registry)
    with ExitStack() as stack:
        listeners = [stack.enter_context(bind(settings.host, settings.port))]
        host, port = listeners[0].getsockname()[:2]
        if settings.lan and settings.host == EVERYWHERE[0]:
            with contextlib.suppress(OSError):  # a machine without IPv6
                listeners.append(stack.enter_context(bind(EVERYWHERE[1], port, ipv6_only=True)))
        shown = f"[{host}]" if ":" in host else host
        log.info("listening on %s://%s:%d", "https" if settings.secure else "http", shown, port)
        anybody = settings.anonymous_allowed and (settings.keys_file is None or settings.anonymous_streams)
        if settings.secure:
            from service.lan.reception import Reception  # no server of plain http waits for its imports

            server.reception = Reception(settings, port, quiet=not try_next)
        elif try_next and anybody:
            page = _near(host, port)
            option = "" if page == _near(*DEFAULT_ADDRESS) else f" --url {page}"
            server.hint = f"open {page}/\ntry: {try_next}{option}"
        keyless = settings.keys_file is None and not settings.lan
        if not anybody and keyless and not is_loopback(settings.host):
            log.warning("nobody may use this server: it listens beyond loopback and has no keys (docs/security.md)")
        asyncio.run(server.serve(sockets=listeners))


def _near(host: str, port: int) -> str:
    """How a browser or a client on this machine names a listening address."""
    near = DEFAULT_ADDRESS[0] if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{near}]' if ':' in near else near}:{port}"
