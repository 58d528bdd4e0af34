"""Tells whoever started this process how it is doing, where they asked: systemd, or Podman for a container.

The protocol of sd_notify(3): datagrams to the Unix socket that NOTIFY_SOCKET names. Nothing is ever waited for, and a
supervisor that is gone hurts nobody.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

WATCH_SHARE = 0.5
"""Of the time after which systemd takes the process for hung: how often it hears that it is not."""


class Supervisor:
    """Each change of state is told once. environment : holds NOTIFY_SOCKET where somebody listens, and WATCHDOG_USEC
    where they want to hear from the process again and again.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        named = environment.get("NOTIFY_SOCKET", "")
        self._address = _address(named)
        own = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watch_us = environment.get("WATCHDOG_USEC", "")
        self._every_s = int(watch_us) * 1e-6 * WATCH_SHARE if watch_us.isdigit() and own else 0.0
        self._due_s = 0.0
        self._said: list[str] = []

    def starting(self) -> None:
        """Nobody can be served yet."""
        self._become("STATUS=compiling kernels and the default model")

    def ready(self) -> None:
        """Those who waited for this service may go on."""
        self._become("READY=1\nSTATUS=serving")

    def stopping(self) -> None:
        """It was asked to end, and does."""
        self._become("STOPPING=1\nSTATUS=answering frames under way")

    def alive(self, now_s: float) -> None:
        """To be called often; says so when that is due. now_s : of any clock that only goes forward"""
        if self._every_s and now_s >= self._due_s:
            self._due_s = now_s + self._every_s
            self._tell("WATCHDOG=1")

    def _become(self, state: str) -> None:
        if state not in self._said:
            self._said.append(state)
            self._tell(state)

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(self._address)
            sender.send(message.encode())


def _address(named: str) -> str:
    """The socket's address as Python wants it: an abstract one begins with NUL; "" for none, or none of this kind."""
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else ""
