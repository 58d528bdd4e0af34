"""The ends of a connection's tasks."""

from __future__ import annotations

import asyncio
import gc

import pytest

from service.closing import Closing, cancel


def test_tasks_are_over_whatever_they_did(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append("waits")

    async def fails() -> None:
        raise Closing(1000, "bye", finish=True)

    async def ends() -> None:
        done.append("ends")

    async def main() -> None:
        tasks = [asyncio.create_task(each()) for each in (waits, fails, ends)]
        await asyncio.sleep(0)
        await cancel(*tasks)
        assert all(task.done() for task in tasks)

    asyncio.run(main())
    gc.collect()
    assert sorted(done) == ["ends", "waits"]
    assert "never retrieved" not in caplog.text


def test_a_reason_is_its_message() -> None:
    closing = Closing(1013, "too many")
    assert (closing.code, str(closing), closing.finish) == (1013, "too many", False)
