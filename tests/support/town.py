"""Two servers that are one cluster, on loopback in one process: what a cluster's members agree on is a dict here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from service_fakes import FakeEngine, RunningServer, make_registry, make_settings, running_server

from service.streams import TooManyOwned
from service.token_store import KeptStream


@dataclass
class Town:
    """What both know. homes : the member of each stream that is not where everybody's are."""

    addresses: dict[str, str] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    kept: dict[str, KeptStream] = field(default_factory=dict)
    holders: dict[str, str | None] = field(default_factory=dict)
    everybody: str = "a"
    most: int = 100
    silent: bool = False
    """Whether nobody answers."""
    origins: tuple[str, ...] = ()

    def home(self, stream_id: str) -> str:
        return self.homes.get(stream_id, self.everybody)

    def count(self, stream_id: str, holder: str | None, kept: KeptStream | None) -> None:
        if stream_id not in self.holders and len(self.holders) >= self.most:
            raise TooManyOwned(f"expected at most {self.most} streams")
        self.holders[stream_id] = holder
        if kept is not None:
            self.kept[stream_id] = kept


@dataclass
class Member:
    """A `service.placement.Placement`. later : where streams go as soon as they are counted"""

    name: str
    town: Town
    later: str | None = None
    asked: list[str] = field(default_factory=list)
    members = 2

    @property
    def origins(self) -> tuple[str, ...]:
        return self.town.origins

    def address(self, stream_id: str) -> str | None:
        home = self.town.home(stream_id)
        return None if home == self.name else self.town.addresses[home]

    async def find(self, stream_id: str) -> KeptStream | None:
        self.asked.append(stream_id)
        await self._answer()
        return self.town.kept.get(stream_id)

    async def make(self, kept: KeptStream, room: bool | None = None) -> None:
        await self._answer()
        self.town.count(kept.id, None, kept)
        if self.later is not None:
            self.town.homes[kept.id] = self.later

    async def claim(self, stream_id: str, owner: str | None, kept: KeptStream | None, room: bool | None = None) -> None:
        await self._answer()
        self.town.count(stream_id, self.name, kept)
        if self.later is not None:
            self.town.homes[stream_id] = self.later

    def release(self, stream_id: str) -> None:
        if self.town.holders.get(stream_id, "nobody") in (self.name, None):
            del self.town.holders[stream_id]
            self.town.kept.pop(stream_id, None)

    def delete(self, stream_id: str, kept: KeptStream | None) -> None:
        self.town.holders.pop(stream_id, None)
        self.town.kept.pop(stream_id, None)

    def leave(self, stream_id: str) -> None:
        if self.town.holders.get(stream_id) == self.name:
            self.town.holders[stream_id] = None

    async def _answer(self) -> None:
        await asyncio.sleep(60 if self.town.silent else 0)


@dataclass
class TwoServers:
    """a, b : running; each with an engine of its own."""

    town: Town
    a: RunningServer
    b: RunningServer
    engines: dict[str, FakeEngine]

    def move(self, stream_id: str, to: str) -> None:
        """The stream belongs to another member from now on; the one that has it is not told."""
        self.town.homes[stream_id] = to

    def move_away(self, server: RunningServer) -> None:
        """Have a server send its streams where they belong, and wait until it has."""
        loop = server.service._tasks[0].get_loop()
        asyncio.run_coroutine_threadsafe(server.service.move_away(), loop).result(30)


@contextmanager
def two_servers(**settings: Any) -> Iterator[TwoServers]:
    """Streams belong to `a`, unless the town says otherwise."""
    town, engines = Town(), {"a": FakeEngine(), "b": FakeEngine()}
    with ExitStack() as stack:
        servers = {}
        for name, engine in engines.items():
            registry, placement = make_registry(engine.model()), Member(name, town)
            server = running_server(registry, make_settings(**settings), placement=placement)
            servers[name] = stack.enter_context(server)
            town.addresses[name] = servers[name].url
            engine.sessions.clear()
        stack.callback(lambda: [engine.gate.set() for engine in engines.values()])
        yield TwoServers(town, servers["a"], servers["b"], engines)
