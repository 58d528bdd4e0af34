"""Spans of a sample of frames, sent to an OpenTelemetry collector over OTLP/HTTP by a thread of its own.

A frame never waits: its spans are made from times that are known anyway, and put into a bounded queue; where the
collector is slow or gone they are lost. OpenTelemetry is an extra, and imported only where an endpoint is set.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from service.jobs import Computed, FrameJob
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

SPANS = ("ingest", "queue", "decode", "diff", "infer", "send")
"""Children of the span `frame`."""

QUEUE_SPANS = 4096
BATCH_SPANS = 512
DELAY_MS = 2000
SEND_TIMEOUT_S = 5.0
SELDOM_S = 60.0
TRACES_PATH = "/v1/traces"


class TracesError(RuntimeError):
    """Spans are asked for and cannot be made; the message says what to install."""


class Traces:
    """Makes spans of the frames that are drawn. processor : takes them; must not block.

    share : of frames. chance : uniform numbers from 0 to 1.
    """

    def __init__(self, processor: SpanProcessor, share: float, chance: Callable[[], float] = random.random) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        # Only what is drawn is made, and the process's own end is bounded: no hook of the library's.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create({"service.name": "afterimage"}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("afterimage")
        self._share, self._chance = share, chance

    def frame(self, model: str, job: FrameJob, computed: Computed, answered_ns: int, sent_ns: int) -> None:
        """A frame's result was made, and sent; times as `time.perf_counter_ns` gives them.

        Decode, diff and infer lie end to end after the queue: scaling the image falls between the first two, decoding
        the outputs between the last and `send`.
        """
        if self._chance() >= self._share:
            return
        to_unix = time.time_ns() - time.perf_counter_ns()
        received = job.received_ns + to_unix
        outcome = computed.outcome
        attributes = {
            "afterimage.stream_id": job.stream_id, "afterimage.model": model, "afterimage.seq": job.frame.seq,
            "afterimage.decision": outcome.decision, "afterimage.reason": outcome.reason,
            "afterimage.compute_fraction": outcome.compute_fraction, "afterimage.bytes": len(job.frame.payload),
        }  # fmt: skip
        root = self._tracer.start_span("frame", start_time=received, attributes=attributes)
        queued, taken = job.queued_ns + to_unix, received + computed.queue_ns
        self._child(root, "ingest", received, queued)
        self._child(root, "queue", queued, taken)
        begun = taken
        for name, spent_ns in (
            ("decode", outcome.decode_ns), ("diff", outcome.diff_ns), ("infer", outcome.infer_ns)
        ):  # fmt: skip
            self._child(root, name, begun, begun + spent_ns)
            begun += spent_ns
        self._child(root, "send", answered_ns + to_unix, sent_ns + to_unix)
        root.end(sent_ns + to_unix)

    def close(self, timeout_s: float) -> bool:
        """Send what waits, for so long at most; whether that was enough. Blocks: not for the event loop."""
        ending = threading.Thread(target=self._provider.shutdown, name="afterimage-traces-end", daemon=True)
        ending.start()
        ending.join(timeout_s)
        return not ending.is_alive()

    def _child(self, root: Span, name: str, start_ns: int, end_ns: int) -> None:
        from opentelemetry.trace import set_span_in_context

        span = self._tracer.start_span(name, set_span_in_context(root), start_time=start_ns)
        span.end(end_ns)


class Seldom(logging.Filter):
    """Lets each kind of entry through once a minute: a collector that is gone is not worth a line each second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let an entry through. Its kind is its text before values are put in."""
        kind, now = str(record.msg), self._clock()
        if now - self._told.get(kind, -SELDOM_S) < SELDOM_S:
            return False
        self._told[kind] = now
        return True


_SELDOM = Seldom()


def open_traces(settings: Settings) -> Traces | None:
    """As the settings say; None where they name no collector. Raises TracesError where the extra is not installed."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracesError(
            f"otlp_endpoint is set and OpenTelemetry is not installed ({error}): pip install 'afterimage[telemetry]'"
        ) from error
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(_SELDOM)
    exporter = OTLPSpanExporter(endpoint=traces_url(settings.otlp_endpoint), timeout=SEND_TIMEOUT_S)
    processor = BatchSpanProcessor(
        exporter, max_queue_size=QUEUE_SPANS, max_export_batch_size=BATCH_SPANS, schedule_delay_millis=DELAY_MS
    )
    return Traces(processor, settings.trace_share)


def traces_url(endpoint: str) -> str:
    """Where spans go: an endpoint without a path gets the usual one."""
    parts = urlsplit(endpoint)
    return endpoint if parts.path.strip("/") else urlunsplit(parts._replace(path=TRACES_PATH))
