"""Single images: computed in a lane of their model's own, one at a time, whichever API they came by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from service import codec
from service.admission import Overloaded
from service.caches import CacheFull
from service.errors import Problem, overloaded
from service.jobs import Refused, check_header, code_of
from service.pipeline import FramePipeline
from service.registry import ModelFailed, NoMemory, UnknownModel
from service.scheduler import Lane
from service.threads import settle

if TYPE_CHECKING:
    from service.state import Service

T = TypeVar("T")


@dataclass
class Seat:
    """Where a model's single images are computed. Requests hold it, so that it outlives the model's name.

    pipeline : made by the first of them. waiting : what requests without an answer wait for. idle : set while there is
    none.
    """

    lane: Lane[Callable[[], None]]
    pipeline: FramePipeline | None = None
    waiting: set[asyncio.Future[Any]] = field(default_factory=set)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    def enter(self, future: asyncio.Future[Any]) -> None:
        """A request begins to wait."""
        self.waiting.add(future)
        self.idle.clear()

    def leave(self, future: asyncio.Future[Any]) -> None:
        """A request has its answer."""
        self.waiting.discard(future)
        if not self.waiting:
            self.idle.set()

    def refuse(self, problem: Problem) -> None:
        """Answer whoever waits: no answer will come in time."""
        for future in self.waiting:
            if not future.done():
                future.set_exception(problem)


async def compute(
    service: Service, name: str, call: Callable[[FramePipeline], T], timeout_s: float | None = None
) -> tuple[T, int]:
    """What `call` makes of the model's pipeline, in the model's lane, and the nanoseconds that it waited.

    name : of a registered model. timeout_s : None takes the settings'. Raises Problem; `call` may raise CodecError,
    ModelFailed or UnknownModel for the client, and whatever else is the server's fault.
    """
    wait_s = service.settings.detect_timeout_s if timeout_s is None else timeout_s
    seat = service.seat(name)
    future: asyncio.Future[tuple[T, int]] = asyncio.get_running_loop().create_future()
    seat.enter(future)
    try:
        async with asyncio.timeout(wait_s):
            await service.life.ready(name)  # a worker would keep streams waiting for the compiler
        if not service.scheduler.submit(seat.lane, _job(service, name, seat, call, future))[0]:
            waiting = service.settings.detect_queue
            problem = overloaded(f"expected at most {waiting} requests waiting", service.settings.retry_after_ms)
            service.watch.image(name, problem)
            raise problem
        async with asyncio.timeout(wait_s):
            return await future
    except codec.CodecError as error:
        raise refusal(Refused(code_of(error), str(error))) from None
    except UnknownModel as error:
        raise Problem(404, "unknown_model", str(error)) from None
    except NoMemory as error:
        raise overloaded(str(error), service.settings.retry_after_ms) from None
    except ModelFailed as error:
        raise Problem(503, "model_failed", str(error)) from None
    except (Overloaded, CacheFull) as error:
        raise overloaded(str(error), service.settings.retry_after_ms) from None
    except TimeoutError:
        raise overloaded("the image was not computed in time", service.settings.retry_after_ms) from None
    finally:
        seat.leave(future)


def _job(
    service: Service, name: str, seat: Seat, call: Callable[[FramePipeline], T], future: asyncio.Future[tuple[T, int]]
) -> Callable[[], None]:
    """What a worker does; it settles the future, unless nobody waits for it any more."""
    submitted = time.perf_counter_ns()

    def job() -> None:
        if future.cancelled():
            return
        waited = time.perf_counter_ns() - submitted
        outcome, failure = None, None
        try:
            if seat.pipeline is None:
                seat.pipeline = service.make_pipeline(name, audited=False)
            outcome = (call(seat.pipeline), waited)
        except Exception as error:
            failure = error
        service.watch.image(name, failure)
        settle(future, outcome, failure)

    return job


def check_image(service: Service, data: bytes, content_type: str = "") -> None:
    """Raise Problem for an encoded image that is not worth queueing, by its header alone.

    content_type : what it was said to be; empty: any of the types that are taken
    """
    if not data:
        raise Problem(400, "empty_body", "expected an image, got 0 bytes")
    try:
        expected = content_type or codec.read_header(data).content_type
    except codec.CodecError as error:
        raise refusal(Refused(code_of(error), str(error))) from None
    refused = check_header(data, expected, service.limits)
    if refused is not None:
        raise refusal(refused)


def refusal(refused: Refused) -> Problem:
    """A refused image as a problem: 413 where it is too large, else 400."""
    return Problem(413 if refused.code == "image_too_large" else 400, refused.code, refused.detail)


def require_model(service: Service, name: str | None) -> str:
    """The name of the model that a request means. Raises Problem: unknown, or the server takes no work any more."""
    if service.draining:
        raise overloaded("the server is shutting down", service.settings.retry_after_ms)
    try:
        return service.registry.resolve(name)
    except UnknownModel as error:
        raise Problem(404, "unknown_model", str(error)) from None


def admit_image(service: Service, name: str) -> str:
    """The model's name again. Raises Problem where streams leave no time or memory for single images."""
    if (reason := service.refuse_image(name)) is not None:
        raise overloaded(reason, service.settings.retry_after_ms)
    return name
