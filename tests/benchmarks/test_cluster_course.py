"""What the cluster under load must show, judged of courses that are made up here; Ray runs in test_ray_cluster.py."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cluster_course import COMMON, Answer, Course, Watched, enough, judge, share, unserved

FIRST, SECOND, ADDED = (f"http://127.0.0.1:{port}" for port in (8101, 8102, 8103))
KILLED_AT = 3.5
WINDOW = "no more than the window is lost of a stream"
LOST = "nothing is lost but what the killed member had then"
SERVED = "members that are added answer the streams that belong to them"


def answer(seq: int, address: str, decision: str = "partial") -> Answer:
    """A frame that was sent at `seq` and answered a tenth later."""
    return Answer(seq + 0.1, f"ws{address[4:]}/v1/streams/s/ws", decision, 5.0, seq)


def stream(number: int, turns: list[str | None]) -> Watched:
    """One whose frames, from 1 on, were answered at these addresses; None: lost."""
    one = Watched(number, f"s-{number}", "token")
    for seq, address in enumerate(turns, 1):
        one.sent[seq], one.sent_at[seq] = seq, float(seq)
        if address is None:
            one.lost.add(seq)
            one.breaks = 1
        else:
            one.answered.add(seq)
            keyframe = not one.results or not one.results[-1].place.startswith(f"ws{address[4:]}/")
            one.results.append(answer(seq, address, "keyframe" if keyframe else "partial"))
    return one


@pytest.fixture
def course() -> Course:
    return Course(FIRST, KILLED_AT, {ADDED: [1, 2]})


@pytest.fixture
def watched() -> list[Watched]:
    """Of the member that is killed, with a frame under way; and of another one. Both are the added member's then."""
    moved = stream(1, [FIRST, FIRST, FIRST, None, SECOND, SECOND, ADDED, SECOND])
    moved.sent_at[4] = 3.4
    return [moved, stream(2, [*[SECOND] * 6, ADDED, SECOND])]


def wrong(watched: list[Watched], course: Course, **changed: Any) -> set[str]:
    """What was not shown."""
    figures = {"one_too_many": [429, 429], "moved_by_a_new_directory": 0, **changed}
    return {what for what, held in judge(watched, course, figures).shown.items() if not held}


def test_a_course_as_it_should_be(watched: list[Watched], course: Course) -> None:
    assert wrong(watched, course) == set()


def test_a_frame_that_was_sent_before_the_client_noticed_is_under_way(watched: list[Watched], course: Course) -> None:
    watched[0].sent_at[4] = KILLED_AT + 0.5
    assert wrong(watched, course) == set()


def test_a_stream_of_another_member_loses_nothing(course: Course) -> None:
    moved = stream(1, [*[FIRST] * 3, SECOND, SECOND, ADDED])
    other = stream(2, [*[SECOND] * 3, None, SECOND, ADDED])
    assert wrong([moved, other], course) == {LOST}


@pytest.mark.parametrize(
    "turns",
    [
        [FIRST, None, FIRST, SECOND, SECOND, ADDED],
        [FIRST, FIRST, FIRST, SECOND, SECOND, None, ADDED],
        [FIRST, FIRST, FIRST, SECOND, SECOND, ADDED, None, SECOND],
    ],
    ids=["long before the kill", "as it was sent to the added member", "as a member was removed"],
)
def test_a_loss_at_another_time_than_the_kill_is_found(
    turns: list[str | None], watched: list[Watched], course: Course
) -> None:
    assert wrong([stream(1, turns), watched[1]], course) == {LOST}


def test_a_second_break_is_found(watched: list[Watched], course: Course) -> None:
    watched[0].breaks = 2
    assert wrong(watched, course) == {LOST}


def test_more_than_the_window_is_found(watched: list[Watched], course: Course) -> None:
    moved = stream(1, [FIRST, FIRST, FIRST, None, None, None, SECOND, ADDED, SECOND])
    assert wrong([moved, watched[1]], course) == {WINDOW}


@pytest.mark.parametrize("turns", [[*[SECOND] * 8], [*[SECOND] * 3, FIRST, SECOND, SECOND]])
def test_a_member_that_answers_none_of_its_streams_is_found(
    turns: list[str | None], watched: list[Watched], course: Course
) -> None:
    one = stream(2, turns)
    assert wrong([watched[0], one], course) == {SERVED}
    assert unserved([watched[0], one], course) == {ADDED: [2]}


@pytest.mark.parametrize("none", [{}, {ADDED: []}])
def test_a_member_without_streams_proves_nothing(
    none: dict[str, list[int]], watched: list[Watched], course: Course
) -> None:
    course.share = none
    assert wrong(watched, course) == {SERVED}


def test_an_event_that_is_read_at_the_common_address_is_nobodys(watched: list[Watched], course: Course) -> None:
    late = answer(4, COMMON)
    watched[0].results.insert(3, late)
    assert watched[0].was_at(FIRST, KILLED_AT + 1)
    assert watched[0].back_at(course) == 5.1, "its first answer of another member, not the late one of the killed"


def test_a_frame_without_an_end_is_found(watched: list[Watched], course: Course) -> None:
    watched[1].sent[9], watched[1].sent_at[9] = 9, 9.0
    assert wrong(watched, course) == {"every frame has a result, but for those under way at the kill"}


def test_a_frame_that_is_lost_and_answered_is_found(watched: list[Watched], course: Course) -> None:
    watched[0].answered.add(4)
    assert wrong(watched, course) == {"every frame has a result, but for those under way at the kill"}


def test_a_keyframe_too_many_is_found(watched: list[Watched], course: Course) -> None:
    watched[1].results[2] = watched[1].results[2]._replace(decision="keyframe")
    assert wrong(watched, course) == {"one keyframe for each place"}


@pytest.mark.parametrize(
    ("field", "value"), [("error", "Crossed: a frame of another stream"), ("refused", ["busy: no"]), ("dropped", 1)]
)
def test_a_refusal_a_drop_and_a_crossed_result_are_found(
    field: str, value: Any, watched: list[Watched], course: Course
) -> None:
    setattr(watched[1], field, value)
    assert wrong(watched, course) == {"nothing is refused, dropped or crossed"}


def test_one_stream_too_many_and_a_directory_that_moves_are_found(watched: list[Watched], course: Course) -> None:
    assert wrong(watched, course, one_too_many=[429, 201]) == {"the limit of a key holds at every door"}
    assert wrong(watched, course, moved_by_a_new_directory=1) == {"a directory that is started again moves nothing"}


def test_streams_that_never_move_show_nothing(course: Course) -> None:
    assert "streams moved" in wrong([stream(1, [SECOND] * 4), stream(2, [SECOND] * 4)], course)


def test_members_are_added_until_one_of_them_has_a_stream() -> None:
    watched = [Watched(number, f"stream-{number}", "") for number in range(12)]
    slots = {str(slot): f"http://127.0.0.1:{8100 + slot}" for slot in range(4)}
    there = share(watched, slots, [slots[str(slot)] for slot in range(3)])
    assert [*there] == [slots["3"]]
    assert 0 < len(there[slots["3"]]) < 12
    assert enough(watched, 3) == 4
    others = [one for one in watched if one.number not in there[slots["3"]]]
    assert enough(others, 3) > 4
