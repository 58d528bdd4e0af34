"""Topics and Home Assistant's discovery messages of one stream: text in, text out. Knows no broker and no engine.

Every stream is a device. Topics, below a prefix:

    afterimage/status             online, offline: of the server; the broker says offline where it is lost
    afterimage/door/status        online, offline: of the stream
    afterimage/door/state         JSON: what is seen, and how much of it was computed
    afterimage/door/snapshot      JPEG, where that is asked for

What a discovery message holds is documented by Home Assistant under "MQTT discovery", "MQTT sensor", "MQTT binary
sensor" and "MQTT camera".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

ONLINE, OFFLINE = "online", "offline"
LONGEST_KEY = 48


def key_of(label: str) -> str:
    """A label as a key of JSON and of topics: small letters, digits and underscores, safe in a template."""
    return re.sub(r"[^a-z0-9_]+", "_", label.lower())[:LONGEST_KEY] or "_"


@dataclass(frozen=True)
class Topics:
    """Where things of a server are published. discovery : Home Assistant's prefix; None: it is told nothing."""

    prefix: str
    discovery: str | None

    @property
    def status(self) -> str:
        """Of the server."""
        return f"{self.prefix}/status"

    def of(self, stream_id: str, what: str) -> str:
        """Of a stream: status, state or snapshot."""
        return f"{self.prefix}/{stream_id}/{what}"

    @property
    def node(self) -> str:
        """The server's name in what must be unique among all servers of a broker."""
        return self.prefix.replace("/", "_")


@dataclass(frozen=True)
class Entity:
    """One of a device's entities. component : of Home Assistant. key : unique within the device."""

    component: str
    key: str
    fields: dict[str, Any]


class Device:
    """A stream as Home Assistant knows it. expire_s : a state that is older is none."""

    def __init__(self, topics: Topics, stream_id: str, model: str | None, version: str, expire_s: int) -> None:
        self._topics, self._id = topics, stream_id
        self._expire_s = expire_s
        self._device = {
            "identifiers": [f"afterimage/{topics.node}/{stream_id}"],
            "name": stream_id,
            "manufacturer": "Afterimage",
            "model": model or "unknown",
            "sw_version": version,
        }
        self._origin = {"name": "Afterimage", "sw_version": version}

    def fixed(self, occupancy: tuple[str, ...], snapshots: bool) -> list[Entity]:
        """The entities that every stream has. occupancy : labels that are there or not."""
        entities = [
            self._sensor("objects", "Objects", "value_json.objects", icon="mdi:counter"),
            self._sensor(
                "compute_fraction", "Recomputed", "(value_json.compute_fraction * 100) | round(1)",
                unit_of_measurement="%", icon="mdi:chip", entity_category="diagnostic",
            ),
            self._sensor(
                "fps", "Frame rate", "value_json.fps", unit_of_measurement="fps", icon="mdi:speedometer",
                entity_category="diagnostic",
            ),
            *(self._occupancy(label) for label in occupancy),
        ]  # fmt: skip
        if snapshots:
            fields = {"topic": self._topics.of(self._id, "snapshot"), "name": "Picture"}
            entities.append(Entity("camera", "snapshot", fields))
        return entities

    def label(self, label: str) -> Entity:
        """How many of a label are seen."""
        key = key_of(label)
        template = f"value_json.labels['{key}'] | default(0)"
        return self._sensor(f"count_{key}", f"{label} count", template, icon="mdi:counter")

    def best_class(self) -> Entity:
        """What a classifier sees."""
        fields = {"name": "Class", "value_template": "{{ value_json.class }}", "icon": "mdi:tag"}
        return Entity("sensor", "class", self._stateful(fields))

    def config(self, entity: Entity) -> tuple[str, dict[str, Any]]:
        """The discovery topic of an entity, and what is published there, retained."""
        payload = {
            **entity.fields,
            "unique_id": f"afterimage/{self._topics.node}/{self._id}/{entity.key}",
            "availability": [{"topic": self._topics.status}, {"topic": self._topics.of(self._id, "status")}],
            "availability_mode": "all",
            "device": self._device,
            "origin": self._origin,
        }
        return self.topic(entity), payload

    def topic(self, entity: Entity) -> str:
        """The discovery topic of an entity; an empty message there removes it."""
        return f"{self._topics.discovery}/{entity.component}/{self._topics.node}_{self._id}/{entity.key}/config"

    def _sensor(self, key: str, name: str, template: str, **fields: Any) -> Entity:
        fields = {
            "name": name, "value_template": f"{{{{ {template} }}}}", "state_class": "measurement", **fields,
        }  # fmt: skip
        return Entity("sensor", key, self._stateful(fields))

    def _occupancy(self, label: str) -> Entity:
        key = key_of(label)
        template = f"{{{{ 'ON' if (value_json.labels['{key}'] | default(0)) > 0 else 'OFF' }}}}"
        fields = {"name": f"{label} present", "device_class": "occupancy", "value_template": template}
        return Entity("binary_sensor", f"occupancy_{key}", self._stateful(fields))

    def _stateful(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "state_topic": self._topics.of(self._id, "state"), "expire_after": self._expire_s}
