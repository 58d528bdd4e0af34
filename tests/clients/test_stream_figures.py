"""What both clients tell of their stream."""

from __future__ import annotations

from clients.python.core import ClientCore, StreamOptions
from clients.python.figures import StreamFigures
from clients.wire import Encoding, Moved, encode_message, vectors

URL = "ws://127.0.0.1:8000/v1/streams/door/ws"
THERE = "ws://b.example/v1/streams/door/ws"


def test_figures_are_as_of_the_last_message() -> None:
    told = StreamFigures()
    core = told._core = ClientCore(StreamOptions(), URL)
    assert (told.ready, told.credits, told.url, told.moves) == (None, 0, URL, 0)
    core.hello()
    core.receive(encode_message(vectors.SERVER_MESSAGES["ready"], Encoding.JSON))
    for _ in range(2):
        core.frame(b"\xff\xd8 scene \xff\xd9", 1, False)
    assert (told.ready, told.credits, told.unacked) == (vectors.SERVER_MESSAGES["ready"], 0, 2)
    core.receive(encode_message(vectors.ErrorMessage(code="x", detail="y", seq=1, ack=1), Encoding.JSON))
    core.receive(encode_message(Moved(ws_url=THERE), Encoding.JSON))
    core.connection_lost()
    assert core.follows(OSError("gone"))
    assert (told.unacked, told.refused, told.lost, told.server_dropped) == (0, 1, 1, 0)
    assert (told.url, told.moves, told.bytes_sent) == (THERE, 1, 2 * 27)
