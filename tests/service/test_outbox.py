"""The outbox: order, and when it has room, something, or nothing."""

from __future__ import annotations

import asyncio

from service.outbox import Outbox


def test_order_room_and_emptiness() -> None:
    async def main() -> None:
        outbox = Outbox(limit=2)
        await asyncio.wait_for(outbox.room(), 1)
        await asyncio.wait_for(outbox.empty(), 1)
        for message in ("a", "b", "c"):
            outbox.put(message)
        room = asyncio.create_task(outbox.room())
        empty = asyncio.create_task(outbox.empty())
        for expected, has_room in (("a", False), ("b", True), ("c", True)):
            assert await outbox.next() == expected
            assert await outbox.next() == expected, "a message stays until it is sent"
            assert not empty.done(), "what is being sent still counts"
            outbox.sent()
            await asyncio.sleep(0)
            assert room.done() is has_room
        await asyncio.wait_for(empty, 1)
        waiting = asyncio.create_task(outbox.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.put(b"d")
        assert await asyncio.wait_for(waiting, 1) == b"d"
        assert len(outbox) == 1

    asyncio.run(main())


def test_who_sent_a_message_is_told_when_it_is_on_its_way() -> None:
    async def main() -> None:
        told: list[str] = []
        outbox = Outbox(limit=2)
        outbox.put("a", lambda: told.append("a"))
        outbox.put("b")
        outbox.put("c", lambda: told.append("c"))
        await outbox.next()
        assert told == []
        outbox.sent()
        assert told == ["a"]
        outbox.sent()
        outbox.sent()
        assert told == ["a", "c"]

    asyncio.run(main())
