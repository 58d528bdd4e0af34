"""What a Prometheus server may know of a service's frames: counters and histograms that grow as frames come and go.

One registry for each service. Labels are bounded: names of registered models and words of closed sets, never a stream's
name. What is not counted but looked up at a scrape is in `service.collectors`.
"""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from service.figures import STAGES
from service.reasons import reason_label

Outcome = Literal["computed", "reused", "dropped", "refused", "failed"]
"""What becomes of a frame. computed : some of it at least; reused : nothing had changed."""

Cause = Literal["replaced", "paced", "full", "left"]
"""Why a frame was dropped: a newer one took its place, it came sooner than the stream's pace, it found no room, the
client left."""

Ending = Literal["expired", "removed", "moved"]
"""Why a stream is no more. moved : it goes on at another member of the cluster"""

REFUSALS = ("unauthorized", "unknown_model", "model_failed", "unsupported_output", "overloaded", "moved")
"""Codes of the errors with which a connection is given no stream; moved : it was sent to another member."""

Since = Literal["receipt", "capture"]

LATENCY_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
AGE_S = (0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)

# A series of dates beside every counter is twice the text, and nobody's question.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The instruments. Counting takes no lock but prometheus-client's own, for a moment each."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.received = Counter(
            "afterimage_frames_received", "Frames that came over streams.", ["model"], registry=registry
        )
        self.bytes = Counter(
            "afterimage_received_bytes", "Encoded images of those frames, bytes.", ["model"], registry=registry
        )
        self.frames = Counter(
            "afterimage_frames", "Frames of streams, by what became of them.", ["model", "outcome"], registry=registry
        )
        self.drops = Counter(
            "afterimage_drops", "Frames of streams that were dropped, by cause.", ["model", "cause"], registry=registry
        )
        self.decisions = Counter(
            "afterimage_decisions", "Frames of streams that were answered, by the engine's decision and its reason.",
            ["model", "decision", "reason"], registry=registry,
        )  # fmt: skip
        self.latency = Histogram(
            "afterimage_frame_latency_seconds", "Time that answered frames spent in each stage; total is from arrival "
            "to result.", ["model", "stage"], buckets=LATENCY_S, registry=registry,
        )  # fmt: skip
        self.age = Histogram(
            "afterimage_frame_age_seconds", "Age of frames as their results were sent, since receipt and, where the "
            "sender's clock is usable, since capture.", ["model", "since"], buckets=AGE_S, registry=registry,
        )  # fmt: skip
        self.fraction = Histogram(
            "afterimage_compute_fraction", "Share of a dense frame's work that answered frames took.", ["model"],
            buckets=FRACTIONS, registry=registry,
        )  # fmt: skip
        self.images = Counter(
            "afterimage_images", "Single images, by what became of them.", ["model", "outcome"], registry=registry
        )
        self.connections_refused = Counter(
            "afterimage_connections_refused", "Connections that were given no stream, by the error's code.", ["code"],
            registry=registry,
        )  # fmt: skip
        self.streams_ended = Counter(
            "afterimage_streams_ended", "Streams that were forgotten, by cause.", ["cause"], registry=registry
        )
        self._models: dict[str, ModelMetrics] = {}
        for code in REFUSALS:  # at 0 from the start: what first happens between two scrapes must not be lost
            self.connections_refused.labels(code)
        for cause in get_args(Ending):
            self.streams_ended.labels(cause)

    def of(self, model: str) -> ModelMetrics:
        """The instruments of one model. model : a registered name."""
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = ModelMetrics(self, model)
        return found


class ModelMetrics:
    """A model's own children of the instruments, looked up once: a frame finds them by attribute."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.model = model
        self.received = metrics.received.labels(model)
        self.bytes = metrics.bytes.labels(model)
        self.fraction = metrics.fraction.labels(model)
        self.stages = tuple(metrics.latency.labels(model, stage) for stage in STAGES)
        self._metrics = metrics
        self._outcomes = {outcome: metrics.frames.labels(model, outcome) for outcome in get_args(Outcome)}
        self._drops = {cause: metrics.drops.labels(model, cause) for cause in get_args(Cause)}
        self._ages: dict[str, Histogram] = {}
        self._decisions: dict[tuple[str, str], Counter] = {}

    def outcome(self, outcome: Outcome, count: int = 1) -> None:
        """So many frames ended so."""
        self._outcomes[outcome].inc(count)

    def computed(self, decision: str, reason: str, fraction: float, stages_s: tuple[float, ...]) -> None:
        """A frame was answered. stages_s : as `STAGES`."""
        self.outcome("reused" if decision == "reuse" else "computed")
        key = decision, reason_label(reason)
        child = self._decisions.get(key)
        if child is None:
            child = self._decisions[key] = self._metrics.decisions.labels(self.model, *key)
        child.inc()
        self.fraction.observe(fraction)
        for stage, spent in zip(self.stages, stages_s, strict=True):
            stage.observe(spent)

    def dropped(self, count: int, cause: Cause) -> None:
        """So many frames were dropped."""
        self.outcome("dropped", count)
        self._drops[cause].inc(count)

    def aged(self, age_s: float, since: Since) -> None:
        """A result was sent when its frame was so old."""
        child = self._ages.get(since)
        if child is None:
            child = self._ages[since] = self._metrics.age.labels(self.model, since)
        child.observe(age_s)
