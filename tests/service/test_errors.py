"""Problem details (RFC 9457)."""

from __future__ import annotations

import json

import pytest
from fastapi import Request

from service.errors import Problem, new_error_id, overloaded, respond


def test_a_problem_document() -> None:
    problem = Problem(404, "unknown_model", "no such", headers={"X-A": "b"}, extra={"known": ["a"]})
    response = problem.response()
    assert response.media_type == "application/problem+json"
    assert (response.status_code, response.headers["x-a"]) == (404, "b")
    assert json.loads(response.body) == {
        "type": "urn:afterimage:problem:unknown_model",
        "title": "Not Found",
        "status": 404,
        "code": "unknown_model",
        "detail": "no such",
        "known": ["a"],
    }
    assert "unknown_model: no such" in str(problem)


@pytest.mark.parametrize(("retry_ms", "seconds"), [(0, "1"), (1000, "1"), (1001, "2"), (30_000, "30")])
def test_overload_says_when_to_return_in_whole_seconds(retry_ms: int, seconds: str) -> None:
    assert overloaded("busy", retry_ms).response().headers["retry-after"] == seconds


def test_error_ids_differ() -> None:
    ids = {new_error_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(error_id) for error_id in ids} == {12}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2", {"error": "why"}),
        ("/v2/models/a", {"error": "why"}),
        ("/v1/vision/detection", {"success": False, "error": "why", "code": 418}),
        ("/v1/status/updateavailable", {"success": False, "error": "why", "code": 418}),
    ],
)
def test_clients_of_others_apis_get_errors_of_their_shape(path: str, body: dict) -> None:
    request = Request({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""})
    response = respond(request, Problem(418, "teapot", "why", headers={"Retry-After": "1"}))
    assert (response.status_code, json.loads(response.body)) == (418, body)
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v1/detect", "/v20", "/v1/visions", "/"])
def test_all_other_errors_are_problem_documents(path: str) -> None:
    request = Request({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""})
    assert json.loads(respond(request, Problem(418, "teapot", "why")).body)["code"] == "teapot"
