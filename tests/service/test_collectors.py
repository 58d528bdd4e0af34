"""What a scrape looks up: energy where there is some, nothing where there is none."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from scrapes import fake_package

from service.collectors import EnergyCollector, Scrape, product_version, register_machine, service_metrics
from service.energy import Meter

ENERGY = "afterimage_energy_joules_total"


def test_energy_is_there_where_the_machine_tells(tmp_path) -> None:
    registry = CollectorRegistry()
    registry.register(EnergyCollector(fake_package(tmp_path)))
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").write_text("750005")
    assert registry.get_sample_value(ENERGY) == pytest.approx(0.75)
    assert b"not of this process alone" in generate_latest(registry)


def test_energy_is_absent_and_not_zero_where_it_does_not(tmp_path, make_client, monkeypatch) -> None:
    registry = CollectorRegistry()
    registry.register(EnergyCollector(Meter(tmp_path)))
    assert registry.get_sample_value(ENERGY) is None
    monkeypatch.setattr("service.state.Meter", lambda: Meter(tmp_path))
    client = make_client()
    assert "energy" not in client.get("/metrics").text
    assert client.get("/v1/models").json()["energy"] == "unknown"


def test_a_server_tells_of_its_energy(tmp_path, make_client, monkeypatch) -> None:
    monkeypatch.setattr("service.state.Meter", lambda: fake_package(tmp_path))
    client = make_client()
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").write_text("250005")
    assert f"{ENERGY} 0.25\n" in client.get("/metrics").text
    assert client.get("/v1/models").json()["energy"] == {"joules": 0.25, "source": "rapl"}


def test_a_scrape_is_what_was_found_and_what_was_counted() -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    Gauge("counted", "x", registry=registry).set(1)
    Gauge("found", "x", registry=other).set(2)
    names = [metric.name for metric in Scrape(list(other.collect()), registry).collect()]
    assert names == ["found", "counted"]


def test_a_registry_of_its_own(tmp_path) -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    for registry in registries:
        register_machine(registry, Meter(tmp_path))
    assert registries[0].get_sample_value("afterimage_process_open_fds") > 3


def test_no_name_comes_twice(make_client) -> None:
    service = make_client().app.state.service
    names = [metric.name for metric in Scrape(service_metrics(service), service.watch.metrics.registry).collect()]
    assert len(set(names)) == len(names) > 25


def test_the_version_is_said_where_there_is_one(monkeypatch) -> None:
    monkeypatch.setattr("service.collectors.version", lambda name: f"{name} 7.1")
    assert product_version.__wrapped__() == "afterimage 7.1"

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("service.collectors.version", missing)
    assert product_version.__wrapped__() == "unknown"
