"""What a scrape looks up: streams, models, memory, queues, workers, audits, energy.

`service_metrics` reads what belongs to the event loop and is quick; `EnergyCollector` reads files, in the thread that
writes the answer.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.audits.metrics import audit_metrics
from service.energy import Meter
from service.entry import ModelState

if TYPE_CHECKING:
    from service.state import Service


class EnergyCollector(Collector):
    """The machine's energy; no metric at all where the machine does not tell."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is may change."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The joules so far."""
        joules = self._meter.read()
        if joules is not None:
            yield CounterMetricFamily(
                "afterimage_energy_joules", "Energy of the machine's CPU packages, or of its board, since the "
                "start: of all that runs there, not of this process alone.", value=joules,
            )  # fmt: skip


class Scrape(Collector):
    """Everything that one scrape tells: what was looked up on the event loop, then what the registry counts."""

    def __init__(self, found: list[Metric], registry: CollectorRegistry) -> None:
        self._found, self._registry = found, registry

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        yield from self._found
        yield from self._registry.collect()


def register_machine(registry: CollectorRegistry, meter: Meter) -> None:
    """Add what the operating system says of this process, and the machine of its energy."""
    ProcessCollector(namespace="afterimage", registry=registry)
    registry.register(EnergyCollector(meter))


def service_metrics(service: Service) -> list[Metric]:
    """What the service is at this moment. On the event loop."""
    streams, memory = service.streams.all(), service.memory_bytes()
    connected = sum(stream.attachment is not None for stream in streams)
    states = Counter(described["state"] for described in service.registry.describe())
    waiting = {
        "streams": sum(len(stream.lane.pending) for stream in streams if stream.lane is not None),
        "images": sum(len(seat.lane.pending) for seat in list(service.seats.values())),
    }
    return [
        _gauge("afterimage_build_info", "1, with the versions.", {(product_version(), _PYTHON): 1},
               "version", "python"),
        _gauge("afterimage_ready", "1 while the server should get work.", {(): service.not_ready_because() is None}),
        _gauge("afterimage_streams_active", "Streams that there are, with and without a connection.",
               {("connected",): connected, ("detached",): len(streams) - connected}, "state"),
        _gauge("afterimage_streams_limit", "Most streams at once.", {(): service.settings.max_streams}),
        _gauge("afterimage_sources", "Cameras of the configuration.",
               {(state,): count for state, count in service.feeds.states().items()}, "state"),
        CounterMetricFamily("afterimage_source_reconnects", "Times that cameras of the configuration were lost.",
                            value=service.feeds.reconnects),
        _gauge("afterimage_connections", "WebSocket connections.", {(): len(service.connections)}),
        _gauge("afterimage_models", "Registered models.", {(state,): states[state] for state in _STATES}, "state"),
        _gauge("afterimage_cache_bytes", "Memory that is counted: plans, what streams and audits keep, work spaces.",
               {(part,): size for part, size in memory.items() if part != "total"}, "part"),
        _gauge("afterimage_queue_depth", "Frames and single images that wait.",
               {(lane,): depth for lane, depth in waiting.items()}, "lane"),
        _gauge("afterimage_workers", "Inference threads.", {(): service.settings.workers}),
        CounterMetricFamily("afterimage_worker_busy_seconds", "Time that workers were not idle, of all together.",
                            value=service.scheduler.busy_s),
        CounterMetricFamily("afterimage_evictions", "Caches of streams that were freed to make room for others.",
                            value=service.caches.evictions),
        _gauge("afterimage_viewers", "Who looks at pictures of streams.", {(): service.viewing.viewers}),
        _gauge("afterimage_view_bytes", "Pixels of last frames that are kept for snapshots.",
               {(): service.viewing.kept_bytes}),
        CounterMetricFamily("afterimage_view_pictures", "Pictures of streams that were drawn and encoded.",
                            value=service.viewing.drawn),
        CounterMetricFamily("afterimage_viewers_refused", "Viewers for whom there was no room.",
                            value=service.viewing.refused),
        *_mqtt_metrics(service),
        *audit_metrics(service.auditor, [stream.pipeline for stream in streams if stream.pipeline is not None]),
    ]  # fmt: skip


def _mqtt_metrics(service: Service) -> list[Metric]:
    link = None if service.mqtt is None else service.mqtt.link
    messages = CounterMetricFamily(
        "afterimage_mqtt_messages", "Messages for the MQTT broker, by what became of them.", labels=["outcome"]
    )
    for outcome in "published", "replaced", "dropped":
        messages.add_metric([outcome], 0 if link is None else getattr(link, outcome))
    connected = link is not None and link.connected
    return [
        _gauge("afterimage_mqtt_connected", "1 while there is a connection to the broker.", {(): connected}),
        messages,
    ]


_PYTHON = platform.python_version()
_STATES = tuple(state.value for state in ModelState)


@cache
def product_version() -> str:
    """As it was installed."""
    try:
        return version("afterimage")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


def _gauge(name: str, text: str, values: dict[tuple[str, ...], float], *labels: str) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        gauge.add_metric(key, value)
    return gauge
