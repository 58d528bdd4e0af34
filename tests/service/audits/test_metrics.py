"""Audits as a scrape has them."""

from __future__ import annotations

from types import SimpleNamespace

from service.audits.auditor import BUCKETS, Figures
from service.audits.metrics import audit_metrics


def figures(*errors: float) -> Figures:
    made = Figures()
    for error in errors:
        made.add(SimpleNamespace(error=error, violation=error > 0.4))
    return made


def pipeline(model: str, factor: float | None) -> SimpleNamespace:
    audits = None if factor is None else SimpleNamespace(factor=factor)
    return SimpleNamespace(model=SimpleNamespace(name=model), audits=audits)


def test_counts_errors_and_the_lowest_factor_of_each_model() -> None:
    auditor = SimpleNamespace(
        figures=lambda: {"b": figures(0.01, 0.3, 9.0), "a": figures()}, ledger=SimpleNamespace(spent_s=1.5)
    )
    pipelines = [pipeline("b", 0.5), pipeline("b", 0.25), pipeline("a", 1.0), pipeline("c", None)]
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in audit_metrics(auditor, pipelines)
        for sample in metric.samples
    }
    assert samples["afterimage_audits_total", "b"] == 3
    assert samples["afterimage_audits_total", "a"] == 0
    assert samples["afterimage_audit_violations_total", "b"] == 1
    assert samples["afterimage_audit_error_sum", "b"] == 9.31
    buckets = [samples["afterimage_audit_error_bucket", "b", str(end)] for end in (*BUCKETS, "+Inf")]
    assert buckets == [1, 1, 1, 1, 1, 2, 2, 2, 3], "each holds those below it"
    assert samples["afterimage_audit_seconds_total",] == 1.5
    factors = {key[1]: value for key, value in samples.items() if key[0] == "afterimage_threshold_factor"}
    assert factors == {"a": 1.0, "b": 0.25}
