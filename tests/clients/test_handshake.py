"""Subprotocols: what is chosen, what is refused, and that a token never shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.wire import Encoding, ErrorCode, WireError, offer_subprotocols, parse_subprotocols


@given(st.sampled_from(Encoding), st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=80))
def test_round_trip(encoding: Encoding, token: str) -> None:
    names = offer_subprotocols(encoding, token or None)
    offer = parse_subprotocols(names)
    assert offer.encoding is encoding
    assert offer.token == (token or None)
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert all(set(name) <= allowed for name in names), "a subprotocol must be an HTTP token"


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([], ErrorCode.BAD_MESSAGE),
        (["graphql-ws"], ErrorCode.BAD_MESSAGE),
        (["afterimage.v2"], ErrorCode.BAD_MESSAGE),
        (["afterimage.v1", "base64.websocket.bearer."], ErrorCode.UNAUTHORIZED),
        (["afterimage.v1", "base64.websocket.bearer.a b"], ErrorCode.UNAUTHORIZED),
        (["afterimage.v1", "base64.websocket.bearer.a"], ErrorCode.UNAUTHORIZED),
        (["afterimage.v1", "base64.websocket.bearer._w"], ErrorCode.UNAUTHORIZED),  # 0xff is no UTF-8
        (["afterimage.v1", "base64.websocket.bearer." + "a" * 4000], ErrorCode.UNAUTHORIZED),
        (["afterimage.v1"] + ["base64.websocket.bearer.YQ"] * 2, ErrorCode.UNAUTHORIZED),
    ],
)
def test_refusals(names: list[str], code: ErrorCode) -> None:
    with pytest.raises(WireError) as caught:
        parse_subprotocols(names)
    assert caught.value.code is code


def test_neither_errors_nor_reprs_show_a_token() -> None:
    names = offer_subprotocols(Encoding.JSON, "s3cret")
    assert "s3cret" not in repr(parse_subprotocols(names))
    with pytest.raises(WireError) as caught:
        parse_subprotocols(["other", names[1]])
    assert "s3cret" not in str(caught.value)
    assert names[1] not in str(caught.value)
