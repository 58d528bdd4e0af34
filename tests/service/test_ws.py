"""The WebSocket endpoint through starlette's TestClient: handshake, frames, errors, flow, resume, close."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from service_fakes import FakeEngine, frame, huge_jpeg, idle_lane, image, subprotocols, wait_until
from starlette.websockets import WebSocketDisconnect

from clients.wire import (
    HEADER_BYTES,
    Encoding,
    Flags,
    FrameMessage,
    Op,
    TilesPayload,
    decode_frame,
    decode_server_message,
    encode_frame,
    encode_tiles,
    reference_of,
    vectors,
)
from service import connection


def connect(client, stream_id: str = "door", token: str | None = None, **kwargs: Any):
    kwargs.setdefault("subprotocols", subprotocols(token))
    return client.websocket_connect(f"/v1/streams/{stream_id}/ws", **kwargs)


def hello(socket, **fields: Any) -> dict:
    socket.send_text(json.dumps({"type": "hello", **fields}))
    return socket.receive_json()


def detect(client):
    return client.post("/v1/detect", content=image(), headers={"content-type": "image/jpeg"})


def closed(socket) -> WebSocketDisconnect:
    """Read to the end; the close."""
    while True:
        message = socket.receive()
        if message["type"] == "websocket.close":
            return WebSocketDisconnect(message.get("code", 1000), message.get("reason"))


def test_a_frame_in_and_boxes_out(make_client) -> None:
    with connect(make_client()) as socket:
        assert socket.accepted_subprotocol == "afterimage.v1"
        ready = hello(socket)
        assert ready["type"] == "ready"
        assert (ready["model"], ready["window"], ready["resumed"]) == ("fake", 2, False)
        assert ready["size"] == [64, 48]
        assert ready["limits"]["max_pixels"] == 4096 * 4096
        socket.send_bytes(frame(1, 120, ts=2**53 + 1))
        result = socket.receive_json()
        assert (result["type"], result["seq"], result["ack"]) == ("result", 1, 1)
        assert result["capture_ts_us"] == 2**53 + 1
        assert (result["width"], result["height"]) == (128, 96)
        assert (result["decision"], result["compute_fraction"]) == ("keyframe", 1.0)
        (found,) = result["detections"]
        assert found["xyxy"] == [0, 0, 64, 96], "the box is in pixels of the frame as sent"
        assert (found["class_id"], found["label"], found["score"]) == (12, "grey12", 0.75)
        assert set(result["timing_ms"]) == {"queue", "decode", "diff", "infer", "total"}
        assert result["timing_ms"]["total"] >= result["timing_ms"]["decode"]
        socket.send_bytes(frame(2, 120))
        assert socket.receive_json()["decision"] == "reuse"
        socket.send_bytes(frame(3, 50))
        assert socket.receive_json()["decision"] == "partial"
        socket.send_bytes(frame(4, 50, reset=True))
        assert socket.receive_json()["decision"] == "keyframe"


def test_msgpack_and_annotated_frames(make_client) -> None:
    encoding = Encoding.MSGPACK
    with connect(make_client(), subprotocols=subprotocols(encoding=encoding)) as socket:
        vector = vectors.Hello(outputs=(vectors.Output.DETECTIONS, vectors.Output.ANNOTATED))
        socket.send_bytes(vectors.encode_message(vector, encoding))
        assert decode_server_message(socket.receive_bytes(), encoding).resumed is False
        socket.send_bytes(frame(5, 200))
        result = decode_server_message(socket.receive_bytes(), encoding)
        assert (result.seq, result.detections[0].class_id) == (5, 20)
        drawn = decode_frame(socket.receive_bytes())
        assert (drawn.op, drawn.seq, drawn.capture_ts_us) == (Op.ANNOTATED, 5, 7)


@pytest.mark.parametrize("kind", ["classes", "mask", "raw"])
def test_models_without_boxes(make_client, engine: FakeEngine, kind: str) -> None:
    with connect(make_client(engine.model(kind=kind))) as socket:
        hello(socket)
        socket.send_bytes(frame(1, 30))
        result = socket.receive_json()
        if kind == "classes":
            assert result["classes"][0] == {"class_id": 3, "label": "grey3", "score": 0.9}
            assert "detections" not in result
        elif kind == "mask":
            assert sum(result["masks"][1]["counts"]) == 48
            assert result["masks"][1]["xyxy"] == [0, 0, 128, 96]
            assert len(result["detections"]) == 1
        else:
            assert result["tensors"][0]["shape"] == [1, 1, 1]


def test_every_kind_of_bad_message_gets_an_error_and_the_stream_lives(make_client, engine: FakeEngine) -> None:
    good = frame(9)
    cases: list[tuple[str | bytes, str, int | None]] = [
        (b"", "empty_message", None),
        ("", "empty_message", None),
        ("complete garbage", "bad_message", None),
        ('{"type":"hello"}', "hello_repeated", None),
        (good[:7], "truncated", None),
        (good[:15], "truncated", 9),
        (frame(10)[:16], "empty_payload", 10),
        (b"\x02" + good[1:], "bad_version", None),
        (frame(11)[:1] + b"\x63" + frame(11)[2:], "unknown_op", 11),
        (frame(12)[:2] + b"\xff\xff" + frame(12)[4:], "bad_flags", 12),
        (frame(13)[:-40], "incomplete_image", 13),
        (encode_frame(FrameMessage(Op.ANNOTATED, Flags.NONE, 14, 0, image())), "unknown_op", 14),
        (encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, 15, 0, b"not an image")), "bad_image", 15),
        (
            encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, 16, 0, b"\xff\xd8\xff junk \xff\xd9")),
            "incomplete_image",
            16,
        ),
        (encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, 17, 0, huge_jpeg())), "image_too_large", 17),
        (frame(18, kind=".png"), "wrong_image_type", 18),
    ]
    with connect(make_client()) as socket:
        hello(socket)
        socket.send_bytes(frame(1, 120))
        assert socket.receive_json()["decision"] == "keyframe"
        for message, code, seq in cases:
            if isinstance(message, str):
                socket.send_text(message)
            else:
                socket.send_bytes(message)
            answer = socket.receive_json()
            assert (answer["type"], answer["code"]) == ("error", code), message[:40]
            assert answer.get("seq") == seq
            assert answer["detail"]
            if seq is not None:
                assert answer["ack"] == seq, "an error settles its frame"
        socket.send_bytes(frame(100, 120))
        result = socket.receive_json()
        assert (result["seq"], result["ack"], result["decision"]) == (100, 100, "reuse"), "the state was kept"
    assert len(engine.sessions) == 1


def test_a_jpeg_that_only_fails_in_the_decoder(make_client) -> None:
    data = bytearray(image(size=(256, 256)))
    start = data.index(b"\xff\xda")
    body = bytes(data[: start + 4]) + b"\xff\xd9"
    with connect(make_client()) as socket:
        hello(socket)
        socket.send_bytes(encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, 1, 0, body)))
        answer = socket.receive_json()
        assert (answer["type"], answer["seq"], answer["ack"]) == ("error", 1, 1)
        assert answer["code"] in ("bad_image", "incomplete_image")


def test_a_message_above_the_limit_closes_with_1009(make_client) -> None:
    with connect(make_client(max_message_bytes=2048)) as socket:
        hello(socket)
        socket.send_bytes(bytes(3000))
        assert socket.receive_json()["code"] == "message_too_large"
        assert closed(socket).code == 1009


def test_an_engine_error_resets_the_session_and_is_reported(make_client, engine: FakeEngine, caplog) -> None:
    with connect(make_client()) as socket:
        hello(socket)
        socket.send_bytes(frame(1))
        socket.receive_json()
        engine.failures.append(ZeroDivisionError("a secret inside"))
        socket.send_bytes(frame(2))
        answer = socket.receive_json()
        assert (answer["code"], answer["seq"], answer["ack"]) == ("internal", 2, 2)
        assert answer["error_id"] in answer["detail"]
        assert "secret" not in json.dumps(answer)
        assert answer["error_id"] in caplog.text
        socket.send_bytes(frame(3))
        assert socket.receive_json()["decision"] == "keyframe"


def test_frame_size_may_change(make_client) -> None:
    with connect(make_client()) as socket:
        hello(socket)
        decisions = []
        for seq, size in enumerate([(128, 96), (256, 192), (256, 96), (128, 48)], start=1):
            socket.send_bytes(frame(seq, size=size))
            result = socket.receive_json()
            assert (result["width"], result["height"]) == size
            decisions.append(result["decision"])
        assert decisions == ["keyframe", "reuse", "keyframe", "reuse"], "only a new aspect starts afresh"


def test_latest_frame_wins_and_drops_are_counted(make_client, engine: FakeEngine) -> None:
    with connect(make_client()) as socket:
        hello(socket)
        engine.gate.clear()
        socket.send_bytes(frame(1, 10))
        assert engine.entered.acquire(timeout=5)
        for seq in range(2, 8):
            socket.send_bytes(frame(seq, seq * 10))
        socket.send_text("x")  # its answer comes once all frames before it were taken
        assert socket.receive_json()["code"] == "bad_message"
        engine.gate.set()
        first, last = socket.receive_json(), socket.receive_json()
        # Settled when the first result left: itself and the five that were replaced.
        assert (first["seq"], first["ack"], first["detections"][0]["class_id"]) == (1, 6, 1)
        assert (last["seq"], last["ack"], last["dropped"]) == (7, 7, 5)
        assert last["detections"][0]["class_id"] == 7
    assert engine.sessions[0].decisions == ["keyframe", "partial"]


def test_a_dropped_reset_is_not_forgotten(make_client, engine: FakeEngine) -> None:
    with connect(make_client()) as socket:
        hello(socket)
        socket.send_bytes(frame(1))
        socket.receive_json()
        assert engine.entered.acquire(timeout=5)
        engine.gate.clear()
        socket.send_bytes(frame(2))
        assert engine.entered.acquire(timeout=5)
        socket.send_bytes(frame(3, reset=True))
        socket.send_bytes(frame(4))
        socket.send_text("x")
        socket.receive_json()
        engine.gate.set()
        assert [socket.receive_json()["decision"] for _ in range(2)] == ["reuse", "keyframe"]


def test_a_reset_on_a_refused_frame_is_not_forgotten(make_client) -> None:
    with connect(make_client()) as socket:
        hello(socket)
        socket.send_bytes(frame(1))
        socket.receive_json()
        socket.send_bytes(frame(2, reset=True, kind=".png"))
        assert socket.receive_json()["code"] == "wrong_image_type"
        socket.send_bytes(frame(3))
        assert socket.receive_json()["decision"] == "keyframe"


def test_policy_all_drops_nothing(make_client, engine: FakeEngine) -> None:
    with connect(make_client()) as socket:
        assert hello(socket, policy="all")["policy"] == "all"
        engine.gate.clear()
        for seq in range(1, 21):
            socket.send_bytes(frame(seq, seq * 10))
        assert engine.entered.acquire(timeout=5)
        stream = socket.app.state.service.streams.get("door")
        wait_until(lambda: len(stream.lane.pending) == 2)
        assert stream.counters.received <= 4, "reading must stop while the lane is full"
        engine.gate.set()
        results = [socket.receive_json() for _ in range(20)]
    assert [result["seq"] for result in results] == list(range(1, 21))
    assert [result["detections"][0]["class_id"] for result in results] == list(range(1, 21))
    assert results[-1]["dropped"] == 0


def test_max_fps_settles_without_a_result(make_client, engine: FakeEngine) -> None:
    with connect(make_client()) as socket:
        hello(socket, max_fps=0.01)
        socket.send_bytes(frame(1))
        assert socket.receive_json()["type"] == "result"
        socket.send_bytes(frame(2))
        assert socket.receive_json() == {"type": "ack", "ack": 2, "dropped": 1}


def test_min_confidence_is_the_clients(make_client) -> None:
    with connect(make_client()) as socket:
        hello(socket, min_confidence=0.9)
        socket.send_bytes(frame(1))
        assert socket.receive_json()["detections"] == []


@pytest.mark.parametrize(
    ("kwargs", "status"),
    [
        ({"headers": {"origin": "https://evil.example"}}, 403),
        ({"headers": {"origin": "null"}}, 403),
        ({"subprotocols": ["mqtt"]}, 400),
        ({"subprotocols": None}, 400),
        ({"stream_id": "a.b"}, 404),
        ({"stream_id": "x" * 65}, 404),
    ],
)
def test_refused_before_the_handshake(make_client, kwargs: dict, status: int) -> None:
    client = make_client()
    with pytest.raises(WebSocketDisconnect) as caught, connect(client, **kwargs):
        pass
    assert caught.value.status_code == status
    assert caught.value.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("origin", ["http://localhost", "https://cam.example"])
def test_own_and_allowed_origins_pass(make_client, origin: str) -> None:
    client = make_client(allowed_origins=("https://cam.example",))
    with connect(client, headers={"origin": origin, "host": "localhost"}) as socket:
        assert hello(socket)["type"] == "ready"


def test_unknown_model_is_refused_for_good(make_client) -> None:
    with connect(make_client()) as socket:
        answer = hello(socket, model="nope")
        assert answer["code"] == "unknown_model"
        assert "expected one of fake" in answer["detail"]
        assert closed(socket).code == 1008


def test_anonymous_streams_can_be_off(make_client) -> None:
    with connect(make_client(anonymous_streams=False)) as socket:
        assert socket.receive_json()["code"] == "unauthorized"
        assert closed(socket).code == 1008


def test_tokens(make_client) -> None:
    client = make_client(anonymous_streams=False)
    made = client.post("/v1/streams").json()
    stream_id, token = made["stream_id"], made["token"]
    assert made["ws_url"] == f"ws://localhost/v1/streams/{stream_id}/ws"
    for wrong in (None, "wrong", token + "x"):
        with connect(client, stream_id, wrong) as socket:
            assert socket.receive_json()["code"] == "unauthorized"
            assert closed(socket).code == 1008
    with connect(client, stream_id, token) as socket:
        assert socket.accepted_subprotocol == "afterimage.v1", "a token is never echoed"
        assert hello(socket)["stream_id"] == stream_id
    with connect(client, stream_id, headers={"authorization": f"Bearer {token}"}) as socket:
        assert hello(socket)["type"] == "ready"


def test_hello_must_come_in_time_and_first(make_client) -> None:
    with connect(make_client(hello_timeout_s=0.2)) as socket:
        socket.send_bytes(frame(1))
        assert socket.receive_json()["code"] == "hello_expected"
        ending = closed(socket)
        assert ending.code == 1002
        assert "hello" in ending.reason


def test_resume_keeps_the_cache_and_no_resume_does_not(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connect(client) as socket:
        resume = hello(socket)["resume"]
        socket.send_bytes(frame(1))
        socket.receive_json()
    with connect(client) as socket:
        ready = hello(socket, resume=resume)
        assert ready["resumed"] is True
        assert ready["resume"] != resume
        socket.send_bytes(frame(1))
        assert socket.receive_json()["decision"] == "reuse"
    with connect(client) as socket:
        assert hello(socket, resume="wrong")["resumed"] is False
        socket.send_bytes(frame(1))
        assert socket.receive_json()["decision"] == "keyframe"
    assert len(engine.sessions) == 1


def test_bye_answers_what_is_due_then_frees(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connect(client) as socket:
        hello(socket)
        engine.gate.clear()
        socket.send_bytes(frame(1))
        assert engine.entered.acquire(timeout=5)
        socket.send_text('{"type":"bye"}')
        engine.gate.set()
        assert socket.receive_json()["seq"] == 1
        assert closed(socket).code == 1000
    assert client.get("/v1/streams/door").status_code == 404


def test_takeover_needs_the_resume_token(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connect(client) as first:
        resume = hello(first)["resume"]
        with connect(client) as stranger:
            assert hello(stranger)["code"] == "overloaded"
            assert closed(stranger).code == 1013
        with connect(client) as second:
            assert hello(second, resume=resume)["type"] == "ready"
            ending = closed(first)
            assert (ending.code, "taken" in ending.reason) == (1008, True)
            second.send_bytes(frame(1))
            assert second.receive_json()["seq"] == 1


def test_a_bye_does_not_take_the_stream_from_who_took_it_over(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connect(client) as first:
        resume = hello(first)["resume"]
        engine.gate.clear()
        first.send_bytes(frame(1))
        assert engine.entered.acquire(timeout=5)
        first.send_text('{"type":"bye"}')
        stream = client.app.state.service.streams.get("door")
        wait_until(lambda: stream.attachment._ending.done() or stream.attachment._settled)
        with connect(client) as second:
            assert hello(second, resume=resume)["type"] == "ready"
            engine.gate.set()
            assert first.receive_json()["seq"] == 1
            assert closed(first).code == 1000
            second.send_bytes(frame(1, 50))
            assert second.receive_json()["detections"][0]["class_id"] == 5
            assert client.app.state.service.streams.get("door") is stream


def test_a_stream_that_is_deleted_counts_what_waited(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connect(client) as socket:
        hello(socket, policy="all")
        engine.gate.clear()
        for number in (1, 2, 3):
            socket.send_bytes(frame(number))
        stream = client.app.state.service.streams.get("door")
        wait_until(lambda: len(stream.lane.pending) == 2)
        assert client.delete("/v1/streams/door").status_code == 204
        engine.gate.set()
        assert closed(socket).code == 1000
    assert stream.counters.dropped == 2
    assert stream.lane.taken is None


def test_too_many_streams(make_client) -> None:
    client = make_client(max_streams=1)
    with connect(client, "one") as socket:
        hello(socket)
        with connect(client, "two") as refused:
            answer = hello(refused)
            assert (answer["code"], answer["retry_after_ms"]) == ("overloaded", 1000)
            assert closed(refused).code == 1013
        socket.send_bytes(frame(1))
        assert socket.receive_json()["seq"] == 1


def test_two_streams_do_not_mix(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connect(client, "a") as a, connect(client, "b") as b:
        hello(a)
        hello(b)
        for seq in range(1, 11):
            a.send_bytes(frame(seq, 50))
            b.send_bytes(frame(seq, 150))
            assert a.receive_json()["detections"][0]["class_id"] == 5
            assert b.receive_json()["detections"][0]["class_id"] == 15
    assert [session.decisions[:2] for session in engine.sessions] == [["keyframe", "reuse"]] * 2


TRACKED = {"outputs": ["detections", "tracks"]}


def test_tracks_are_an_output_and_survive_a_resume(make_client) -> None:
    pytest.importorskip("trackers")
    client = make_client()
    with connect(client) as socket:
        resume = hello(socket, **TRACKED)["resume"]
        ids = []
        for seq in range(1, 5):
            socket.send_bytes(frame(seq, 100, ts=seq * 33_000))
            ids.append(socket.receive_json()["detections"][0].get("track_id"))
        assert ids == [None, 1, 1, 1]
        assert client.get("/v1/streams/door").json()["objects"] == 1
    with connect(client) as socket:
        assert hello(socket, resume=resume, **TRACKED)["resumed"] is True
        socket.send_bytes(frame(1, 100, ts=9_000_000))
        assert socket.receive_json()["detections"][0]["track_id"] == 1
        socket.send_bytes(frame(2, 100, ts=9_033_000, reset=True))
        assert "track_id" not in socket.receive_json()["detections"][0]
        socket.send_bytes(frame(3, 100, ts=9_066_000))
        assert socket.receive_json()["detections"][0]["track_id"] == 2, "a number is never used twice"


def test_changes_are_an_output(make_client) -> None:
    client = make_client()
    with connect(client) as socket:
        hello(socket, outputs=["detections", "changes"])
        for seq, expected in ((1, [0, 48]), (2, [48])):
            socket.send_bytes(frame(seq))
            changes = socket.receive_json()["changes"]
            assert (changes["size"], changes["counts"]) == ([6, 8], expected)
            assert changes["xyxy"] == [0.0, 0.0, 128.0, 96.0]
    with connect(client, "other") as socket:
        hello(socket)
        socket.send_bytes(frame(1))
        assert "changes" not in socket.receive_json()


def test_without_tracks_there_are_no_ids_and_weak_boxes_are_left_out_with_them(make_client) -> None:
    client = make_client()
    with connect(client, "plain") as plain, connect(client, "strict") as strict:
        hello(plain)
        assert hello(strict, min_confidence=0.9, **TRACKED)["type"] == "ready"
        for seq in range(1, 4):
            plain.send_bytes(frame(seq, 100))
            strict.send_bytes(frame(seq, 100))
            assert "track_id" not in plain.receive_json()["detections"][0]
            assert strict.receive_json()["detections"] == []
        assert client.get("/v1/streams/plain").json()["objects"] is None


def test_a_server_that_cannot_track_says_so(make_client, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_client()
    monkeypatch.setattr(connection, "is_available", lambda: False)
    with connect(client) as socket:
        answer = hello(socket, **TRACKED)
        assert answer["code"] == "unsupported_output"
        assert "afterimage[tracking]" in answer["detail"]
        assert closed(socket).code == 1008
    with connect(client) as socket:
        assert hello(socket)["type"] == "ready"


def test_a_resume_that_fails_says_why(make_client) -> None:
    client = make_client()
    with connect(client) as socket:
        ready = hello(socket, resume_s=120)
        assert (ready["resume_s"], "resume_reason" in ready) == (120, False)
        assert client.get("/v1/streams/door").json()["state"] == "live"
    wait_until(lambda: client.get("/v1/streams/door").json()["state"] == "kept")
    client.app.state.service.streams.sweep(time.monotonic() + 119)
    assert client.get("/v1/streams/door").status_code == 200
    client.app.state.service.streams.sweep(time.monotonic() + 121)
    with connect(client) as socket:
        again = hello(socket, resume=ready["resume"])
        assert (again["resumed"], again["resume_reason"]) == (False, "expired")
        assert again["resume_s"] == 60
    with connect(client) as socket:
        assert hello(socket, resume="made up")["resume_reason"] == "unknown"
    with connect(client) as socket:
        assert client.delete("/v1/streams/door").status_code == 204
        assert hello(socket, resume=again["resume"])["resume_reason"] == "deleted"


def test_a_deleted_stream_closes(make_client) -> None:
    client = make_client()
    with connect(client) as socket:
        hello(socket)
        assert client.delete("/v1/streams/door").status_code == 204
        assert closed(socket).code == 1000


def test_a_stream_deleted_while_a_frame_is_computed(make_client, engine: FakeEngine, caplog) -> None:
    client = make_client()
    with connect(client) as socket:
        resume = hello(socket)["resume"]
        engine.gate.clear()
        socket.send_bytes(frame(1))
        assert engine.entered.acquire(timeout=5)
        assert client.delete("/v1/streams/door").status_code == 204
        assert closed(socket).code == 1000
    engine.gate.set()
    assert client.get("/v1/streams/door").status_code == 404
    with connect(client) as socket:
        assert hello(socket, resume=resume)["resume_reason"] == "deleted"
        socket.send_bytes(frame(1))
        assert socket.receive_json()["decision"] == "keyframe"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_every_truncation_of_every_golden_vector(make_client) -> None:
    messages = [encode_frame(vector) for vector in vectors.FRAMES.values()]
    messages += [vectors.encode_message(m, Encoding.MSGPACK) for m in vectors.CLIENT_MESSAGES.values()]
    with connect(make_client()) as socket:
        hello(socket)
        count = 0
        for message in messages:
            for length in range(len(message)):
                socket.send_bytes(message[:length])
                assert socket.receive_json()["type"] == "error"
                count += 1
        assert count > 200
        socket.send_bytes(frame(0xFFFF_FFFF))
        socket.receive_json()
    with connect(make_client()) as socket:
        assert hello(socket)["type"] == "ready"


def test_drop_newest_keeps_what_waits(make_client, engine: FakeEngine) -> None:
    with connect(make_client(window=2)) as socket:
        assert hello(socket, policy="drop_newest")["policy"] == "drop_newest"
        engine.gate.clear()
        socket.send_bytes(frame(1, 10))
        assert engine.entered.acquire(timeout=5)
        for seq in range(2, 7):
            socket.send_bytes(frame(seq, seq * 10))
        acks = [socket.receive_json() for _ in range(3)]
        assert acks == [{"type": "ack", "ack": 0, "dropped": count} for count in (1, 2, 3)], "the first is not done"
        engine.gate.set()
        results = [socket.receive_json() for _ in range(3)]
    assert [(result["seq"], result["ack"], result["dropped"]) for result in results] == [
        (1, 1, 3),
        (2, 2, 3),
        (3, 6, 3),
    ]


def test_a_reset_on_a_frame_without_room_is_not_forgotten(make_client, engine: FakeEngine) -> None:
    with connect(make_client(window=1)) as socket:
        hello(socket, policy="drop_newest")
        engine.gate.clear()
        socket.send_bytes(frame(1))
        assert engine.entered.acquire(timeout=5)
        socket.send_bytes(frame(2))
        socket.send_bytes(frame(3, reset=True))
        assert socket.receive_json()["type"] == "ack"
        engine.gate.set()
        assert [socket.receive_json()["decision"] for _ in range(2)] == ["keyframe", "reuse"]
        socket.send_bytes(frame(4))
        assert socket.receive_json()["decision"] == "keyframe"


def test_the_servers_max_fps_is_an_upper_bound(make_client) -> None:
    client = make_client(max_fps=0.01)
    for wanted, told in ((None, 0.01), (30, 0.01), (0.001, 0.001)):
        with connect(client) as socket:
            assert hello(socket, max_fps=wanted)["max_fps"] == told
            socket.send_bytes(frame(1))
            assert socket.receive_json()["type"] == "result"
            socket.send_bytes(frame(2))
            assert socket.receive_json()["type"] == "ack"
            socket.send_text('{"type":"bye"}')
            assert closed(socket).code == 1000


def test_an_idle_stream_is_settled_without_decoding_until_something_changes(make_client, engine: FakeEngine) -> None:
    with connect(make_client(idle_after_s=0)) as socket:
        hello(socket, idle_fps=0.01)
        for seq in (1, 2):
            socket.send_bytes(frame(seq, 100))
            assert socket.receive_json()["type"] == "result"
        socket.send_bytes(frame(3, 100))
        assert socket.receive_json() == {"type": "ack", "ack": 3, "dropped": 1}
        socket.send_bytes(frame(4, 100, reset=True))
        assert socket.receive_json()["decision"] == "keyframe"
        socket.send_bytes(frame(5, 100))
        assert socket.receive_json()["decision"] == "reuse", "a keyframe counts as change"
        socket.send_bytes(frame(6, 100, size=(512, 384)))
        assert socket.receive_json()["seq"] == 6, "its size in bytes says that it is another picture"
        assert socket.app.state.service.streams.get("door").counters.paced == 1


def test_results_are_stamped_and_aged(make_client) -> None:
    client = make_client()
    with connect(client) as socket:
        hello(socket)
        before = time.time_ns() // 1000
        socket.send_bytes(frame(1, ts=before - 250_000))
        result = socket.receive_json()
        after = time.time_ns() // 1000
        assert before <= result["received_ts_us"] <= after
        assert 250 <= result["age_ms"] <= 250 + (after - before) / 1000 + 1
        socket.send_bytes(frame(2, ts=7))
        result = socket.receive_json()
        assert "age_ms" not in result, "that is another clock"


def test_what_was_freed_for_another_stream_is_told(make_client) -> None:
    mib = 1 << 20
    engine = FakeEngine(stream_bytes=60 * mib)
    client = make_client(engine.model(), cache_bytes=100 * mib, admission=False)
    with connect(client, "a") as a, connect(client, "b") as b:
        hello(a)
        a.send_bytes(frame(1))
        assert "evicted" not in a.receive_json()
        hello(b)
        assert client.get("/v1/streams/a").json()["memory_bytes"] == 0
        b.send_bytes(frame(1))
        assert "evicted" not in b.receive_json()
        a.send_bytes(frame(2))
        result = a.receive_json()
        assert (result["decision"], result["evicted"]) == ("keyframe", True)
        a.send_bytes(frame(3))
        assert "evicted" not in a.receive_json()
        assert client.get("/v1/streams/a").json()["frames"]["evicted"] == 1
    assert client.get("/v1/models").json()["memory_bytes"]["streams"] <= 100 * mib


def test_a_stream_that_would_thrash_the_others_caches_is_refused(make_client) -> None:
    mib = 1 << 20
    engine = FakeEngine(stream_bytes=60 * mib)
    client = make_client(engine.model(), cache_bytes=100 * mib)
    caches = client.app.state.service.caches
    with connect(client, "a") as a:
        hello(a)
        before = caches.evictions  # what single images are computed in has gone
        a.send_bytes(frame(1))
        a.receive_json()
        with connect(client, "b") as b:
            answer = hello(b)
            assert (answer["code"], "at most 100.0 MiB" in answer["detail"]) == ("overloaded", True)
            ending = closed(b)
            assert (ending.code, ending.reason) == (1013, answer["detail"][:120])
        refused = client.post("/v1/streams")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert detect(client).status_code == 503, "nor does a single image take its place"
        a.send_bytes(frame(2))
        assert a.receive_json()["decision"] == "reuse"
    assert client.app.state.service.streams.get("b") is None
    assert detect(client).status_code == 200, "nobody is connected any more"
    assert caches.evictions == before + 1
    with connect(client, "b") as b:
        assert hello(b)["type"] == "ready", "what single images are computed in may go"
        b.send_bytes(frame(1))
        b.receive_json()
        assert detect(client).status_code == 503


def test_a_stream_too_many_is_refused_and_the_others_go_on(make_client, engine: FakeEngine) -> None:
    client = make_client(workers=1, useful_fps=10)
    with connect(client, "a") as a:
        hello(a, max_fps=20)
        a.send_bytes(frame(1))
        a.receive_json()
        lane = idle_lane(client.app.state.service, "a")
        lane.items, lane.mean_s = 100, 0.04  # 0.8 of the worker
        for fields, more in (({}, "0.40"), ({"max_fps": 5}, "0.20")):
            with connect(client, "b") as b:
                answer = hello(b, **fields)
                assert answer["code"] == "overloaded"
                assert f"0.85 of 1 workers' time, got 0.80 and {more} more" in answer["detail"]
                assert answer["retry_after_ms"] == 1000
                assert closed(b).code == 1013
        with connect(client, "b") as b:
            assert hello(b, max_fps=1)["type"] == "ready", "but there is room for a slow one"
        refused = client.post("/v1/streams")
        assert refused.status_code == 503
        assert "0.40 more" in refused.json()["detail"]
        a.send_bytes(frame(2))
        assert a.receive_json()["ack"] == 2


def test_a_resumed_stream_is_never_one_too_many(make_client) -> None:
    client = make_client(workers=1)
    with connect(client, "other") as other:
        hello(other, max_fps=30)
        other.send_bytes(frame(1))
        other.receive_json()
        with connect(client) as socket:
            resume = hello(socket, max_fps=30)["resume"]
        lane = idle_lane(client.app.state.service, "other")
        lane.items, lane.mean_s = 100, 0.03
        with connect(client) as socket:
            assert hello(socket, max_fps=30, resume=resume)["resumed"] is True


def test_images_are_refused_while_streams_want_more_than_there_is(make_client) -> None:
    client = make_client(workers=1, admission=True)
    with connect(client, "a") as a, connect(client, "b") as b:
        for socket in (a, b):
            hello(socket, max_fps=20)
            socket.send_bytes(frame(1))
            socket.receive_json()
        for name in "ab":
            lane = idle_lane(client.app.state.service, name)
            lane.items, lane.mean_s = 100, 0.03
        refused = detect(client)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "1.20 of 1 workers" in refused.json()["detail"]


def test_streams_of_a_model_are_computed_together(make_client) -> None:
    engine = FakeEngine(together=4)
    client = make_client(engine.model(), workers=1)
    with connect(client, "a") as a, connect(client, "b") as b, connect(client, "c") as c:
        for socket in (a, b, c):
            hello(socket)
        engine.gate.clear()
        a.send_bytes(frame(1, 10))
        wait_until(lambda: client.app.state.service.streams.get("a").lane.running)
        for socket, level in ((a, 40), (b, 50), (c, 60)):
            socket.send_bytes(frame(2, level))
        wait_until(lambda: all(client.app.state.service.streams.get(name).lane.pending for name in "abc"))
        engine.gate.set()
        assert a.receive_json()["seq"] == 1
        found = [socket.receive_json() for socket in (a, b, c)]
    assert [result["detections"][0]["class_id"] for result in found] == [4, 5, 6]
    assert sum(engine.batches) in (2, 3), "b and c, and a where it owed little"


def sent_as_tiles(seq: int, before: bytes, level: int | None, size: tuple[int, int] = (64, 48)) -> bytes:
    """A message whose upper left tile has another level, on the payload before it; None: no tile has changed."""
    places = -(-size[0] // 16) * -(-size[1] // 16)
    bitmap = ((1 << (places - 1) if level is not None else 0) << (-places % 8)).to_bytes(-(-places // 8), "big")
    mosaic = b"" if level is None else image(level, size=(16, 16))
    payload = encode_tiles(
        TilesPayload(reference_of(before[HEADER_BYTES:]), *size, 16, 0 if level is None else 1, bitmap, mosaic)
    )
    return encode_frame(FrameMessage(Op.TILES, Flags.NONE, seq, 7, payload))


def class_of(message: dict) -> int:
    assert message["type"] == "result", message
    return message["detections"][0]["class_id"]


def test_tiles_are_offered_to_who_asks(make_client) -> None:
    with connect(make_client()) as socket:
        assert "tiles" not in hello(socket)
        whole = frame(1, 120, size=(64, 48))
        socket.send_bytes(whole)
        assert class_of(socket.receive_json()) == 12
        socket.send_bytes(sent_as_tiles(2, whole, 50))
        error = socket.receive_json()
        assert (error["code"], error["seq"], error["ack"]) == ("unknown_op", 2, 2)
    with connect(make_client(tiles=False)) as socket:
        assert "tiles" not in hello(socket, tiles=True)


def test_only_the_tiles_that_came_are_compared(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connect(client) as socket:
        assert hello(socket, tiles=True)["tiles"] == {"tile_px": 16, "difference": 5.0}
        whole = frame(1, 120, size=(64, 48))
        socket.send_bytes(whole)
        first = socket.receive_json()
        assert (class_of(first), first["width"], first["height"]) == (12, 64, 48)
        socket.send_bytes(none := sent_as_tiles(2, whole, None))
        assert socket.receive_json()["decision"] == "reuse"
        socket.send_bytes(some := sent_as_tiles(3, none, 50))
        found = socket.receive_json()
        assert (class_of(found), found["changed_tiles"], found["decision"]) == (5, 4, "partial")
        (session,) = engine.sessions
        assert session.hints == [None, 0, 4], "a tile of 16 px is four of the engine's"
        figures = client.get("/v1/streams/door").json()["tiles"]
        assert figures == {"frames": 2, "mismatches": 0, "queued_bytes": 0, "picture_bytes": 64 * 48 * 3}
        reset = bytearray(sent_as_tiles(4, some, 70))
        reset[2] = int(Flags.RESET)
        socket.send_bytes(bytes(reset))
        found = socket.receive_json()
        assert (class_of(found), found["decision"]) == (7, "keyframe")
        assert session.hints[-1] is None


def test_a_lost_message_is_noticed_and_a_whole_frame_mends_it(make_client) -> None:
    with connect(make_client()) as socket:
        hello(socket, tiles=True)
        whole = frame(1, 120, size=(64, 48))
        socket.send_bytes(whole)
        socket.receive_json()
        lost = sent_as_tiles(2, whole, 50)
        socket.send_bytes(after := sent_as_tiles(3, lost, 60))
        error = socket.receive_json()
        assert (error["code"], error["seq"], error["ack"]) == ("reference_mismatch", 3, 3)
        socket.send_bytes(sent_as_tiles(4, after, 60))
        assert socket.receive_json()["code"] == "reference_mismatch"
        socket.send_bytes(whole := frame(5, 200, size=(64, 48)))
        assert class_of(socket.receive_json()) == 20
        socket.send_bytes(sent_as_tiles(6, whole, 60))
        assert class_of(socket.receive_json()) == 6


def test_tiles_of_frames_that_were_dropped_are_not_lost(make_client, engine: FakeEngine) -> None:
    with connect(make_client()) as socket:
        hello(socket, tiles=True)
        whole = frame(1, 120, size=(64, 48))
        engine.gate.clear()
        socket.send_bytes(whole)
        assert engine.entered.acquire(timeout=10)
        socket.send_bytes(changed := sent_as_tiles(2, whole, 50))
        socket.send_bytes(sent_as_tiles(3, changed, None))
        socket.send_text("{")  # answered once all before it has been read
        assert socket.receive_json()["code"] == "bad_message"
        engine.gate.set()
        assert class_of(socket.receive_json()) == 12
        found = socket.receive_json()
        assert (found["seq"], found["dropped"], class_of(found)) == (3, 1, 5)


def test_mosaics_are_looked_at_before_they_wait(make_client) -> None:
    with connect(make_client(max_pixels=64 * 48)) as socket:
        hello(socket, tiles=True)
        for seq, size, kind, code in (
            (2, (16, 32), ".jpg", "bad_tiles"),
            (4, (16, 16), ".png", "wrong_image_type"),
            (6, (112, 32), ".jpg", "image_too_large"),
        ):
            socket.send_bytes(whole := frame(seq - 1, 120, size=(64, 48)))
            assert socket.receive_json()["type"] == "result"
            base = reference_of(whole[HEADER_BYTES:])
            columns = size[0] // 16 if code == "image_too_large" else 1
            bitmap = b"\xff\xf0" if code == "image_too_large" else b"\x80\x00"
            payload = encode_tiles(TilesPayload(base, 64, 48, 16, columns, bitmap, image(50, size=size, kind=kind)))
            socket.send_bytes(encode_frame(FrameMessage(Op.TILES, Flags.NONE, seq, 7, payload)))
            error = socket.receive_json()
            assert (error["code"], error["seq"]) == (code, seq)


def test_a_new_connection_has_no_reference_and_the_cache_stays_warm(make_client, engine: FakeEngine) -> None:
    client = make_client()
    with connect(client) as socket:
        ready = hello(socket, tiles=True)
        whole = frame(1, 120, size=(64, 48))
        socket.send_bytes(whole)
        socket.receive_json()
    with connect(client) as socket:
        assert hello(socket, tiles=True, resume=ready["resume"])["resumed"]
        socket.send_bytes(sent_as_tiles(1, whole, 50))
        assert socket.receive_json()["code"] == "reference_mismatch"
        socket.send_bytes(frame(2, 120, size=(64, 48)))
        assert socket.receive_json()["decision"] == "reuse"
        assert engine.sessions[0].hints == [None, None]


def test_a_frame_that_waits_for_room_as_the_server_stops_is_computed_too(make_client, engine: FakeEngine) -> None:
    client = make_client()
    service = client.app.state.service
    with connect(client) as socket:
        hello(socket, policy="all")
        engine.gate.clear()
        for seq in (1, 2, 3, 4):  # one is computed, two are in the lane, one waits for room there
            socket.send_bytes(frame(seq))
        wait_until(lambda: service.streams.get("door").counters.received == 4)
        (one,) = service.connections
        stopping = client.portal.start_task_soon(service.drain)
        wait_until(lambda: one._ending.done())
        engine.gate.set()
        said = [socket.receive_json() for _ in range(5)]
        assert [message["type"] for message in said] == ["result"] * 4 + ["draining"]
        assert said[3]["ack"] == 4
        assert closed(socket).code == 1012
        stopping.result(10)
