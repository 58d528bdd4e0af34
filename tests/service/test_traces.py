"""Spans of frames: what they say, that they reach a collector, and that a collector that is gone costs nothing."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise

import pytest
from service_fakes import FakeEngine, frame, image, make_settings, subprotocols

from clients.wire import Flags, FrameMessage, Op
from service import codec
from service.app import create_app
from service.jobs import Computed, FrameJob
from service.pipeline import FramePipeline
from service.traces import SPANS, Seldom, Traces, TracesError, open_traces, traces_url

pytest.importorskip("opentelemetry.sdk.trace", reason="an extra")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def computed_frame(engine: FakeEngine) -> tuple[FrameJob, Computed]:
    model = engine.model()
    received_ns = time.perf_counter_ns()
    pipeline = FramePipeline(model, model.open_session(), codec.DEFAULT_LIMITS)
    message = FrameMessage(Op.IMAGE, Flags.NONE, 3, 7, image())
    job = FrameJob("door", message, pipeline, lambda *_: None, lambda: False, received_ns, False)
    queue_ns = time.perf_counter_ns() - received_ns
    return job, Computed(pipeline.run(message.payload), queue_ns)


def test_a_frame_is_a_span_with_its_stages_inside(engine: FakeEngine) -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(SimpleSpanProcessor(exporter), 1.0)
    job, computed = computed_frame(engine)
    answered, sent = time.perf_counter_ns(), time.perf_counter_ns() + 1_000_000
    traces.frame("fake", job, computed, answered, sent)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"frame", *SPANS}
    root = spans.pop("frame")
    assert root.attributes["afterimage.stream_id"] == "door"
    assert root.attributes["afterimage.decision"] == "keyframe"
    assert root.attributes["afterimage.seq"] == 3
    assert root.resource.attributes["service.name"] == "afterimage"
    assert abs(root.start_time - time.time_ns()) < 60e9, "Unix time"
    assert root.end_time - root.start_time == sent - job.received_ns
    for span in spans.values():
        assert span.parent.span_id == root.context.span_id
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time
    ordered = [spans[name] for name in SPANS]
    for before, after in pairwise(ordered):
        assert before.end_time <= after.start_time, after.name
    assert spans["decode"].end_time - spans["decode"].start_time == computed.outcome.decode_ns
    assert spans["send"].end_time - spans["send"].start_time == sent - answered


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.01, 1), (0.5, 50), (1.0, 100)])
def test_only_a_share_of_the_frames_is_drawn(engine: FakeEngine, share: float, expected: int) -> None:
    exporter, chances = InMemorySpanExporter(), iter(range(100))
    traces = Traces(SimpleSpanProcessor(exporter), share, lambda: next(chances) / 100)
    job, computed = computed_frame(engine)
    for _ in range(100):
        traces.frame("fake", job, computed, 1, 2)
    assert len(exporter.get_finished_spans()) == expected * (1 + len(SPANS))


class Collector(HTTPServer):
    """Takes spans on loopback. Clear `gate` to have requests wait."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []
        self.asked, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def names(self) -> list[str]:
        return [
            span.name
            for _, request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.set()
        assert self.server.gate.wait(20), "the test forgot to open the gate"
        self.server.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the test's stderr."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    thread.join(5)
    server.server_close()


def send_frames(client, count: int) -> None:
    with client.websocket_connect("/v1/streams/door/ws", subprotocols=subprotocols()) as socket:
        socket.send_text('{"type":"hello"}')
        socket.receive_json()
        for seq in range(1, count + 1):
            socket.send_bytes(frame(seq))
            assert socket.receive_json()["type"] == "result"


def test_spans_of_a_server_reach_a_collector(make_client, collector: Collector) -> None:
    client = make_client(otlp_endpoint=collector.url, trace_share=1.0)
    send_frames(client, 3)
    assert client.app.state.service.watch.traces.close(10)
    assert {path for path, _ in collector.requests} == {"/v1/traces"}
    names = collector.names()
    assert {name: names.count(name) for name in ("frame", *SPANS)} == dict.fromkeys(("frame", *SPANS), 3)
    request = collector.requests[0][1]
    attributes = {item.key: item.value.string_value for item in request.resource_spans[0].resource.attributes}
    assert attributes["service.name"] == "afterimage"
    assert "door" in json.dumps([str(item) for item in request.resource_spans[0].scope_spans[0].spans])


def test_a_collector_that_does_not_answer_holds_nothing_up(make_client, collector: Collector) -> None:
    collector.gate.clear()
    client = make_client(otlp_endpoint=collector.url, trace_share=1.0)
    send_frames(client, 3)
    traces = client.app.state.service.watch.traces
    assert not traces.close(0.05), "it is given up"
    assert collector.asked.wait(10)
    assert client.get("/healthz").status_code == 200


def test_the_log_says_seldom_that_a_collector_is_gone() -> None:
    now = 0.0
    seldom = Seldom(lambda: now)

    def passes(text: str, *values: object) -> bool:
        return seldom.filter(logging.LogRecord("x", logging.WARNING, "x", 1, text, values, None))

    assert [passes("gone: %s", number) for number in range(3)] == [True, False, False]
    assert passes("given up")
    now = 59.0
    assert not passes("gone: %s", 4)
    now = 60.0
    assert passes("gone: %s", 5)


def test_a_collector_that_is_gone_fills_no_log(
    make_client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.traces._SELDOM._told", {})
    client = make_client(otlp_endpoint="http://127.0.0.1:9", trace_share=1.0)
    send_frames(client, 2)
    client.app.state.service.watch.traces.close(10)
    kinds = [record.msg for record in caplog.records if record.name.startswith("opentelemetry.exporter")]
    assert len(set(kinds)) == len(kinds) > 0


def test_without_the_extra_the_start_says_what_to_install(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    settings = make_settings(otlp_endpoint="http://127.0.0.1:4318")
    with pytest.raises(TracesError, match=r"pip install 'afterimage\[telemetry\]'"):
        create_app(settings)
    assert open_traces(make_settings()) is None, "nobody asked"


def test_opentelemetry_is_not_imported_unless_it_is_asked_for() -> None:
    assert importlib.util.find_spec("opentelemetry.sdk") is not None, "it could be"
    script = "import sys, service.app; print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector/otlp/v1/traces", "https://collector/otlp/v1/traces"),
    ],
)
def test_an_endpoint_without_a_path_gets_the_usual_one(endpoint: str, expected: str) -> None:
    assert traces_url(endpoint) == expected
