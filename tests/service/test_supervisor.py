"""What a supervisor hears: on a socket of a path and on an abstract one, in the order of a server's life."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from service_fakes import FakeEngine, make_registry, make_settings, running_server

from service.supervisor import Supervisor

ABSTRACT = f"@afterimage-test-{os.getpid()}"


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A supervisor's socket. address : as NOTIFY_SOCKET has it"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0", 1))
        listener.settimeout(20)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    """All that waits."""
    listener.setblocking(False)
    messages = []
    try:
        while True:
            messages.append(listener.recv(4096).decode())
    except BlockingIOError:
        return messages


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_servers_life_is_told(kind: str, tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify") if kind == "path" else ABSTRACT
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listening(address) as listener:
        engine.gate.clear()
        before: list[list[str]] = []

        def compile_slowly() -> None:
            engine.entered.acquire()  # the default model runs for the first time
            before.append(heard(listener))
            engine.gate.set()

        compiler = threading.Thread(target=compile_slowly)
        compiler.start()
        with running_server(make_registry(engine.model()), make_settings()):
            compiler.join()
            listener.settimeout(20)
            assert before == [["STATUS=compiling kernels and the default model"]], "it was not ready then"
            assert listener.recv(4096) == b"READY=1\nSTATUS=serving"
        assert heard(listener) == ["STOPPING=1\nSTATUS=answering frames under way"]


def test_states_are_told_once(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listening(address) as listener:
        supervisor = Supervisor({"NOTIFY_SOCKET": address})
        for _ in range(3):
            supervisor.ready()
            supervisor.alive(0.0)
        assert heard(listener) == ["READY=1\nSTATUS=serving"], "and nobody asked for signs of life"


def test_signs_of_life_come_twice_as_often_as_they_must(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listening(address) as listener:
        asked = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"}
        supervisor = Supervisor({**asked, "WATCHDOG_PID": str(os.getpid())})
        for second in range(100, 112):
            supervisor.alive(float(second))
        assert heard(listener) == ["WATCHDOG=1"] * 3
        Supervisor({**asked, "WATCHDOG_PID": "1"}).alive(100.0)
        assert heard(listener) == [], "another process was meant"


@pytest.mark.parametrize("address", ["", "relative/path", "vsock:2:1", "/nobody/listens/here"])
def test_a_supervisor_that_is_not_there_hurts_nobody(address: str) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    supervisor.starting()
    supervisor.alive(1.0)
    supervisor.stopping()


def test_a_supervisor_that_does_not_listen_is_not_waited_for(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listening(address) as listener:
        supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2"})
        for second in range(5000):  # more than its queue holds
            supervisor.alive(float(second))
        assert 0 < len(heard(listener)) < 5000
