"""Makes tests/support importable, and a real server around the fake engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from service_fakes import FakeEngine, RunningServer, make_registry, make_settings, running_server


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    made = FakeEngine()
    yield made
    made.gate.set()


@pytest.fixture
def server(engine: FakeEngine) -> Iterator[RunningServer]:
    with running_server(make_registry(engine.model()), make_settings()) as running:
        engine.sessions.clear()
        yield running
