"""The camera's process: which pictures it hands over, what it may do, and that it ends with whoever started it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from cameras import clip, until

from service.ingest import reader
from service.ingest.reader import FILES, LOOK_S, Handover
from service.ingest.slots import SLOTS, Message, Slots


class Clock:
    """In the place of the module `time`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def monotonic_ns(self) -> int:
        return round(self.now_s * 1e9)


class Side:
    """The other side of a handover."""

    def __init__(self, clock: Clock, slots: Slots, max_fps: float | None, skip: bool) -> None:
        self.clock, self.slots = clock, slots
        self.source, channel = os.pipe()
        os.set_blocking(self.source, False)
        self.handover = Handover(slots, channel, max_fps, skip)
        self._channel = channel

    def offer(self, level: int, *, after_s: float = 0.04, tiny: bool = False, size: tuple[int, int] = (64, 48)) -> None:
        self.clock.now_s += after_s
        frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level, np.uint8), format="bgr24")
        self.handover.offer(frame.reformat(format="yuv420p"), tiny)

    def said(self, *, give_back: bool = True) -> list[Message]:
        try:
            lines = os.read(self.source, 1 << 16).splitlines()
        except BlockingIOError:
            return []
        messages = [Message.decode(line) for line in lines]
        for message in messages if give_back else ():
            if message.slot >= 0:
                self.handover.free.put(message.slot)
        return messages

    def close(self) -> None:
        os.close(self.source)
        os.close(self._channel)
        self.slots.close()


@pytest.fixture
def make_side(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    clock, made = Clock(), []
    monkeypatch.setattr(reader, "time", clock)

    def make(max_fps: float | None = None, skip: bool = True) -> Side:
        made.append(Side(clock, Slots.make(64 * 64), max_fps, skip))
        return made[-1]

    yield make
    for side in made:
        side.close()


def test_pictures_of_any_size_are_handed_over(make_side) -> None:
    side = make_side()
    for number, size in enumerate([(64, 48), (16, 32), (64, 64)]):
        side.offer(50 + number, size=size)
        (message,) = side.said()
        assert (message.width, message.height, message.decoded) == (*size, number + 1)
        assert message.stamp_ns == round(side.clock.now_s * 1e9)
        np.testing.assert_allclose(side.slots.view(message.slot, *size), 50 + number, atol=8)


def test_a_side_that_is_behind_gets_later_pictures_and_slots_are_never_written_twice(make_side) -> None:
    side = make_side()
    for level in range(50, 50 + 4 * 50, 50):
        side.offer(level)
    messages = side.said(give_back=False)
    assert len(messages) == SLOTS
    assert [round(side.slots.view(m.slot, 64, 48).mean()) for m in messages] == pytest.approx([50, 100], abs=8)
    side.handover.free.put(messages[0].slot)
    side.offer(200)
    (message,) = side.said()
    assert (message.slot, message.decoded) == (messages[0].slot, 5)


def test_a_rate_is_kept_on_average_and_signs_of_life_go_on(make_side) -> None:
    side = make_side(max_fps=10)
    messages = []
    for number in range(250):  # ten seconds at 25 a second
        side.offer(number)
        messages += side.said()
    assert sum(m.slot >= 0 for m in messages) == pytest.approx(100, abs=3)
    slow = make_side(max_fps=0.1)
    messages = []
    for number in range(100):
        slow.offer(number)
        messages += slow.said()
    assert sum(m.slot >= 0 for m in messages) == 1
    assert len(messages) > 15
    assert messages[-1].decoded > 90


def test_a_camera_of_just_that_rate_loses_none_for_its_jitter(make_side) -> None:
    side = make_side(max_fps=25)
    count = 0
    for number in range(50):
        side.offer(number, after_s=0.04 + (0.01 if number % 2 else -0.01))
        count += sum(m.slot >= 0 for m in side.said())
    assert count == 50


def test_equal_pictures_are_handed_over_once_a_second(make_side) -> None:
    side = make_side()
    given = []
    for number in range(26):
        side.offer(90, tiny=number > 0)
        given += [(number, m) for m in side.said() if m.slot >= 0]
    assert [number for number, _ in given] == [0, 25], f"every {LOOK_S} s"
    assert given[-1][1].unchanged == 24


def test_few_bytes_alone_prove_nothing(make_side) -> None:
    side = make_side()
    for level in (90, 120, 120, 90):
        side.offer(level, tiny=True)
    messages = [message for message in (*side.said(), *side.said()) if message.slot >= 0]
    assert [round(side.slots.view(m.slot, 64, 48).mean()) for m in messages] == pytest.approx([90, 120], abs=8)
    side.offer(90, tiny=True)
    assert [m.slot >= 0 for m in side.said()] == [True], "another than the last that was handed over"


def test_equal_pictures_are_all_handed_over_where_that_is_asked_for(make_side) -> None:
    side = make_side(skip=False)
    for _ in range(5):
        side.offer(90, tiny=True)
        assert [m.slot >= 0 for m in side.said()] == [True]


LIMITS = """
import json, resource, sys
from service.ingest.reader import confine
confine(1 << 30)
names = ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_AS")
print(json.dumps([resource.getrlimit(getattr(resource, name)) for name in names]))
others = {"numba", "cache", "kernels", "fastapi", "pydantic", "cv2"}
print(sorted({name.split(".")[0] for name in sys.modules} & others))
try:
    with open(sys.argv[1], "w") as file:
        file.write("x")
except OSError as error:
    print(type(error).__name__)
"""


def test_the_process_is_confined_and_imports_neither_engine_nor_framework(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", LIMITS, str(tmp_path / "file")], capture_output=True, text=True, check=True
    )
    limits, modules, written = found.stdout.splitlines()
    assert limits == str([[0, 0], [0, 0], [FILES, FILES], [1 << 30, 1 << 30]])
    assert modules == "[]"
    assert written == "OSError"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


PARENT = """
import sys, time
from service.ingest.address import parse
from service.ingest.camera import Camera
camera = Camera(parse(sys.argv[1]))
camera.start()
camera.take()
print(camera.status.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    url = clip(tmp_path / "a.mp4", [9] * 500, fps=1)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, url], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    """Whether a process runs; one that is over and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
