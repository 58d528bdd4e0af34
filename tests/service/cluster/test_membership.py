"""Members around one directory, without Ray: where streams are, what is claimed, and what happens while it is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.admission import Overloaded
from service.cluster.directory import SETTLE_S, Directory
from service.cluster.membership import THROUGH_GATEWAY, Membership, Unreachable
from service.cluster.messages import Beat, Keys, Load, Told
from service.streams import NotAuthorised, TooManyOwned
from service.token_store import KeptStream


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Office:
    """The directory, and beats that wait in it; `away` while it is not there."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.away = False
        self.heard: list[str] = []
        self.open()

    def open(self, settled: bool = True) -> None:
        """A directory that knows nothing."""
        self.directory = Directory(self.clock)
        self.clock.now += SETTLE_S if settled else 0.0
        self.directory.expire()

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            await asyncio.sleep(0)
            if self.away:
                raise Unreachable("away")
            return getattr(self.directory, name)(*arguments)

        return call

    async def beat(self, beat: Beat) -> Told:
        self.heard.append(beat.instance)
        directory, told = self.directory, None
        for _ in range(20):
            await asyncio.sleep(0.001)
            if self.away or directory is not self.directory:
                raise Unreachable("away")
            told = directory.beat(beat) if told is None else directory.told(beat.instance, beat)
            if told.table or told.refill or told.lost or told.deleted or told.keys:
                break
        assert told is not None
        return told


@dataclass
class House:
    """A server that only notes what it is told."""

    room: bool = True
    there: set[str] = field(default_factory=set)
    changes: int = 0
    gone: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    disk: bool = True
    keys: str = ""

    def load(self) -> Load:
        return Load(streams=len(self.there), room=self.room, most=50)

    def has(self, stream_id: str) -> bool:
        return stream_id in self.there

    def changed(self) -> None:
        self.changes += 1

    def lost(self, stream_ids: Sequence[str]) -> None:
        self.gone += stream_ids

    def deleted(self, stream_ids: Sequence[str]) -> None:
        self.ended += stream_ids

    def take_keys(self, text: str) -> bool:
        self.keys = text if self.disk else self.keys
        return self.disk


@contextlib.asynccontextmanager
async def member(office: Office, name: str, **options: Any) -> AsyncIterator[tuple[Membership, House]]:
    """One that has joined."""
    made = Membership(office, f"http://{name}", (name, 1), patience_s=options.pop("patience_s", 0.05), **options)
    house = House()
    beating = asyncio.create_task(made.run(house))
    try:
        await come(lambda: made.joined)
        yield made, house
    finally:
        beating.cancel()
        await asyncio.wait([beating])


async def come(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def kept(stream_id: str, owner: str | None = None) -> KeptStream:
    return KeptStream(id=stream_id, model=None, token="0" * 64, created_at=0.0, owner=owner, resume_s=60.0)


def of(members: Sequence[Membership], home: Membership) -> str:
    """An id that belongs to one of them."""
    return next(f"s{n}" for n in range(1000) if all((one.home(f"s{n}") is None) == (one is home) for one in members))


def test_a_stream_is_made_anywhere_and_opened_where_it_belongs() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, _), member(office, "b") as (b, house):
            await come(lambda: a.members == b.members == 2)
            stream_id = of((a, b), b)
            await a.make(kept(stream_id))
            assert a.address(stream_id) == "http://b"
            assert b.address(stream_id) is None
            assert await b.find(stream_id) == kept(stream_id)
            await b.claim(stream_id, None, kept(stream_id))
            house.there.add(stream_id)
            assert office.directory.status()["waiting"] == 0
            a.release(stream_id)
            await asyncio.sleep(0.01)
            assert await a.find(stream_id) == kept(stream_id), "it is not this member's"
            b.release(stream_id)
            await come(lambda: office.directory.find(stream_id) is None)
            assert await a.find(stream_id) is None

    asyncio.run(run())


def test_by_the_common_address_even_an_own_stream_has_one() -> None:
    async def run() -> None:
        async with member(Office(), "a") as (a, _):
            token = THROUGH_GATEWAY.set(True)
            assert a.address("s") == "http://a"
            THROUGH_GATEWAY.reset(token)
            assert a.address("s") is None
            assert a.origins == ("http://a",)

    asyncio.run(run())


def test_members_that_come_and_go_are_heard_of() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house):
            async with member(office, "b") as (b, _):
                await come(lambda: a.members == 2)
                stream_id, before = of((a, b), b), house.changes
                await b.quit()
                assert b.address(stream_id) == "http://a"
                await come(lambda: a.members == 1)
                assert house.changes > before
                assert a.address(stream_id) is None
            assert a.members == 1, "one that has quit beats no more"

    asyncio.run(run())


def test_the_last_member_to_quit_sends_nobody_anywhere() -> None:
    async def run() -> None:
        async with member(Office(), "a") as (a, _):
            await a.quit()
            token = THROUGH_GATEWAY.set(True)
            assert a.address("s") is None
            THROUGH_GATEWAY.reset(token)

    asyncio.run(run())


def test_refusals_are_those_of_the_service() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a", most_owned=1) as (a, _), member(office, "b", most_owned=1) as (b, _):
            await come(lambda: a.members == b.members == 2)
            first, second = of((a, b), a), of((a, b), b)
            await a.claim(first, "door", None)
            with pytest.raises(TooManyOwned, match="at most 1"):
                await b.claim(second, "door", None)
            with pytest.raises(NotAuthorised):
                await a.claim(first, "yard", None)

    asyncio.run(run())


def test_a_full_member_hears_at_once_who_has_room() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house), member(office, "b") as (b, _):
            await come(lambda: a.members == b.members == 2)
            stream_id, house.room = of((a, b), a), False
            await a.claim(stream_id, None, None)
            assert a.address(stream_id) == "http://b"
            await come(lambda: b.address(stream_id) is None)
            await b.claim(stream_id, None, None)
            assert office.directory.status()["elsewhere"] == 1

    asyncio.run(run())


def test_while_nobody_answers_members_go_on_with_what_they_know() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house), member(office, "b") as (b, _):
            await come(lambda: a.members == b.members == 2)
            mine, other = of((a, b), a), of((a, b), b)
            await a.claim(mine, None, None)
            house.there.add(mine)
            await b.make(kept(other))
            office.away = True
            await a.claim(mine, None, None)
            assert a.address(other) == "http://b"
            for refused in (a.claim("new", None, None), a.find("new"), a.make(kept("new"))):
                with pytest.raises(Overloaded, match="does not answer"):
                    await refused
            a.release(mine)
            await asyncio.sleep(0.01)
            office.open(settled=False)
            office.away = False
            await come(lambda: len(office.directory) == 2)
            assert (a.address(other), b.address(other)) == ("http://b", None), "it says nothing before it has heard all"
            for refused in (a.claim("new", None, None), a.find(other)):
                with pytest.raises(Overloaded, match="just been started"):
                    await refused
            office.clock.now += SETTLE_S
            await come(lambda: office.directory.find(other) is not None)
            assert office.directory.find(mine) is None
            assert (a.address(other), b.address(other)) == ("http://b", None), "slots are as they were"

    asyncio.run(run())


def test_one_that_was_given_up_sends_nobody_to_itself_and_comes_back() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house), member(office, "b") as (b, _):
            await come(lambda: a.members == b.members == 2)
            mine, before = of((a, b), a), house.changes
            await a.claim(mine, None, None)
            house.there.add(mine)
            office.directory.leave(a.instance)
            await come(lambda: len(office.directory) == 2 and not office.directory.status()["waiting"])
            await come(lambda: b.members == 2)
            assert a.address(mine) is None
            assert house.changes == before, "nothing that it has belongs elsewhere"

    asyncio.run(run())


def test_streams_of_a_new_directory_are_those_that_members_have() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house):
            await a.claim("s", "door", kept("s", "door"))
            house.there.add("s")
            office.open()
            await come(lambda: office.directory.find("s") is not None)
            assert office.directory.status()["waiting"] == 0

    asyncio.run(run())


def test_what_another_member_has_is_lost_but_not_what_was_claimed_just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house):
            await a.claim("s", None, None)
            house.there.add("s")
            office.directory._members[a.instance].lost.append("s")
            await come(lambda: not office.directory._members[a.instance].lost)
            await asyncio.sleep(0.01)
            assert house.gone == []
            monkeypatch.setattr("service.cluster.membership.CLAIMED_S", 0.0)
            office.directory._members[a.instance].lost.append("s")
            await come(lambda: house.gone == ["s"])

    asyncio.run(run())


def test_what_was_claimed_and_never_opened_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cluster.membership.UNOPENED_S", 0.0)

    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, _):
            await a.claim("s", None, None)
            await come(lambda: office.directory.status()["waiting"] == 1)

    asyncio.run(run())


def test_keys_reach_members_that_run_and_a_directory_that_forgot_them() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a", keys=Keys(1.0, "old")) as (_, house):
            await come(lambda: office.directory.keys().version)
            office.directory.change_keys("new")
            await come(lambda: house.keys == "new")
            office.open()
            async with member(office, "b", keys=Keys(1.0, "old")) as (_, other):
                await come(lambda: other.keys == "new")

    asyncio.run(run())


class Late:
    """The directory's, whose answers to some calls come too late."""

    def __init__(self, office: Office, *late: str) -> None:
        self.office, self.late = office, set(late)

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            answer = await getattr(self.office, name)(*arguments)
            if name in self.late:
                raise Unreachable("late")
            return answer

        return call


@pytest.mark.parametrize("kind", ["claimed", "made", "cancelled"])
def test_what_was_counted_and_not_heard_of_is_not_counted_for_ever(kind: str) -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a", most_owned=1) as (a, _):
            late = a._link = Late(office, "claim")
            if kind == "cancelled":
                asked = asyncio.create_task(a.claim("s", "door", None))
                await come(lambda: office.directory.find("s") is not None)
                asked.cancel()
                await asyncio.wait([asked])
            else:
                with pytest.raises(Overloaded):
                    await (a.make(kept("s", "door")) if kind == "made" else a.claim("s", "door", None))
            assert office.directory.find("s") is not None or kind == "made"
            late.late.clear()
            if kind == "made":
                await come(lambda: office.directory.find("s") is None)
            else:
                await come(lambda: office.directory.status()["waiting"] == 1)

    asyncio.run(run())


def test_a_stream_that_was_opened_while_nobody_answered_is_counted_here_later() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house):
            await a.make(kept("s"))
            house.there.add("s")
            office.away = True
            with pytest.raises(Overloaded):
                await a.claim("s", None, kept("s"), True)
            office.away = False
            await come(lambda: office.directory.status()["waiting"] == 0)

    asyncio.run(run())


def test_what_is_claimed_again_is_not_forgotten_for_what_could_not_be_told() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a", most_owned=1) as (a, house):
            late = a._link = Late(office, "release")
            office.release = office.__getattr__("keys")  # it does not get there at all
            await a.claim("s", "door", None)
            house.there.add("s")
            a.release("s")
            await asyncio.sleep(0.05)
            await a.claim("s", "door", None)
            del office.release
            late.late.clear()
            told = len(office.heard)
            await come(lambda: len(office.heard) > told + 3)
            assert office.directory.status()["streams"] == 1
            with pytest.raises(TooManyOwned):
                await a.claim("t", "door", None)

    asyncio.run(run())


def test_a_deletion_reaches_who_has_the_stream() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house), member(office, "b") as (b, other):
            await come(lambda: a.members == b.members == 2)
            stream_id = of((a, b), a)
            await a.claim(stream_id, None, kept(stream_id))
            b.release(stream_id)
            b.delete(stream_id, kept(stream_id))
            await come(lambda: house.ended == [stream_id])
            assert office.directory.find(stream_id) is None
            assert other.ended == []

    asyncio.run(run())


def test_a_full_member_keeps_the_stream_that_made_it_full() -> None:
    async def run() -> None:
        office = Office()
        async with member(office, "a") as (a, house), member(office, "b") as (b, _):
            await come(lambda: a.members == b.members == 2)
            stream_id = of((a, b), a)
            await a.make(kept(stream_id))
            house.there.add(stream_id)
            house.room = False
            await a.claim(stream_id, None, kept(stream_id))
            assert a.address(stream_id) is None
            await a.claim(stream_id, None, kept(stream_id), False)
            assert a.address(stream_id) == "http://b", "it would not be opened after all"

    asyncio.run(run())


def test_keys_that_could_not_be_kept_are_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cluster.membership.UNTAKEN_S", 0.01)

    async def run() -> None:
        office = Office()
        async with member(office, "a", keys=Keys(1.0, "old")) as (a, house):
            await come(lambda: office.directory.keys().version)
            house.disk = False
            office.directory.change_keys("new")
            await come(lambda: a._untaken)
            house.disk = True
            await come(lambda: house.keys == "new")

    asyncio.run(run())
