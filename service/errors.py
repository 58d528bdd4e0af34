"""Errors of the HTTP API as problem details (RFC 9457), and their handlers."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

PROBLEM_JSON = "application/problem+json"
JSON = "application/json"

log = logging.getLogger("afterimage.errors")


class Problem(Exception):
    """A request that cannot be served.

    `code` is machine-readable and stable, `detail` is for people: expected X, got Y. `extra` are further
    members of the problem document, `headers` those of the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def response(self) -> Response:
        """The problem document."""
        body = {
            "type": f"urn:afterimage:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.extra,
        }
        return Response(json.dumps(body), self.status, self.headers, media_type=PROBLEM_JSON)


def printable(text: str, longest: int = 200) -> str:
    """Text from the network for a log line: characters that could forge a line, or hide in one, are written out."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:longest])
    return shown if len(text) <= longest else f"{shown}..."


def new_error_id() -> str:
    """A short random id that is told to the client and written to the log."""
    return secrets.token_hex(6)


def overloaded(detail: str, retry_after_ms: int) -> Problem:
    """503 with Retry-After (whole seconds, at least one)."""
    seconds = max(1, -(-retry_after_ms // 1000))
    return Problem(503, "overloaded", detail, headers={"Retry-After": str(seconds)})


def open_inference_response(problem: Problem) -> Response:
    """As the Open Inference Protocol has errors."""
    return Response(json.dumps({"error": problem.detail}), problem.status, problem.headers, media_type=JSON)


def deepstack_response(problem: Problem) -> Response:
    """As DeepStack and CodeProject.AI have errors."""
    body = {"success": False, "error": problem.detail, "code": problem.status}
    return Response(json.dumps(body), problem.status, problem.headers, media_type=JSON)


_SHAPES: Mapping[str, Callable[[Problem], Response]] = {
    "/v2": open_inference_response, "/v1/vision": deepstack_response, "/v1/status": deepstack_response,
}  # fmt: skip
"""APIs of others, by path: their clients read errors of their own shape."""


def respond(request: Request, problem: Problem) -> Response:
    """The problem in the shape of the API that was asked: a problem document for our own."""
    return shaped(request.url.path, problem)


def shaped(path: str, problem: Problem) -> Response:
    """The problem in the shape of the API that has the path."""
    shape = next((shape for top, shape in _SHAPES.items() if path == top or path.startswith(f"{top}/")), None)
    return problem.response() if shape is None else shape(problem)


def install(app: FastAPI) -> None:
    """Have every error of the app answered with a problem document, or what `respond` makes of it."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return respond(request, error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = getattr(error, "code", None) or HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return respond(request, Problem(error.status_code, code, str(error.detail), headers=error.headers))


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"where": ".".join(str(part) for part in item["loc"]), "detail": item["msg"]} for item in error.errors()
    ]
    detail = f"{problems[0]['where']}: {problems[0]['detail']}"
    return respond(request, Problem(422, "bad_request", detail, extra={"errors": problems}))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    error_id = new_error_id()
    about = {"error_id": error_id, "method": request.method, "path": printable(request.url.path)}
    log.error("request failed, error_id=%s %s %s", *about.values(), exc_info=error, extra=about)
    detail = f"the request failed; the log has it as {error_id}"
    return respond(request, Problem(500, "internal", detail, extra={"error_id": error_id}))
