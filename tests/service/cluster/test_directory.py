"""The directory alone, with a clock of its own: who is counted, where streams go, and what a forgetful one learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.cluster.directory import LOST_S, REFUSED_S, SETTLE_S, Directory
from service.cluster.messages import Beat, Claim, Found, Keys, Known, Load, Named, Placed, Refusal, Refused, Wanted
from service.cluster.rendezvous import owner
from service.token_store import KeptStream


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def beat(name: str, **fields: Any) -> Beat:
    given = {"load": Load(most=10), "known": Known(), **fields}
    return Beat(instance=name, slot=None, address=f"http://{name}", probe=(name, 1), weight=1.0, **given)  # type: ignore[arg-type]


def town(clock: Clock, *names: str) -> Directory:
    """A directory that has settled, and its members in order of their slots."""
    directory = Directory(clock)
    clock.now += SETTLE_S
    directory.expire()
    for name in names:
        directory.beat(beat(name))
    return directory


def claim(stream_id: str, owner_name: str | None = None, kept: bool = False) -> Claim:
    token = KeptStream(id=stream_id, model=None, token="0" * 64, created_at=0.0, owner=owner_name) if kept else None
    return Claim(stream_id, owner_name, token, 60.0)


def wanted(by: str, stream_id: str, *, holds: bool = True, room: bool = True, most: int = 64, **what: Any) -> Wanted:
    return Wanted(claim(stream_id, **what), by, holds, room, most)


def stream_of(slot: str, *slots: str, after: int = 0) -> str:
    """An id that the hash gives a slot, among all of them."""
    weights = dict.fromkeys((slot, *slots), 1.0)
    return next(f"s{n}" for n in range(after, 1000) if owner(f"s{n}", weights) == slot)


def test_members_get_the_lowest_free_slot_and_all_learn_of_it(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    told = directory.beat(beat("c"))
    assert told.slot == "2"
    assert told.table is not None
    assert {slot: seat.instance for slot, seat in told.table.seats.items()} == {"0": "a", "1": "b", "2": "c"}
    assert directory.beat(beat("c", version=directory.version)).table is None, "nothing is new"
    assert len(told.table.secret) == 32
    other = Directory(settle_s=0.0).beat(beat("a")).table
    assert other is not None
    assert other.secret != told.table.secret
    assert repr(other.secret) not in repr(other)
    directory.leave("b")
    assert directory.beat(beat("d")).slot == "1", "who takes a place takes its streams"


def test_a_silent_member_is_given_up_and_may_come_back(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    for _ in range(int(LOST_S / 0.5) + 1):
        clock.now += 0.5
        directory.beat(beat("a"))
        directory.expire()
    assert [member["slot"] for member in directory.status()["members"]] == ["0"]
    assert directory.claim(wanted("b", "s")) == Refused(Refusal.NO_MEMBER, "this member is not counted now")
    assert directory.beat(replace(beat("b"), slot="1")).slot == "1"


def test_a_directory_that_slept_gives_nobody_up(clock: Clock) -> None:
    directory = town(clock, "a")
    directory.expire()
    clock.now += 10 * LOST_S
    directory.expire()
    assert len(directory) == 1


def test_streams_of_a_lost_member_are_kept_for_their_patience(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    stream_id = stream_of("1", "0")
    assert directory.claim(wanted("b", stream_id, kept=True)) == Placed("1")
    directory.leave("b")
    found = directory.find(stream_id)
    assert found is not None
    assert found.kept is not None
    assert found.slot == "0"
    clock.now += 59
    directory.expire()
    assert directory.find(stream_id) is not None
    clock.now += 2
    directory.expire()
    assert directory.find(stream_id) is None


def test_a_stream_that_moves_is_lost_to_who_had_it(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    stream_id = stream_of("2", "0", "1")
    before = owner(stream_id, {"0": 1.0, "1": 1.0})
    first = "a" if before == "0" else "b"
    directory.claim(wanted(first, stream_id))
    directory.beat(beat("c"))
    assert directory.claim(wanted("c", stream_id)) == Placed("2")
    assert directory.beat(beat(first)).lost == (stream_id,)
    assert directory.beat(beat(first)).lost == ()
    directory.release(first, (stream_id,), ())
    assert directory.find(stream_id) is not None, "it is not this member's to forget"
    directory.release("c", (), (stream_id,))
    clock.now += 61
    directory.expire()
    assert directory.find(stream_id) is None


def test_a_stream_that_comes_back_is_not_lost(clock: Clock) -> None:
    directory = town(clock, "a")
    directory.claim(wanted("a", "s"))
    directory.beat(beat("b"))
    there = stream_of("1", "0")
    directory.claim(wanted("a", there))
    directory.claim(wanted("b", there))
    directory.leave("b")
    directory.claim(wanted("a", there))
    assert directory.beat(beat("a")).lost == ()


def test_limits_of_a_key_hold_whoever_asks(clock: Clock) -> None:
    directory = town(clock, "a", "b", "c")
    for number, by in enumerate("abcabc"):
        assert isinstance(directory.claim(wanted(by, f"s{number}", most=6, holds=False, owner_name="door")), Placed)
    for by in "abc":
        refused = directory.claim(wanted(by, "one-more", most=6, holds=False, owner_name="door"))
        assert isinstance(refused, Refused)
        assert refused.why is Refusal.OWNED
    assert isinstance(directory.claim(wanted("a", "s3", most=6, owner_name="door")), Placed), "counted once"
    assert isinstance(directory.claim(wanted("a", "other", most=6, holds=False, owner_name="yard")), Placed)
    directory.release("b", ("s1",), ())
    assert isinstance(directory.claim(wanted("c", "one-more", most=6, holds=False, owner_name="door")), Placed)


def test_streams_in_all_are_what_members_take(clock: Clock) -> None:
    directory = Directory(clock)
    clock.now += SETTLE_S
    directory.beat(beat("a", load=Load(most=2)))
    directory.beat(beat("b", load=Load(most=1)))
    for number in range(3):
        assert isinstance(directory.claim(wanted("a", f"s{number}", holds=False)), Placed)
    refused = directory.claim(wanted("b", "s3", holds=False))
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.FULL


def test_a_stream_of_another_key_is_not_given_away(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    directory.claim(wanted("a", "s", owner_name="door"))
    for stranger in ("yard", None):
        refused = directory.claim(wanted("b", "s", owner_name=stranger))
        assert isinstance(refused, Refused)
        assert refused.why is Refusal.FOREIGN


def test_a_stream_is_made_once_by_whatever_member(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    first = wanted("a", "door", holds=False, kept=True)
    placed = directory.claim(first)
    assert isinstance(placed, Placed)
    assert directory.claim(first) == placed, "a question may come twice"
    other = KeptStream(id="door", model=None, token="1" * 64, created_at=1.0)
    refused = directory.claim(Wanted(Claim("door", None, other, 60.0), "b", False, True, 64))
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.TAKEN
    found = directory.find("door")
    assert isinstance(found, Found)
    assert found.kept == first.claim.kept, "its token is the first one's still"
    directory.claim(wanted("b", "yard"))
    assert isinstance(directory.claim(wanted("a", "yard", holds=False, kept=True)), Refused), "one without a token, too"


def test_full_members_are_passed_over_for_new_streams_alone(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    full = Load(room=False, most=10)
    old, new = stream_of("0", "1"), stream_of("0", "1", after=500)
    assert directory.claim(wanted("a", old)) == Placed("0")
    directory.beat(beat("a", load=full))
    assert directory.claim(wanted("a", old)) == Placed("0"), "it is there already, by what its member says"
    assert directory.claim(wanted("b", new, holds=False)) == Placed("1")
    table = directory.beat(beat("b")).table
    assert table is not None
    assert dict(table.elsewhere) == {new: "1"}, "all members hear of it"
    directory.beat(beat("a", load=Load(most=10)))
    assert directory.claim(wanted("b", new)) == Placed("1"), "and it stays"
    directory.beat(beat("a", load=full))
    directory.beat(beat("b", load=full))
    refused = directory.claim(wanted("a", stream_of("0", "1", after=700), room=False))
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.NO_ROOM


def test_a_moved_stream_whose_new_member_is_full_goes_on_to_one_with_room(clock: Clock) -> None:
    directory = town(clock, "a", "b", "c")
    stream_id = stream_of("2", "0", "1")
    directory.claim(wanted("c", stream_id))
    directory.leave("c")
    heir = owner(stream_id, {"0": 1.0, "1": 1.0})
    other = "1" if heir == "0" else "0"
    assert directory.claim(wanted("ab"[int(heir or 0)], stream_id, room=False)) == Placed(other)


def test_a_directory_that_was_started_again_learns_from_its_members(clock: Clock) -> None:
    directory = Directory(clock)
    assert directory.beat(beat("new")).slot is None, "those that have slots are heard first"
    back = replace(beat("b"), slot="1", known=None)
    told = directory.beat(back)
    assert told.slot == "1"
    assert told.refill
    assert directory.beat(back).refill, "until it has said all"
    known = Known((claim("held"),), (claim("made", kept=True),), {"held": "1"}, Keys(2.0, "k"))
    assert not directory.beat(replace(back, known=known)).refill
    assert directory.find("held") is not None
    assert directory.find("made") is not None
    told = directory.beat(replace(beat("a"), slot="0"))
    assert told.slot == "0"
    assert told.keys == Keys(2.0, "k")
    clock.now += SETTLE_S
    assert directory.beat(beat("new")).slot == "2"


def test_two_that_say_they_have_a_stream(clock: Clock) -> None:
    directory = town(clock, "a")
    directory.claim(wanted("a", "s"))
    told = directory.beat(beat("cut-off", known=Known((claim("s"),))))
    assert told.lost == ("s",), "it was away, and another one has it by now"


def test_the_newest_keys_count(clock: Clock) -> None:
    directory = town(clock, "a")
    directory.beat(beat("a", known=Known(keys=Keys(2.0, "new"))))
    directory.beat(beat("b", known=Known(keys=Keys(1.0, "old"))))
    assert directory.beat(beat("a")).keys == Keys(2.0, "new")
    assert directory.beat(beat("a", keys_version=2.0)).keys is None


def test_status_counts(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    directory.claim(wanted("a", stream_of("0", "1")))
    directory.claim(wanted("a", stream_of("1", "0"), holds=False))
    clock.now += 0.25
    told = directory.status()
    assert [(m["slot"], m["address"], m["seen_s"]) for m in told["members"]] == [
        ("0", "http://a", 0.25),
        ("1", "http://b", 0.25),
    ]
    assert (told["streams"], told["waiting"], told["elsewhere"]) == (2, 1, 0)


def test_a_stream_that_its_member_would_not_admit_goes_on_and_not_back_at_once(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    stream_id = stream_of("0", "1")
    assert directory.claim(wanted("a", stream_id, kept=True)) == Placed("0")
    assert directory.claim(wanted("a", stream_id, kept=True, room=False)) == Placed("1")
    assert directory.status()["waiting"] == 1, "it is not where it was refused"
    refused = directory.claim(wanted("b", stream_id, kept=True, room=False))
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.NO_ROOM, "whatever the load of the first one says"
    clock.now += REFUSED_S
    assert directory.claim(wanted("b", stream_id, kept=True, room=False)) == Placed("0")


def test_what_is_deleted_is_nobodys_whoever_has_it(clock: Clock) -> None:
    directory = town(clock, "a", "b")
    stream_id = stream_of("0", "1")
    directory.claim(wanted("a", stream_id, kept=True))
    this, other = Named(stream_id, "0" * 64), Named(stream_id, "1" * 64)
    directory.release("b", (stream_id,), (), deleted=(other,))
    assert directory.find(stream_id) is not None, "another stream of that id was meant"
    directory.release("b", (stream_id,), (), deleted=(this,))
    assert directory.find(stream_id) is None
    assert directory.beat(beat("a")).deleted == (this,)
    assert directory.beat(beat("a")).deleted == ()


def test_what_could_not_be_made_is_forgotten_and_nothing_else_of_its_id(clock: Clock) -> None:
    directory = town(clock, "a")
    directory.claim(wanted("a", "s", holds=False, kept=True))
    directory.release("a", (), (), unmade=(Named("s", "1" * 64),))
    assert directory.find("s") is not None
    directory.release("a", (), (), unmade=(Named("s", "0" * 64),))
    assert directory.find("s") is None


def test_other_keys_count_whatever_clocks_say(clock: Clock) -> None:
    directory = Directory(clock, wall=lambda: 5.0)
    assert directory.change_keys("early") is None, "members may bring newer ones"
    assert directory.keys() is None
    directory.beat(replace(beat("a", known=Known(keys=Keys(1000.0, "old"))), slot="0"))
    clock.now += SETTLE_S
    assert directory.change_keys("new") == Keys(1001.0, "new")
    assert directory.change_keys("new") == Keys(1001.0, "new"), "nothing has changed"
    assert directory.beat(beat("a", keys_version=1000.0)).keys == Keys(1001.0, "new")
