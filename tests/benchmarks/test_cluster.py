"""The course of the cluster under load, on one that is made up: what is done to it, and that it is judged by that."""

from __future__ import annotations

import asyncio
import time

import pytest

from benchmarks import cluster as under_load
from benchmarks.cluster_course import Answer, Watched, judge
from service.cluster.rendezvous import owner


class MadeUp:
    """Members by slot, of which a stream's frames are answered by the one that it belongs to."""

    def __init__(self, keeps_to_itself: bool = False) -> None:
        self.there = {str(slot): f"http://127.0.0.1:{8101 + slot}" for slot in range(3)}
        self.killed = ""
        self._keeps_to_itself, self._next = keeps_to_itself, 8201

    def home(self, stream_id: str) -> str:
        slots = [slot for slot in self.there if not (self._keeps_to_itself and slot == "3")]
        return self.there[str(owner(stream_id, dict.fromkeys(slots, 1.0)))]

    def slots(self) -> dict[str, str]:
        if self.killed:
            slot = next(slot for slot, address in self.there.items() if address == self.killed)
            self.there[slot], self.killed = self._address(), ""
        return dict(self.there)

    def members(self) -> list[str]:
        return list(self.slots().values())

    def scale(self, members: int) -> None:
        for slot in range(len(self.there), members):
            self.there[str(slot)] = self._address()
        for slot in range(members, len(self.there)):
            del self.there[str(slot)]

    def kill_directory(self) -> float:
        return 1.0

    def listener(self, address: str) -> int:
        assert address in self.there.values()
        self.killed = address
        return 0

    def _address(self) -> str:
        self._next += 1
        return f"http://127.0.0.1:{self._next}"

    async def stream(self, watched: Watched, fps: float, done: asyncio.Event) -> None:
        seq, place = 0, ""
        while not done.is_set():
            seq += 1
            watched.sent[seq], watched.sent_at[seq] = seq, time.monotonic()
            await asyncio.sleep(0)
            home = self.home(watched.stream_id)
            if home == self.killed:
                watched.lost.add(seq)
                watched.breaks = 1
                self.slots()
                continue
            watched.answered.add(seq)
            url = f"ws{home[4:]}/v1/streams/{watched.stream_id}/ws"
            decision = "keyframe" if url != place else "partial"
            watched.results.append(Answer(time.monotonic(), url, decision, 1.0, seq))
            place = url
            await asyncio.sleep(1 / fps)


def follow(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Watched], dict, dict[str, bool]]:
    """Streams, figures, and what was shown."""
    monkeypatch.setattr(under_load, "stream", made_up.stream)
    monkeypatch.setattr(under_load, "listener", made_up.listener)
    monkeypatch.setattr(under_load, "make_stream", lambda base, key: (429, {}))
    monkeypatch.setattr("os.kill", lambda process, how: None)
    watched = [Watched(number, f"stream-{number}", "token") for number in range(12)]
    course, figures = asyncio.run(under_load.load(made_up, watched, "key", 200.0, 0.0))
    report = judge(watched, course, figures)
    return watched, report.figures, report.shown


def test_a_good_cluster_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, figures, shown = follow(MadeUp(), monkeypatch)
    assert all(shown.values()), (shown, figures)
    assert len(figures["moved_after_kill_s"]) == max(figures["streams_by_member"])
    assert (figures["added"], figures["streams_of_the_added"] > 0) == (1, True)
    assert sum(one.breaks for one in watched) == figures["lost"] > 0


def test_an_added_member_that_takes_no_stream_is_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle(MadeUp):
        def scale(self, members: int) -> None:
            monkeypatch.setattr(under_load, "SETTLED_S", 0.0)  # what comes before it comes, however long that takes
            super().scale(members)

    with pytest.raises(RuntimeError, match="members that were added answer their streams"):
        follow(Idle(keeps_to_itself=True), monkeypatch)
