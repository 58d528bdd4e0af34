from __future__ import annotations

import asyncio
import threading

import pytest

from service.threads import in_thread


def test_what_work_gives_or_raises_and_in_a_thread_that_nobody_waits_for() -> None:
    async def everything() -> None:
        thread = await in_thread(threading.current_thread, "slow")
        assert (thread.name, thread.daemon) == ("slow", True)
        assert await in_thread(lambda: None) is None
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)

    asyncio.run(everything())


def test_nobody_waits_for_work_that_was_given_up() -> None:
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        assert gate.wait(20)
        ended.set()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_thread(work)

    asyncio.run(give_up())  # and so the loop is closed before the work is done
    gate.set()
    assert ended.wait(10)
