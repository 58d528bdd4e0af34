"""Prometheus' own files: what is scraped, and alerts on metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from programs import free_port, program, running
from scrapes import NAME, scraped_families, series_of
from service_fakes import FakeEngine, image, make_registry, make_settings, running_server, wait_until

from clients.python import Policy, StreamClient, StreamOptions
from service.keys import Scope, add_key

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


def test_its_own_tool_takes_rules_and_configuration(tmp_path: Path) -> None:
    promtool = program("promtool")
    (tmp_path / "key").write_text("aik_\n")
    config = adapted(tmp_path, "afterimage:8000")
    checked = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout + checked.stderr


def test_a_real_one_scrapes_with_its_key_and_answers_the_dashboard(tmp_path: Path, engine: FakeEngine) -> None:
    """Every question of the dashboard is asked; all have answers but those about what did not happen here."""
    prometheus, keys = program("prometheus"), tmp_path / "keys"
    key = add_key(keys, "prometheus", [Scope.INFER])
    (tmp_path / "key").write_text(f"{key}\n")  # as `keys add` prints it
    settings = make_settings(keys_file=keys, audit_share=0.0)
    with running_server(make_registry(engine.model()), settings) as server:
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        port = free_port()
        command = [
            prometheus, f"--config.file={adapted(tmp_path, f'127.0.0.1:{server.port}')}",
            f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        client = StreamClient(server.url, "door", StreamOptions(policy=Policy.ALL, token=key))
        with running(command, tmp_path / "log"), Asker(port) as asker, client:

            def frames_are_counted() -> bool:
                assert len(list(client.results([image(level) for level in (90, 120)]))) == 2
                return bool(asker.ask("sum(rate(afterimage_frames_total[1m])) > 0"))

            wait_until(frames_are_counted, 60)
            (target,) = asker.fetch("targets")["activeTargets"]
            assert (target["health"], target["labels"]["job"]) == ("up", "afterimage")
            rules = [rule for group in asker.fetch("rules")["groups"] for rule in group["rules"]]
            assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
            assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, "none was tried in vain"
            answered = {question: asker.ask(question) for question in dashboard_questions()}
            for rule in RULES:
                asker.ask(rule["expr"])
    unanswered = [question for question, answer in answered.items() if not answer]
    assert [question for question in unanswered if not QUIET.search(question)] == []
    assert len(unanswered) < len(answered) / 2


QUIET = re.compile("energy|audit|threshold|drops|images|refused|ended")
"""What the dashboard asks about that does not happen in this test."""


def adapted(folder: Path, target: str) -> Path:
    """The configuration for a server elsewhere, with its key in `folder`; scraped more often, so that nobody waits."""
    text = (FOLDER / "prometheus.yml").read_text()
    changes = {"afterimage:8000": target, "/run/secrets/metrics-key": str(folder / "key"), "10s": "300ms"}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
    config = folder / "prometheus.yml"
    config.write_text(text)
    return config


class Asker(httpx.Client):
    """Asks a Prometheus on loopback."""

    def __init__(self, port: int) -> None:
        transport = httpx.HTTPTransport(retries=8)  # it has just been started
        super().__init__(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=60, transport=transport)

    def fetch(self, path: str, **fields: str) -> Any:
        while (response := self.get(path, params=fields)).status_code == 503:  # it reads what it has kept
            time.sleep(0.1)
        assert response.json()["status"] == "success", response.text
        return response.json()["data"]

    def ask(self, question: str) -> list[Any]:
        """The series of an answer, those that are no numbers left out."""
        found = self.fetch("query", query=question)["result"]
        return [one for one in found if one["value"][1] != "NaN"]


def dashboard_questions() -> list[str]:
    """What the panels ask, with variables filled in as Grafana does for all servers and models."""
    board = json.loads((FOLDER.parent / "grafana/afterimage.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    for name, value in {"$__rate_interval": "1m", "$instance": ".*", "$model": ".*"}.items():
        asked = [expression.replace(name, value) for expression in asked]
    assert not any("$" in expression for expression in asked)
    return asked
