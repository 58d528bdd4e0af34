"""A cluster on loopback: pods at addresses of their own, names that resolve to them, and the real gateway in front.

The gateway runs the very file that is deployed; only its name server and its ports are other ones.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from service_fakes import wait_until

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
CONFIG = Path(__file__).parents[2] / "docker/kubernetes/base/haproxy.cfg"
DOMAIN = "afterimage-pods.afterimage.svc.cluster.local"
PATIENCE_S = 60.0

_A, _IN, _NO_SUCH_NAME = 1, 1, 3


def ask(url: str, key: str | None = None) -> httpx.Response:
    """GET over plain http, with a connection of its own, and without the certificates that httpx reads each time."""
    return httpx.get(url, headers={"authorization": f"Bearer {key}"} if key else {}, verify=False)


class Names:
    """A name server for the names of pods, over UDP: each has an IPv4 address, or does not exist."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        names = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                query, sender = self.request
                sender.sendto(names.answer(query), self.client_address)

        self._server = socketserver.UDPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="names", daemon=True)
        self._thread.start()

    def answer(self, query: bytes) -> bytes:
        """A reply to a query of one question (RFC 1035)."""
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode())
            at += 1 + length
        question = query[12 : at + 5]
        kind = struct.unpack("!H", question[-4:-2])[0]
        address = self.addresses.get(".".join(labels).lower())
        found = address is not None and kind == _A
        flags = 0x8400 | (0 if address is not None else _NO_SUCH_NAME)
        head = query[:2] + struct.pack("!5H", flags, 1, int(found), 0, 0)
        if not found or address is None:
            return head + question
        return head + question + struct.pack("!3HIH", 0xC00C, _A, _IN, 1, 4) + socket.inet_aton(address)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Pod:
    """One server of the fake engine, at an address of its own."""

    name: str
    address: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def runs(self) -> bool:
        with suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return True
        return False

    @property
    def ready(self) -> bool:
        assert self.runs, f"{self.name} has ended"
        with suppress(httpx.TransportError):
            return ask(f"{self.url}/readyz").status_code == 200
        return False

    def streams(self, key: str) -> dict[str, dict[str, Any]]:
        """Its streams by id."""
        answer = ask(f"{self.url}/v1/streams", key)
        return {stream["stream_id"]: stream for stream in answer.raise_for_status().json()["streams"]}

    def end(self, how: signal.Signals) -> None:
        """Send a signal, and wait until the process is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)
        wait_until(lambda: not self.runs, PATIENCE_S)


@dataclass
class Cluster:
    """Pods, their names, and the gateway's process once it runs."""

    folder: Path
    keys_file: Path
    names: Names
    port: int
    gateway_port: int
    tls_port: int
    inside_port: int
    pods: dict[str, Pod] = field(default_factory=dict)
    gateway: subprocess.Popen[bytes] | None = None
    maker: subprocess.Popen[str] | None = None
    _addresses: int = 10

    @property
    def url(self) -> str:
        """The gateway's."""
        return f"http://127.0.0.1:{self.gateway_port}"

    def start(self, *names: str) -> None:
        """Start pods, each at a new address, and wait until the gateway, where it runs, sends them requests."""
        for name in names:
            self._addresses += 1
            address = f"127.0.0.{self._addresses}"
            self.pods[name] = Pod(name, address, self.port, self._make(address))
        for name in names:
            pod = self.pods[name]
            wait_until(lambda pod=pod: pod.ready, PATIENCE_S)
            self.names.addresses[f"{name}.{DOMAIN}"] = pod.address
        if self.gateway is not None:
            self.wait_for(*names)

    def _make(self, address: str) -> int:
        """The process id of a new pod."""
        if self.maker is None:
            script, piped = Path(__file__).with_name("gateway_pod.py"), subprocess.PIPE
            command = [sys.executable, str(script), str(self.keys_file), str(self.port)]
            self.maker = subprocess.Popen(command, stdin=piped, stdout=piped, stderr=subprocess.DEVNULL, text=True)
        assert self.maker.stdin is not None
        assert self.maker.stdout is not None
        print(address, file=self.maker.stdin, flush=True)
        return int(self.maker.stdout.readline())

    def close(self) -> None:
        """End everything."""
        self.stop_gateway()
        for pod in self.pods.values():
            pod.end(signal.SIGKILL)
        if self.maker is not None:
            self.maker.communicate(timeout=PATIENCE_S)  # ends as its stdin is closed
        self.names.close()

    def kill(self, name: str) -> None:
        """SIGKILL, as a node that is lost; its name ceases to exist."""
        del self.names.addresses[f"{name}.{DOMAIN}"]
        self.pods.pop(name).end(signal.SIGKILL)

    def drain(self, name: str) -> None:
        """SIGTERM, as an update does; its name exists until it has ended."""
        self.pods.pop(name).end(signal.SIGTERM)
        del self.names.addresses[f"{name}.{DOMAIN}"]

    def run_gateway(self, tls: Path | None = None) -> None:
        """Start the gateway on the deployed file and wait until it sends requests to all pods.

        tls : folder of tls.crt and tls.key, to speak https at `tls_port`
        """
        assert HAPROXY is not None
        text = CONFIG.read_text()
        for pattern, replacement, count in (
            (r"parse-resolv-conf", f"nameserver test 127.0.0.1:{self.names.port}", 1),
            (r"bind :8080\b", f"bind 127.0.0.1:{self.gateway_port}", 1),
            (r"bind :8443\b", f"bind 127.0.0.1:{self.tls_port}", 1),
            (r"/etc/haproxy-tls(?=/)", str(tls), 1),
            (r"bind :8404\b", f"bind 127.0.0.1:{self.inside_port}", 1),
            (r"(?<=\{CLUSTER_DOMAIN\}):8000\b", f":{self.port}", text.count("    server ")),
        ):
            text, replaced = re.subn(pattern, replacement, text)
            assert replaced == count, pattern
        config = self.folder / "haproxy.cfg"
        config.write_text(text)
        environment = {"NAMESPACE": "afterimage", "CLUSTER_DOMAIN": "cluster.local", "PATH": os.environ["PATH"]}
        if tls is not None:
            environment["GATEWAY_TLS"] = "1"
        command, silent = [HAPROXY, "-db", "-f", str(config)], subprocess.DEVNULL
        self.gateway = subprocess.Popen(command, env=environment, stdout=silent, stderr=silent)
        self.wait_for(*self.pods)

    def stop_gateway(self) -> None:
        """End it at once, and all that goes through it."""
        if self.gateway is not None:
            self.gateway.kill()
            self.gateway.wait(10)
            self.gateway = None

    def wait_for(self, *names: str) -> None:
        """Wait until the gateway answers, and has these pods up."""
        wait_until(lambda: (up := self.up()) is not None and set(names) <= up, PATIENCE_S)

    def wait_without(self, name: str) -> None:
        """Wait until the gateway has found out that a pod is gone: it would say of the one before that it is up."""
        wait_until(lambda: (up := self.up()) is not None and name not in up, PATIENCE_S)

    def up(self) -> set[str] | None:
        """Pods that the gateway sends requests to, by its metrics; None while it does not answer."""
        assert self.gateway is not None
        assert self.gateway.poll() is None, "the gateway has ended"
        try:
            text = ask(f"http://127.0.0.1:{self.inside_port}/metrics?scope=server").text
        except httpx.TransportError:
            return None
        up = r'^haproxy_server_status\{proxy="pods",server="([^"]+)",state="UP"\} 1$'
        return set(re.findall(up, text, re.MULTILINE))

    def where(self, key: str) -> dict[str, str]:
        """The pod of each connected stream, by id."""
        return {
            stream_id: name
            for name, pod in self.pods.items()
            for stream_id, stream in pod.streams(key).items()
            if stream["connected"]
        }


@contextmanager
def running_cluster(folder: Path, keys_file: Path, *pods: str) -> Iterator[Cluster]:
    """The gateway in front of these pods, all ready."""
    cluster = Cluster(folder, keys_file, Names(), *_free_ports(4))
    try:
        cluster.start(*pods)
        cluster.run_gateway()
        yield cluster
    finally:
        cluster.close()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has on any address."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("0.0.0.0", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
