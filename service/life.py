"""Loads, reloads and unloads models while the server runs (docs/life.md): one at a time, beside what is served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from clients.wire import CloseCode
from service.entry import ModelState
from service.library import Library
from service.registry import Engine, Model, ModelFailed, NoMemory, UnknownModel
from service.settings import ModelSource
from service.threads import in_thread

if TYPE_CHECKING:
    from service.state import Service
    from service.streams import Stream

log = logging.getLogger("afterimage.life")

T = TypeVar("T")

MAX_WAITING = 4
"""Loads and reloads that wait for the one under way."""


class ModelInUse(RuntimeError):
    """The model cannot be changed as asked, because of what uses it; the message says what."""


class TooManyLoads(RuntimeError):
    """As many loads as may wait do so already."""


class ModelLife:
    """Lives on the event loop; files are read and plans compiled in a thread."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = service.registry
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._warming: dict[str, asyncio.Task[Model]] = {}
        self.library = Library(service.settings)

    async def load(self, reference: str, name: str | None = None, size: tuple[int, int] | None = None) -> Model:
        """Load a model of the library, compile it, and serve it under a name (None: its own).

        size : of the network's input, (W, H); None: the model's own.
        Raises UnknownModel, ModelFailed (the name then stays, as failed, and may be loaded again; of NoMemory it goes,
        where the model is too much beside what is served), ModelInUse where the name is taken or there are too many,
        TooManyLoads.
        """
        own, source = await asyncio.to_thread(self.library.find, reference)
        if size is not None:
            source = source.model_copy(update={"size": size})
        return await self._alone(lambda: self._load(name or own, source))

    async def reload(self, name: str) -> Model:
        """Load a model's file again and compile it beside the model that is served; then let it take that one's place.

        Each stream goes on with its next frame, a keyframe. Raises UnknownModel, TooManyLoads, or ModelFailed; the
        old model is then served as before.
        """
        return await self._alone(lambda: self._reload(self._registry.resolve(name)))

    async def ready(self, name: str) -> Model:
        """A model that is loaded, compiled and run; done now where that was not yet, once for all who wait for it.

        Raises UnknownModel, or ModelFailed with the reason.
        """
        if (model := self._run_already(name)) is not None:
            return model
        task = self._warming.get(name)
        if task is None:
            task = self._warming[name] = self._keep(asyncio.create_task(self._warm(name), name="afterimage-warm"))
            task.add_done_callback(lambda _: self._warming.pop(name, None))
        return await asyncio.shield(task)

    async def unload(self, name: str, *, force: bool = False) -> None:
        """Forget a model, after the requests that wait for it have their answers.

        force : also the default model, and with streams; those are closed with 1008. Raises UnknownModel, ModelInUse.
        """
        chosen = self._registry.resolve(name)
        streams = self.streams_of(chosen)
        if not force and chosen == self._registry.default:
            raise ModelInUse(f"{chosen!r} is the default model; force unloads it all the same")
        if not force and streams:
            raise ModelInUse(f"{chosen!r} has {len(streams)} streams; force closes them")
        self._registry.retire(chosen)
        await asyncio.shield(self._keep(asyncio.create_task(self._forget(chosen), name="afterimage-unload")))

    async def _forget(self, name: str) -> None:
        for stream in self.streams_of(name):
            self._close(stream, f"model {name} was unloaded")
        seat = self._service.seats.pop(name, None)
        if seat is not None:
            await seat.idle.wait()
        self._registry.remove(name)
        self._service.auditor.forget(name)
        log.info("unloaded model %s", name)
        if self._registry.default is not None:  # it is not waited for; how far it is, /readyz tells
            self._keep(asyncio.create_task(self.ready(self._registry.default), name="afterimage-warm"))

    def streams_of(self, name: str) -> list[Stream]:
        """The streams that run a model, or are to."""
        return [stream for stream in self._service.streams.all() if stream.model == name]

    def _close(self, stream: Stream, reason: str) -> None:
        service = self._service
        if stream.attachment is not None:
            stream.attachment.end(CloseCode.UNAUTHORIZED, reason)
        if stream.source is None:
            return service.streams.remove(stream)
        # A camera's stream stays, and stays attached so that it never expires: it says why the camera stopped.
        lane, stream.lane, stream.pipeline, stream.model = stream.lane, None, None, None
        if lane is not None:
            service.watch.dropped(stream, len(service.scheduler.clear(lane, close=True)), "left")
        return None

    async def _load(self, name: str, source: ModelSource) -> Model:
        try:
            self._registry.register_source(name, source, Engine.of(self._service.settings))
        except ValueError as error:
            raise ModelInUse(str(error)) from None
        model = await self._warm(name)
        if (reason := self._service.refuse_model(model)) is not None:
            self._registry.remove(name)
            raise NoMemory(f"{name}: {reason}")
        return model

    async def _warm(self, name: str) -> Model:
        model = await self._in_thread(lambda: self._registry.warm(name), name)
        self._service.model_ran(name)
        log.info("loaded model %s, version %d", name, model.version)
        return model

    async def _reload(self, name: str) -> Model:
        model = await self._in_thread(lambda: self._registry.prepare(name), name)
        self._registry.replace(name, model)
        self._service.model_ran(name)
        log.info("reloaded model %s, version %d", name, model.version)
        return model

    async def _in_thread(self, work: Callable[[], T], name: str) -> T:
        try:
            return await in_thread(work, "afterimage-load")
        except (ModelFailed, UnknownModel):
            raise
        except Exception as error:
            log.exception("model %s failed while it was loaded", name)
            raise ModelFailed(f"{name}: {type(error).__name__}: {error}") from error

    async def _alone(self, work: Callable[[], Awaitable[Model]]) -> Model:
        """One at a time, to its end even where nobody waits for it any more."""
        if self._waiting > MAX_WAITING:
            raise TooManyLoads(f"expected at most {MAX_WAITING} loads waiting")
        self._waiting += 1
        task = self._keep(asyncio.create_task(self._in_turn(work), name="afterimage-load"))
        task.add_done_callback(self._waited)
        return await asyncio.shield(task)

    async def _in_turn(self, work: Callable[[], Awaitable[Model]]) -> Model:
        async with self._turn:
            return await work()

    def _waited(self, task: asyncio.Task[Model]) -> None:
        self._waiting -= 1

    def _keep(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Hold on to a task until it is done: the event loop does not."""
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain where nobody waits

    def _run_already(self, name: str) -> Model | None:
        if self._registry.state(name) is not ModelState.READY:
            return None
        model = self._registry.get(name)
        return model if model.outputs else None
