"""Figures in the Prometheus text format (version 0.0.4). Knows no HTTP and nothing of what is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Metric:
    """One family of samples. samples : label sets and their values."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Sequence[tuple[Labels, float]]


@dataclass(frozen=True)
class Histogram:
    """One family of histograms. ends : upper ends of the buckets, ascending, without the last, infinite one.

    samples : label sets, observations in each bucket (one more than ends), and the sum of all observations.
    """

    name: str
    help: str
    ends: Sequence[float]
    samples: Sequence[tuple[Labels, Sequence[int], float]]


def render(metrics: Iterable[Metric | Histogram]) -> str:
    """The text of a scrape. Raises ValueError for a histogram whose buckets do not fit its ends."""
    lines: list[str] = []
    for metric in metrics:
        kind = "histogram" if isinstance(metric, Histogram) else metric.kind
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {kind}"]
        lines += _histogram(metric) if isinstance(metric, Histogram) else _plain(metric)
    return "\n".join([*lines, ""])


def _plain(metric: Metric) -> list[str]:
    return [f"{metric.name}{_labels(labels)} {value:.10g}" for labels, value in metric.samples]


def _histogram(metric: Histogram) -> list[str]:
    lines = []
    for labels, counts, total in metric.samples:
        if len(counts) != len(metric.ends) + 1:
            raise ValueError(f"expected {len(metric.ends) + 1} buckets of {metric.name}, got {len(counts)}")
        below = 0
        for end, count in zip([*(f"{end:g}" for end in metric.ends), "+Inf"], counts, strict=True):
            below += count
            lines.append(f"{metric.name}_bucket{_labels({**labels, 'le': end})} {below}")
        lines += [f"{metric.name}_sum{_labels(labels)} {total:.10g}", f"{metric.name}_count{_labels(labels)} {below}"]
    return lines


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    escaped = {
        key: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for key, value in labels.items()
    }
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped.items()) + "}"
