"""What audits tell a Prometheus server: counts by model, never the name of a stream."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from service.audits.auditor import BUCKETS, Auditor
from service.pipeline import FramePipeline

ENDS = (*(str(end) for end in BUCKETS), "+Inf")


def audit_metrics(auditor: Auditor, pipelines: Iterable[FramePipeline]) -> list[Metric]:
    """All metrics of audits. pipelines : of the streams that there are."""
    audits = CounterMetricFamily(
        "afterimage_audits", "Frames of streams compared with dense ones.", labels=["model"]
    )  # fmt: skip
    violations = CounterMetricFamily(
        "afterimage_audit_violations", "Audited frames above their error budget.", labels=["model"]
    )
    errors = HistogramMetricFamily(
        "afterimage_audit_error", "Error of audited frames, in the unit of the model's budget.", labels=["model"]
    )
    for name, figures in sorted(auditor.figures().items()):
        audits.add_metric([name], figures.audits)
        violations.add_metric([name], figures.violations)
        below = accumulate(figures.errors)
        errors.add_metric([name], list(zip(ENDS, below, strict=True)), figures.error_sum)
    spent = CounterMetricFamily("afterimage_audit_seconds", "Time spent on audits.", value=auditor.ledger.spent_s)
    factor = GaugeMetricFamily(
        "afterimage_threshold_factor",
        "Factor on the thresholds, the lowest of a model's streams; 0 computes every frame whole.", labels=["model"],
    )  # fmt: skip
    for name, lowest in sorted(_lowest_factors(pipelines).items()):
        factor.add_metric([name], lowest)
    return [audits, violations, errors, spent, factor]


def _lowest_factors(pipelines: Iterable[FramePipeline]) -> dict[str, float]:
    factors: dict[str, float] = {}
    for pipeline in pipelines:
        if pipeline.audits is not None:
            name = pipeline.model.name
            factors[name] = min(factors.get(name, float("inf")), pipeline.audits.factor)
    return factors
