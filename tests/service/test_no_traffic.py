"""A server with default settings connects to nobody and asks for no name, from its start to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from namespaces import alone, why_not

ROOT = Path(__file__).parents[2]
SCRIPT = "tests.support.quiet_server"
NO_NAMESPACE = why_not()
NEAR = "127.0.0.2"
"""Loopback, where nobody listens."""
FAR = "192.0.2.1"
"""Of a network that is kept for examples."""
OVER_UVLOOP = "import asyncio, contextlib, uvloop\nasync def main():\n  loop = asyncio.get_running_loop()\n  {}\n"
OVER_UVLOOP += "with contextlib.suppress(OSError): uvloop.run(main())"
ATTEMPTS = {
    "socket.connect": f"import socket; socket.socket().connect_ex(('{NEAR}', 9))",
    "socket.sendto": f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{NEAR}', 9))",
    "socket.sendmsg": f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('{NEAR}', 9))",
    "socket.getaddrinfo": f"import socket; socket.getaddrinfo('{NEAR}', 9)",
    "socket.gethostbyname": f"import socket; socket.gethostbyname('{NEAR}')",
    "uvloop.create_connection": OVER_UVLOOP.format(f"await loop.create_connection(asyncio.Protocol, '{NEAR}', 9)"),
    "uvloop.getaddrinfo": OVER_UVLOOP.format(f"await loop.getaddrinfo('{NEAR}', 9)"),
    "uvloop.create_datagram_endpoint": OVER_UVLOOP.format(
        f"await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=('{NEAR}', 9))"
    ),
}


@contextmanager
def network() -> Iterator[list[str]]:
    """The words before a command that run it where there is nothing but loopback; none where that cannot be."""
    if NO_NAMESPACE is not None:
        yield []
        return
    with alone() as name:
        yield ["ip", "netns", "exec", name]


def run(*words: str) -> dict[str, Any]:
    """What `quiet_server.py` found."""
    with network() as inside:
        done = subprocess.run(
            [*inside, sys.executable, "-m", SCRIPT, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(900)  # where the kernels are not compiled yet
def test_a_server_reaches_out_to_nobody() -> None:
    found = run()
    watched = [what for _, event, what in found["tried"] if event == "watched"]
    assert any("'serve'" in words for words in watched), "the server itself was watched"
    assert [entry for entry in found["tried"] if entry[1] != "watched"] == []
    if NO_NAMESPACE is None:
        assert found["unrouted"] == 0, "some library asked the kernel by itself"


@pytest.mark.parametrize("event", ATTEMPTS)
def test_an_attempt_is_noticed(event: str) -> None:
    found = run(sys.executable, "-c", ATTEMPTS[event])
    assert any(name == event and NEAR in what for _, name, what in found["tried"])


def test_an_attempt_of_a_process_that_was_started_is_noticed() -> None:
    started = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ATTEMPTS['socket.connect']!r}])"
    found = run(sys.executable, "-c", started)
    (process,) = {pid for pid, event, _ in found["tried"] if event == "socket.connect"}
    assert process != next(pid for pid, event, _ in found["tried"] if event == "watched")


@pytest.mark.skipif(NO_NAMESPACE is not None, reason=f"no network of its own: {NO_NAMESPACE}")
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_attempt_that_python_does_not_see_is_counted(protocol: str) -> None:
    found = run("bash", "-c", f"echo > /dev/{protocol}/{FAR}/9")
    assert found == {"tried": [], "unrouted": 1}
