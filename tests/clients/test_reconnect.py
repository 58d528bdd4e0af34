"""Back-off and what is worth another attempt."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus, InvalidURI
from websockets.frames import Close
from websockets.http11 import Response

from clients.python import Reconnect
from clients.python.reconnect import Backoff, as_refusal
from clients.wire import CloseCode, ErrorMessage


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_waits_double_within_bounds_and_end(attempts: int, seed: int) -> None:
    policy = Reconnect(attempts=attempts, initial_s=0.5, maximum_s=8.0)
    backoff = Backoff(policy, random.Random(seed))
    for failure in range(attempts):
        full = min(8.0, 0.5 * 2**failure)
        wait = backoff.next_wait_s()
        assert wait is not None
        assert full / 2 <= wait <= full
    assert backoff.next_wait_s() is None
    backoff.succeeded()
    assert backoff.next_wait_s() is not None


def test_the_servers_hint_is_a_minimum_and_clients_spread() -> None:
    waits = {Backoff(Reconnect(), random.Random(seed)).next_wait_s(3.0) for seed in range(20)}
    assert min(waits) >= 3.0
    assert len(waits) == 20


def test_bounds() -> None:
    for fields in ({"attempts": -1}, {"initial_s": 0}, {"initial_s": 9, "maximum_s": 1}):
        with pytest.raises(ValueError, match="expected attempts"):
            Reconnect(**fields)
    assert Backoff(Reconnect(attempts=0)).next_wait_s() is None


def closed(code: int | None) -> ConnectionClosedError:
    return ConnectionClosedError(Close(code, "why") if code else None, None)


@pytest.mark.parametrize("code", [None, 1001, 1006, CloseCode.INTERNAL, CloseCode.DRAINING, CloseCode.OVERLOADED])
def test_worth_another_attempt(code: int | None) -> None:
    assert as_refusal(closed(code), ErrorMessage(code="x", detail="y")) is None


@pytest.mark.parametrize("code", [1000, 1002, 1008, 1009])
def test_final_closes(code: int) -> None:
    refused = as_refusal(closed(code), ErrorMessage(code="unknown_model", detail="no such"))
    assert (refused.code, refused.detail, refused.close_code) == ("unknown_model", "no such", code)
    assert as_refusal(closed(code), None).detail == "why"


def status(code: int) -> InvalidStatus:
    return InvalidStatus(Response(code, "Reason", Headers(), b"details"))


def test_http_refusals() -> None:
    assert as_refusal(status(503), None) is None
    assert as_refusal(status(429), None) is None
    refused = as_refusal(status(403), None)
    assert (refused.code, refused.detail) == ("403", "details")
    assert as_refusal(InvalidURI("x", "bad"), None).code == "bad_url"
    assert as_refusal(OSError("gone"), None) is None
