"""A camera of the configuration: a stream like others, that no client gets, and whose troubles are nobody else's."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from cameras import PATIENCE_S, clip, rtsp_server, until
from service_fakes import subprotocols
from starlette.websockets import WebSocketDisconnect

from service.ingest.feed import STARTING, Feed, Seen

ADDRESS = "/v1/streams/door"


@pytest.fixture
def film(tmp_path: Path) -> str:
    """A minute that changes ten times a second."""
    return clip(tmp_path / "film.mp4", [50 + 100 * (number % 2) for number in range(600)], fps=10)


def feed_of(client, name: str = "door") -> Feed:
    return client.app.state.service.feeds.get(name)


def figures(client) -> dict:
    return client.get(ADDRESS).json()["source"]


def watch(client, feed: Feed) -> tuple[list[Seen], threading.Event]:
    """What the feed tells from now on, and when it does."""
    seen, told = [], threading.Event()
    client.portal.call(feed.subscribe, lambda one: (seen.append(one), told.set()))
    return seen, told


def test_a_camera_is_a_stream_whose_results_come(make_client) -> None:
    """With a real RTSP server."""
    with rtsp_server() as server:
        client = make_client(sources={"door": {"url": server.url(), "min_confidence": 0.5, "max_fps": 5}})
        feed = feed_of(client)
        seen, told = watch(client, feed)
        assert told.wait(PATIENCE_S)
        assert seen[0].image.shape == (120, 160, 3)
        assert (seen[0].result.width, seen[0].result.height) == (160, 120)
        assert seen[0].result.decision == "keyframe"
        assert seen[0].result.age_ms is not None
        assert len(seen[0].result.detections) == 1
        until(lambda: len(seen) > 2)
        assert feed.latest is not None
        assert feed.latest.image.shape == (120, 160, 3)
        assert [one.result.seq for one in seen] == sorted({one.result.seq for one in seen})

        described = client.get(ADDRESS).json()
        assert described["state"] == "live"
        assert described["model"] == "fake"
        assert not described["anonymous"]
        assert described["frames"]["results"] >= 3
        assert described["source"]["state"] == "live"
        assert described["source"]["decoded"] >= 3
        server.process.kill()
        until(lambda: figures(client)["reconnects"] > 0)
        assert figures(client)["reason"]
        assert "secret" not in client.get("/v1/streams").text
        metrics = client.get("/metrics").text
        assert "secret" not in metrics
        assert "afterimage_sources{" in metrics
        assert client.get("/readyz").status_code == 200


def test_a_camera_that_is_away_keeps_nobody_waiting(make_client, caplog) -> None:
    client = make_client(sources={"door": {"url": "rtsp://admin:geheim@127.0.0.1:9/x"}})
    assert client.get("/readyz").status_code == 200
    until(lambda: "waiting" in figures(client)["state"] or figures(client)["reconnects"])
    until(lambda: "connection refused" in caplog.text)
    assert client.post("/v1/streams").status_code == 201
    assert "geheim" not in caplog.text + client.get(ADDRESS).text
    assert caplog.text.count("camera door") == 1, "said once"


def test_clients_are_not_given_a_camera(make_client, film: str) -> None:
    client = make_client(sources={"door": {"url": film}})
    with client.websocket_connect(f"{ADDRESS}/ws", subprotocols=subprotocols()) as socket:
        socket.send_text('{"type":"hello"}')
        said = json.loads(socket.receive_text())
        assert said["code"] == "unauthorized"
        assert said["detail"] == "stream 'door' is a camera of the server's configuration; use another id"
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1008
    refused = client.delete(ADDRESS)
    assert (refused.status_code, refused.json()["code"]) == (409, "configured")
    assert client.get(ADDRESS).status_code == 200


def test_a_camera_never_expires_and_outlives_a_reload(make_client, engine, film: str) -> None:
    client = make_client(sources={"door": {"url": film}})
    service, feed = client.app.state.service, feed_of(client)
    seen, told = watch(client, feed)
    assert told.wait(PATIENCE_S)
    service.streams.sweep(now=1e12)
    assert service.streams.get("door") is not None
    fresh = engine.model()
    client.portal.call(service.registry.replace, "fake", fresh)
    until(lambda: service.streams.get("door").pipeline.model is fresh)
    count = len(seen)
    until(lambda: len(seen) > count)


def test_a_camera_ends_with_a_model_that_is_unloaded_by_force(make_client, engine, film: str) -> None:
    client = make_client(engine.model("a"), engine.model("b"), sources={"door": {"url": film, "model": "b"}})
    service, feed = client.app.state.service, feed_of(client)
    _, told = watch(client, feed)
    assert told.wait(PATIENCE_S)
    assert client.delete("/v1/models/b").status_code == 409
    assert client.delete("/v1/models/b?force=true").status_code == 204
    assert feed.brief()["state"] == "stopped"
    assert feed.brief()["reason"] == "model b was unloaded"
    until(lambda: feed.status.pid is None)
    told = client.get(ADDRESS)
    assert told.status_code == 200, "it is said why the camera is not watched any more"
    assert (told.json()["source"]["state"], told.json()["model"]) == ("stopped", None)
    assert service.streams.get("door").pipeline is None
    service.streams.sweep(now=1e12)
    assert client.get(ADDRESS).status_code == 200


def test_a_camera_that_waits_for_its_model_does_not_begin_after_its_end(make_client, engine, film: str) -> None:
    client = make_client(sources={"door": {"url": film, "model": "later"}})
    until(lambda: figures(client)["reason"])
    feed = feed_of(client)
    client.portal.call(feed.end, 1008, "model later was unloaded")
    until(feed._task.cancelled)
    assert (figures(client)["state"], figures(client)["reason"]) == ("stopped", "model later was unloaded")


def test_a_model_that_is_not_there_is_waited_for(make_client, engine, film: str) -> None:
    client = make_client(sources={"door": {"url": film, "model": "later"}})
    until(lambda: figures(client)["reason"])
    assert figures(client)["state"] == STARTING
    assert "later" in figures(client)["reason"]
    client.app.state.service.registry.register(engine.model("later"))
    until(lambda: feed_of(client).latest is not None)
    assert figures(client)["reason"] is None
    assert client.get(ADDRESS).json()["model"] == "later"


def test_a_frame_that_fails_is_counted_and_the_next_ones_come(make_client, engine, film: str) -> None:
    client = make_client(sources={"door": {"url": film}})
    seen, told = watch(client, feed_of(client))
    assert told.wait(PATIENCE_S)
    engine.failures.append(RuntimeError("broken"))
    until(lambda: client.get(ADDRESS).json()["frames"]["failed"] == 1)
    count = len(seen)
    until(lambda: len(seen) > count)


def test_a_callback_that_fails_hurts_nobody_and_one_that_left_is_not_called(make_client, film: str) -> None:
    client = make_client(sources={"door": {"url": film}})
    feed, bad, seen = feed_of(client), [], []

    def broken(one: Seen) -> None:
        bad.append(one)
        raise ValueError("broken")

    leave = client.portal.call(feed.subscribe, broken)
    client.portal.call(feed.subscribe, seen.append)
    until(lambda: len(seen) > 1)
    client.portal.call(leave)
    count, before = len(bad), len(seen)
    until(lambda: len(seen) > before + 1)
    assert len(bad) == count


def test_a_worker_that_is_busy_gets_the_latest_picture(make_client, engine, tmp_path: Path) -> None:
    fast = clip(tmp_path / "fast.mp4", [50 + number % 200 for number in range(3000)], fps=50)
    client = make_client(sources={"door": {"url": fast, "max_fps": None}})
    seen, told = watch(client, feed_of(client))
    assert told.wait(PATIENCE_S)
    engine.gate.clear()
    until(lambda: client.get(ADDRESS).json()["dropped_by_cause"].get("replaced", 0) >= 5)
    assert client.get(ADDRESS).json()["waiting"] <= 2
    count = len(seen)
    engine.gate.set()
    until(lambda: len(seen) >= count + 3)
    numbers = [one.result.seq for one in seen]
    assert numbers[count + 1] - numbers[count] > 3, "what came meanwhile was passed over"


def test_a_drain_ends_cameras_in_time(make_client, engine, film: str) -> None:
    client = make_client(sources={"door": {"url": film}})
    feed = feed_of(client)
    _, told = watch(client, feed)
    assert told.wait(PATIENCE_S)
    pid = feed.status.pid
    os.kill(pid, signal.SIGSTOP)  # even where its process is stuck
    client.portal.call(client.app.state.service.drain)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert feed.brief()["state"] == "stopped"
