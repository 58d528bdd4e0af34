"""The Prometheus text, and what the server tells there and elsewhere of its audits."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from own_model import write_model
from service_fakes import frame, subprotocols

from service.metrics import CONTENT_TYPE, Histogram, Metric, render
from service.registry import Model, load
from service.settings import ModelSource


def test_the_text_is_prometheus_own() -> None:
    odd = 'a"b\\c\nd'
    text = render(
        [
            Metric("things_total", "counter", "Things.", [({"model": "m"}, 3), ({"model": odd}, 0.25)]),
            Histogram("size", "Sizes.", (0.5, 2.0), [({"model": "m"}, (1, 2, 4), 12.5)]),
            Metric("level", "gauge", "One.", [({}, 1e-7)]),
        ]
    )
    assert text == (
        "# HELP things_total Things.\n# TYPE things_total counter\n"
        'things_total{model="m"} 3\nthings_total{model="a\\"b\\\\c\\nd"} 0.25\n'
        "# HELP size Sizes.\n# TYPE size histogram\n"
        'size_bucket{model="m",le="0.5"} 1\nsize_bucket{model="m",le="2"} 3\nsize_bucket{model="m",le="+Inf"} 7\n'
        'size_sum{model="m"} 12.5\nsize_count{model="m"} 7\n'
        "# HELP level One.\n# TYPE level gauge\nlevel 1e-07\n"
    )


def test_buckets_must_fit_their_ends() -> None:
    with pytest.raises(ValueError, match="expected 2 buckets of size, got 1"):
        render([Histogram("size", "Sizes.", (1.0,), [({}, (1,), 1.0)])])


@pytest.fixture
def model(tmp_path: Path) -> Model:
    found = load("own", ModelSource(path=write_model(tmp_path / "own.onnx", labels=("person",))))
    found.warm()
    return found


def scraped(client) -> dict[str, float]:
    response = client.get("/metrics")
    assert response.headers["content-type"] == CONTENT_TYPE
    samples = (line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


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
    assert samples['afterimage_audits_total{model="own"}'] >= 1
    assert samples['afterimage_audit_error_bucket{model="own",le="+Inf"}'] >= 1
    assert samples['afterimage_audit_error_count{model="own"}'] == samples['afterimage_audits_total{model="own"}']
    assert samples["afterimage_audit_seconds_total"] > 0
    assert 0 <= samples['afterimage_threshold_factor{model="own"}'] <= 2
    memory = client.get("/v1/models").json()["memory_bytes"]
    assert memory["audits"] == memory["streams"] == model.memory.stream
    assert client.get("/v1/streams/door").json()["audit"]["audits"] >= 1


def test_audits_can_be_turned_off(make_client, model: Model) -> None:
    client = make_client(model, audit_share=0.0)
    with pytest.raises(AssertionError, match="no audit came"):
        stream_until_audited(client, 2.0)
    assert scraped(client) == {"afterimage_audit_seconds_total": 0.0}
    assert client.get("/v1/streams/door").json()["audit"] is None
