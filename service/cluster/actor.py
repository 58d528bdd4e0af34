"""The directory as an actor of Ray, and the way to it: one of the modules that know Ray."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from service.cluster.directory import Directory
from service.cluster.membership import Unreachable
from service.cluster.messages import Beat, Found, Keys, Placed, Refused, Told, Wanted

NAMESPACE = "afterimage"
DIRECTORY = "directory"
BEAT_S = 0.5
"""How often members beat, where nothing happens."""
TICK_S = 0.25
QUIET_S = 0.8
"""A member that has not beaten for so long is knocked at."""
KNOCK_S = 0.5
ANSWER_S = 1.5
"""For an answer of the directory."""
T = TypeVar("T")


class DirectoryActor:
    """A `Directory` that beats wait in, so that all members hear at once of whatever changes."""

    def __init__(self) -> None:
        self._directory = Directory()
        self._news = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def beat(self, beat: Beat) -> Told:
        """Answered where there is something new, at the latest after BEAT_S."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        told = self._changing(lambda: self._directory.beat(beat))
        if told.slot is None or told.table is not None or told.refill or told.lost or told.keys is not None:
            return told
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT_S):
                await self._news.wait()
        return self._directory.told(beat.instance, beat)

    async def leave(self, instance: str) -> None:
        """As the directory's."""
        self._changing(lambda: self._directory.leave(instance))

    async def claim(self, wanted: Wanted) -> Placed | Refused:
        """As the directory's."""
        return self._changing(lambda: self._directory.claim(wanted))

    async def find(self, stream_id: str) -> Found | Refused | None:
        """As the directory's."""
        return self._directory.find(stream_id)

    async def release(self, instance: str, forgotten: tuple[str, ...], left: tuple[str, ...]) -> None:
        """As the directory's."""
        self._changing(lambda: self._directory.release(instance, forgotten, left))

    async def set_keys(self, keys: Keys) -> None:
        """As the directory's."""
        self._changing(lambda: self._directory.set_keys(keys))

    async def status(self) -> dict[str, Any]:
        """As the directory's."""
        return self._directory.status()

    def _changing(self, call: Callable[[], T]) -> T:
        """Do it, and wake the beats that wait if the table is another one."""
        before = self._directory.version
        done = call()
        if self._directory.version != before:
            self._news.set()
            self._news = asyncio.Event()
        return done

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._changing(self._directory.expire)
            await asyncio.gather(*(self._knock(beat) for beat in self._directory.silent(QUIET_S)))

    async def _knock(self, beat: Beat) -> None:
        """Give a silent member up at once where nothing listens at its address any more."""
        try:
            async with asyncio.timeout(KNOCK_S):
                _, writer = await asyncio.open_connection(*beat.probe)
        except ConnectionRefusedError:
            self._changing(lambda: self._directory.leave(beat.instance))
        except (OSError, TimeoutError):
            pass  # a stall, or a cut line: LOST_S says how long that may take
        else:
            writer.close()


def directory() -> Any:
    """The cluster's directory, made where there is none; Ray starts it anew where it dies. Blocks. Raises RayError."""
    return (
        ray.remote(DirectoryActor)
        .options(
            name=DIRECTORY,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            num_cpus=0,
            max_concurrency=1000,
        )
        .remote()
    )


class RayLink:
    """The way from a member to the directory."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def beat(self, beat: Beat) -> Told:
        """As the actor's."""
        return await self._call("beat", beat)  # type: ignore[no-any-return]

    async def leave(self, instance: str) -> None:
        """As the actor's."""
        await self._call("leave", instance)

    async def claim(self, wanted: Wanted) -> Placed | Refused:
        """As the actor's."""
        return await self._call("claim", wanted)  # type: ignore[no-any-return]

    async def find(self, stream_id: str) -> Found | Refused | None:
        """As the actor's."""
        return await self._call("find", stream_id)  # type: ignore[no-any-return]

    async def release(self, instance: str, forgotten: tuple[str, ...], left: tuple[str, ...]) -> None:
        """As the actor's."""
        await self._call("release", instance, forgotten, left)

    async def _call(self, name: str, *arguments: object) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._handle is None:
                    self._handle = await asyncio.to_thread(directory)
                return await getattr(self._handle, name).remote(*arguments)
        except (RayError, ValueError, TimeoutError) as error:
            raise Unreachable(type(error).__name__) from error
