"""What the service counts and refuses: memory of plans, streams and threads; what streams are promised."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from own_model import write_model
from service_fakes import FakeEngine, image, make_settings

from service.admission import Overloaded
from service.registry import load
from service.settings import ModelSource
from service.state import cache_bytes


def test_memory_is_counted(make_client, tmp_path: Path) -> None:
    model = load("own", ModelSource(path=write_model(tmp_path / "own.onnx")))
    assert model.memory is None, "it is not compiled yet"
    model.warm()
    client = make_client(model, workers=2)
    memory = model.memory
    assert memory is not None
    listed = client.get("/v1/models").json()
    assert listed["models"][0]["memory_bytes"] == memory.as_dict()
    held = {"models": memory.shared, "streams": memory.stream, "audits": 0, "threads": 2 * memory.thread}
    assert listed["memory_bytes"] == {**held, "total": sum(held.values())}, "one session is for single images"

    assert client.post("/v1/detect", content=image(), headers={"content-type": "image/jpeg"}).status_code == 200
    made = client.post("/v1/streams").json()
    address, token = f"/v1/streams/{made['stream_id']}", {"authorization": f"Bearer {made['token']}"}
    assert client.get(address, headers=token).json()["memory_bytes"] == 0
    service = client.app.state.service
    stream = service.streams.get(made["stream_id"])
    stream.pipeline = service.make_pipeline("own")
    assert client.get(address, headers=token).json()["memory_bytes"] == memory.stream
    assert client.get("/v1/models").json()["memory_bytes"]["streams"] == 2 * memory.stream, "one for single images"
    client.delete(address, headers=token)
    assert client.get("/v1/models").json()["memory_bytes"]["streams"] == memory.stream


def test_an_engine_that_does_not_say_counts_for_nothing(make_client) -> None:
    client = make_client()
    service = client.app.state.service
    stream, _ = service.streams.create("fake")
    stream.pipeline = service.make_pipeline("fake")
    assert service.memory_bytes() == {"models": 0, "streams": 0, "audits": 0, "threads": 0, "total": 0}
    assert stream.describe()["memory_bytes"] == 0


class Counter:
    """A meter that notes when it is read."""

    def __init__(self, known: bool) -> None:
        self.known = known
        self.reads = threading.Semaphore(0)

    def read(self) -> float | None:
        self.reads.release()
        return 1.0 if self.known else None


def test_energy_is_read_without_anybody_asking(make_client, monkeypatch) -> None:
    """Or a counter could go round unseen between two scrapes."""
    meter = Counter(known=True)
    monkeypatch.setattr("service.state.Meter", lambda: meter)
    monkeypatch.setattr("service.state.SWEEP_S", 0.01)
    make_client()
    for _ in range(3):
        assert meter.reads.acquire(timeout=10)


def test_spans_that_cannot_be_sent_do_not_hold_up_the_end(make_client, monkeypatch, caplog) -> None:
    asked: list[float] = []

    class Stuck:
        def close(self, timeout_s: float) -> bool:
            asked.append(timeout_s)
            return False

    client = make_client()
    service = client.app.state.service
    service.watch.traces = Stuck()
    client.portal.call(service.stop)
    assert asked == [2.0]
    assert "spans were still being sent" in caplog.text
    service.watch.traces = None


def test_a_cap_is_part_of_the_memory_that_there_is_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, expected in ((8 << 30, 4 << 30), (None, None)):
        monkeypatch.setattr("service.state.limit_bytes", lambda limit=limit: limit)
        assert cache_bytes(make_settings()) == expected
        assert cache_bytes(make_settings(cache_bytes=3 << 20)) == 3 << 20


def test_no_session_is_made_where_the_machine_has_no_memory_left(make_client, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(stream_bytes=100 << 20)
    client = make_client(engine.model())
    service = client.app.state.service
    for left, refused in ((164 << 20, False), (163 << 20, True), (None, False)):
        monkeypatch.setattr("service.room.available_bytes", lambda left=left: left)
        reason = service.refuse_stream("fake", 5.0)
        assert (reason is not None) == refused
        if reason is not None:
            assert (
                reason == "expected 100 MiB of memory for one more stream of fake and 64 MiB to spare, 163 MiB are left"
            )
            with pytest.raises(Overloaded, match="163 MiB are left"):
                service.make_pipeline("fake")
            assert client.post("/v1/streams").status_code == 503


def test_streams_without_a_connection_are_freed_for_a_new_one(make_client, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(stream_bytes=100 << 20)
    service = make_client(engine.model()).app.state.service
    kept, _ = service.streams.create("fake")
    kept.pipeline = service.make_pipeline("fake")
    left = [113 << 20]
    monkeypatch.setattr("service.room.available_bytes", lambda: left[0])
    monkeypatch.setattr(kept.pipeline, "evict", lambda: left.append(left.pop() + (100 << 20)))
    service.room.beside = lambda: 0
    assert service.refuse_stream("fake", 5.0) is None
    assert left == [113 << 20], "asking frees nothing"
    assert service.make_pipeline("fake").held_bytes == 100 << 20
    assert left == [213 << 20]


def test_what_a_stream_is_promised(make_client) -> None:
    for settings, promised in (({}, 5.0), ({"max_fps": 2}, 2.0), ({"useful_fps": 8}, 8.0)):
        service = make_client(**settings).app.state.service
        assert service.promised_fps(None) == promised
        assert service.promised_fps(1.0) == 1.0
        assert service.promised_fps(30.0) == (30.0 if "max_fps" not in settings else 2.0)


def test_frames_go_together_where_engine_and_settings_say_so(make_client) -> None:
    for together, setting, limit in ((4, 8, 4), (8, 4, 4), (4, 1, None), (1, 4, None)):
        engine = FakeEngine(together=together)
        service = make_client(engine.model(), group_frames=setting).app.state.service
        group = service.group(service.registry.get("fake"))
        assert (None if group is None else group.limit) == limit


def test_nothing_is_refused_where_admission_is_off(make_client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.room.available_bytes", lambda: 0)
    engine = FakeEngine(stream_bytes=1 << 20)
    service = make_client(engine.model(), admission=False).app.state.service
    assert (service.refuse_stream("fake", 1000.0), service.refuse_image("fake")) == (None, None)
    assert service.make_pipeline("fake").held_bytes == 1 << 20


def test_what_fails_over_mqtt_keeps_nothing_from_being_freed(make_client, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def tick(self) -> None:
            raise ValueError("broken")

        async def stop(self) -> None:
            pass

    service = make_client().app.state.service
    done = []
    monkeypatch.setattr(service, "mqtt", Broken())
    monkeypatch.setattr(service.auditor, "sweep", lambda: done.append("audits"))
    monkeypatch.setattr(service.admission, "forget", lambda names: done.append("load"))
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(service._tidy())
    assert done[-2:] == ["audits", "load"]
