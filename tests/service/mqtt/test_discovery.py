"""Home Assistant's discovery messages: the keys that it documents, names that are unique, templates that are safe."""

from __future__ import annotations

import re
from typing import Any

import pytest

from service.mqtt.discovery import Device, Entity, Topics, key_of

TOPICS = Topics("home/afterimage", "homeassistant")
COMMON = {"name", "unique_id", "availability", "availability_mode", "device", "origin"}
STATE = COMMON | {"state_topic", "value_template", "expire_after"}
NEEDED = {
    "sensor": STATE,
    "binary_sensor": STATE | {"device_class"},
    "camera": COMMON | {"topic"},
}
ALLOWED = {
    "sensor": {"state_class", "icon", "unit_of_measurement", "entity_category"},
    "binary_sensor": set(),
    "camera": set(),
}


def device(stream_id: str = "door", topics: Topics = TOPICS) -> Device:
    return Device(topics, stream_id, "people", "0.1.0", 90)


def everything(made: Device) -> list[Entity]:
    return [*made.fixed(("person", "big dog"), True), made.label("face"), made.best_class()]


def check(topic: str, config: dict[str, Any]) -> None:
    """What Home Assistant documents of a discovery message for one entity."""
    found = re.fullmatch(r"homeassistant/(sensor|binary_sensor|camera)/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/config", topic)
    assert found, topic
    component = found[1]
    assert NEEDED[component] <= set(config), topic
    assert set(config) <= NEEDED[component] | ALLOWED[component], topic
    assert config["device"]["identifiers"]
    assert set(config["device"]) <= {"identifiers", "name", "manufacturer", "model", "sw_version"}
    assert config["origin"]["name"]
    assert config["availability_mode"] in ("all", "any", "latest")
    assert all(set(entry) == {"topic"} for entry in config["availability"])


def test_every_entity_has_the_documented_keys() -> None:
    made = device()
    for entity in everything(made):
        check(*made.config(entity))


def test_names_are_unique_over_entities_streams_and_servers() -> None:
    other = Topics("afterimage", "homeassistant")
    devices = [device("a"), device("a_b"), device("a", other), device("b"), device("a_count")]
    configs = [made.config(entity) for made in devices for entity in everything(made)]
    assert len({topic for topic, _ in configs}) == len(configs)
    assert len({config["unique_id"] for _, config in configs}) == len(configs)
    assert len({config["device"]["identifiers"][0] for _, config in configs}) == len(devices)


def test_entities_read_the_streams_own_topics() -> None:
    made = device()
    configs = {entity.key: made.config(entity)[1] for entity in everything(made)}
    assert configs["objects"]["state_topic"] == "home/afterimage/door/state"
    assert configs["objects"]["value_template"] == "{{ value_json.objects }}"
    assert configs["compute_fraction"]["unit_of_measurement"] == "%"
    assert configs["count_face"]["value_template"] == "{{ value_json.labels['face'] | default(0) }}"
    assert configs["occupancy_person"]["device_class"] == "occupancy"
    assert configs["snapshot"]["topic"] == "home/afterimage/door/snapshot"
    topics = [entry["topic"] for entry in configs["objects"]["availability"]]
    assert topics == ["home/afterimage/status", "home/afterimage/door/status"]


def test_without_pictures_there_is_no_camera() -> None:
    assert all(entity.component != "camera" for entity in device().fixed((), False))


@pytest.mark.parametrize(
    ("label", "key"),
    [("person", "person"), ("Traffic Light", "traffic_light"), ("a'] }}{{ x", "a_x"), ("Füße", "f_e"), ("", "_"),
     ("x" * 500, "x" * 48), ("items", "items")],
)  # fmt: skip
def test_labels_are_no_danger_to_a_template(label: str, key: str) -> None:
    assert key_of(label) == key
