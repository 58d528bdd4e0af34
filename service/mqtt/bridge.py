"""From frames to messages: what a stream sees, told when it changes and every so often, never too often.

Lives on the event loop; told of every frame by `service.viewing`, and costs one some microseconds. A change that comes
sooner than the stream's rate allows is told by the next `tick`, which comes once a second.

Bounds: streams are those of the service; of one stream `MAX_LABELS` labels, and one picture that is drawn.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from service.collectors import product_version
from service.mqtt.discovery import OFFLINE, ONLINE, Device, Entity, Topics, key_of
from service.mqtt.link import Link
from service.pipeline import Found, Outcome
from service.settings import Settings
from service.streams import Stream
from service.threads import in_thread
from service.viewing import Look, Viewing

log = logging.getLogger("afterimage.mqtt")

MAX_LABELS = 32
QUIET_S = 10.0
"""A stream that has no connection and had no frame for so long is offline."""
FAREWELL_S = 1.0
PICTURE = Look(width=960)


@dataclass
class _Told:
    """What is known of a stream, and what has been said of it.

    labels : keys and the labels they stand for, in the order in which they were first seen
    """

    stream: Stream
    device: Device
    entities: list[Entity] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    best: str | None = None
    decision: str = ""
    compute_fraction: float = 0.0
    frame_s: float = 0.0
    said: tuple[object, ...] | None = None
    said_s: float = float("-inf")
    online: bool | None = None
    picture_s: float = float("-inf")
    picture_of: float = 0.0
    drawing: bool = False

    @property
    def now(self) -> tuple[object, ...]:
        """What is told at once where it changes."""
        return sum(self.counts.values()), tuple(sorted(self.counts.items())), self.best


class Bridge:
    """clock : seconds that only grow."""

    def __init__(
        self, settings: Settings, link: Link, viewing: Viewing, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.link = link
        self._settings = settings
        self._viewing = viewing
        self._clock = clock
        self._topics = Topics(settings.mqtt_topic, settings.mqtt_discovery_topic)
        self._told: dict[str, _Told] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        viewing.listeners.append(self)

    def start(self) -> None:
        """Connect."""
        self.link.start()

    async def stop(self) -> None:
        """Say that the server goes, and end."""
        for task in list(self._tasks):
            task.cancel()
        try:
            async with asyncio.timeout(FAREWELL_S + 1):  # the library waits for its thread, which may be connecting
                await in_thread(lambda: self.link.stop(FAREWELL_S), "afterimage-mqtt-stop")
        except TimeoutError:
            log.warning("the connection to the MQTT broker was still being made or closed at shutdown")

    def seen(self, stream: Stream, outcome: Outcome) -> None:
        """A frame was computed."""
        told = self._told.get(stream.id)
        if told is None:
            if not any(fnmatchcase(stream.id, pattern) for pattern in self._settings.mqtt_streams):
                return
            told = self._introduce(stream)
        now = self._clock()
        told.frame_s = now  # no more than is told: an outcome holds the frame's pixels
        told.decision, told.compute_fraction = outcome.decision, outcome.compute_fraction
        self._count(told, outcome.found)
        self._tell(told, now)

    def gone(self, stream: Stream) -> None:
        """The stream is no more: it and its entities are forgotten."""
        told = self._told.pop(stream.id, None)
        if told is None:
            return
        if self._topics.discovery is not None:
            for entity in told.entities:
                self.link.put(told.device.topic(entity), b"", retain=True)
        for what in "state", "status":
            self.link.put(self._topics.of(stream.id, what), b"", retain=True)

    def tick(self) -> None:
        """Once a second: what is due."""
        now = self._clock()
        for told in self._told.values():
            stream = told.stream  # of a camera it is attached for good, whether the camera is there or not
            attached = stream.attachment is not None and stream.source is None
            online = attached or now - told.frame_s < QUIET_S
            if online != told.online:
                self._say_status(told, online)
            if online:
                self._tell(told, now)
                self._picture(told, now)

    def _introduce(self, stream: Stream) -> _Told:
        settings = self._settings
        expire_s = max(60, round(3 * settings.mqtt_heartbeat_s))
        device = Device(self._topics, stream.id, stream.model, product_version(), expire_s)
        told = self._told[stream.id] = _Told(stream, device)
        for entity in device.fixed(settings.mqtt_occupancy, settings.mqtt_snapshot_s is not None):
            self._discover(told, entity)
        self._say_status(told, True)
        return told

    def _discover(self, told: _Told, entity: Entity) -> None:
        told.entities.append(entity)
        if self._topics.discovery is not None:
            topic, config = told.device.config(entity)
            self.link.put(topic, _json(config), retain=True)

    def _say_status(self, told: _Told, online: bool) -> None:
        told.online = online
        status = ONLINE if online else OFFLINE
        self.link.put(self._topics.of(told.stream.id, "status"), status.encode(), retain=True)

    def _count(self, told: _Told, found: Found) -> None:
        counts = dict.fromkeys(told.labels, 0)
        for box in found.detections or ():
            key = key_of(box.label)
            if key not in counts:
                if len(told.labels) >= MAX_LABELS:
                    key = "other"  # counted all the same, without an entity of its own
                else:
                    told.labels[key] = box.label
                    self._discover(told, told.device.label(box.label))
            counts[key] = counts.get(key, 0) + 1
        told.counts = counts
        if found.classes:
            if told.best is None:
                self._discover(told, told.device.best_class())
            told.best = found.classes[0].label

    def _tell(self, told: _Told, now: float) -> None:
        since_s = now - told.said_s
        changed = told.now != told.said and since_s >= 1 / self._settings.mqtt_rate
        if changed or since_s >= self._settings.mqtt_heartbeat_s:
            told.said, told.said_s = told.now, now
            self.link.put(self._topics.of(told.stream.id, "state"), _json(_state(told)), retain=True)

    def _picture(self, told: _Told, now: float) -> None:
        every_s = self._settings.mqtt_snapshot_s
        if every_s is None or told.drawing or now - told.picture_s < every_s or told.picture_of == told.frame_s:
            return
        told.drawing, told.picture_s, told.picture_of = True, now, told.frame_s
        task = asyncio.create_task(self._draw(told), name="afterimage-mqtt-picture")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _draw(self, told: _Told) -> None:
        try:
            shown = self._viewing.last(told.stream)
            if shown is not None:
                jpeg = await self._viewing.picture(shown, PICTURE)
                if self._told.get(told.stream.id) is told:
                    self.link.put(self._topics.of(told.stream.id, "snapshot"), jpeg)
        except Exception:
            log.exception("stream %s: a picture for MQTT could not be drawn", told.stream.id)
        finally:
            told.drawing = False


def _state(told: _Told) -> dict[str, Any]:
    state: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": told.stream.model,
        "objects": sum(told.counts.values()),
        "labels": told.counts,
        "decision": told.decision,
        "compute_fraction": round(told.compute_fraction, 4),
        "fps": told.stream.figures.brief()["fps"]["out"],
    }
    return state if told.best is None else state | {"class": told.best}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
