"""Memory that is asked for before it is taken."""

from __future__ import annotations

import pytest

from service import room as module
from service.room import FRESH_S, LARGE_BYTES, LAST_BYTES, LEFT_BYTES, SMALL_BYTES, NoRoom, Room

MIB = 1 << 20


class Machine:
    """What is left, how often that was asked, and the time."""

    def __init__(self, left: int | None) -> None:
        self.left, self.looks, self.now = left, 0, 0.0

    def available(self) -> int | None:
        self.looks += 1
        return self.left

    def room(self) -> Room:
        return Room(self.available, lambda: self.now)


def test_what_fits_is_granted_and_the_rest_refused_with_figures() -> None:
    room = Machine(LEFT_BYTES + 100 * MIB).room()
    with room.hold(100 * MIB, "an image"):
        pass
    with pytest.raises(
        NoRoom, match=r"^expected 101 MiB of memory for an image and 32 MiB to spare, 132 MiB are left$"
    ):
        room.hold(101 * MIB, "an image").__enter__()


def test_what_is_promised_counts_until_it_is_given_back() -> None:
    room = Machine(LEFT_BYTES + 100 * MIB).room()
    with room.hold(60 * MIB, "one"):
        with pytest.raises(NoRoom, match="72 MiB are left"), room.hold(60 * MIB, "another"):
            pass
        with room.hold(40 * MIB, "a smaller one"):
            pass
    with pytest.raises(ValueError, match="broken"), room.hold(100 * MIB, "one that fails"):
        raise ValueError("broken")
    with room.hold(100 * MIB, "one more"):
        pass


def test_little_is_not_asked_for() -> None:
    machine = Machine(0)
    with machine.room().hold(SMALL_BYTES - 1, "a frame"):
        assert machine.looks == 0


def test_where_nothing_is_known_all_is_granted() -> None:
    room = Machine(None).room()
    with room.hold(1 << 50, "an image"):
        assert room.short() is None


def test_the_kernel_is_asked_now_and_then_and_before_much_is_granted() -> None:
    machine = Machine(1 << 40)
    room = machine.room()
    for _ in range(5):
        with room.hold(SMALL_BYTES, "a frame"):
            pass
    assert machine.looks == 1
    machine.now = FRESH_S
    with room.hold(SMALL_BYTES, "a frame"), room.hold(LARGE_BYTES, "an image"):
        assert machine.looks == 3


def test_large_messages_are_read_while_there_is_memory() -> None:
    machine = Machine(LAST_BYTES)
    room = machine.room()
    assert room.short() is None
    machine.left = LAST_BYTES - 1
    assert room.short() == "expected 24 MiB of memory free for messages, 23 MiB are left"


def test_what_stays_is_asked_for_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    monkeypatch.setattr(module, "available_bytes", lambda: 10 * MIB)
    assert room.lacks(8 * MIB, "a model", spare=2 * MIB) is None
    assert room.lacks(8 * MIB + 1, "a model", spare=2 * MIB) == (
        "expected 9 MiB of memory for a model and 2 MiB to spare, 10 MiB are left"
    )
    room.beside = lambda: 3 * MIB
    assert room.lacks(6 * MIB, "a model", spare=2 * MIB) is not None, "others were granted the rest"
    monkeypatch.setattr(module, "available_bytes", lambda: None)
    assert room.lacks(1 << 50, "a model") is None


def test_what_was_freed_is_given_back_before_anything_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(LEFT_BYTES)
    room, given = machine.room(), []

    def give_back() -> bool:
        given.append(machine.now)
        machine.left = LEFT_BYTES + 50 * MIB
        return True

    monkeypatch.setattr(module, "give_back", give_back)
    with room.hold(50 * MIB, "an image"):
        assert given == [0.0]
        assert room.lacks(1 * MIB, "a model") is not None
        assert given == [0.0], "not again and again"
        machine.now = module.GIVE_BACK_S
        assert room.lacks(1 * MIB, "a model") is not None
        assert len(given) == 2


def test_bodies_get_half_together_and_the_other_half_is_left() -> None:
    machine = Machine(LEFT_BYTES + 100 * MIB)
    room = machine.room()
    with room.hold_body(30 * MIB), room.hold_body(20 * MIB):
        refused = "expected 1 MiB of memory for the body of a request, 0 MiB are left for bodies"
        assert room.lacks_body(1 * MIB) == refused
        with pytest.raises(NoRoom, match=refused), room.hold_body(1 * MIB):
            pass
        assert room.lacks_body(SMALL_BYTES - 1) is None
        assert room.lacks(51 * MIB, "an image") is not None, "they are counted"
        with room.hold(50 * MIB, "an image"):
            assert room.lacks(1, "another") is not None
        machine.left = LEFT_BYTES + 60 * MIB
        assert room.lacks(30 * MIB, "a stream") is None, "no more than half, whatever they were granted"
        assert room.short() is None
        machine.left = LEFT_BYTES + 100 * MIB
    with room.hold(40 * MIB, "an image"):
        assert room.lacks_body(30 * MIB) is None
        assert room.lacks_body(31 * MIB) is not None
    with room.hold(100 * MIB, "an image"):
        pass
