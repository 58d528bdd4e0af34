"""What is counted, and what a scrape tells of a server that has done all of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from own_model import write_model
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from service_fakes import FakeEngine, frame, huge_jpeg, image, subprotocols, wait_until

from clients.wire import Flags, FrameMessage, Op, encode_frame
from service.metrics import Cause, Metrics
from service.reasons import REASONS
from service.registry import Model, load
from service.settings import ModelSource

JPEG = {"content-type": "image/jpeg"}
STAGES = ("queue", "decode", "diff", "infer", "total")


def scraped(client) -> dict[str, float]:
    """Samples by name and labels, as the text has them."""
    response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in parse(response.text)
        for sample in family.samples
    }


def value(samples: dict[str, float], name: str, **labels: str) -> float:
    return samples[name + json.dumps(labels, sort_keys=True)]


def scraped_when(client, number: float, name: str, **labels: str) -> dict[str, float]:
    """The samples once one of them is at least `number`: some are counted after their answer is out."""
    found: list[dict[str, float]] = []

    def reached() -> bool:
        found[:] = [scraped(client)]
        return found[0].get(name + json.dumps(labels, sort_keys=True), 0) >= number

    wait_until(reached)
    return found[0]


@contextmanager
def connected(client, stream_id: str = "door", **fields: Any) -> Iterator[Any]:
    """A socket that has said hello; it has the answer as `said`."""
    with client.websocket_connect(f"/v1/streams/{stream_id}/ws", subprotocols=subprotocols()) as socket:
        socket.send_text(json.dumps({"type": "hello", **fields}))
        socket.said = socket.receive_json()
        yield socket


def test_children_are_looked_up_once_and_labels_are_bounded() -> None:
    metrics = Metrics()
    assert metrics.of("m") is metrics.of("m")
    for n in range(500):
        metrics.of("m").computed("partial", f"{n} of 9999 tiles changed", n / 500, (0.001,) * 5)
    (family,) = metrics.decisions.collect()
    (sample,) = family.samples
    assert (sample.labels["reason"], sample.value) == ("tiles_changed", 500)
    assert sample.labels["reason"] in REASONS
    assert Metrics().registry is not metrics.registry, "two services in a process count apart"
    assert not next(iter(Metrics().decisions.collect())).samples


def test_frames_are_counted_by_what_became_of_them(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connected(client) as socket:
        for seq, level in ((1, 100), (2, 100), (3, 50)):
            socket.send_bytes(frame(seq, level))
            assert socket.receive_json()["type"] == "result"
        socket.send_bytes(encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, 4, 7, huge_jpeg())))
        assert socket.receive_json()["code"] == "image_too_large"
        socket.send_bytes(frame(4))
        assert socket.receive_json()["code"] == "bad_seq"
        engine.failures.append(RuntimeError("inside"))
        socket.send_bytes(frame(6))
        assert socket.receive_json()["code"] == "internal"
        engine.gate.clear()
        socket.send_bytes(frame(7))
        wait_until(lambda: engine.entered.acquire(blocking=False))
        while engine.entered.acquire(blocking=False):
            pass
        lane = client.app.state.service.streams.get("door").lane
        wait_until(lambda: lane.running)
        for seq in (8, 9, 10):
            socket.send_bytes(frame(seq))
        wait_until(lambda: lane.dropped == 2)
        engine.gate.set()
        assert [socket.receive_json()["seq"] for _ in range(2)] == [7, 10]

        samples = scraped_when(client, 5, "afterimage_frame_age_seconds_count", model="fake", since="receipt")
        outcomes = ("computed", "reused", "refused", "failed", "dropped")
        counted = [value(samples, "afterimage_frames_total", model="fake", outcome=outcome) for outcome in outcomes]
        assert counted == [3, 2, 2, 1, 2]
        assert value(samples, "afterimage_drops_total", model="fake", cause="replaced") == 2
        assert value(samples, "afterimage_frames_received_total", model="fake") == 9, "one could not be read"
        assert value(samples, "afterimage_received_bytes_total", model="fake") > 5000
        for stage in STAGES:
            assert value(samples, "afterimage_frame_latency_seconds_count", model="fake", stage=stage) == 5
        assert value(samples, "afterimage_frame_age_seconds_count", model="fake", since="receipt") == 5
        assert value(samples, "afterimage_compute_fraction_bucket", model="fake", le="0.0") == 2
        assert value(samples, "afterimage_compute_fraction_count", model="fake") == 5
        assert not any('"since": "capture"' in name for name in samples), "microsecond 7 is no Unix time"
        assert not any("door" in name for name in samples), "no stream is named"


def test_drops_have_causes(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connected(client, max_fps=0.001) as socket:
        for seq, kind in ((1, "result"), (2, "ack"), (3, "ack")):
            socket.send_bytes(frame(seq))
            assert socket.receive_json()["type"] == kind
    with connected(client, "leaver") as socket:
        engine.gate.clear()
        lane = client.app.state.service.streams.get("leaver").lane
        socket.send_bytes(frame(1))
        wait_until(lambda: lane.running)
        socket.send_bytes(frame(2))
        wait_until(lambda: lane.pending)
    wait_until(lambda: not client.app.state.service.connections)
    engine.gate.set()
    samples = scraped(client)
    causes = {cause: value(samples, "afterimage_drops_total", model="fake", cause=cause) for cause in get_args(Cause)}
    assert causes == {"replaced": 0, "paced": 2, "full": 0, "left": 1}
    assert client.get("/v1/streams/door").json()["dropped_by_cause"] == {"paced": 2}


def test_age_since_capture_where_the_senders_clock_is_usable(make_client) -> None:
    client = make_client()
    with connected(client) as socket:
        for seq in (1, 2):
            socket.send_bytes(frame(seq, ts=int((time.time() - (0.5 if seq == 1 else 100)) * 1e6)))
            socket.receive_json()
        name = "afterimage_frame_age_seconds"
        samples = scraped_when(client, 2, f"{name}_count", model="fake", since="capture")
        assert value(samples, f"{name}_count", model="fake", since="capture") == 2
        assert 100.5 <= value(samples, f"{name}_sum", model="fake", since="capture") < 110
        assert value(samples, f"{name}_bucket", model="fake", since="capture", le="60.0") == 1


def test_streams_connections_and_single_images(make_client, engine: FakeEngine) -> None:
    client = make_client(max_streams=2)
    with connected(client):
        assert client.post("/v1/streams").status_code == 201
        with connected(client, "other") as other:
            assert other.said["code"] == "overloaded"
        client.post("/v1/detect", content=image(), headers=JPEG)
        engine.failures.append(RuntimeError("inside"))
        client.post("/v1/detect", content=image(), headers=JPEG)
        samples = scraped_when(client, 1e-9, "afterimage_worker_busy_seconds_total")
        assert value(samples, "afterimage_streams_active", state="connected") == 1
        assert value(samples, "afterimage_streams_active", state="detached") == 1
        assert value(samples, "afterimage_streams_limit") == 2
        assert value(samples, "afterimage_connections") >= 1
        assert value(samples, "afterimage_connections_refused_total", code="overloaded") == 1
        assert value(samples, "afterimage_models", state="ready") == 1
        assert value(samples, "afterimage_ready") == 1
        assert value(samples, "afterimage_workers") == 2
        assert value(samples, "afterimage_images_total", model="fake", outcome="computed") == 2, "one to be warm"
        assert value(samples, "afterimage_images_total", model="fake", outcome="failed") == 1
        assert value(samples, "afterimage_process_open_fds") > 3
        assert any(name.startswith("afterimage_build_info") for name in samples)
        client.delete("/v1/streams/door")
        assert value(scraped(client), "afterimage_streams_ended_total", cause="removed") == 1


def test_streams_that_expire_are_counted(make_client) -> None:
    client = make_client(resume_s=0.0)
    client.post("/v1/streams")
    client.app.state.service.streams.sweep()
    assert value(scraped(client), "afterimage_streams_ended_total", cause="expired") == 1


def test_what_waits_is_counted(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connected(client) as socket:
        engine.gate.clear()
        lane = client.app.state.service.streams.get("door").lane
        socket.send_bytes(frame(1))
        wait_until(lambda: lane.running)
        socket.send_bytes(frame(2))
        wait_until(lambda: lane.pending)
        assert value(scraped(client), "afterimage_queue_depth", lane="streams") == 1
        assert client.get("/v1/streams/door").json()["waiting"] == 1
        engine.gate.set()


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"],
)
def test_openmetrics_where_it_is_asked_for(make_client, accept: str) -> None:
    response = make_client().get("/metrics", headers={"accept": accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")
    names = {family.name for family in parse_openmetrics(response.text)}
    assert {"afterimage_frames", "afterimage_frame_latency_seconds", "afterimage_ready"} <= names


@pytest.mark.parametrize(
    "accept", ["text/plain; version=x", "application/openmetrics-text; version=abc", ";;=,", "*/*"]
)
def test_an_accept_header_of_any_kind_is_answered(make_client, accept: str) -> None:
    response = make_client().get("/metrics", headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_every_name_is_ours_and_every_metric_says_what_it_is(make_client) -> None:
    text = make_client().get("/metrics").text
    families = list(parse(text))
    assert all(family.name.startswith("afterimage_") and family.documentation for family in families)
    assert not re.search(r"_created\b", text)


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, 200),
        ({"metrics": "admin"}, 200),
        ({"metrics": "off"}, 404),
        ({"host": "0.0.0.0"}, 403),
        ({"host": "0.0.0.0", "metrics": "open"}, 200),
    ],
)
def test_who_may_scrape(make_client, settings: dict, status: int) -> None:
    assert make_client(**settings).get("/metrics").status_code == status


@pytest.fixture
def model(tmp_path: Path) -> Model:
    found = load("own", ModelSource(path=write_model(tmp_path / "own.onnx", labels=("person",))))
    found.warm()
    return found


def stream_until_audited(client, most_s: float = 60.0) -> dict:
    """Send frames one by one until a result tells of an audit."""
    deadline, seq = time.monotonic() + most_s, 0
    with client.websocket_connect("/v1/streams/door/ws", subprotocols=subprotocols()) as socket:
        socket.send_text(json.dumps({"type": "hello"}))
        assert socket.receive_json()["type"] == "ready"
        while time.monotonic() < deadline:
            seq += 1
            socket.send_bytes(frame(seq, 90 + seq % 3))
            result = socket.receive_json()
            assert result["type"] == "result"
            if "audit" in result:
                return result["audit"]
    raise AssertionError("no audit came")


def test_results_metrics_and_streams_tell_of_audits(make_client, model: Model) -> None:
    client = make_client(model, audit_share=0.5)
    audit = stream_until_audited(client)
    assert audit["audits"] == 1
    assert audit["age"] >= 1
    assert audit["violation"] == (audit["error"] > audit["allowed"]) == bool(audit["violations"])
    assert audit["confidence"] == 0.95
    samples = scraped(client)
    audits = value(samples, "afterimage_audits_total", model="own")
    assert audits >= 1
    assert value(samples, "afterimage_audit_error_bucket", model="own", le="+Inf") == audits
    assert value(samples, "afterimage_audit_error_count", model="own") == audits
    assert value(samples, "afterimage_audit_seconds_total") > 0
    assert 0 <= value(samples, "afterimage_threshold_factor", model="own") <= 2
    assert value(samples, "afterimage_decisions_total", model="own", decision="keyframe", reason="no_stored_frame") >= 1
    assert value(samples, "afterimage_cache_bytes", part="streams") == 2 * model.memory.stream, "and single images"
    assert value(samples, "afterimage_cache_bytes", part="models") == model.memory.shared
    memory = client.get("/v1/models").json()["memory_bytes"]
    assert 2 * memory["audits"] == memory["streams"] == 2 * model.memory.stream
    assert client.get("/v1/streams/door").json()["audit"]["audits"] >= 1


def test_audits_can_be_turned_off(make_client, model: Model) -> None:
    client = make_client(model, audit_share=0.0)
    with pytest.raises(AssertionError, match="no audit came"):
        stream_until_audited(client, 2.0)
    told = {name: number for name, number in scraped(client).items() if "audit" in name and "cache" not in name}
    assert told == {"afterimage_audit_seconds_total{}": 0.0}
    assert client.get("/v1/streams/door").json()["audit"] is None
