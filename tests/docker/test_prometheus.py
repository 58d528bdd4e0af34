"""Prometheus' own files: what is scraped, and alerts on metrics that there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from scrapes import NAME, scraped_families, series_of

FOLDER = Path(__file__).parents[2] / "docker/prometheus"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]  # fmt: skip


def test_the_server_is_scraped_and_the_rules_are_read() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["afterimage:8000"]}]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    (name,) = config["rule_files"]
    assert (FOLDER / name).is_file()


def test_every_metric_of_an_alert_is_in_a_scrape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = series_of(scraped_families(tmp_path, monkeypatch))
    for rule in RULES:
        names = set(NAME.findall(rule["expr"]))
        assert names, rule["alert"]
        assert names <= there, names - there


def test_alerts_say_what_is_wrong() -> None:
    assert {"AfterimageNotReady", "AfterimageAuditsAboveBudget", "AfterimageResultsOld", "AfterimageFramesRefused"} <= {
        rule["alert"] for rule in RULES
    }
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
