"""What both clients share: addresses, options, and the pairing of results with frames."""

from __future__ import annotations

import time

import numpy as np
import pytest
from msgspec.structs import replace

from clients.python import FrameRefused, FrameResult, FramesLost, Refused, ServerMisbehaved, StreamOptions
from clients.python.core import LEAVE_S, MAX_NOISE, ClientCore, now_us, stream_url
from clients.python.route import MovedAway
from clients.wire import (
    Encoding,
    ErrorMessage,
    FrameMessage,
    Moved,
    Op,
    decode_frame,
    encode_frame,
    encode_message,
    vectors,
)
from clients.wire.binary import Flags

URL = "ws://127.0.0.1:8000/v1/streams/door/ws"
JPEG = b"\xff\xd8 scene \xff\xd9"


@pytest.mark.parametrize(
    ("url", "stream_id", "expected"),
    [
        ("http://127.0.0.1:8000", "door", "ws://127.0.0.1:8000/v1/streams/door/ws"),
        ("https://cam.example/base/", "a-b_1", "wss://cam.example/base/v1/streams/a-b_1/ws"),
        ("ws://h:1/v1/streams/x/ws", None, "ws://h:1/v1/streams/x/ws"),
        ("ws://h", "a/../b", "ws://h/v1/streams/a%2F..%2Fb/ws"),
    ],
)
def test_addresses(url: str, stream_id: str | None, expected: str) -> None:
    assert stream_url(url, stream_id) == expected


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "", "http://h/v1/streams"])
def test_bad_addresses(url: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        stream_url(url, None)


def test_bad_content_type() -> None:
    with pytest.raises(ValueError, match="expected image/jpeg"):
        StreamOptions(content_type="video/mp4").hello()


def test_outputs_are_what_was_asked_for() -> None:
    assert StreamOptions().hello().outputs == ("detections",)
    asked = StreamOptions(annotated=True, tracks=True, changes=True, resume_s=5).hello()
    assert (asked.outputs, asked.resume_s) == (("detections", "annotated", "tracks", "changes"), 5)


def opened(**options) -> ClientCore:
    core = ClientCore(StreamOptions(**options), URL)
    core.hello()
    assert core.receive(encode_message(vectors.SERVER_MESSAGES["ready"], Encoding.JSON)) is None
    return core


def result(seq: int, ack: int) -> str | bytes:
    return encode_message(replace(vectors.SERVER_MESSAGES["result_boxes"], seq=seq, ack=ack), Encoding.JSON)


def test_results_and_refusals_become_events() -> None:
    core = opened()
    assert core.frame(JPEG, 5, False)[0] == 1
    assert core.frame(JPEG, 6, False)[0] == 2
    refused = encode_message(vectors.ErrorMessage(code="bad_image", detail="d", seq=2, ack=0), Encoding.JSON)
    assert core.receive(refused) == FrameRefused(2, "bad_image", "d")
    assert not core.idle
    event = core.receive(result(1, 2))
    assert isinstance(event, FrameResult)
    assert (event.seq, core.server_dropped, core.idle) == (1, 3, True)
    assert event.round_trip_ms > 0


def test_an_annotated_frame_completes_its_result() -> None:
    core = opened(annotated=True)
    core.frame(JPEG, 5, False)
    assert core.receive(result(1, 1)) is None
    assert not core.idle, "its picture is still to come"
    event = core.receive(encode_frame(FrameMessage(Op.ANNOTATED, Flags.NONE, 1, 5, JPEG)))
    assert (event.seq, event.annotated, core.idle) == (1, JPEG, True)
    with pytest.raises(ServerMisbehaved, match="alone"):
        core.receive(encode_frame(FrameMessage(Op.ANNOTATED, Flags.NONE, 1, 5, JPEG)))


def test_a_lost_connection_names_its_frames() -> None:
    core = opened()
    core.frame(JPEG, None, False)
    core.receive(encode_message(vectors.SERVER_MESSAGES["draining"], Encoding.JSON))
    assert core.retry_after_s == 1.0
    assert core.connection_lost() == FramesLost((1,))
    assert '"resume":"r3sUme-t0ken_"' in core.hello()
    assert core.retry_after_s == 0.0
    assert core.connection_lost() is None


def test_what_one_server_gave_is_not_offered_to_another() -> None:
    core = opened()
    there = "ws://b.example/v1/streams/door/ws"
    moved = encode_message(Moved(ws_url=there), Encoding.JSON)
    core.frame(JPEG, None, False)
    assert core.receive(moved) is None
    core.leave()  # not yet
    assert core.connection_lost() == FramesLost((1,))
    assert core.follows(OSError("the connection broke")), "whatever ended it"
    assert not core.follows(OSError("another one"))
    assert '"resume":null' in core.hello()
    core.receive(encode_message(replace(vectors.SERVER_MESSAGES["ready"], resume="of-b"), Encoding.JSON))
    core.connection_lost()
    core.route.lost()
    assert '"resume":null' in core.hello(), "the first address again"
    with pytest.raises(MovedAway) as caught:
        core.receive(moved)
    core.connection_lost()
    assert core.follows(caught.value)
    assert '"resume":"of-b"' in core.hello(), "it is back"


def test_what_is_under_way_is_waited_for_before_a_move_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    core = opened()
    core.frame(JPEG, None, False)
    core.frame(JPEG, None, False)
    assert core.receive(encode_message(Moved(ws_url=URL), Encoding.JSON)) is None
    assert core.receive(result(1, 1)).seq == 1
    core.leave()
    assert core.receive(result(2, 2)).seq == 2, "it is given out first"
    with pytest.raises(MovedAway):
        core.leave()
    core.connection_lost()
    core.hello()
    core.receive(encode_message(vectors.SERVER_MESSAGES["ready"], Encoding.JSON))
    core.leave()
    core.frame(JPEG, None, False)
    core.receive(encode_message(Moved(ws_url=URL), Encoding.JSON))
    later = time.monotonic() + LEAVE_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(MovedAway):
        core.leave()
    assert core.connection_lost() == FramesLost((3,))


@pytest.mark.parametrize("data", ["{}", b"\x01", "[1]", b""])
def test_a_server_that_breaks_the_protocol(data: str | bytes) -> None:
    with pytest.raises(ServerMisbehaved, match="broke the protocol"):
        opened().receive(data)


def test_rates_and_policy_are_part_of_hello() -> None:
    hello = StreamOptions(policy=vectors.Policy.DROP_NEWEST, max_fps=12.5, idle_fps=0.5).hello()
    assert hello == vectors.CLIENT_MESSAGES["hello_paced"]


def test_what_the_server_dropped_is_known_from_acks_too() -> None:
    core = opened()
    core.frame(JPEG, 5, False)
    assert core.receive(encode_message(vectors.Ack(ack=1, dropped=4), Encoding.JSON)) is None
    assert (core.server_dropped, core.idle) == (4, True)


def test_a_frame_is_captured_when_it_is_handed_over() -> None:
    before = time.time_ns() // 1000
    assert before <= now_us() <= before + 10_000_000


def test_a_result_without_its_picture_is_no_result() -> None:
    core = opened(annotated=True)
    core.frame(JPEG, 5, False)
    core.frame(JPEG, 6, False)
    core.receive(result(1, 1))
    with pytest.raises(ServerMisbehaved, match="annotated frame 1, got result 2"):
        core.receive(result(2, 2))


def test_errors_about_no_frame_are_bounded() -> None:
    core = opened()
    noise = encode_message(vectors.ErrorMessage(code="x", detail="y"), Encoding.JSON)
    for _ in range(MAX_NOISE):
        assert core.receive(noise) == FrameRefused(None, "x", "y")
    core.frame(JPEG, 5, False)
    core.receive(result(1, 1))
    assert core.receive(noise) == FrameRefused(None, "x", "y"), "a settled frame makes them good"
    for _ in range(MAX_NOISE - 1):
        core.receive(noise)
    with pytest.raises(ServerMisbehaved, match="got 65 errors"):
        core.receive(noise)


@pytest.mark.parametrize("echoed", [None, "chat", "afterimage.v1.msgpack", "base64.websocket.bearer.c2VjcmV0"])
def test_the_subprotocol_must_be_the_one_that_was_offered(echoed: str | None) -> None:
    core = ClientCore(StreamOptions(token="secret"), URL)
    core.accepted("afterimage.v1")
    with pytest.raises(Refused, match=r"expected the subprotocol afterimage\.v1, got") as caught:
        core.accepted(echoed)
    assert "c2VjcmV0" not in str(caught.value)


def test_what_is_due_and_does_not_come() -> None:
    core = opened(ack_timeout_s=0.01)
    time.sleep(0.02)
    assert core.pause_s() == 0.01, "nothing is due"
    assert not core.stalled()
    core.frame(JPEG, 5, False)
    while not core.late:
        time.sleep(core.pause_s())
    while not core.stalled():
        time.sleep(core.pause_s())
    core.receive(result(1, 1))
    assert not core.stalled()


def test_refused_and_lost_frames_are_counted() -> None:
    core = opened()
    core.frame(JPEG, 5, False)
    core.frame(JPEG, 6, False)
    core.receive(encode_message(vectors.ErrorMessage(code="x", detail="y", seq=1, ack=1), Encoding.JSON))
    assert core.connection_lost() == FramesLost((2,))
    assert (core.refused, core.lost, core.settled) == (1, 1, 1)


def test_arguments_of_a_connection() -> None:
    given = StreamOptions(token="t", ping_s=3.0, proxy=True).connection()
    assert given["subprotocols"] == ["afterimage.v1", "base64.websocket.bearer.dA"]
    assert (given["ping_interval"], given["ping_timeout"], given["proxy"], given["compression"]) == (
        3.0,
        3.0,
        True,
        None,
    )
    assert StreamOptions(proxy=False).connection()["proxy"] is None


PIXELS = np.full((32, 48, 3), 90, np.uint8)


def tiled(ready: str = "ready_tiles", **options) -> ClientCore:
    core = ClientCore(StreamOptions(tiles=True, **options), URL)
    core.hello()
    core.receive(encode_message(vectors.SERVER_MESSAGES[ready], Encoding.JSON))
    return core


def ops(core: ClientCore, *frames: np.ndarray) -> list[Op]:
    """How the frames were sent, each acknowledged at once."""
    found = []
    for frame in frames:
        seq, data = core.image(frame, 1, reset=False)
        found.append(decode_frame(data).op)
        core.receive(encode_message(vectors.Ack(ack=seq, dropped=0), Encoding.JSON))
    return found


def test_pixels_go_as_tiles_where_the_server_takes_them() -> None:
    assert StreamOptions(tiles=True).hello().tiles
    core = tiled()
    assert ops(core, PIXELS, PIXELS, PIXELS) == [Op.IMAGE, Op.TILES, Op.TILES]
    assert core.bytes_sent > 16 * 3
    core.frame(JPEG, 1, reset=False)
    assert ops(core, PIXELS) == [Op.IMAGE], "whose pixels are not known"
    assert ops(tiled("ready"), PIXELS, PIXELS) == [Op.IMAGE, Op.IMAGE]


def test_after_an_error_with_a_number_the_next_frame_is_whole() -> None:
    core = tiled()
    ops(core, PIXELS)
    first, _ = core.image(PIXELS, 1, reset=False)
    second, _ = core.image(PIXELS, 1, reset=False)
    error = ErrorMessage(code="reference_mismatch", detail="x", seq=first, ack=first)
    assert isinstance(core.receive(encode_message(error, Encoding.JSON)), FrameRefused)
    third, data = core.image(PIXELS, 1, reset=False)
    assert decode_frame(data).op is Op.IMAGE
    core.receive(encode_message(ErrorMessage(code="x", detail="x", seq=second, ack=second), Encoding.JSON))
    assert decode_frame(core.image(PIXELS, 1, reset=False)[1]).op is Op.TILES, "a whole one was sent since"
    core.receive(encode_message(ErrorMessage(code="x", detail="x", seq=third, ack=third), Encoding.JSON))
    assert ops(core, PIXELS) == [Op.IMAGE]


def test_after_a_lost_connection_the_next_frame_is_whole() -> None:
    core = tiled()
    assert ops(core, PIXELS, PIXELS) == [Op.IMAGE, Op.TILES]
    core.connection_lost()
    core.hello()
    core.receive(encode_message(vectors.SERVER_MESSAGES["ready_tiles"], Encoding.JSON))
    assert ops(core, PIXELS, PIXELS) == [Op.IMAGE, Op.TILES]


def test_pixels_are_sent_as_jpegs_only() -> None:
    core = tiled(content_type="image/png")
    with pytest.raises(ValueError, match="expected image/jpeg to send pixels"):
        core.image(PIXELS, 1, reset=False)


def test_pictures_are_sent_whole_after_a_move() -> None:
    core = tiled()
    assert ops(core, PIXELS, PIXELS) == [Op.IMAGE, Op.TILES]
    with pytest.raises(MovedAway):
        core.receive(encode_message(Moved(ws_url=URL), Encoding.JSON))
    core.connection_lost()
    core.hello()
    core.receive(encode_message(vectors.SERVER_MESSAGES["ready_tiles"], Encoding.JSON))
    assert ops(core, PIXELS, PIXELS) == [Op.IMAGE, Op.TILES]
