"""A server as its membership sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from service_fakes import FakeEngine, make_registry, make_settings

from service.cluster.host import ServiceHost
from service.state import Service


def service(engine: FakeEngine, **settings: object) -> Service:
    return Service(make_settings(**settings), make_registry(engine.model()))


class Attachment:
    ended: tuple[int, str] | None = None

    def end(self, close_code: int, reason: str) -> None:
        self.ended = close_code, reason


def test_load_says_what_there_is_and_whether_more_would_be_admitted(engine: FakeEngine) -> None:
    async def run() -> None:
        made = service(engine, max_streams=2)
        host = ServiceHost(made)
        assert (host.load().streams, host.load().room, host.load().most) == (0, True, 2)
        stream, _ = made.streams.create(None)
        made.streams.attach(stream, Attachment())
        assert (host.load().streams, host.load().live, host.load().room) == (1, 1, True)
        assert host.has(stream.id)
        made.streams.create(None)
        assert not host.load().room, "as many as it takes"
        empty = service(engine)
        empty.draining = True
        assert not ServiceHost(empty).load().room

    asyncio.run(run())


def test_streams_that_another_member_has_are_forgotten(engine: FakeEngine) -> None:
    async def run() -> None:
        made = service(engine)
        live, kept, attachment = made.streams.create(None)[0], made.streams.create(None)[0], Attachment()
        made.streams.attach(live, attachment)
        ServiceHost(made).lost([live.id, kept.id, "never-there"])
        assert made.streams.all() == []
        assert attachment.ended is not None
        assert attachment.ended[0] == 1012, "its client comes back, to whoever has it"

    asyncio.run(run())


def test_streams_that_were_deleted_elsewhere_are_closed_as_deleted(engine: FakeEngine) -> None:
    async def run() -> None:
        made = service(engine)
        stream, attachment = made.streams.create(None)[0], Attachment()
        made.streams.attach(stream, attachment)
        ServiceHost(made).deleted([stream.id, "never-there"])
        assert made.streams.all() == []
        assert attachment.ended == (1000, "the stream was deleted")

    asyncio.run(run())


def test_a_change_during_a_move_is_followed_by_another(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        made, moves, gate = service(engine), 0, asyncio.Event()

        async def move_away() -> None:
            nonlocal moves
            moves += 1
            await gate.wait()

        monkeypatch.setattr(made, "move_away", move_away)
        host = ServiceHost(made)
        host.changed()
        await asyncio.sleep(0)
        for _ in range(3):
            host.changed()
        gate.set()
        await host.settled()
        assert moves == 2

    asyncio.run(run())


def test_keys_are_written_for_the_service_alone(
    engine: FakeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        file = tmp_path / "keys"
        assert ServiceHost(service(engine), file).take_keys("# none\n")
        assert file.read_text() == "# none\n"
        assert file.stat().st_mode & 0o777 == 0o600
        assert ServiceHost(service(engine)).take_keys("# none\n"), "to be told again would help nothing"
        assert "not taken" in caplog.text
        (tmp_path / "a file").touch()
        assert not ServiceHost(service(engine), tmp_path / "a file" / "keys").take_keys("# none\n")

    asyncio.run(run())
