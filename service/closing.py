"""How a connection ends: the reason, and the tasks that are to be over before it is gone."""

from __future__ import annotations

import asyncio


class Closing(Exception):
    """Raised inside a connection's own tasks to end it; `finish` answers the frames under way first.

    moved_to : the address that the client is sent to; None: nowhere
    """

    def __init__(self, code: int, reason: str, *, finish: bool = False, moved_to: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.finish = finish
        self.moved_to = moved_to


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their ends, whatever those are."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain
