"""The memory that the service counts: plans once, streams each, threads each."""

from __future__ import annotations

import threading
from pathlib import Path

from own_model import write_model
from service_fakes import image

from service.registry import load
from service.settings import ModelSource


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
