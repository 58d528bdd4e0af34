"""What became of streams while members of a cluster came and went, and what that shows; nothing here is measured.

`benchmarks.cluster` fills it in. Times are of `time.monotonic`, addresses as clients know them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.soak.report import Report
from service.cluster.rendezvous import owner

COMMON = "http://127.0.0.1:8000"


class Answer(NamedTuple):
    """A result as it was read. place : the client's address then"""

    at: float
    place: str
    decision: str
    round_trip_ms: float
    seq: int


@dataclass
class Course:
    """What happened to the members. share : streams, by number, that belong to each one that was added"""

    killed: str
    killed_at: float
    share: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Watched:
    """One stream and all that became of its frames. keyframes : at which a frame was computed in full, by address."""

    number: int
    stream_id: str
    token: str
    sent: dict[int, int] = field(default_factory=dict)
    """The number that a frame shows, by seq."""
    sent_at: dict[int, float] = field(default_factory=dict)
    """By seq."""
    answered: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    breaks: int = 0
    """Times that a connection broke with frames under way."""
    refused: list[str] = field(default_factory=list)
    results: list[Answer] = field(default_factory=list)
    moves: int = 0
    reconnections: int = 0
    dropped: int = 0
    error: str = ""

    @property
    def places(self) -> list[str]:
        """Members that had it in turn; an event may be read when the client is back at the common address."""
        at = [answer.place for answer in self.results if not is_at(COMMON, answer)]
        return [place for index, place in enumerate(at) if index == 0 or place != at[index - 1]]

    @property
    def keyframes(self) -> int:
        return sum(answer.decision == "keyframe" for answer in self.results)

    def was_at(self, member: str, when: float) -> bool:
        """Whether that member had the stream at a time."""
        before = [answer for answer in self.results if answer.at <= when and not is_at(COMMON, answer)]
        return bool(before) and is_at(member, before[-1])

    def back_at(self, course: Course) -> float:
        """When another member had answered a frame after the kill; infinite where none did."""
        after = (answer for answer in self.results if answer.at > course.killed_at)
        gone = (course.killed, COMMON)
        return next((answer.at for answer in after if not any(is_at(at, answer) for at in gone)), math.inf)

    def lost_needlessly(self, course: Course) -> list[int]:
        """Frames that were lost although the killed member cannot have had them, or not when it was killed."""
        if self.breaks > 1 or not self.was_at(course.killed, course.killed_at):
            return sorted(self.lost)
        back = self.back_at(course)
        answered = max((answer.seq for answer in self.results if answer.at <= course.killed_at), default=0)
        return sorted(seq for seq in self.lost if seq < answered or self.sent_at.get(seq, math.inf) > back)


def is_at(address: str, answer: Answer) -> bool:
    """Whether a result came while the client was at that address, a member's or the common one."""
    return answer.place.startswith(f"ws{address[4:]}/")


def share(watched: list[Watched], slots: dict[str, str], before: Collection[str]) -> dict[str, list[int]]:
    """Streams, by number, that belong to each member that was not there before, by their ids (docs/cluster.md).

    slots : addresses by slot; members weigh the same
    """
    weights = dict.fromkeys(slots, 1.0)
    homes = {one.number: slots[str(owner(one.stream_id, weights))] for one in watched}
    return {
        address: [number for number, home in homes.items() if home == address]
        for address in slots.values()
        if address not in before
    }


def enough(watched: list[Watched], members: int) -> int:
    """How many there must be at the least until one that was added has a stream: mostly one more."""
    while True:
        members += 1
        slots = {str(slot): str(slot) for slot in range(members)}
        if share(watched, slots, [*slots][:-1])[str(members - 1)]:
            return members


def unserved(watched: list[Watched], course: Course) -> dict[str, list[int]]:
    """Streams, by number, that a member that was added should have answered and has not."""
    found = {
        address: [
            one.number
            for one in watched
            if one.number in numbers and not any(is_at(address, answer) for answer in one.results)
        ]
        for address, numbers in course.share.items()
    }
    return {address: numbers for address, numbers in found.items() if numbers}


def latency(watched: list[Watched], first: float, last: float) -> dict[str, float]:
    """Of results in a stretch of time, milliseconds."""
    taken = sorted(answer.round_trip_ms for one in watched for answer in one.results if first <= answer.at < last)
    if not taken:
        return {}
    return {"median": round(statistics.median(taken), 1), "p95": round(taken[int(0.95 * (len(taken) - 1))], 1)}


def judge(watched: list[Watched], course: Course, figures: dict[str, Any]) -> Report:
    """What was shown."""
    unaccounted = {one.number: sorted(set(one.sent) - one.answered - one.lost) for one in watched}
    twice = [one.number for one in watched if one.answered & one.lost]
    extra = {one.number: one.keyframes - len(one.places) for one in watched}
    lost = [len(one.lost) for one in watched]
    needless = {one.number: one.lost_needlessly(course) for one in watched}
    figures |= {
        "streams": len(watched), "sent": sum(len(one.sent) for one in watched),
        "results": sum(len(one.answered) for one in watched), "lost": sum(lost), "lost_most": max(lost),
        "places": sum(len(one.places) for one in watched), "keyframes": sum(one.keyframes for one in watched),
        "moves": sum(one.moves for one in watched), "reconnections": sum(one.reconnections for one in watched),
        "unaccounted": {name: seqs for name, seqs in unaccounted.items() if seqs},
        "lost_needlessly": {name: seqs for name, seqs in needless.items() if seqs},
        "streams_of_the_added": sum(len(numbers) for numbers in course.share.values()),
        "unserved_by_the_added": unserved(watched, course),
        "keyframes_without_a_move": {name: count for name, count in extra.items() if count},
        "refused": [text for one in watched for text in one.refused][:5],
        "errors": [one.error for one in watched if one.error][:5],
    }  # fmt: skip
    return Report(
        "cluster",
        figures,
        {
            "every frame has a result, but for those under way at the kill": not figures["unaccounted"] and not twice,
            "no more than the window is lost of a stream": max(lost) <= 2,
            "nothing is lost but what the killed member had then": not figures["lost_needlessly"],
            "members that are added answer the streams that belong to them": figures["streams_of_the_added"] > 0
            and not figures["unserved_by_the_added"],
            "nothing is refused, dropped or crossed": not figures["refused"]
            and not figures["errors"]
            and not any(one.dropped for one in watched),
            "one keyframe for each place": not figures["keyframes_without_a_move"],
            "the limit of a key holds at every door": set(figures["one_too_many"]) == {429},
            "a directory that is started again moves nothing": figures["moved_by_a_new_directory"] == 0,
            "streams moved": figures["places"] > len(watched),
        },
    )
