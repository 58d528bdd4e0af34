"""Where a client may be sent: the golden list, and the bounds."""

from __future__ import annotations

import json

import pytest

from clients.wire import Encoding, WireError, follow, vectors
from clients.wire.messages import decode_server_message

GOLDEN = json.loads((vectors.GOLDEN / "moves.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in GOLDEN])
def test_the_list(vector: dict) -> None:
    if vector["taken"]:
        assert follow(vector["ws_url"], vector["from"]) == vector["ws_url"]
        return
    with pytest.raises(WireError, match="bad_message: expected") as caught:
        follow(vector["ws_url"], vector["from"])
    assert not vector["ws_url"] or vector["ws_url"] not in str(caught.value), "it may hold what no log should"


def test_a_long_address_is_no_message() -> None:
    for length, taken in ((2048, True), (2049, False)):
        text = json.dumps({"type": "moved", "ws_url": "x" * length})
        if taken:
            decode_server_message(text, Encoding.JSON)
        else:
            with pytest.raises(WireError, match="ws_url"):
                decode_server_message(text, Encoding.JSON)
