"""Back-off and what is worth another attempt."""

from __future__ import annotations

import random
from ssl import SSLCertVerificationError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidMessage, InvalidStatus, InvalidURI, NegotiationError
from websockets.frames import Close
from websockets.http11 import Response
from websockets.uri import parse_uri

from clients.python import Reconnect, ServerMisbehaved
from clients.python.reconnect import Backoff, as_refusal, asked_wait_s, end_if_closing, stay
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


def test_what_a_server_may_ask_for_is_bounded() -> None:
    wait = Backoff(Reconnect(asked_s=5.0, initial_s=0.5), random.Random(1)).next_wait_s(1e12)
    assert 5.0 < wait <= 5.5
    with pytest.raises(ValueError, match="asked_s"):
        Reconnect(asked_s=-1)


def test_a_connection_that_breaks_at_once_is_no_success() -> None:
    backoff = Backoff(Reconnect(attempts=2))
    for _ in range(2):
        backoff.opened()
        assert backoff.next_wait_s() is not None
    backoff.opened()
    assert backoff.next_wait_s() is None
    backoff.opened()
    backoff.opened_ns -= 11 * 10**9
    assert backoff.next_wait_s() is not None, "one that lasted is"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [({"Retry-After": "7"}, 7.0), ({}, 0.0), ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.0),
     ({"Retry-After": "-3"}, 0.0), ({"Retry-After": "9" * 400}, 0.0), ({"Retry-After": "²"}, 0.0)],
)  # fmt: skip
def test_retry_after(header: dict[str, str], seconds: float) -> None:
    assert asked_wait_s(InvalidStatus(Response(503, "Busy", Headers(header)))) == seconds
    assert asked_wait_s(OSError()) == 0.0


def test_where_a_redirect_leads_is_forgotten() -> None:
    error = InvalidStatus(Response(302, "Found", Headers({"Location": "ws://elsewhere"})))
    stay(error)
    stay(error)
    assert "Location" not in error.response.headers
    assert as_refusal(error, None).code == "302"


@pytest.mark.parametrize("code", [1002, 1007, 1009])
def test_what_this_end_complains_of_is_the_servers_fault(code: int) -> None:
    error = ConnectionClosedError(None, Close(code, "frame too long"))
    assert isinstance(as_refusal(error, None), ServerMisbehaved)
    answered = ConnectionClosedError(Close(1011, ""), Close(code, ""), rcvd_then_sent=True)
    assert as_refusal(answered, None) is None, "that was the other end's"


def test_a_handshake_that_was_cut_is_worth_another_attempt() -> None:
    assert as_refusal(InvalidMessage("did not receive a valid HTTP response"), None) is None
    assert as_refusal(NegotiationError("no subprotocols supported"), None).code == "handshake"


def test_a_certificate_that_nobody_trusts_stays_so() -> None:
    error = SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    refused = as_refusal(error, None)
    assert (refused.code, refused.detail) == ("certificate", "self-signed certificate")


def test_an_end_that_does_not_let_go() -> None:
    connection = ClientProtocol(parse_uri("ws://127.0.0.1/"))
    end_if_closing(connection)
    connection.close_sent = Close(1009, "too big")
    with pytest.raises(ConnectionClosedError, match="1009"):
        end_if_closing(connection)


def test_a_long_silence_is_no_success() -> None:
    backoff = Backoff(Reconnect(attempts=2, initial_s=0.5, maximum_s=10.0))
    for expected in (True, True, False):
        backoff.opened()
        assert backoff.opened_ns is not None
        backoff.opened_ns -= 11 * 10**9
        assert (backoff.next_wait_s(stalled=True) is not None) is expected
