"""Makes tests/support and what builds and reads the image importable, and a fake engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "docker/image"))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from service_fakes import FakeEngine


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    made = FakeEngine()
    yield made
    made.gate.set()
