"""The hub: what is kept and what is let go, who is told, what is drawn once, and its bounds."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import cv2
import numpy as np
import pytest

from clients.wire import Detection
from service import viewing
from service.pipeline import Found, Outcome, Recomputed
from service.preprocess import Placement
from service.streams import Stream, StreamState
from service.viewing import Look, TooManyOfStream, TooManyViewers, Viewing, draw

BOX = Detection(xyxy=(40, 40, 120, 80), score=0.9, class_id=3, label="cat")


def image(level: int = 0, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def outcome(pixels: np.ndarray | None = None, **fields: Any) -> Outcome:
    pixels = image() if pixels is None else pixels
    height, width = pixels.shape[:2]
    made: dict[str, Any] = {
        "width": width, "height": height, "found": Found(detections=(BOX,)), "decision": "partial",
        "compute_fraction": 0.25, "changed_tiles": 1, "decode_ns": 1, "diff_ns": 1, "infer_ns": 1, "image": pixels,
    }  # fmt: skip
    return Outcome(**(made | fields))


def hub(**fields: Any) -> Viewing:
    made: dict[str, Any] = {"max_viewers": 3, "max_per_stream": 2, "keep_bytes": 1 << 20, "quality": 90}
    return Viewing(**(made | fields))


def show(board: Viewing, stream: Stream, level: int = 0, number: int | None = None) -> None:
    pixels = image(level)
    board.publish(stream, pixels, outcome(pixels), number)


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_the_last_frame_is_kept_until_the_stream_is_gone() -> None:
    board, door = hub(), Stream("door", None, None)
    assert board.last(door) is None
    show(board, door, number=7)
    show(board, door, number=9)
    last = board.last(door)
    assert last is not None
    assert last.number == 9
    assert board.kept_bytes == last.image.nbytes
    board.forget(door)
    assert (board.last(door), board.kept_bytes) == (None, 0)
    door.move(StreamState.GONE)
    show(board, door)
    assert (board.last(door), board.kept_bytes) == (None, 0), "a frame that was under way is shown to nobody"


def test_frames_without_a_number_are_counted() -> None:
    board, door = hub(), Stream("door", None, None)
    for _ in range(3):
        show(board, door)
    last = board.last(door)
    assert last is not None
    assert last.number == 3


def test_pixels_are_bounded_and_those_that_nobody_asked_for_go_first() -> None:
    now = [0.0]
    frame_bytes = image().nbytes
    board = hub(keep_bytes=2 * frame_bytes, wall=lambda: now[0], clock=lambda: now[0])
    asked, old, new = (Stream(name, None, None) for name in ("asked", "old", "new"))
    with board.watch(asked):
        pass
    for stream in (asked, old, new):
        now[0] += 1
        show(board, stream)
    kept = {stream.id for stream in (asked, old, new) if board.last(stream) is not None}
    assert kept == {"asked", "new"}
    assert board.kept_bytes == 2 * frame_bytes
    small = hub(keep_bytes=frame_bytes - 1)
    show(small, asked)
    assert (small.last(asked), small.kept_bytes) == (None, 0)


def test_viewers_get_the_newest_and_each_once() -> None:
    async def look() -> list[int]:
        board, door = hub(), Stream("door", None, None)
        numbers = []
        with board.watch(door) as viewer:
            for number in (1, 2, 3):
                show(board, door, number=number)
            assert await viewer.newer_within(10)
            numbers.append((await viewer.next()).number)
            assert not await viewer.newer_within(0.01)
            waiting = asyncio.create_task(viewer.next())
            await asyncio.sleep(0)
            assert not waiting.done()
            show(board, door, number=4)
            numbers.append((await waiting).number)
            waiting = asyncio.create_task(viewer.next())
            await asyncio.sleep(0)
            board.forget(door)
            assert await waiting is None
            await asyncio.wait_for(viewer.pause(1000), 10)
        return numbers

    assert asyncio.run(look()) == [3, 4]


def test_viewers_get_every_frame_though_few_are_kept() -> None:
    async def look() -> list[int]:
        board, streams = hub(keep_bytes=image().nbytes), [Stream(name, None, None) for name in "abc"]
        got = [0, 0, 0]
        with board.watch(streams[0]) as a, board.watch(streams[1]) as b, board.watch(streams[2]) as c:
            for level in range(5):
                for at, (stream, viewer) in enumerate(zip(streams, (a, b, c), strict=True)):
                    show(board, stream, level)
                    shown = await asyncio.wait_for(viewer.next(), 5)
                    got[at] += shown is not None and int(shown.image[0, 0, 0]) == level
        assert board.kept_bytes <= image().nbytes
        return got

    assert asyncio.run(look()) == [5, 5, 5]


def test_who_comes_after_the_end_of_a_stream_sees_nothing_of_the_next() -> None:
    async def look() -> None:
        board, door = hub(), Stream("door", None, None)
        board.forget(door)
        door.move(StreamState.GONE)
        with board.watch(door) as late:
            show(board, Stream("door", None, None), 9)
            assert await asyncio.wait_for(late.next(), 5) is None

    asyncio.run(look())


def test_the_end_of_the_server_ends_all() -> None:
    async def look() -> None:
        board, door = hub(), Stream("door", None, None)
        with board.watch(door) as viewer:
            show(board, door)
            board.close()
            assert await viewer.next() is None
        with board.watch(door) as late:
            assert await late.next() is None

    asyncio.run(look())


def test_viewers_are_bounded() -> None:
    board = hub()
    door, yard = Stream("door", None, None), Stream("yard", None, None)
    with board.watch(door), board.watch(door):
        with pytest.raises(TooManyOfStream, match="at most 2 viewers of one stream"), board.watch(door):
            pass
        with board.watch(yard):
            assert board.viewers == 3
            with pytest.raises(TooManyViewers, match="at most 3 viewers"), board.watch(yard):
                pass
    assert (board.viewers, board.refused) == (0, 2)
    with board.watch(door):
        assert board.viewers == 1, "room is free again"


def test_a_picture_is_drawn_once_for_all_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    real = viewing.draw

    def noted(*arguments: Any) -> bytes:
        threads.append(threading.current_thread().name)
        return real(*arguments)

    monkeypatch.setattr(viewing, "draw", noted)

    async def look() -> list[bytes]:
        board, door = hub(), Stream("door", None, None)
        show(board, door)
        shown = board.last(door)
        assert shown is not None
        pictures = await asyncio.gather(*(board.picture(shown, Look()) for _ in range(5)))
        pictures.append(await board.picture(shown, Look()))
        assert board.drawn == 1
        await board.picture(shown, Look(boxes=False))
        for width in range(16, 40):
            await board.picture(shown, Look(width=width))
        assert len(shown.pictures) <= viewing.MAX_LOOKS
        return pictures

    assert len(set(asyncio.run(look()))) == 1
    assert threads
    assert set(threads) == {"afterimage-draw"}


def test_a_viewer_that_leaves_takes_nobodys_picture_away() -> None:
    async def look() -> bytes:
        board, door = hub(), Stream("door", None, None)
        show(board, door)
        shown = board.last(door)
        assert shown is not None
        first, second = (asyncio.create_task(board.picture(shown, Look())) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert decoded(asyncio.run(look())).shape == (120, 160, 3)


def test_listeners_hear_of_frames_and_ends() -> None:
    heard: list[str] = []

    class Ear:
        def seen(self, stream: Stream, outcome: Outcome) -> None:
            heard.append(f"{stream.id} {outcome.decision}")

        def gone(self, stream: Stream) -> None:
            heard.append(f"{stream.id} gone")

    board, door = hub(), Stream("door", None, None)
    board.listeners.append(Ear())
    show(board, door)
    board.forget(door)
    assert heard == ["door partial", "door gone"]


def test_looks() -> None:
    pixels = image(0)
    boxed = decoded(draw(pixels, outcome(pixels), Look(), 95))
    assert boxed[80, 80].max() > 100, "the box"
    assert boxed[65, 80].max() < 40, "its inside"
    assert decoded(draw(pixels, outcome(pixels), Look(boxes=False), 95)).max() < 8
    half = decoded(draw(pixels, outcome(pixels), Look(width=80), 95))
    assert half.shape == (60, 80, 3)
    assert half[40, 40].max() > 100, "boxes are scaled with the picture"
    assert decoded(draw(pixels, outcome(pixels), Look(width=1000), 95)).shape == (120, 160, 3)
    assert not pixels.any(), "the frame itself is never drawn on"


def test_what_was_recomputed_is_drawn_where_it_is_known() -> None:
    pixels = image(100, (640, 480))
    tiles = np.zeros((6, 8), bool)
    tiles[:, 4:] = True
    placement = Placement((640, 480), (0.1, 0.1), (0, 0))
    known = outcome(pixels, recomputed=Recomputed(tiles, 8, np.full(8, 0.25), placement), found=Found())
    drawn = decoded(draw(pixels, known, Look(changes=True), 95))
    assert drawn[100:300, 400:600].mean(axis=(0, 1))[2] > 110
    assert np.abs(drawn[100:300, 50:250].astype(int) - 100).max() < 8
    half = decoded(draw(pixels, known, Look(changes=True, width=320), 95))
    assert half[50:150, 200:300].mean(axis=(0, 1))[2] > 110
    assert np.abs(half[50:150, 25:125].astype(int) - 100).max() < 8
    unknown = decoded(draw(pixels, outcome(pixels, found=Found()), Look(changes=True), 95))
    assert np.abs(unknown.astype(int) - 100).max() < 8
