"""From frames to messages: what is told and when, by a clock of the test; and a server with a real broker."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broker import MOSQUITTO, PASSWD, PASSWORD, USER, Broker, broker, listening
from service_fakes import FakeEngine, RunningServer, image, make_registry, make_settings, running_server, wait_until

from clients.python import FrameResult, StreamClient, StreamOptions
from clients.wire import ClassScore, Detection, Policy
from service.mqtt import bridge as bridges
from service.mqtt import link as links
from service.mqtt.bridge import Bridge
from service.pipeline import Found, Outcome
from service.streams import Stream
from service.viewing import Viewing

real = pytest.mark.skipif(MOSQUITTO is None or PASSWD is None, reason="mosquitto is not installed")
PIXELS = np.zeros((48, 64, 3), np.uint8)
STATE = "afterimage/door/state"


class Notes:
    """A link that only writes down."""

    def __init__(self) -> None:
        self.put_in: list[tuple[str, bytes, bool]] = []

    def put(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.put_in.append((topic, payload, retain))

    def of(self, topic: str) -> list[Any]:
        return [json.loads(payload) if payload[:1] == b"{" else payload.decode() for name, payload, _ in self.put_in
                if name == topic]  # fmt: skip

    def topics(self, start: str) -> set[str]:
        return {topic for topic, payload, _ in self.put_in if topic.startswith(start) and payload}


class Bench:
    """A bridge, a clock and a stream."""

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self.notes = Notes()
        self.viewing = Viewing(max_viewers=4, max_per_stream=4, keep_bytes=1 << 20, quality=90)
        made = make_settings(mqtt_host="127.0.0.1", **settings)
        self.bridge = Bridge(made, self.notes, self.viewing, clock=lambda: self.now)  # type: ignore[arg-type]
        self.door = Stream("door", "people", None)

    def see(self, *labels: str, after_s: float = 10.0, stream: Stream | None = None, **fields: Any) -> None:
        self.now += after_s
        boxes = tuple(Detection(xyxy=(1, 2, 3, 4), score=0.9, class_id=0, label=label) for label in labels)
        found = Found(detections=boxes, **fields)
        outcome = Outcome(64, 48, found, "partial", 0.07123, 1, 1, 1, 1, PIXELS)
        self.viewing.publish(stream or self.door, PIXELS, outcome)


def test_a_change_is_told_and_what_stays_is_not() -> None:
    bench = Bench()
    bench.see("person", "person")
    bench.see("person", "person", after_s=2)
    bench.see("person", "face", after_s=2)
    first, second = bench.notes.of(STATE)
    assert (first["objects"], first["labels"]) == (2, {"person": 2})
    assert (first["compute_fraction"], first["model"], first["decision"]) == (0.0712, "people", "partial")
    assert second["labels"] == {"person": 1, "face": 1}
    bench.see(after_s=2)
    assert bench.notes.of(STATE)[-1]["labels"] == {"person": 0, "face": 0}, "what is gone is 0"
    assert all(retain for topic, _, retain in bench.notes.put_in if topic == STATE)


def test_the_rate_is_kept_and_the_last_change_is_told_later() -> None:
    bench = Bench(mqtt_rate=0.5)
    for number in range(100):
        bench.see(*["person"] * (number % 7), after_s=0.01)
    assert len(bench.notes.of(STATE)) == 1
    bench.now += 2
    bench.bridge.tick()
    bench.bridge.tick()
    assert [state["objects"] for state in bench.notes.of(STATE)] == [0, 99 % 7]


def test_a_heartbeat_without_a_change() -> None:
    bench = Bench(mqtt_heartbeat_s=5)
    for _ in range(12):
        bench.see("person", after_s=1)
        bench.bridge.tick()
    assert len(bench.notes.of(STATE)) == 3


def test_a_stream_without_connection_or_frames_is_offline() -> None:
    bench = Bench()
    status = "afterimage/door/status"
    bench.see("person")
    bench.bridge.tick()
    bench.now += bridges.QUIET_S + 1
    bench.bridge.tick()
    bench.bridge.tick()
    assert bench.notes.of(status) == ["online", "offline"]
    told = len(bench.notes.of(STATE))
    bench.now += 1000
    bench.bridge.tick()
    assert len(bench.notes.of(STATE)) == told, "no heartbeat of a stream that is offline"
    bench.see("person")
    bench.bridge.tick()
    assert bench.notes.of(status) == ["online", "offline", "online"]


class Watched:
    """A camera of the configuration, which is attached to its stream for good."""

    def brief(self) -> dict[str, Any]:
        return {}

    def end(self, close_code: int, reason: str) -> None:
        pass


def test_a_camera_without_frames_is_offline_and_a_connection_is_not() -> None:
    bench = Bench()
    bench.door.attachment = camera = Watched()
    yard = Stream("yard", "people", None, source=camera, attachment=camera)
    bench.see("person")
    bench.see("person", stream=yard)
    bench.now += bridges.QUIET_S + 1
    bench.bridge.tick()
    assert bench.notes.of("afterimage/door/status") == ["online"]
    assert bench.notes.of("afterimage/yard/status") == ["online", "offline"]


def test_a_link_that_does_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bridges, "FAREWELL_S", -0.9)
    over = threading.Event()
    bench = Bench()
    bench.notes.stop = lambda seconds: over.wait(60)  # type: ignore[attr-defined]
    try:
        asyncio.run(bench.bridge.stop())
    finally:
        over.set()
    assert "at shutdown" in caplog.text


def test_entities_come_with_the_stream_and_labels_as_they_are_seen() -> None:
    bench = Bench(mqtt_occupancy=("person", "face"))
    bench.see()
    start = "homeassistant/sensor/afterimage_door/"
    assert bench.notes.topics("homeassistant/binary_sensor/") == {
        f"homeassistant/binary_sensor/afterimage_door/occupancy_{label}/config" for label in ("person", "face")
    }
    fixed = {f"{start}{key}/config" for key in ("objects", "compute_fraction", "fps")}
    assert bench.notes.topics(start) == fixed
    assert bench.notes.topics("homeassistant/camera/") == set()
    bench.see("Big Dog")
    assert bench.notes.topics(start) == fixed | {f"{start}count_big_dog/config"}
    bench.see(classes=(ClassScore(class_id=1, label="tabby", score=0.5),))
    assert f"{start}class/config" in bench.notes.topics(start)
    assert bench.notes.of(STATE)[-1]["class"] == "tabby"
    known = bench.notes.topics("homeassistant/") | bench.notes.topics("afterimage/")
    bench.viewing.forget(bench.door)
    cleared = {topic for topic, payload, retain in bench.notes.put_in if not payload and retain}
    assert cleared == known, "nothing retained is left of a stream that is gone"


def test_pixels_are_not_held() -> None:
    bench = Bench()
    pixels = np.zeros((48, 64, 3), np.uint8)
    left = weakref.ref(pixels)
    bench.viewing.publish(bench.door, pixels, Outcome(64, 48, Found(), "reuse", 0.0, 0, 1, 1, 1, pixels))
    del pixels
    assert left() is not None
    bench.see("person")
    assert left() is None


def test_labels_are_bounded() -> None:
    bench = Bench()
    bench.see(*[f"label {number}" for number in range(100)])
    state = bench.notes.of(STATE)[-1]
    assert state["objects"] == 100
    assert len(state["labels"]) == bridges.MAX_LABELS + 1
    assert state["labels"]["other"] == 100 - bridges.MAX_LABELS
    assert len(bench.notes.topics("homeassistant/sensor/afterimage_door/count_")) == bridges.MAX_LABELS


def test_streams_and_discovery_are_chosen() -> None:
    bench = Bench(mqtt_streams=("do*", "yard"), mqtt_discovery_topic=None)
    for name in ("door", "yard", "gate"):
        bench.see("person", stream=Stream(name, "people", None))
    assert {topic.split("/")[1] for topic, *_ in bench.notes.put_in} == {"door", "yard"}
    assert bench.notes.topics("homeassistant") == set()


def test_pictures_are_published_so_often_and_one_at_a_time() -> None:
    async def run() -> list[bytes]:
        bench = Bench(mqtt_snapshot_s=5)
        for _ in range(11):
            bench.see("person", after_s=1)
            bench.bridge.tick()
            await asyncio.gather(*bench.bridge._tasks)
        bench.bridge.tick()
        pictures = [payload for topic, payload, _ in bench.notes.put_in if topic == "afterimage/door/snapshot"]
        assert bench.notes.topics("homeassistant/camera/")
        assert all(not retain for topic, _, retain in bench.notes.put_in if topic.endswith("/snapshot"))
        return pictures

    pictures = asyncio.run(run())
    assert len(pictures) == 3
    assert all(picture.startswith(b"\xff\xd8") for picture in pictures)


@contextmanager
def serving(server: Broker, tmp_path: Path, **settings: Any) -> Iterator[RunningServer]:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    fields = {"mqtt_host": "127.0.0.1", "mqtt_port": server.port, "mqtt_username": USER, "mqtt_password_file": secret}
    with running_server(make_registry(FakeEngine().model()), make_settings(**(fields | settings))) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")
    monkeypatch.setattr(links, "BACK_OFF_S", (1, 1))


@real
def test_a_server_with_a_broker_that_is_restarted(
    tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with broker(tmp_path) as mosquitto, serving(mosquitto, tmp_path, mqtt_rate=100, mqtt_snapshot_s=1) as server:
        with StreamClient(server.url, "door", StreamOptions(policy=Policy.ALL)) as client:

            def send(level: int) -> None:
                client.send(image(level))
                assert isinstance(client.receive(20), FrameResult)

            with listening(mosquitto.port) as ear:
                send(120)
                wait_until(lambda: (ear.json(STATE) or {}).get("labels") == {"grey12": 1})
                wait_until(lambda: ear.text("afterimage/door/status") == "online")
                wait_until(lambda: ear.newest.get("afterimage/door/snapshot", b"")[:2] == b"\xff\xd8")
                wait_until(lambda: len([topic for topic in ear.newest if topic.startswith("homeassistant/")]) == 6)
            mosquitto.kill()
            wait_until(lambda: not server.service.mqtt.link.connected)
            for level in (130, 140):
                send(level)
            mosquitto.start()
            with listening(mosquitto.port) as ear:  # persistence is off: all of this is said anew
                wait_until(lambda: (ear.json(STATE) or {}).get("labels") == {"grey12": 0, "grey13": 0, "grey14": 1})
                wait_until(lambda: len([topic for topic in ear.newest if topic.startswith("homeassistant/")]) >= 8)
                assert ear.text("afterimage/status") == "online"
        with listening(mosquitto.port) as ear:  # the client said bye: the stream is gone, and so are its entities
            wait_until(lambda: not any(payload for topic, payload in ear.newest.items() if "door" in topic))
            server.stop()
            wait_until(lambda: ear.text("afterimage/status") == "offline")
    said = "".join(record.getMessage() for record in caplog.records)
    assert "the connection to the MQTT broker was lost" in said
    assert PASSWORD not in said


SERVE = """
import sys, time
sys.path.insert(0, "tests/support")
from service_fakes import FakeEngine, make_registry, make_settings, running_server
settings = make_settings(mqtt_host="127.0.0.1", mqtt_port=int(sys.argv[1]), mqtt_username=sys.argv[2])
with running_server(make_registry(FakeEngine().model()), settings) as server:
    print(server.port, flush=True)
    time.sleep(600)
"""


@real
def test_the_broker_says_offline_for_a_server_that_is_killed(tmp_path: Path, impatient: None) -> None:
    with broker(tmp_path) as mosquitto, listening(mosquitto.port) as ear:
        command = [sys.executable, "-c", SERVE, str(mosquitto.port), USER]
        environment = os.environ | {links.PASSWORD_VARIABLE: PASSWORD}
        root = Path(__file__).parents[3]
        with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE) as process:
            try:
                wait_until(lambda: ear.text("afterimage/status") == "online", 60)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
        wait_until(lambda: ear.text("afterimage/status") == "offline")
