"""Requests drawn from the OpenAPI document: no answer of 5xx but overload, and none that the document does not know.

Every operation of the app over the fake engine, valid requests and invalid ones, the same each time; once with nothing
in the way, once with keys.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from service_fakes import wait_until

from service.keys import Scope, add_key

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode

EXAMPLES = 10
GUARDS = {400, 401, 403, 404, 405, 408, 413, 414, 415, 422, 429, 431}
"""What a guard in front of any route may answer; the document tells of those that a route adds."""
DRAWN = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


def operations(app: Any) -> Iterator[Any]:
    """All operations of an app, once the lifespan that the schema's own client begins has warmed its model."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    wait_until(lambda: app.state.service.warm)
    for result in schema.get_all_operations():
        yield result.ok()


def statuses(operation: Any, mode: GenerationMode, headers: dict[str, str]) -> set[int]:
    """Send what is drawn for an operation; AssertionError for an answer out of the document."""
    documented = {int(status) for status in operation.definition.raw["responses"] if status.isdigit()}
    seen: set[int] = set()

    @DRAWN
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        response = case.call(headers=headers)
        seen.add(response.status_code)
        assert response.status_code in documented | GUARDS, case.as_curl_command()
        assert response.status_code < 500 or b'"overloaded"' in response.content, case.as_curl_command()
        if response.status_code >= 400:
            foreign = operation.path.startswith(("/v2", "/v1/vision", "/v1/status"))  # errors of another shape
            kind = "application/json" if foreign else "application/problem+json"
            assert response.headers["content-type"] == [kind], case.as_curl_command()

    send()
    return seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyed", [False, True])
def test_no_request_of_the_document_ends_in_a_server_error(make_client, tmp_path: Path, keyed: bool) -> None:
    headers, fields = {"host": "localhost"}, {}
    if keyed:
        fields = {"keys_file": tmp_path / "keys", "host": "0.0.0.0"}
        headers["authorization"] = f"Bearer {add_key(tmp_path / 'keys', 'drawn', [Scope.ADMIN])}"
    client = make_client(max_streams=8, max_request_rate=100_000.0, max_message_bytes=1 << 16, **fields)
    reached: dict[str, set[int]] = {}
    for operation in operations(client.app):
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            try:
                reached.setdefault(operation.label, set()).update(statuses(operation, mode, headers))
            except Exception as error:  # of an operation that takes nothing no request can be wrong
                if type(error).__name__ not in ("Unsatisfiable", "SkipTest"):
                    raise
    assert len(reached) >= 9
    assert all(reached.values()), reached
    passed = {label for label, found in reached.items() if any(200 <= status < 300 for status in found)}
    assert {"GET /healthz", "GET /v1/models", "GET /metrics", "GET /v1/streams", "POST /v1/streams"} <= passed


@pytest.mark.filterwarnings("ignore")
def test_without_a_key_no_request_of_the_document_passes(make_client, tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "nobody", [Scope.INFER])
    client = make_client(keys_file=tmp_path / "keys", host="0.0.0.0", max_request_rate=100_000.0)
    probes = {"GET /healthz", "GET /readyz", "GET /v2", "GET /v2/health/live", "GET /v2/health/ready"}
    open_to_all = probes | {"GET /v1/status/updateavailable"}
    for operation in operations(client.app):
        seen = statuses(operation, GenerationMode.POSITIVE, {"host": "localhost"})
        assert operation.label in open_to_all or all(status >= 400 for status in seen), (operation.label, seen)
        assert operation.label not in open_to_all or 200 in seen
