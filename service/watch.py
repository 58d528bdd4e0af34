"""Who is told what becomes of frames, once: the stream's figures, the metrics, and spans where they are wanted.

All but `image` is called on the event loop, and costs a frame some ten microseconds (docs/observability.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from clients.wire import FrameMessage
from service.admission import Overloaded
from service.caches import CacheFull
from service.codec import CodecError
from service.errors import Problem
from service.jobs import Computed, FrameJob, Refused
from service.metrics import Cause, Ending, Metrics, ModelMetrics, Outcome
from service.streams import Stream
from service.traces import Traces


class Watch:
    """traces : None where there are none. wall : Unix time, seconds."""

    def __init__(self, metrics: Metrics, traces: Traces | None = None, wall: Callable[[], float] = time.time) -> None:
        self.metrics = metrics
        self.traces = traces
        self._wall = wall

    def opened(self, stream: Stream) -> None:
        """A connection has been given the stream."""
        stream.figures.opened()

    def received(self, stream: Stream, frame: FrameMessage) -> None:
        """A frame came."""
        size = len(frame.payload)
        stream.counters.received += 1
        stream.figures.received(size)
        stream.figures.judge_clock(frame.capture_ts_us, self._wall())
        metrics = self._of(stream)
        metrics.received.inc()
        metrics.bytes.inc(size)

    def dropped(self, stream: Stream, count: int, cause: Cause) -> None:
        """So many frames will not be computed."""
        if count:
            stream.counters.dropped += count
            stream.figures.dropped(count, cause)
            self._of(stream).dropped(count, cause)

    def refused(self, stream: Stream, refused: Refused | None = None) -> None:
        """A frame was refused, or its computation failed. refused : None for one that could not be read."""
        if refused is None or refused.error_id is None:
            stream.counters.refused += 1
            self._of(stream).outcome("refused")
        else:
            stream.counters.failed += 1
            self._of(stream).outcome("failed")

    def computed(self, stream: Stream, job: FrameJob, computed: Computed) -> Callable[[], None]:
        """A frame was computed; to be called when its result has been sent."""
        outcome, answered_ns = computed.outcome, time.perf_counter_ns()
        spent_ns = (
            computed.queue_ns, outcome.decode_ns, outcome.diff_ns, outcome.infer_ns, answered_ns - job.received_ns
        )  # fmt: skip
        fraction = outcome.compute_fraction
        stream.counters.results += 1
        stream.counters.compute_fraction_sum += fraction
        stream.figures.computed(
            job.frame.seq, outcome.decision, outcome.reason, fraction, tuple(ns / 1e6 for ns in spent_ns)
        )
        self._of(stream).computed(outcome.decision, outcome.reason, fraction, tuple(ns / 1e9 for ns in spent_ns))
        return lambda: self._sent(stream, job, computed, answered_ns)

    def image(self, model: str, failure: Exception | None) -> None:
        """A single image was computed, or not, and why. In any thread."""
        refused = isinstance(failure, CodecError | Problem | Overloaded | CacheFull)
        outcome: Outcome = "computed" if failure is None else "refused" if refused else "failed"
        self.metrics.images.labels(model, outcome).inc()

    def connection_refused(self, code: str) -> None:
        """A connection was given no stream. code : of the wire's errors."""
        self.metrics.connections_refused.labels(code).inc()

    def stream_ended(self, cause: Ending) -> None:
        """A stream was forgotten."""
        self.metrics.streams_ended.labels(cause).inc()

    def _sent(self, stream: Stream, job: FrameJob, computed: Computed, answered_ns: int) -> None:
        sent_ns = time.perf_counter_ns()
        age_s = (sent_ns - job.received_ns) / 1e9
        stream.figures.sent(age_s * 1e3)
        metrics = self._of(stream)
        metrics.aged(age_s, "receipt")
        if stream.figures.clock_usable:
            metrics.aged(max(0.0, self._wall() - job.frame.capture_ts_us / 1e6), "capture")
        if self.traces is not None:
            self.traces.frame(metrics.model, job, computed, answered_ns, sent_ns)

    def _of(self, stream: Stream) -> ModelMetrics:
        return self.metrics.of(stream.model or "none")
