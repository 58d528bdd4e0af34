"""Work that takes long, in a thread of its own.

The event loop's default pool is for what is quick: a few compilations would fill it, and the end of the process waits
for whatever runs there. These threads nobody waits for at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], name: str = "afterimage-long") -> T:
    """What `work` returns, or raises. It is not stopped where nobody waits for it any more."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def run() -> None:
        found, failure = None, None
        try:
            found = work()
        except BaseException as error:
            failure = error
        settle(future, found, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future


def settle(future: asyncio.Future[T], found: T | None, error: BaseException | None) -> None:
    """Give a future of the event loop its result, or its error, from another thread; unless nobody waits any more."""

    def give() -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(found)  # type: ignore[arg-type]  # what was returned, None included

    with contextlib.suppress(RuntimeError):  # the loop is closed
        future.get_loop().call_soon_threadsafe(give)
