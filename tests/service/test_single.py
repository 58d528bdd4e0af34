"""Single images: one at a time per model, in a session that requests share and that outlives the model's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from service_fakes import FakeEngine, image, make_registry, make_settings, wait_until

from service.errors import Problem
from service.registry import NoMemory
from service.room import NoRoom
from service.single import Seat, check_image, compute, require_model
from service.state import Service


@asynccontextmanager
async def running(*models, **settings) -> AsyncIterator[Service]:
    service = Service(make_settings(**settings), make_registry(*models))
    await service.start()
    try:
        while not service.warm:
            await asyncio.sleep(0.005)
        yield service
    finally:
        await service.stop()


def test_a_seat_is_idle_when_all_have_their_answers() -> None:
    seat = Seat(lane=None)  # type: ignore[arg-type]  # not looked at
    assert seat.idle.is_set()
    loop = asyncio.new_event_loop()
    first, second = loop.create_future(), loop.create_future()
    seat.enter(first)
    seat.enter(second)
    assert not seat.idle.is_set()
    seat.leave(first)
    assert not seat.idle.is_set()
    seat.refuse(Problem(503, "overloaded", "no time"))
    assert isinstance(second.exception(), Problem)
    assert not first.done()
    seat.leave(second)
    assert seat.idle.is_set()
    loop.close()


def test_what_a_call_gives_comes_back_and_what_it_raises_too(engine: FakeEngine) -> None:
    async def scenario() -> None:
        async with running(engine.model()) as service:
            outcome, waited_ns = await compute(service, "fake", lambda pipeline: pipeline.run(image(120)))
            assert (outcome.found.detections[0].class_id, waited_ns > 0) == (12, True)
            with pytest.raises(Problem, match="400 bad_image"):
                await compute(service, "fake", lambda pipeline: pipeline.run(b"no image at all"))
            with pytest.raises(ZeroDivisionError):
                await compute(service, "fake", lambda pipeline: 1 // 0)
            with pytest.raises(Problem, match="404 unknown_model"):
                await compute(service, "none", lambda pipeline: pipeline.run(image()))
            assert all(seat.idle.is_set() for seat in service.seats.values())

    asyncio.run(scenario())


def test_a_request_that_nobody_waits_for_is_not_computed(engine: FakeEngine) -> None:
    async def scenario() -> None:
        async with running(engine.model()) as service:
            engine.gate.clear()
            first = asyncio.create_task(compute(service, "fake", lambda pipeline: pipeline.run(image())))
            seat = service.seats["fake"]
            await asyncio.to_thread(wait_until, lambda: seat.lane.running)
            called: list[object] = []
            with pytest.raises(Problem, match="not computed in time"):
                await compute(service, "fake", called.append, timeout_s=0.01)
            engine.gate.set()
            await first
            await compute(service, "fake", lambda pipeline: None)
            assert called == []

    asyncio.run(scenario())


def test_a_session_of_a_model_that_went_finishes_what_it_has_and_is_not_found_again(engine: FakeEngine) -> None:
    """A name that was unloaded and loaded again has another seat: two workers never meet in one session."""

    async def scenario() -> None:
        async with running(engine.model(), engine.model("cars")) as service:
            await compute(service, "cars", lambda pipeline: pipeline.run(image()))
            engine.gate.clear()
            old = service.seats["cars"]
            under_way = asyncio.create_task(compute(service, "cars", lambda pipeline: pipeline))
            await asyncio.sleep(0)
            assert len(old.waiting) == 1
            del service.seats["cars"]
            fresh, _ = await compute(service, "cars", lambda pipeline: pipeline)
            engine.gate.set()
            pipeline, _ = await under_way
            assert pipeline is old.pipeline is not fresh

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("data", "content_type", "says"),
    [(b"", "", "400 empty_body"), (b"x" * 40, "", "400 bad_image"), (image(), "image/png", "400 wrong_image_type")],
)
def test_images_that_are_not_worth_queueing(engine: FakeEngine, data: bytes, content_type: str, says: str) -> None:
    async def scenario() -> None:
        service = Service(make_settings(), make_registry(engine.model()))
        check_image(service, image())
        with pytest.raises(Problem, match=says):
            check_image(service, data, content_type)
        assert require_model(service, None) == "fake"
        service.draining = True
        with pytest.raises(Problem, match="503 overloaded"):
            require_model(service, None)

    asyncio.run(scenario())


def test_what_there_is_no_memory_for_is_refused_as_too_much(engine: FakeEngine) -> None:
    """Of the image, and of a model that is not compiled yet."""

    async def scenario() -> None:
        async with running(engine.model()) as service:
            for error in (NoRoom("expected 9 MiB"), NoMemory("expected 9 MiB")):
                with pytest.raises(Problem) as refused:
                    await compute(service, "fake", lambda pipeline, error=error: fail(error))
                assert (refused.value.status, refused.value.code) == (503, "overloaded")
                assert refused.value.detail == "expected 9 MiB"

    def fail(error: Exception) -> None:
        raise error

    asyncio.run(scenario())
