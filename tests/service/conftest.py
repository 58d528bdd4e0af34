"""Makes tests/support importable, and an app around the fake engine."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette prefers httpx2, which we do not use
    import starlette.testclient

from service_fakes import FakeEngine, make_registry, make_settings, wait_until

from service.app import create_app


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    made = FakeEngine()
    yield made
    made.gate.set()


@pytest.fixture
def make_client(engine: FakeEngine) -> Iterator:
    """A function that starts an app over the fake engine's models and gives its TestClient."""
    entered: list[starlette.testclient.TestClient] = []

    def make(*models, client: tuple[str, int] = ("testclient", 1), **settings):
        registry = make_registry(*(models or (engine.model(),)))
        app = create_app(make_settings(**settings), registry)
        test_client = starlette.testclient.TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
        test_client.__enter__()
        entered.append(test_client)
        wait_until(lambda: app.state.service.warm or app.state.service.warm_error)
        engine.sessions.clear()
        while engine.entered.acquire(blocking=False):
            pass
        return test_client

    yield make
    engine.gate.set()
    for test_client in entered:
        test_client.__exit__(None, None, None)
