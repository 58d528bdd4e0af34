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
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(found: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(found)  # type: ignore[arg-type]  # what `work` returned, None included

    def run() -> None:
        found, failure = None, None
        try:
            found = work()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
