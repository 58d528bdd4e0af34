"""A real MQTT broker (mosquitto) on loopback, and a client that listens to it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service_fakes import wait_until

MOSQUITTO = shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
PASSWD = shutil.which("mosquitto_passwd")
USER, PASSWORD = "camera", "not a word of it in the log"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """Forgets everything when it ends. tls : files of a certificate and its key."""

    def __init__(self, folder: Path, tls: tuple[Path, Path] | None = None) -> None:
        self.port = free_port()
        self._log = folder / "mosquitto.log"
        passwords = folder / "passwords"
        subprocess.run([PASSWD, "-b", "-c", passwords, USER, PASSWORD], check=True, capture_output=True)
        lines = [
            f"listener {self.port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}",
            "persistence false", "log_dest stderr", "log_type all", "user root",
        ]  # fmt: skip
        if tls is not None:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stderr=log, stdout=log)
        wait_until(self._listens)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def broker(folder: Path, tls: tuple[Path, Path] | None = None) -> Iterator[Broker]:
    made = Broker(folder, tls)
    made.start()
    try:
        yield made
    finally:
        made.kill()


class Ear:
    """Keeps the newest message of each topic, and every one in order. retained : topics whose newest was retained."""

    def __init__(self, port: int, ca_file: Path | None = None) -> None:
        import paho.mqtt.client as paho

        self.newest: dict[str, bytes] = {}
        self.heard: list[tuple[str, bytes]] = []
        self.retained: set[str] = set()
        self._ready = threading.Event()
        self._client = client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.username_pw_set(USER, PASSWORD)
        if ca_file is not None:
            client.tls_set(str(ca_file))
        client.on_connect = lambda *_: client.subscribe("#", 1)
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_message = self._on_message
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert self._ready.wait(10)

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self.heard.append((message.topic, message.payload))
        self.newest[message.topic] = message.payload
        (self.retained.add if message.retain else self.retained.discard)(message.topic)

    def text(self, topic: str) -> str | None:
        payload = self.newest.get(topic)
        return None if payload is None else payload.decode()

    def json(self, topic: str) -> Any:
        return json.loads(self.newest[topic] or "null") if topic in self.newest else None

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listening(port: int, ca_file: Path | None = None) -> Iterator[Ear]:
    ear = Ear(port, ca_file)
    try:
        yield ear
    finally:
        ear.close()
