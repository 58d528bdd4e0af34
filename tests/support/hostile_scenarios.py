"""What the hostile server does, and what a client must make of it: one row for each scenario.

Whatever comes, a client ends or goes on in bounded time and memory. `then` says how:

    works       every frame gets its result, and nothing else is told
    back        by itself, on another connection; frames under way may be told as lost, later ones get results
    misbehaved  ends at once with an error that says how the server broke the protocol
    refused     ends at once with what the server said; there is no second attempt
    gives_up    ends when its attempts are used up
    follows     to where it is sent, at once: no failure; frames under way may be told as lost, later ones get results

Long, since it is a table. A new scenario is a function or a row, and is tested with every client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Play: TypeAlias = Callable[[Any], Awaitable[None]]
Then: TypeAlias = Literal["works", "back", "misbehaved", "refused", "gives_up", "follows"]

READY: dict[str, Any] = {
    "type": "ready", "model": "hostile", "policy": "all", "window": 2, "resume": "r3sume", "resumed": False,
    "limits": {"max_message_bytes": 32 << 20, "max_pixels": 1 << 24}, "size": [64, 48], "resume_s": 60.0,
}  # fmt: skip
ERROR = {"type": "error", "code": "internal", "detail": "so it is"}
TIMING = {"queue": 0.0, "decode": 0.0, "diff": 0.0, "infer": 0.0, "total": 0.0}


def result(seq: int, ack: int | None = None, **fields: Any) -> dict[str, Any]:
    """The fields of a result with one box; `ack` is `seq` unless told."""
    box = {"xyxy": [1.0, 2.0, 3.0, 4.0], "score": 0.5, "class_id": 7, "label": "cup"}
    return {
        "type": "result", "seq": seq, "ack": seq if ack is None else ack, "capture_ts_us": 0, "timing_ms": TIMING,
        "dropped": 0, "compute_fraction": 0.5, "changed_tiles": 3, "decision": "partial", "width": 64, "height": 48,
        "detections": [box], **fields,
    }  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """`play` does it to one connection (a `Peer`); `code` is the HTTP status or close code of a refusal.

    `slow`: a timeout of the client must run out. `annotated`: for a client that asks for annotated frames.
    `connections`: of one attempt.
    """

    play: Play
    what: str
    then: Then
    code: int | None = None
    slow: bool = False
    annotated: bool = False
    connections: int = 1

    def row(self) -> dict[str, Any]:
        """For the table as JSON."""
        names = ("what", "then", "code", "slow", "annotated")
        return {name: getattr(self, name) for name in names}


SCENARIOS: dict[str, Scenario] = {}


def scenario(then: Then, **fields: Any) -> Callable[[Play], Play]:
    """Enter a function into the table, under its name; its docstring is what happens."""

    def enter(play: Play) -> Play:
        SCENARIOS[play.__name__] = Scenario(play, play.__doc__ or "", then, **fields)
        return play

    return enter


def _add(name: str, what: str, then: Then, play: Play, **fields: Any) -> None:
    SCENARIOS[name] = Scenario(play, what, then, **fields)


# The handshake


@scenario("gives_up", slow=True)
async def never_answers(peer: Any) -> None:
    """Takes the connection and never answers the handshake."""
    await peer.stop_reading()


@scenario("gives_up", slow=True)
async def drips_the_handshake(peer: Any) -> None:
    """Answers the handshake a byte at a time, so slowly that it never ends."""
    await peer.drip(b"HTTP/1.1 101 Switching Protocols\r\nX-Filler: " + b"x" * 100_000, 0.05)


@scenario("gives_up")
async def half_a_handshake(peer: Any) -> None:
    """Breaks off in the midst of its answer."""
    await peer.raw(b"HTTP/1.1 101 Switching Pro")


@scenario("back")
async def half_a_handshake_once(peer: Any) -> None:
    """Breaks off in the midst of its answer, the first time."""
    if peer.nth == 1:
        return await half_a_handshake(peer)
    await peer.open()
    await peer.serve()


@scenario("gives_up")
async def speaks_no_http(peer: Any) -> None:
    """Answers the handshake in another language."""
    await peer.raw(b"220 mail.example ready\r\n")


@scenario("refused")
async def other_subprotocol(peer: Any) -> None:
    """Echoes a subprotocol that was not offered."""
    await peer.accept("chat")
    await peer.until_gone()


@scenario("refused")
async def no_subprotocol(peer: Any) -> None:
    """Echoes none of the subprotocols."""
    await peer.accept(None)
    await peer.until_gone()


@scenario("refused")
async def echoes_the_token(peer: Any) -> None:
    """Echoes the subprotocol that carries the token, for a client that has one; else none."""
    await peer.accept(peer.offered()[-1] if len(peer.offered()) > 1 else None)
    await peer.until_gone()


@scenario("refused")
async def unasked_extension(peer: Any) -> None:
    """Says that it compresses, which was not offered."""
    await peer.accept(Sec_WebSocket_Extensions="permessage-deflate")
    await peer.until_gone()


@scenario("refused", code=302)
async def redirects(peer: Any) -> None:
    """Sends the client elsewhere, its token with it."""
    await peer.refuse(302, Location="/v1/streams/works/ws")


def _status(status: int) -> Play:
    return lambda peer: peer.refuse(status)


for _code in (400, 401, 403, 404):
    _add(f"http_{_code}", f"Refuses the handshake with HTTP {_code}.", "refused", _status(_code), code=_code)
for _code in (429, 500, 503):
    _add(f"http_{_code}", f"Refuses each handshake with HTTP {_code}.", "gives_up", _status(_code))


@scenario("back")
async def http_503_once(peer: Any) -> None:
    """Refuses the first handshake with HTTP 503."""
    if peer.nth == 1:
        return await peer.refuse(503, Retry_After="0")
    await peer.open()
    await peer.serve()


# Before ready


@scenario("gives_up", slow=True)
async def never_ready(peer: Any) -> None:
    """Accepts, and never says ready."""
    await peer.accept()
    await peer.hello()
    await peer.until_gone()


@scenario("back", slow=True)
async def never_ready_once(peer: Any) -> None:
    """Accepts the first time without ever saying ready."""
    if peer.nth == 1:
        return await never_ready(peer)
    await peer.open()
    await peer.serve()


@scenario("gives_up", slow=True)
async def drips_ready(peer: Any) -> None:
    """Says ready in parts that never end."""
    await peer.accept()
    await peer.hello()
    await peer.text(b'{"type":"ready",', end=False)
    while True:
        await peer.more(b" ")
        await asyncio.sleep(0.02)


@scenario("misbehaved")
async def binary_before_ready(peer: Any) -> None:
    """Sends an annotated frame before ready."""
    await peer.accept()
    await peer.hello()
    await peer.annotated(1)
    await peer.until_gone()


@scenario("misbehaved")
async def result_before_ready(peer: Any) -> None:
    """Sends a result before ready."""
    await peer.accept()
    await peer.hello()
    await peer.say(**result(1))
    await peer.until_gone()


@scenario("misbehaved")
async def ack_before_ready(peer: Any) -> None:
    """Sends an ack before ready."""
    await peer.accept()
    await peer.hello()
    await peer.say(type="ack", ack=0, dropped=0)
    await peer.until_gone()


def _ready(**fields: Any) -> Play:
    async def play(peer: Any) -> None:
        await peer.open(**fields)
        await peer.serve()

    return play


for _name, _window in {"window_0": 0, "window_negative": -1, "window_huge": 1 << 40, "window_text": "2"}.items():
    _add(_name, f"Says ready with a window of {_window!r}.", "misbehaved", _ready(window=_window))
_add("window_1024", "Gives as many credits as the protocol allows.", "works", _ready(window=1024))
_add("empty_resume", "Says ready with an empty resume token.", "misbehaved", _ready(resume=""))
_add("long_resume", "Says ready with a resume token of a megabyte.", "misbehaved", _ready(resume="x" * 1_000_000))


# Nonsense after ready


def _says(*texts: bytes) -> Play:
    """Opens, reads a frame, and says so."""

    async def play(peer: Any) -> None:
        await peer.open()
        await peer.frame()
        for text in texts:
            await peer.text(text)
        await peer.until_gone()

    return play


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


for _name, _what, _text in (
    ("garbage", "Says what is no JSON.", b"{]~"),
    ("empty", "Sends an empty message.", b""),
    ("not_utf8", "Sends text that is not UTF-8.", b'{"type":"\xff\xfe"}'),
    ("an_array", "Says an array.", b"[1, 2]"),
    ("no_type", "Says an object without a type.", b"{}"),
    ("unknown_type", "Says a message of an unknown type.", b'{"type":"news","ack":1}'),
    ("wrong_field_type", "Says a result with text for a number.", _json(result(1) | {"seq": "1"})),
    ("missing_field", "Says a result without its ack.", b'{"type":"result","seq":1}'),
    ("negative_seq", "Says a result with a negative number.", _json(result(-1))),
    ("deep", "Nests 100000 arrays.", b'{"type":"result","seq":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("nan", "Says a score of NaN.", _json(result(1) | {"compute_fraction": float("nan")})),
    ("unsent_seq", "Says a result for a frame that was never sent.", _json(result(99, 0))),
    ("unsent_seq_0", "Says a result for frame 0.", _json(result(0, 0))),
    ("unsent_refusal", "Refuses a frame that was never sent.", _json(ERROR | {"seq": 99})),
    ("ack_beyond", "Acknowledges more than was sent.", _json(result(1, 99))),
    ("ready_twice", "Says ready once more.", _json(READY | {"stream_id": "x"})),
    ("hello_back", "Says hello.", b'{"type":"hello"}'),
):  # fmt: skip
    _add(_name, _what, "misbehaved", _says(_text))
_add("twice", "Says the same result twice.", "misbehaved", _says(_json(result(1)), _json(result(1))))


@scenario("works")
async def unknown_fields(peer: Any) -> None:
    """Adds fields to every message that no client knows."""
    await peer.open(future={"a": [1, None, "x"]})
    while True:
        await peer.say(**result(await peer.frame(), colour="blue", more=[{"deep": {}}]))


@scenario("works")
async def ack_backwards(peer: Any) -> None:
    """Acknowledges less than it did before: nothing is taken back."""
    await peer.open()
    await peer.serve(1)
    while True:
        seq = await peer.frame()
        await peer.say(type="ack", ack=seq - 1, dropped=0)
        await peer.say(type="ack", ack=0, dropped=0)
        await peer.say(**result(seq))


@scenario("works")
async def in_small_parts(peer: Any) -> None:
    """Sends each result in parts of one byte."""
    await peer.open()
    while True:
        text = _json(result(await peer.frame()))
        await peer.text(text[:1], end=False)
        for at in range(1, len(text)):
            await peer.more(text[at : at + 1], end=at == len(text) - 1)


@scenario("works")
async def drips(peer: Any) -> None:
    """Sends each result byte by byte, a part of a message's head at a time."""
    await peer.open()
    while True:
        text = _json(result(await peer.frame()))
        await peer.drip(b"\x81\x7e" + len(text).to_bytes(2, "big") + text, 0.0)


@scenario("misbehaved")
async def huge_message(peer: Any) -> None:
    """Announces a message of 8 GiB and begins it."""
    await peer.open()
    await peer.frame()
    await peer.raw(b"\x81\x7f" + (8 << 30).to_bytes(8, "big"))
    while True:
        await peer.raw(b" " * 65536)


@scenario("misbehaved")
async def endless_message(peer: Any) -> None:
    """Sends a message in parts that never end, as fast as they are taken."""
    await peer.open()
    await peer.frame()
    await peer.text(b" ", end=False)
    while True:
        await peer.more(b" " * (1 << 20))


@scenario("misbehaved")
async def masked(peer: Any) -> None:
    """Sets bits of a message's head that have no meaning."""
    await peer.open()
    await peer.frame()
    await peer.raw(b"\xf1\x02{}")
    await peer.until_gone()


@scenario("misbehaved")
async def floods_errors(peer: Any) -> None:
    """Says errors about no frame, without end."""
    await peer.open()
    while True:
        await peer.say(type="error", code="noise", detail="x" * 1000)


@scenario("misbehaved", annotated=True)
async def annotated_alone(peer: Any) -> None:
    """Sends an annotated frame without its result."""
    await peer.open()
    await peer.annotated(await peer.frame())
    await peer.until_gone()


@scenario("misbehaved", annotated=True)
async def annotated_other(peer: Any) -> None:
    """Sends a result, then another frame's picture."""
    await peer.open()
    await peer.serve(1)
    await peer.annotated(9)
    await peer.until_gone()


@scenario("misbehaved", annotated=True)
async def annotated_missing(peer: Any) -> None:
    """Sends results without their pictures."""
    await peer.open()
    await peer.serve()


@scenario("misbehaved", annotated=True)
async def annotated_bad(peer: Any) -> None:
    """Sends a binary message of an unknown version."""
    await peer.open()
    await peer.serve(1)
    await peer.binary(b"\x09\x02" + bytes(30))
    await peer.until_gone()


# Ends


def _closes(code: int) -> Play:
    async def play(peer: Any) -> None:
        await peer.open()
        await peer.frame()
        await peer.close(code, "so it is")

    return play


def _closes_once(code: int) -> Play:
    async def play(peer: Any) -> None:
        await peer.open()
        if peer.nth == 1:
            await peer.frame()
            return await peer.close(code)
        await peer.serve()

    return play


for _code in (1000, 1002, 1008, 1009):
    _add(f"close_{_code}", f"Closes with {_code} after a frame.", "refused", _closes(_code), code=_code)
for _code in (1001, 1011, 1012, 1013, 3999):
    _add(f"close_{_code}", f"Closes with {_code} after each first frame.", "gives_up", _closes(_code))
    _add(f"close_{_code}_once", f"Closes with {_code} after a frame, the first time.", "back", _closes_once(_code))
_add("close_empty", "Closes without a code after each first frame.", "gives_up",
     lambda peer: _ends(peer, b"\x88\x00"))  # fmt: skip
_add("close_bad_code", "Closes with code 999, which there is not.", "misbehaved",
     lambda peer: _ends(peer, b"\x88\x02\x03\xe7"))  # fmt: skip
_add("close_bad_text", "Closes with a reason that is not UTF-8.", "misbehaved",
     lambda peer: _ends(peer, b"\x88\x04\x03\xe8\xff\xfe"))  # fmt: skip


async def _ends(peer: Any, data: bytes) -> None:
    await peer.open()
    await peer.frame()
    await peer.raw(data)
    await peer.until_gone()


@scenario("refused", code=1008)
async def unauthorized(peer: Any) -> None:
    """Says why, then closes with 1008, before ready."""
    await peer.accept()
    await peer.hello()
    await peer.say(type="error", code="unauthorized", detail="no such token")
    await peer.close(1008)


@scenario("back")
async def drains(peer: Any) -> None:
    """Says draining and closes with 1012, the first time."""
    await peer.open()
    if peer.nth == 1:
        await peer.serve(1)
        await peer.say(type="draining", retry_after_ms=50)
        return await peer.close(1012)
    await peer.serve()


@scenario("back")
async def drains_before_ready(peer: Any) -> None:
    """Says draining instead of ready, and closes with 1012, the first time."""
    if peer.nth > 1:
        await peer.open()
        return await peer.serve()
    await peer.accept()
    await peer.hello()
    await peer.say(type="draining", retry_after_ms=50)
    await peer.close(1012)


@scenario("back")
async def overloaded(peer: Any) -> None:
    """Refuses the stream with 1013 and a time to come back after, the first time."""
    if peer.nth > 1:
        await peer.open()
        return await peer.serve()
    await peer.accept()
    await peer.hello()
    await peer.say(type="error", code="overloaded", detail="full", retry_after_ms=50)
    await peer.close(1013)


@scenario("back")
async def asks_to_wait_for_years(peer: Any) -> None:
    """Drains, and asks to come back in 30000 years, the first time: a client waits for a bounded time."""
    await peer.open()
    if peer.nth == 1:
        await peer.frame()
        await peer.say(type="draining", retry_after_ms=10**15)
        return await peer.close(1012)
    await peer.serve()


@scenario("back")
async def breaks_once(peer: Any) -> None:
    """Breaks the connection with a reset under a frame, the first time."""
    await peer.open()
    if peer.nth == 1:
        await peer.frame()
        return peer.abort()
    await peer.serve()


@scenario("gives_up")
async def breaks_always(peer: Any) -> None:
    """Says ready, and breaks each connection at its first frame."""
    await peer.open()
    await peer.frame()
    peer.abort()


@scenario("back")
async def breaks_within_a_message(peer: Any) -> None:
    """Ends the connection in the midst of a result, the first time."""
    await peer.open()
    if peer.nth == 1:
        await peer.frame()
        return await peer.raw(b"\x81\x7e\x01\x00{")
    await peer.serve()


@scenario("back")
async def refuses_resume(peer: Any) -> None:
    """Breaks after a frame, and then knows nothing of the stream."""
    await peer.open(resume_reason="unknown") if peer.nth > 1 else await peer.open()
    if peer.nth == 1:
        await peer.serve(1)
        return peer.abort()
    await peer.serve()


@scenario("back")
async def resumes(peer: Any) -> None:
    """Breaks after a frame, the first time, and goes on where the token of the last ready is offered."""
    await peer.accept()
    offered = (await peer.hello()).get("resume")
    resumed = offered == f"token{peer.nth - 1}"
    await peer.say(**READY | {"stream_id": "x", "resume": f"token{peer.nth}", "resumed": resumed})
    if peer.nth == 1:
        await peer.serve(1)
        return peer.abort()
    await peer.serve()


# Moves


def _to(peer: Any, before: str = "") -> str:
    """The address of this stream on this server, perhaps below a path."""
    scheme = "ws" if peer.writer.get_extra_info("ssl_object") is None else "wss"
    return f"{scheme}://{peer.request.headers['Host']}{before}/v1/streams/{peer.stream_id}/ws"


async def _moves(peer: Any, ws_url: Any, code: int = 1012) -> None:
    await peer.say(type="moved", ws_url=ws_url)
    await peer.close(code)


@scenario("follows")
async def moves(peer: Any) -> None:
    """Says moved in the place of ready, the first time."""
    if peer.nth == 1:
        await peer.accept()
        await peer.hello()
        return await _moves(peer, _to(peer, "/elsewhere"))
    await peer.open()
    await peer.serve()


@scenario("follows")
async def moves_before_hello(peer: Any) -> None:
    """Says moved without waiting for a hello, the first time."""
    if peer.nth == 1:
        await peer.accept()
        return await _moves(peer, _to(peer))
    await peer.open()
    await peer.serve()


@scenario("follows")
async def moves_to_clear(peer: Any) -> None:
    """Sends the client to ws, the first time: from wss nobody may be sent there."""
    if peer.nth == 1:
        await peer.accept()
        await peer.hello()
        return await _moves(peer, _to(peer).replace("wss:", "ws:"))
    await peer.open()
    await peer.serve()


@scenario("follows")
async def moves_and_stays(peer: Any) -> None:
    """Says moved and does not close, the first time: nobody waits for that."""
    await peer.open()
    if peer.nth == 1:
        await peer.serve(1)
        await peer.say(type="moved", ws_url=_to(peer))
        await peer.until_gone()
    await peer.serve()


@scenario("follows")
async def moves_under_a_frame(peer: Any) -> None:
    """Says moved with a frame under way, the first time, and closes as if that were for good, without a result."""
    await peer.open()
    if peer.nth == 1:
        await peer.frame()
        return await _moves(peer, _to(peer), 1008)
    await peer.serve()


@scenario("follows")
async def moves_and_goes_on(peer: Any) -> None:
    """Answers a frame after moved, the first time, as it should: then the client goes."""
    await peer.open()
    if peer.nth == 1:
        seq = await peer.frame()
        await peer.say(type="moved", ws_url=_to(peer))
        await peer.say(**result(seq))
        await peer.until_gone()
    await peer.serve()


@scenario("follows", slow=True)
async def moves_and_settles_nothing(peer: Any) -> None:
    """Says moved with a frame under way, the first time, and nothing more: the client goes when that takes too long."""
    await peer.open()
    if peer.nth == 1:
        await peer.frame()
        await peer.say(type="moved", ws_url=_to(peer))
        await peer.until_gone()
    await peer.serve()


@scenario("misbehaved")
async def moves_twice(peer: Any) -> None:
    """Says moved with a frame under way, and then that it has moved again."""
    await peer.open()
    await peer.frame()
    await peer.say(type="moved", ws_url=_to(peer))
    await peer.say(type="moved", ws_url=_to(peer))
    await peer.until_gone()


@scenario("follows")
async def moves_four_times(peer: Any) -> None:
    """Sends the client on and on, and has the stream at last."""
    if peer.nth < 5:
        await peer.accept()
        await peer.hello()
        return await _moves(peer, _to(peer))
    await peer.open()
    await peer.serve()


@scenario("back")
async def moves_five_times(peer: Any) -> None:
    """Sends the client on once more than it goes, and has the stream when it comes again."""
    if peer.nth < 6:
        await peer.accept()
        await peer.hello()
        return await _moves(peer, _to(peer))
    await peer.open()
    await peer.serve()


@scenario("gives_up", connections=5)
async def moves_for_ever(peer: Any) -> None:
    """Sends the client to itself, each time."""
    await peer.accept()
    await peer.hello()
    await _moves(peer, _to(peer))


@scenario("gives_up", connections=5)
async def moves_for_ever_when_ready(peer: Any) -> None:
    """Says ready, and sends the client to itself, each time: no frame is ever settled."""
    await peer.open()
    await _moves(peer, _to(peer))


@scenario("gives_up")
async def moves_nowhere(peer: Any) -> None:
    """Sends the client where nobody listens, each time: it begins again here."""
    await peer.accept()
    await peer.hello()
    await _moves(peer, f"ws://127.0.0.1:2/v1/streams/{peer.stream_id}/ws")


@scenario("back")
async def moves_nowhere_once(peer: Any) -> None:
    """Sends the client where nobody listens, the first time."""
    if peer.nth > 1:
        await peer.open()
        return await peer.serve()
    await moves_nowhere(peer)


@scenario("back")
async def breaks_where_it_moved(peer: Any) -> None:
    """Has the stream at another address, and breaks there under a frame: the client begins at the first."""
    elsewhere = peer.request.path.startswith("/elsewhere")
    if not elsewhere and peer.nth == 1:
        await peer.accept()
        await peer.hello()
        return await _moves(peer, _to(peer, "/elsewhere"))
    await peer.open()
    if elsewhere:
        await peer.frame()
        return peer.abort()
    await peer.serve()


def _moved(ws_url: Callable[[Any], Any], ready: bool) -> Play:
    """Says moved to what is no address of this stream."""

    async def play(peer: Any) -> None:
        if ready:
            await peer.open()
            await peer.frame()
        else:
            await peer.accept()
            await peer.hello()
        await peer.say(type="moved", ws_url=ws_url(peer))
        await peer.until_gone()

    return play


for _name, _what, _ws_url in (
    ("number", "a number", lambda peer: 7),
    ("nothing", "an empty text", lambda peer: ""),
    ("http", "an address of http", lambda peer: _to(peer).replace("ws:", "http:")),
    ("script", "a script", lambda peer: f"javascript:alert(1)//{_to(peer)}"),
    ("user", "an address with a user", lambda peer: _to(peer).replace("//", "//user:word@")),
    ("other_stream", "another stream", lambda peer: _to(peer).replace(peer.stream_id, "works")),
    ("query", "an address with a query", lambda peer: _to(peer) + "?to=ws"),
    ("new_line", "an address with a line's end", lambda peer: _to(peer) + "\n"),
    ("huge", "an address of a megabyte", lambda peer: _to(peer, "/x" * 500_000)),
    ("relative", "a path", lambda peer: f"/v1/streams/{peer.stream_id}/ws"),
):
    _add(f"moved_to_{_name}", f"Sends the client to {_what}.", "misbehaved", _moved(_ws_url, ready=False))
    _add(f"ready_moved_to_{_name}", f"Sends a client that it serves to {_what}.", "misbehaved",
         _moved(_ws_url, ready=True))  # fmt: skip


# Half-open


@scenario("back", slow=True)
async def stops_reading(peer: Any) -> None:
    """Says ready, then neither reads nor writes, the first time; the connection stays."""
    await peer.open()
    if peer.nth == 1:
        return await peer.stop_reading()
    await peer.serve()


@scenario("back", slow=True)
async def stops_answering(peer: Any) -> None:
    """Reads everything and answers pings, and no frame gets a result, the first time."""
    await peer.open()
    if peer.nth == 1:
        await peer.until_gone()
    await peer.serve()


@scenario("back", slow=True)
async def talks_and_settles_nothing(peer: Any) -> None:
    """Answers frames with acks that settle nothing, the first time."""
    await peer.open()
    while peer.nth == 1:
        await peer.say(type="ack", ack=0, dropped=0)
        await asyncio.sleep(0.01)
    await peer.serve()


@scenario("gives_up", slow=True)
async def stops_in_a_message(peer: Any) -> None:
    """Begins a result and goes on with it for ever, each time."""
    await peer.open()
    await peer.frame()
    await peer.text(b"{", end=False)
    while True:
        await peer.more(b" ")
        await asyncio.sleep(0.02)


@scenario("works")
async def works(peer: Any) -> None:
    """A good server. It can go `away`."""
    await peer.open()
    await peer.serve()
