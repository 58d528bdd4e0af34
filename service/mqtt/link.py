"""A connection to an MQTT broker: messages go in and are sent when that is possible. Knows no stream.

`put` never waits. Of a topic the newest message wins, so that a broker that was away learns what is, not what was;
retained ones are said again after each connection, since a broker may have forgotten them. The password is in no
message, no log entry and no repr.

Bounds: `MAX_TOPICS` messages wait, one to a topic; `WINDOW` are under way, one to a topic, so that none overtakes
another; `MAX_TOPICS` retained ones are remembered.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.mqtt.discovery import OFFLINE, ONLINE
from service.settings import Settings

log = logging.getLogger("afterimage.mqtt")

PASSWORD_VARIABLE = "AFTERIMAGE_MQTT_PASSWORD"
MAX_PASSWORD_BYTES = 4096
MAX_TOPICS = 8192
WINDOW = 16
KEEPALIVE_S = 20
BACK_OFF_S = (1, 60)
"""Between attempts to connect: doubled from the first to the last."""


class MqttError(RuntimeError):
    """A broker is asked for and cannot be used as the settings say; the message says why."""


@dataclass(frozen=True)
class Address:
    """Where a broker is, and who we are there. tls : whether to use it; ca_file : None: the system's authorities."""

    host: str
    port: int
    tls: bool = False
    ca_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def address_of(settings: Settings) -> Address | None:
    """The broker of the settings; None where they name none. Raises MqttError."""
    if settings.mqtt_host is None:
        return None
    port = settings.mqtt_port or (8883 if settings.mqtt_tls else 1883)
    password = os.environ.get(PASSWORD_VARIABLE) or None
    if settings.mqtt_password_file is not None:
        password = _read_password(settings.mqtt_password_file)
    if password is not None and settings.mqtt_username is None:
        raise MqttError("mqtt_username: expected a name with the password")
    ca_file = settings.mqtt_ca_file
    if ca_file is not None and not ca_file.is_file():
        raise MqttError(f"mqtt_ca_file: no such file: {ca_file}")
    return Address(settings.mqtt_host, port, settings.mqtt_tls, ca_file, settings.mqtt_username, password)


def _read_password(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PASSWORD_BYTES + 1)
    except OSError as error:
        raise MqttError(f"mqtt_password_file: {path} cannot be read: {error.strerror or error}") from None
    try:
        password = data.decode().strip()
    except UnicodeDecodeError:
        password = ""
    if not password or len(data) > MAX_PASSWORD_BYTES:
        raise MqttError(f"mqtt_password_file: expected a password in {path}")
    return password


class Link:
    """status : the topic that says whether we are there. Threads: one of ours that hands over, one of the library's.

    Raises MqttError where the library is not installed or cannot use the address.
    """

    def __init__(self, address: Address, status: str) -> None:
        try:
            import paho.mqtt.client as paho
        except ImportError:
            raise MqttError("mqtt_host: this needs the extra: pip install 'afterimage[mqtt]'") from None
        self.published = self.replaced = self.dropped = 0
        self.connected = False
        self._address, self._status = address, status
        self._pending: dict[str, tuple[bytes, bool]] = {}
        self._retained: dict[str, bytes] = {status: ONLINE.encode()}
        self._under_way: set[str] = set()
        self._topic_of: dict[int, str] = {}
        self._early: set[int] = set()
        self._stopping = False
        self._told: str | None = None
        self._changed = threading.Condition()
        self._pump = threading.Thread(target=self._hand_over, name="afterimage-mqtt", daemon=True)
        name = f"afterimage-{secrets.token_hex(5)}"
        self._client = client = paho.Client(paho.CallbackAPIVersion.VERSION2, name)
        client.max_queued_messages_set(2 * WINDOW)
        client.reconnect_delay_set(*BACK_OFF_S)
        client.will_set(status, OFFLINE, qos=1, retain=True)
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.tls:
            try:
                client.tls_set(None if address.ca_file is None else str(address.ca_file))
            except (OSError, ValueError) as error:
                raise MqttError(f"mqtt_ca_file: {address.ca_file} cannot be used: {error}") from None
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail, client.on_publish = self._on_connect_fail, self._on_publish

    def start(self) -> None:
        """Connect, in the background, as often as it takes."""
        self._client.connect_async(self._address.host, self._address.port, keepalive=KEEPALIVE_S)
        self._client.loop_start()
        self._pump.start()

    def put(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish soon. An empty retained message makes the broker forget the topic's."""
        with self._changed:
            if retain:  # first, and whether there is room to wait or not: it is said at the next connection
                self._retained.pop(topic, None)
                if payload and len(self._retained) < MAX_TOPICS:
                    self._retained[topic] = payload
            if topic in self._pending:
                self.replaced += 1
            elif len(self._pending) >= MAX_TOPICS:
                self.dropped += 1
                return
            self._pending[topic] = payload, retain
            self._changed.notify_all()

    def stop(self, seconds: float) -> None:
        """Say goodbye and what is left to say, for so long at most; then end."""
        deadline = time.monotonic() + seconds
        if self.connected:
            self.put(self._status, OFFLINE.encode(), retain=True)
        with self._changed:
            self._changed.wait_for(self._is_idle, max(0.0, deadline - time.monotonic()))
            self._stopping = True
            self._changed.notify_all()
        self._client.disconnect()
        self._client.loop_stop()

    def _is_idle(self) -> bool:
        return not self.connected or not (self._pending or self._under_way)

    def _hand_over(self) -> None:
        for topic, payload, retain in self._next():
            try:
                mid = self._client.publish(topic, payload, qos=1, retain=retain).mid
            except ValueError as error:  # it is too large, or the library's queue is full
                log.warning("a message of %d bytes to %s was not published: %s", len(payload), topic, error)
                with self._changed:
                    self.dropped += 1
                    self._under_way.discard(topic)
                continue
            with self._changed:
                if mid in self._early:  # it was acknowledged before it was known here
                    self._early.discard(mid)
                    self._under_way.discard(topic)
                    self._changed.notify_all()
                else:
                    self._topic_of[mid] = topic

    def _next(self) -> Iterator[tuple[str, bytes, bool]]:
        """Messages that may be sent now, the oldest topic first; of a topic one at a time."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._may_send())
                if self._stopping:
                    return
                topic = next(topic for topic in self._pending if topic not in self._under_way)
                payload, retain = self._pending.pop(topic)
                self._under_way.add(topic)
            yield topic, payload, retain

    def _may_send(self) -> bool:
        return self.connected and len(self._under_way) < WINDOW and not self._pending.keys() <= self._under_way

    # The library's callbacks, in its thread. What was under way as the connection was lost it sends again by itself.

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            return self._say(f"the MQTT broker refuses: {reason}")
        with self._changed:
            waiting, self._pending = self._pending, {}
            for topic, payload in self._retained.items():
                self._pending[topic] = payload, True
            self._pending |= waiting
            self.connected = True
            self._changed.notify_all()
        self._say(None)
        log.info("connected to the MQTT broker at %s:%d", self._address.host, self._address.port)

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        trust = ", or its certificate is not trusted" if self._address.tls else ""
        self._say(f"the MQTT broker cannot be reached{trust}")

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            was, self.connected = self.connected, False
            self._changed.notify_all()
        if was and not self._stopping:
            self._say("the connection to the MQTT broker was lost")

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        with self._changed:
            self.published += 1
            topic = self._topic_of.pop(mid, None)
            if topic is None:
                self._early.add(mid)
            else:
                self._under_way.discard(topic)
            self._changed.notify_all()

    def _say(self, what: str | None) -> None:
        """Log what is wrong, once until it is something else."""
        told, self._told = self._told, what
        if what is not None and what != told:
            log.warning("%s (%s:%d); trying again", what, self._address.host, self._address.port)


def open_link(settings: Settings) -> Link | None:
    """As the settings say; None where they name no broker. Raises MqttError."""
    address = address_of(settings)
    return None if address is None else Link(address, f"{settings.mqtt_topic}/status")
