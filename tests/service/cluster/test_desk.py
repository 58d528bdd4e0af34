"""The directory's desk: beats that wait hear at once of what changes; who is gone is found out by a knock."""

from __future__ import annotations

import asyncio
import time

import pytest
from village import come

from service.cluster import desk as module
from service.cluster.desk import Desk
from service.cluster.messages import Beat, Known, Load
from service.serve import bind


def beat(name: str, port: int = 1, version: str = "", **fields: object) -> Beat:
    return Beat(name, None, f"http://{name}", ("127.0.0.1", port), 1.0, Load(most=9), version, known=Known(), **fields)  # type: ignore[arg-type]


def test_a_beat_that_waits_hears_at_once_of_another_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 60.0)

    async def run() -> None:
        desk = Desk(settle_s=0.0)
        await desk.beat(beat("a"))
        waiting = asyncio.create_task(desk.beat(beat("a", version=desk.directory.version)))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await desk.beat(beat("b"))
        async with asyncio.timeout(20):
            table = (await waiting).table
        assert table is not None
        assert len(table.seats) == 2
        desk.close()

    asyncio.run(run())


def test_where_nothing_happens_a_beat_is_answered_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.02)

    async def run() -> None:
        desk = Desk(settle_s=0.0)
        await desk.beat(beat("a"))
        told = await desk.beat(beat("a", version=desk.directory.version))
        assert (told.slot, told.table) == ("0", None)
        desk.close()

    asyncio.run(run())


def test_a_silent_member_whose_port_is_closed_is_given_up_and_one_that_listens_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    monkeypatch.setattr(module, "TICK_S", 0.01)

    async def run() -> None:
        desk = Desk(settle_s=0.0)
        with bind("127.0.0.1", 0) as there, bind("127.0.0.1", 0) as closed:
            await desk.beat(beat("there", there.getsockname()[1]))
            await desk.beat(beat("killed", closed.getsockname()[1]))
            closed.close()
            begun = time.monotonic()
            await come(lambda: len(desk.directory) == 1)
            assert [member["address"] for member in (await desk.status())["members"]] == ["http://there"]
            assert time.monotonic() - begun < 5.0, "long before it would be given up for its silence"
        desk.close()

    asyncio.run(run())
