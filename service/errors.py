"""Errors of the HTTP API as problem details (RFC 9457), and their handlers."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

PROBLEM_JSON = "application/problem+json"

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


def install(app: FastAPI) -> None:
    """Have every error of the app answered with a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = getattr(error, "code", None) or HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return Problem(error.status_code, code, str(error.detail), headers=error.headers).response()


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"where": ".".join(str(part) for part in item["loc"]), "detail": item["msg"]} for item in error.errors()
    ]
    first = problems[0]
    return Problem(422, "bad_request", f"{first['where']}: {first['detail']}", extra={"errors": problems}).response()


async def _on_unexpected(request: Request, error: Exception) -> Response:
    error_id = new_error_id()
    log.error(
        "request failed, error_id=%s %s %s", error_id, request.method, printable(request.url.path), exc_info=error
    )
    return Problem(
        500, "internal", f"the request failed; the log has it as {error_id}", extra={"error_id": error_id}
    ).response()
