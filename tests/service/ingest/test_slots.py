"""Shared memory and messages: what is handed over arrives, and nothing of what a broken decoder says is believed."""

from __future__ import annotations

import json
import os

import pytest

from service.ingest.slots import MAX_REASON, SLOTS, Message, Nonsense, Request, Slots


def test_both_sides_see_the_same_pictures_of_any_size() -> None:
    mine = Slots.make(200)
    theirs = Slots(os.dup(mine.fd), 200)
    try:
        for slot, (width, height) in enumerate([(20, 10), (3, 7)]):
            theirs.view(slot, width, height)[:] = 10 + slot
            mine_view = mine.view(slot, width, height)
            assert mine_view.shape == (height, width, 3)
            assert (mine_view == 10 + slot).all()
        assert (mine.view(0, 20, 10) == 10).all(), "slots do not overlap"
        del mine_view
    finally:
        mine.close()
        theirs.close()


@pytest.mark.parametrize(
    ("slot", "width", "height"), [(SLOTS, 1, 1), (-1, 1, 1), (0, 0, 5), (0, 5, -1), (0, 201, 1), (0, 1 << 40, 1 << 40)]
)
def test_pictures_that_do_not_fit(slot: int, width: int, height: int) -> None:
    slots = Slots.make(200)
    try:
        with pytest.raises(Nonsense):
            slots.view(slot, width, height)
    finally:
        slots.close()


def test_nothing_is_left_open() -> None:
    before = len(os.listdir("/dev/fd"))
    slots = Slots.make(1 << 20)
    slots.close()
    assert len(os.listdir("/dev/fd")) == before


def test_messages_come_back_as_they_were() -> None:
    message = Message(decoded=7, unchanged=2, slot=1, width=64, height=48, stamp_ns=5)
    assert Message.decode(message.encode().rstrip(b"\n")) == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 4000,
        json.dumps({"slot": 0}).encode(),
        Message().encode().replace(b'"slot":-1', b'"slot":"0"'),
        Message().encode().replace(b'"slot":-1', b'"slot":true'),
        Message().encode().replace(b'"slot":-1', b'"slot":-2'),
        Message().encode().replace(b'"width":0', b'"width":1e3'),
        Message().encode().replace(b'"decoded":0', b'"decoded":99999999999999999999'),
        Message().encode().replace(b'"failed":""', b'"failed":[]'),
        Message().encode().replace(b'"slot":-1', b'"slot":-1,"more":1'),
    ],
)
def test_nonsense(line: bytes) -> None:
    with pytest.raises(Nonsense):
        Message.decode(line)


def test_a_reason_is_short_and_in_one_line() -> None:
    reason = Message.decode(Message(failed="a\nb\x1b[31m" + "x" * 1000).encode()).failed
    assert reason.startswith("a?b?[31mxxx")
    assert len(reason) == MAX_REASON


def test_a_request_comes_back_as_it_was_and_does_not_show_its_address() -> None:
    request = Request("rtsp://a:geheim@cam", "rtsp", "tcp", 3, 100, 1 << 30, None, True)
    assert Request.decode(request.encode()) == request
    assert "geheim" not in repr(request)
