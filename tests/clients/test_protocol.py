"""The two state machines: phases, credits, cumulative acks; and both played against each other."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.wire import (
    Ack,
    Bye,
    ClientProtocol,
    Draining,
    Encoding,
    ErrorCode,
    ErrorMessage,
    FrameMessage,
    Hello,
    Limits,
    Moved,
    Op,
    Phase,
    Policy,
    Ready,
    Result,
    ServerProtocol,
    TileRules,
    Timing,
    WireError,
    encode_frame,
    encode_message,
    vectors,
)

JPEG = b"\xff\xd8 scene \xff\xd9"
TIMING = Timing(queue=0, decode=0, diff=0, infer=0, total=0)


def make_ready(window: int = 2, max_message_bytes: int = 1000) -> Ready:
    return Ready(
        stream_id="s",
        model="m",
        policy=Policy.LATEST,
        window=window,
        limits=Limits(max_message_bytes=max_message_bytes, max_pixels=10),
        resume="again",
        resumed=False,
        size=(64, 32),
    )


def result(seq: int, ack: int) -> Result:
    return Result(
        seq=seq,
        ack=ack,
        capture_ts_us=0,
        timing_ms=TIMING,
        dropped=0,
        compute_fraction=0.0,
        changed_tiles=0,
        decision="reuse",
        width=1,
        height=1,
        detections=(),
    )


def open_client(encoding: Encoding = Encoding.JSON, **ready: int) -> ClientProtocol:
    client = ClientProtocol(Hello(), encoding)
    client.hello()
    client.receive(encode_message(make_ready(**ready), encoding))
    return client


def open_server(window: int = 2, encoding: Encoding = Encoding.JSON) -> ServerProtocol:
    server = ServerProtocol(encoding, window=window, max_message_bytes=1000)
    server.receive(encode_message(Hello(), encoding))
    server.opened()
    return server


def image(seq: int) -> bytes:
    return encode_frame(FrameMessage(vectors.Op.IMAGE, vectors.Flags.NONE, seq, 0, JPEG))


def test_client_spends_credits_and_gets_them_back_by_ack() -> None:
    client = open_client(window=2)
    assert client.credits == 2
    assert [client.frame(JPEG, 0)[0], client.frame(JPEG, 0)[0]] == [1, 2]
    with pytest.raises(WireError, match="fewer than 2 frames unacked"):
        client.frame(JPEG, 0)
    client.receive(encode_message(result(2, 1), Encoding.JSON))
    assert (client.credits, client.unacked) == (1, 1)
    client.receive(encode_message(Ack(ack=2, dropped=1), Encoding.JSON))
    assert client.credits == 2


def test_client_error_with_ack_returns_credit_and_without_does_not() -> None:
    client = open_client(window=2)
    client.frame(JPEG, 0)
    client.receive(encode_message(ErrorMessage(code="x", detail="y"), Encoding.JSON))
    assert client.credits == 1
    client.receive(encode_message(ErrorMessage(code="x", detail="y", seq=1, ack=1), Encoding.JSON))
    assert client.credits == 2


def test_client_refuses_an_ack_of_what_it_never_sent() -> None:
    client = open_client()
    with pytest.raises(WireError, match="at most 0, got 5"):
        client.receive(encode_message(Ack(ack=5, dropped=0), Encoding.JSON))


def test_client_refuses_answers_to_what_is_not_under_way() -> None:
    client = open_client()
    client.frame(JPEG, 0)
    client.frame(JPEG, 0)
    never_sent = (result(3, 0), result(0, 0), ErrorMessage(code="x", detail="y", seq=3))
    for message in never_sent:
        with pytest.raises(WireError, match="frame under way"):
            client.receive(encode_message(message, Encoding.JSON))
    client.receive(encode_message(result(2, 0), Encoding.JSON))
    for message in (result(2, 2), ErrorMessage(code="x", detail="y", seq=2)):
        with pytest.raises(WireError, match="frame under way, got one to 2"):
            client.receive(encode_message(message, Encoding.JSON))
    assert client.connection_lost() == (1,), "frame 2 has its result"


def test_an_ack_that_goes_backwards_changes_nothing() -> None:
    client = open_client()
    client.frame(JPEG, 0)
    client.receive(encode_message(result(1, 1), Encoding.JSON))
    client.frame(JPEG, 0)
    client.receive(encode_message(Ack(ack=0, dropped=0), Encoding.JSON))
    assert (client.unacked, client.credits) == (1, 1)


@pytest.mark.parametrize(
    "message",
    [
        encode_message(result(1, 0), Encoding.JSON),
        encode_message(Ack(ack=0, dropped=0), Encoding.JSON),
        encode_frame(FrameMessage(vectors.Op.ANNOTATED, vectors.Flags.NONE, 1, 0, JPEG)),
    ],
)
def test_client_takes_no_answer_before_ready(message: str | bytes) -> None:
    client = ClientProtocol(Hello())
    client.hello()
    with pytest.raises(WireError, match="expected ready before"):
        client.receive(message)


def test_client_sends_nothing_before_ready_after_bye_or_when_draining() -> None:
    client = ClientProtocol(Hello())
    with pytest.raises(WireError, match="NEW"):
        client.frame(JPEG, 0)
    client.hello()
    assert client.credits == 0
    with pytest.raises(WireError, match="GREETING"):
        client.frame(JPEG, 0)
    leaving = open_client()
    leaving.bye()
    with pytest.raises(WireError, match="DRAINING"):
        leaving.frame(JPEG, 0)
    drained = open_client()
    drained.receive(encode_message(Draining(retry_after_ms=5), Encoding.JSON))
    assert drained.credits == 0


MOVED = encode_message(Moved(ws_url="ws://b.example/v1/streams/s/ws"), Encoding.JSON)


@pytest.mark.parametrize("before", ["greeting", "open", "draining", "bye"])
def test_after_moved_there_are_answers_and_no_frames(before: str) -> None:
    client = open_client()
    if before == "greeting":
        client = ClientProtocol(Hello())
        client.hello()
    else:
        client.frame(JPEG, 0)
    if before == "draining":
        client.receive(encode_message(Draining(retry_after_ms=5), Encoding.JSON))
    if before == "bye":
        client.bye()
    assert client.receive(MOVED) == Moved(ws_url="ws://b.example/v1/streams/s/ws")
    assert (client.phase, client.credits) == (Phase.MOVED, 0)
    for late in (MOVED, encode_message(make_ready(), Encoding.JSON), encode_message(result(2, 0), Encoding.JSON)):
        with pytest.raises(WireError):
            client.receive(late)
    client.receive(encode_message(Draining(retry_after_ms=5), Encoding.JSON))
    assert client.phase is Phase.MOVED
    with pytest.raises(WireError, match="MOVED"):
        client.frame(JPEG, 0)
    if before != "greeting":
        client.receive(encode_message(result(1, 1), Encoding.JSON))
    assert client.connection_lost() == ()
    client.hello()
    client.receive(encode_message(make_ready(), Encoding.JSON))
    assert client.credits == 2


def test_client_takes_no_move_before_its_hello() -> None:
    with pytest.raises(WireError, match="MOVED does not follow NEW"):
        ClientProtocol(Hello()).receive(MOVED)


def test_client_refuses_ready_out_of_turn() -> None:
    client = open_client()
    with pytest.raises(WireError, match="out of turn"):
        client.receive(encode_message(make_ready(), Encoding.JSON))


def test_client_keeps_within_the_servers_message_size() -> None:
    client = open_client(max_message_bytes=20)
    with pytest.raises(WireError, match="at most 20 bytes"):
        client.frame(JPEG, 0)
    assert client.credits == 2, "a frame that was not sent costs nothing"


def test_reconnection_goes_on_with_token_and_numbers() -> None:
    client = open_client()
    client.frame(JPEG, 0)
    assert client.connection_lost() == (1,)
    assert client.phase is Phase.NEW
    assert '"resume":"again"' in str(client.hello())
    client.receive(encode_message(make_ready(), Encoding.JSON))
    assert client.frame(JPEG, 0)[0] == 2
    assert client.unacked == 1


def test_client_takes_annotated_frames_only() -> None:
    client = open_client(Encoding.MSGPACK)
    annotated = client.receive(encode_frame(vectors.FRAMES["annotated"]))
    assert isinstance(annotated, FrameMessage)
    with pytest.raises(WireError, match="op 2 from a server"):
        client.receive(image(1))


def test_server_wants_hello_first_and_once() -> None:
    server = ServerProtocol(Encoding.JSON, window=2, max_message_bytes=1000)
    for message in (image(1), '{"type":"bye"}'):
        with pytest.raises(WireError) as caught:
            server.receive(message)
        assert caught.value.code is ErrorCode.HELLO_EXPECTED
        assert caught.value.seq is None
    assert isinstance(server.receive('{"type":"hello"}'), Hello)
    with pytest.raises(WireError) as caught:
        server.receive('{"type":"hello"}')
    assert caught.value.code is ErrorCode.HELLO_REPEATED


def test_server_takes_no_frames_after_bye() -> None:
    server = open_server()
    server.receive(image(1))
    assert isinstance(server.receive('{"type":"bye"}'), Bye)
    with pytest.raises(WireError, match="DRAINING"):
        server.receive(image(2))
    assert server.settle(1) == 1


def test_server_ack_is_cumulative() -> None:
    server = open_server(window=4)
    for seq in (3, 5, 9):
        server.receive(image(seq))
    assert server.unsettled == 3
    assert server.settle(5) == 0
    assert server.settle(9) == 0
    assert server.settle(3) == 9
    assert server.settle(3) == 9
    assert server.settle(1000) == 9
    assert server.unsettled == 0


def test_server_settles_refused_frames_in_order() -> None:
    server = open_server()
    server.receive(image(1))
    with pytest.raises(WireError) as caught:
        server.receive(image(2)[:-1])
    refusal = server.refusal(caught.value)
    assert (refusal.seq, refusal.ack, refusal.code) == (2, 0, "incomplete_image")
    assert server.settle(1) == 2


def test_server_refuses_numbers_that_do_not_increase() -> None:
    server = open_server()
    server.receive(image(4))
    for seq in (4, 3):
        with pytest.raises(WireError) as caught:
            server.receive(image(seq))
        assert caught.value.code is ErrorCode.BAD_SEQ
    assert server.unsettled == 1


def test_server_refuses_too_large_empty_and_server_ops() -> None:
    server = open_server()
    for message, code in (
        (bytes(1001), ErrorCode.MESSAGE_TOO_LARGE),
        (b"", ErrorCode.EMPTY_MESSAGE),
        ("", ErrorCode.EMPTY_MESSAGE),
        (encode_frame(vectors.FRAMES["annotated"]), ErrorCode.UNKNOWN_OP),
    ):
        with pytest.raises(WireError) as caught:
            server.receive(message)
        assert caught.value.code is code


def test_server_phases_are_guarded() -> None:
    server = ServerProtocol(Encoding.JSON, window=2, max_message_bytes=1000)
    with pytest.raises(RuntimeError, match="OPEN does not follow NEW"):
        server.opened()


@given(st.integers(1, 8), st.integers(0, 2**32), st.sampled_from(Encoding))
def test_both_ends_agree_whatever_the_order(window: int, seed: int, encoding: Encoding) -> None:
    """Frames are settled in random order, some refused; credits come back to the full window at the end."""
    rng = random.Random(seed)
    client = open_client(encoding, window=window)
    server = open_server(window, encoding)
    waiting: list[int] = []
    for _ in range(60):
        if client.credits and rng.random() < 0.6:
            seq, data = client.frame(JPEG, seq_ts := rng.randrange(2**64))
            if rng.random() < 0.2:
                with pytest.raises(WireError) as caught:
                    server.receive(data[:-1])
                client.receive(server.encode(server.refusal(caught.value)))
                continue
            got = server.receive(data)
            assert isinstance(got, FrameMessage)
            assert (got.seq, got.capture_ts_us) == (seq, seq_ts)
            waiting.append(seq)
        elif waiting:
            seq = waiting.pop(rng.randrange(len(waiting)))
            client.receive(server.encode(result(seq, server.settle(seq))))
        assert client.unacked <= window
    for seq in waiting:
        client.receive(server.encode(result(seq, server.settle(seq))))
    assert server.unsettled == 0
    assert client.credits == window


@pytest.mark.parametrize("answered", [False, True])
def test_server_remembers_little_of_what_comes_beyond_the_credits(answered: bool) -> None:
    """A client that floods while one frame is computed: each of its others is replaced by the next."""
    server = open_server(window=2)
    for seq in range(1, 5001):
        server.receive(image(seq))
        if seq > 2:
            assert server.settle(seq - 1) == 0
        assert len(server._settled) <= 2 * 2 + 64 + 1
    assert server.unsettled == 2
    if answered:
        assert server.settle(5000) == 0
    assert server.settle(1) == (5000 if answered else 4999)
    assert server.unsettled == (0 if answered else 1)


def test_tiles_only_where_they_are_offered() -> None:
    payload = vectors.encode_tiles(vectors.TILES["one_tile"])
    client, server = open_client(), open_server()
    with pytest.raises(WireError) as caught:
        client.frame(payload, 0, op=Op.TILES)
    assert caught.value.code is ErrorCode.UNKNOWN_OP
    message = encode_frame(FrameMessage(Op.TILES, vectors.Flags.NONE, 1, 0, payload))
    with pytest.raises(WireError) as caught:
        server.receive(message)
    assert (caught.value.code, caught.value.seq, server.ack) == (ErrorCode.UNKNOWN_OP, 1, 1)

    ready = msgspec.structs.replace(make_ready(), tiles=TileRules(tile_px=16, difference=3.0))
    client = ClientProtocol(Hello(tiles=True))
    server = ServerProtocol(Encoding.JSON, window=2, max_message_bytes=1000)
    server.receive(client.hello())
    server.opened(tiles=True)
    client.receive(server.encode(ready))
    assert client.ready == ready
    seq, message = client.frame(payload, 5, op=Op.TILES)
    assert server.receive(message) == FrameMessage(Op.TILES, vectors.Flags.NONE, seq, 5, payload)
    with pytest.raises(WireError) as caught:
        client.frame(JPEG, 5, op=Op.ANNOTATED)
    assert caught.value.code is ErrorCode.UNKNOWN_OP
