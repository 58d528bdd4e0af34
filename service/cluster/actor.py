"""The directory as an actor of Ray, and the way to it: one of the modules that know Ray."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.exceptions import RayError

from service.cluster.desk import Desk
from service.cluster.membership import Unreachable
from service.cluster.messages import Beat, Found, Keys, Named, Placed, Refused, Told, Wanted

NAMESPACE = "afterimage"
DIRECTORY = "directory"
ANSWER_S = 1.0
"""For an answer of the directory, whose beats wait half as long; two of them fit into a new one's SETTLE_S."""


def directory() -> Any:
    """The cluster's directory, made where there is none; Ray starts it anew where it dies. Blocks. Raises RayError."""
    return (
        ray.remote(Desk)
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

    async def release(
        self,
        instance: str,
        forgotten: tuple[str, ...],
        left: tuple[str, ...],
        unmade: tuple[Named, ...],
        deleted: tuple[Named, ...],
    ) -> None:
        """As the actor's."""
        await self._call("release", instance, forgotten, left, unmade, deleted)

    async def keys(self) -> Keys | None:
        """As the actor's."""
        return await self._call("keys")  # type: ignore[no-any-return]

    async def _call(self, name: str, *arguments: object) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._handle is None:
                    self._handle = await asyncio.to_thread(directory)
                return await getattr(self._handle, name).remote(*arguments)
        except (RayError, ValueError, TimeoutError) as error:
            raise Unreachable(type(error).__name__) from error
