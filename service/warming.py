"""Tells in the log how far the kernels are that a server compiles at its first start on a CPU.

How many there will be depends on the model and on the CPU, and is known only once they are there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

log = logging.getLogger("afterimage.warm")

EVERY_S = 10.0


def compiled(folder: Path) -> int:
    """Kernels in a folder of numba's cache."""
    return sum(1 for _ in folder.rglob("*.nbc"))


@asynccontextmanager
async def progress_told(folder: Path, every_s: float = EVERY_S) -> AsyncIterator[None]:
    """Say every so often how many kernels have come to a folder, and at the end how long that took; else nothing."""
    begun, before = time.monotonic(), await asyncio.to_thread(compiled, folder)
    telling = asyncio.create_task(_tell(folder, before, begun, every_s), name="afterimage-progress")
    try:
        yield
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
        fresh = await asyncio.to_thread(compiled, folder) - before
        if fresh > 0:
            log.info("compiled %d kernels for this CPU in %.0f s; kept in %s", fresh, time.monotonic() - begun, folder)


async def _tell(folder: Path, before: int, begun: float, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        fresh = await asyncio.to_thread(compiled, folder) - before
        if fresh > 0:
            log.info("compiling kernels for this CPU, once: %d after %.0f s", fresh, time.monotonic() - begun)
