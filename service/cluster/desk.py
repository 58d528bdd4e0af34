"""The directory as members reach it: beats wait in it, so that all hear at once of whatever changes; and it knocks.

Asyncio and sockets; whoever runs it says where (`service.cluster.actor`: in an actor of Ray).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from service.cluster.directory import SETTLE_S, Directory
from service.cluster.messages import Beat, Found, Keys, Named, Placed, Refused, Told, Wanted

BEAT_S = 0.5
"""How often members beat, where nothing happens."""
TICK_S = 0.25
QUIET_S = 0.8
"""A member that has not beaten for so long is knocked at."""
KNOCK_S = 0.5
T = TypeVar("T")


class Desk:
    """A `Directory` for one event loop; a `service.cluster.membership.Link` for members in the same process.

    settle_s : as the directory's
    """

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self.directory = Directory(settle_s=settle_s)
        self._news: asyncio.Event | None = None
        self._watching: asyncio.Task[None] | None = None

    async def beat(self, beat: Beat) -> Told:
        """Answered where there is something new, at the latest after BEAT_S."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(), name="afterimage-directory")
        told = self._changing(lambda: self.directory.beat(beat))
        news = told.table is not None or told.refill or told.lost or told.deleted or told.keys is not None
        if told.slot is None or news:
            return told
        if self._news is None:
            self._news = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT_S):
                await self._news.wait()
        return self.directory.told(beat.instance, beat)

    async def leave(self, instance: str) -> None:
        """As the directory's."""
        self._changing(lambda: self.directory.leave(instance))

    async def claim(self, wanted: Wanted) -> Placed | Refused:
        """As the directory's."""
        return self._changing(lambda: self.directory.claim(wanted))

    async def find(self, stream_id: str) -> Found | Refused | None:
        """As the directory's."""
        return self.directory.find(stream_id)

    async def release(
        self,
        instance: str,
        forgotten: tuple[str, ...],
        left: tuple[str, ...],
        unmade: tuple[Named, ...] = (),
        deleted: tuple[Named, ...] = (),
    ) -> None:
        """As the directory's."""
        self._changing(lambda: self.directory.release(instance, forgotten, left, unmade, deleted))

    async def keys(self) -> Keys | None:
        """As the directory's."""
        return self.directory.keys()

    async def change_keys(self, text: str) -> Keys | None:
        """As the directory's."""
        return self._changing(lambda: self.directory.change_keys(text))

    async def status(self) -> dict[str, Any]:
        """As the directory's."""
        return self.directory.status()

    def close(self) -> None:
        """Look after members no longer."""
        if self._watching is not None:
            self._watching.cancel()

    def _changing(self, call: Callable[[], T]) -> T:
        """Do it, and wake the beats that wait if the table is another one."""
        before = self.directory.version
        done = call()
        if self.directory.version != before and self._news is not None:
            self._news.set()
            self._news = None
        return done

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._changing(self.directory.expire)
            await asyncio.gather(*(self._knock(beat) for beat in self.directory.silent(QUIET_S)))

    async def _knock(self, beat: Beat) -> None:
        """Give a silent member up at once where nothing listens at its address any more."""
        try:
            async with asyncio.timeout(KNOCK_S):
                _, writer = await asyncio.open_connection(*beat.probe)
        except ConnectionRefusedError:
            self._changing(lambda: self.directory.leave(beat.instance))
        except (OSError, TimeoutError):
            pass  # a stall, or a cut line: LOST_S says how long that may take
        else:
            writer.close()
