"""Models that come, change and go under streams: nothing is dropped that was not asked to be."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from service_fakes import FakeEngine, frame, image, subprotocols, wait_until

from service.life import MAX_WAITING
from service.registry import Model, ModelFailed

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture
def loads(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Files of any name stand for fake models; loading waits for the event that this gives, which is set."""
    gate = threading.Event()
    gate.set()

    def load(name: str, source: object, engine_of_settings: object = None) -> Model:
        assert gate.wait(20)
        if name.startswith("broken") or load.broken:
            raise ModelFailed(f"{name}: not an ONNX model")
        return engine.model(name, labels=load.labels)

    load.broken, load.labels = False, tuple(f"grey{level}" for level in range(26))
    gate.load = load
    monkeypatch.setattr("service.registry.load", load)
    monkeypatch.setattr("service.library.Library.find", lambda self, reference: (reference, None))
    yield gate
    gate.set()


def add(client, name: str):
    return client.post("/v1/models", json={"model": name})


def states(client) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in client.get("/v1/models").json()["models"]}


@pytest.fixture
def connect(make_client) -> Iterator[Callable[..., Any]]:
    """A function that opens a stream and says hello; what it opened is closed before its app ends."""
    with ExitStack() as opened:

        def open_stream(client, stream_id: str, **hello: Any):
            path = f"/v1/streams/{stream_id}/ws"
            socket = opened.enter_context(client.websocket_connect(path, subprotocols=subprotocols()))
            socket.send_text(json.dumps({"type": "hello", **hello}))
            ready = socket.receive_json()
            assert ready["type"] == "ready", ready
            return socket

        yield open_stream


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_a_model_is_loaded_beside_what_runs(make_client, connect, engine: FakeEngine, loads) -> None:
    client = make_client()
    door = connect(client, "door")
    loads.clear()
    thread, answers = in_thread(lambda: add(client, "cars"))
    wait_until(lambda: states(client).get("cars") == "loading")
    for seq in (1, 2):
        door.send_bytes(frame(seq))
        assert door.receive_json()["seq"] == seq, "the stream goes on meanwhile"
    loads.set()
    thread.join(10)
    (response,) = answers
    assert response.status_code == 201
    assert (response.json()["name"], response.json()["state"], response.json()["version"]) == ("cars", "ready", 1)
    assert client.post("/v1/detect?model=cars", content=image(), headers=JPEG).json()["model"] == "cars"


def test_a_load_that_fails_says_why_and_may_be_tried_again(make_client, loads) -> None:
    client = make_client()
    loads.load.broken = True
    response = add(client, "cars")
    assert (response.status_code, response.json()["code"]) == (422, "model_failed")
    assert response.json()["detail"] == "cars: not an ONNX model"
    assert states(client)["cars"] == "failed"
    loads.load.broken = False
    assert add(client, "cars").status_code == 201
    assert states(client)["cars"] == "ready"
    assert add(client, "cars").status_code == 409, "it is there"


def test_models_are_bounded(make_client, loads) -> None:
    client = make_client()
    client.app.state.service.registry._max_models = 2
    assert add(client, "cars").status_code == 201
    response = add(client, "dogs")
    assert (response.status_code, "at most 2" in response.json()["detail"]) == (409, True)


def test_loads_wait_in_turn_and_not_too_many(make_client, loads) -> None:
    client = make_client()
    loads.clear()
    threads = [in_thread(lambda n=n: add(client, f"m{n}")) for n in range(MAX_WAITING + 1)]
    life = client.app.state.service.life
    wait_until(lambda: life._waiting == MAX_WAITING + 1)
    response = add(client, "late")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert list(states(client).values()).count("loading") == 1, "one at a time"
    loads.set()
    for thread, answers in threads:
        thread.join(10)
        assert answers[0].status_code == 201


def test_a_hot_reload_under_two_streams_drops_nothing(make_client, connect, engine: FakeEngine, loads) -> None:
    client = make_client()
    add(client, "cars")
    engine.sessions.clear()
    door, yard = connect(client, "door", model="cars", policy="all"), connect(client, "yard", model="cars")
    for socket in (door, yard):
        socket.send_bytes(frame(1))
        assert socket.receive_json()["decision"] == "keyframe"
    loads.clear()
    loads.load.labels = tuple(f"new{level}" for level in range(26))
    thread, answers = in_thread(lambda: client.post("/v1/models/cars/reload"))
    for seq in range(2, 12):
        door.send_bytes(frame(seq))
        result = door.receive_json()
        assert (result["seq"], result["decision"]) == (seq, "reuse"), "the old model goes on while the new one is made"
    loads.set()
    thread.join(10)
    assert answers[0].json()["version"] == 2
    for socket, seq in ((door, 12), (yard, 2)):
        for number, decision in ((seq, "keyframe"), (seq + 1, "reuse")):
            socket.send_bytes(frame(number))
            result = socket.receive_json()
            assert (result["seq"], result["decision"], result["dropped"]) == (number, decision, 0)
            assert result["detections"][0]["label"] == "new10"
    assert client.get("/v1/streams/door").json()["frames"]["dropped"] == 0
    assert (
        client.post("/v1/detect?model=cars", content=image(), headers=JPEG).json()["detections"][0]["label"] == "new10"
    )


def test_frames_that_wait_at_a_reload_are_computed(make_client, connect, engine: FakeEngine, loads) -> None:
    client = make_client()
    add(client, "cars")
    door = connect(client, "door", model="cars", policy="all")
    service = client.app.state.service
    engine.gate.clear()
    while engine.entered.acquire(blocking=False):  # those of the model's first runs
        pass
    door.send_bytes(frame(1))
    assert engine.entered.acquire(timeout=30), "the first frame is being computed"
    door.send_bytes(frame(2))
    wait_until(lambda: len(service.streams.get("door").lane.pending) == 1)
    fresh = engine.model("cars")
    service.registry.replace("cars", fresh)
    engine.gate.set()
    results = [door.receive_json() for _ in range(2)]
    assert [result["seq"] for result in results] == [1, 2]
    assert results[1]["decision"] == "keyframe"
    assert service.streams.get("door").pipeline.model is fresh


def test_a_reload_that_fails_leaves_the_old_model(make_client, connect, loads) -> None:
    client = make_client()
    add(client, "cars")
    door = connect(client, "door", model="cars")
    door.send_bytes(frame(1))
    door.receive_json()
    loads.load.broken = True
    response = client.post("/v1/models/cars/reload")
    assert (response.status_code, response.json()["detail"]) == (422, "cars: not an ONNX model")
    assert states(client)["cars"] == "ready"
    door.send_bytes(frame(2))
    assert door.receive_json()["decision"] == "reuse"


def test_unload_is_refused_while_something_needs_the_model(make_client, connect, loads) -> None:
    client = make_client()
    add(client, "cars")
    door = connect(client, "door", model="cars")
    response = client.delete("/v1/models/cars")
    assert (response.status_code, response.json()["code"]) == (409, "model_in_use")
    assert "1 streams" in response.json()["detail"]
    response = client.delete("/v1/models/fake")
    assert (response.status_code, "default" in response.json()["detail"]) == (409, True)
    assert client.delete("/v1/models/none").status_code == 404
    door.send_bytes(frame(1))
    assert door.receive_json()["seq"] == 1


def test_a_forced_unload_closes_its_streams_and_no_others(make_client, connect, engine: FakeEngine, loads) -> None:
    client = make_client()
    add(client, "cars")
    door, yard = connect(client, "door", model="cars"), connect(client, "yard")
    assert client.delete("/v1/models/cars?force=true").status_code == 204
    message = door.receive()
    assert (message["type"], message["code"], message["reason"]) == (
        "websocket.close", 1008, "model cars was unloaded",
    )  # fmt: skip
    assert "cars" not in states(client)
    assert client.get("/v1/streams/door").status_code == 404
    assert client.post("/v1/detect?model=cars", content=image(), headers=JPEG).status_code == 404
    yard.send_bytes(frame(1))
    assert yard.receive_json()["seq"] == 1
    assert add(client, "cars").status_code == 201, "it may come back"
    assert client.post("/v1/detect?model=cars", content=image(), headers=JPEG).status_code == 200


def test_requests_that_wait_are_answered_before_a_model_goes(make_client, engine: FakeEngine, loads) -> None:
    client = make_client()
    add(client, "cars")
    engine.gate.clear()
    posts = [in_thread(lambda: client.post("/v1/detect?model=cars", content=image(), headers=JPEG)) for _ in range(2)]
    seats = client.app.state.service.seats
    wait_until(lambda: "cars" in seats and len(seats["cars"].waiting) == 2)
    unload, answers = in_thread(lambda: client.delete("/v1/models/cars"))
    wait_until(lambda: states(client)["cars"] == "unloading")
    assert client.post("/v1/detect?model=cars", content=image(), headers=JPEG).status_code == 404
    engine.gate.set()
    for thread, responses in posts:
        thread.join(10)
        assert responses[0].status_code == 200
    unload.join(10)
    assert answers[0].status_code == 204
    assert "cars" not in states(client)


def test_the_default_model_goes_by_force_and_the_next_takes_its_place(make_client, loads) -> None:
    client = make_client()
    add(client, "cars")
    assert client.delete("/v1/models/fake?force=true").status_code == 204
    assert client.get("/readyz").json()["default_model"] == "cars"
    assert client.delete("/v1/models/cars?force=true").status_code == 204
    assert "no model" in client.get("/readyz").json()["detail"]
    assert client.post("/v1/detect", content=image(), headers=JPEG).status_code == 404


def test_nothing_is_loaded_while_the_server_drains(make_client, loads) -> None:
    client = make_client()
    client.app.state.service.draining = True
    assert add(client, "cars").status_code == 503
    client.app.state.service.draining = False


@pytest.mark.parametrize(
    "wanted",
    [{}, {"model": ""}, {"model": "a", "name": "../a"}, {"model": "a", "size": [1, 2]}, {"model": "a", "path": "/a"}],
)
def test_a_bad_wish(make_client, loads, wanted: dict) -> None:
    assert make_client().post("/v1/models", json=wanted).status_code == 422


def test_admin_requests_are_for_loopback(make_client, loads) -> None:
    client = make_client(host="0.0.0.0")
    for response in (
        add(client, "cars"),
        client.post("/v1/models/fake/reload"),
        client.delete("/v1/models/fake"),
        client.post("/v2/repository/models/fake/load"),
        client.post("/v2/repository/models/fake/unload"),
    ):
        assert response.status_code == 403


def test_those_who_wait_for_a_model_wait_for_one_compilation_and_hold_no_worker(make_client, engine, loads) -> None:
    client = make_client(workers=1)
    service = client.app.state.service
    service.registry.register_source("late", None)
    loads.clear()
    answers: list[int] = []

    def ask() -> None:
        answers.append(client.post("/v1/detect?model=late", content=image(), headers=JPEG).status_code)

    asking = [threading.Thread(target=ask) for _ in range(MAX_WAITING + 4)]
    for thread in asking:
        thread.start()
    wait_until(lambda: service.registry.state("late") == "loading")
    assert client.post("/v1/detect", content=image(), headers=JPEG).status_code == 200, "the worker is free"
    before = engine.compiles
    loads.set()
    for thread in asking:
        thread.join(20)
    assert answers == [200] * len(asking)
    assert engine.compiles == before + 1


def test_readiness_follows_the_default_model(make_client, loads) -> None:
    client = make_client()
    service = client.app.state.service
    service.registry.register_source("next", None)
    loads.clear()
    assert client.delete("/v1/models/fake?force=true").status_code == 204
    assert client.get("/readyz").status_code == 503
    assert service.registry.default == "next"
    loads.set()
    wait_until(lambda: client.get("/readyz").status_code == 200)


def test_a_default_that_failed_is_mended_by_a_reload(make_client, loads, engine) -> None:
    loads.load.broken = True
    client = make_client()
    service = client.app.state.service
    service.registry.register_source("other", None)
    service.registry._default = "other"
    service.warm, service.warm_error = False, "it failed"
    assert client.get("/readyz").status_code == 503
    loads.load.broken = False
    assert client.post("/v1/models/other/reload").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_a_model_that_is_too_much_beside_what_is_served_is_forgotten(
    make_client, engine: FakeEngine, loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.stream_bytes = 8 << 20
    client = make_client()
    monkeypatch.setattr("service.room.available_bytes", lambda: 70 << 20)
    refused = add(client, "cars")
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert "expected 8 MiB of memory for one more stream of cars and 64 MiB to spare" in refused.json()["detail"]
    assert "cars" not in states(client)
    monkeypatch.setattr("service.room.available_bytes", lambda: 1 << 40)
    assert add(client, "cars").status_code == 201
