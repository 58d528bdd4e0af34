"""What audits tell a Prometheus server: counts by model, never the name of a stream."""

from __future__ import annotations

from collections.abc import Iterable

from service.audits.auditor import BUCKETS, Auditor
from service.metrics import Histogram, Metric
from service.pipeline import FramePipeline


def audit_metrics(auditor: Auditor, pipelines: Iterable[FramePipeline]) -> list[Metric | Histogram]:
    """All metrics of audits. pipelines : of the streams that there are."""
    counts = [({"model": name}, figures) for name, figures in sorted(auditor.figures().items())]
    factors: dict[str, float] = {}
    for pipeline in pipelines:
        if pipeline.audits is not None:
            name = pipeline.model.name
            factors[name] = min(factors.get(name, float("inf")), pipeline.audits.factor)
    return [
        Metric(
            "afterimage_audits_total", "counter", "Frames of streams compared with dense ones.",
            [(labels, figures.audits) for labels, figures in counts],
        ),
        Metric(
            "afterimage_audit_violations_total", "counter", "Audited frames above their error budget.",
            [(labels, figures.violations) for labels, figures in counts],
        ),
        Histogram(
            "afterimage_audit_error", "Error of audited frames, in the unit of the model's budget.", BUCKETS,
            [(labels, figures.errors, figures.error_sum) for labels, figures in counts],
        ),
        Metric(
            "afterimage_audit_seconds_total", "counter", "Time spent on audits.", [({}, auditor.ledger.spent_s)],
        ),
        Metric(
            "afterimage_threshold_factor", "gauge",
            "Factor on the thresholds, the lowest of a model's streams; 0 computes every frame whole.",
            [({"model": name}, factor) for name, factor in sorted(factors.items())],
        ),
    ]  # fmt: skip
