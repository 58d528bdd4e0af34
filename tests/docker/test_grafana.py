"""The dashboard asks for metrics that there are, of a data source that is chosen where it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from scrapes import NAME, scraped_families, series_of

FOLDER = Path(__file__).parents[2] / "docker/grafana"
DASHBOARD = json.loads((FOLDER / "afterimage.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def sources(part: Any) -> Iterator[Any]:
    """Every data source that is named anywhere."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "datasource":
                yield value
            yield from sources(value)
    elif isinstance(part, list):
        for item in part:
            yield from sources(item)


def expressions() -> list[str]:
    asked = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return asked + [variable["definition"] for variable in DASHBOARD["templating"]["list"][1:]]


def test_every_metric_that_is_asked_for_is_in_a_scrape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = series_of(scraped_families(tmp_path, monkeypatch))
    for expression in expressions():
        names = set(NAME.findall(expression))
        assert names, expression
        assert names <= there, names - there


def test_the_data_source_is_a_variable() -> None:
    first = DASHBOARD["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    named = list(sources(DASHBOARD))
    assert len(named) > 50
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in named)


def test_every_panel_has_a_place_and_a_question_of_its_own() -> None:
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }  # fmt: skip
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert letters, panel["title"]
        assert len(set(letters)) == len(letters), panel["title"]


def test_filters_are_used_everywhere() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"], panel["title"]


def test_provisioning_finds_it() -> None:
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert "uid" not in source
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/afterimage.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
