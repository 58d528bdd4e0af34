"""A cluster in one process, without Ray: real servers on one event loop around a real directory, with fake engines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from service_fakes import FakeEngine, make_registry
from starlette.types import Receive, Scope, Send

from service.cluster.desk import Desk
from service.cluster.member import Member
from service.cluster.messages import Keys
from service.cluster.plan import Plan
from service.serve import bind


@dataclass
class Village:
    """desk : the directory. members : those that are there. url : the common address, which asks them in turn."""

    plan: Plan
    desk: Desk
    url: str = ""
    members: list[Member] = field(default_factory=list)
    engines: list[FakeEngine] = field(default_factory=list)
    asked: int = 0

    async def add(self) -> Member:
        """One more, which has joined."""
        engine = FakeEngine()
        member = Member(self.plan, "127.0.0.1", self.desk, make_registry(engine.model()))
        await member.start()
        self.members.append(member)
        self.engines.append(engine)
        await come(lambda: all(one.membership.members == len(self.members) for one in self.members))
        return member

    async def remove(self, member: Member) -> None:
        """It leaves as Ray would have it."""
        self.members.remove(member)
        await member.stop()

    def home(self, stream_id: str) -> Member:
        """The member that a stream belongs to."""
        return next(member for member in self.members if member.membership.home(stream_id) is None)

    async def gateway(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What stands before them."""
        self.asked += 1
        await self.members[self.asked % len(self.members)].gateway(scope, receive, send)


@contextlib.asynccontextmanager
async def village(members: int, keys: str | None = None, **settings: Any) -> AsyncIterator[Village]:
    """So many members behind one address. keys : text of a file of API keys that they are given."""
    given = {"workers": 1, "drain_s": 2.0, **settings}
    plan = Plan(given, members, keys=Keys() if keys is None else Keys(1.0, keys))
    made = Village(plan, Desk(settle_s=0.0))
    listener = bind("127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(made.gateway, lifespan="off", log_config=None, ws="websockets-sansio", interface="asgi3")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    try:
        for _ in range(members):
            await made.add()
        yield made
    finally:
        for member in list(made.members):
            await made.remove(member)
        server.should_exit = True
        await serving
        made.desk.close()


async def come(condition: Callable[[], Any]) -> None:
    """Wait until it holds; TimeoutError if it never does."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)
