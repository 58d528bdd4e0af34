"""What one server process holds: settings, models, workers, streams; and its start and drain.

Bounds: streams by `max_streams`, lanes by those and by models, models by `max_models`, sessions by `cache_bytes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import cv2
import numpy as np
from starlette.requests import HTTPConnection

from clients.wire import CloseCode, Hello, Policy
from kernels import FOLDER
from service import codec
from service.access import Access
from service.admission import Admission, Overloaded
from service.audits.auditor import Auditor
from service.caches import Caches
from service.codec import Limits
from service.collectors import register_machine
from service.energy import Meter
from service.entry import ModelState
from service.errors import Problem, overloaded
from service.ingest.feeds import Feeds
from service.jobs import FrameJob, compute_together
from service.life import ModelLife
from service.limits import Watch as LimitsWatch
from service.limits import default_cache_bytes
from service.machine_cpus import cores
from service.machine_memory import limit_bytes
from service.malloc import give_back
from service.metrics import Metrics
from service.mqtt.bridge import Bridge
from service.mqtt.link import Link
from service.pacing import slower
from service.pipeline import FramePipeline
from service.placement import Alone, Placement
from service.registry import Model, ModelFailed, ModelRegistry, UnknownModel
from service.room import Room
from service.scheduler import Group, Lane, Scheduler
from service.settings import Settings
from service.single import Seat, compute
from service.startup import resume_collector
from service.streams import Stream, StreamManager
from service.threads import in_thread
from service.tickets import Tickets
from service.token_store import KeptStream, TokenStore
from service.traces import Traces
from service.viewing import Viewing
from service.warming import progress_told
from service.watch import Watch

log = logging.getLogger("afterimage.service")
T = TypeVar("T")

SWEEP_S = 1.0
QUIET_S = 10.0
"""A stream that was used within so many seconds is not freed for a new one."""
RESERVE_BYTES = 64 << 20
"""Left free when a session is made: for images under way, and for what ONNX Runtime takes."""
LOOK_S = 10.0
"""Between two looks at the limits of the container."""
QUICK_THREADS = 4
"""Beside one for each core, for what is quick and would hold up the event loop: files, annotated pictures."""
ASK_S = 3.0
"""For an answer of the cluster about one stream."""
FLUSH_S = 2.0
"""For sending the spans that wait when the service stops."""


class Connection(Protocol):
    """A WebSocket connection that can be drained, and whose stream can be sent elsewhere."""

    stream_id: str

    @property
    def greeted(self) -> bool:
        """Whether it has a stream."""

    async def drain(self, deadline: float) -> None:
        """Finish frames under way until `deadline` (loop time), say goodbye, close with 1012."""

    async def move(self, address: str, deadline: float) -> None:
        """Name the stream's server, answer frames until the client leaves or `deadline` (loop time), then close."""


class Service:
    """Started and stopped by the app's lifespan; reached as `app.state.service`.

    traces : None for none; closed with the service. meter : None for the machine's own. link : to an MQTT broker, not
    started; None for none. room : for what is under way; None for one of its own.
    """

    def __init__(
        self,
        settings: Settings,
        registry: ModelRegistry,
        traces: Traces | None = None,
        meter: Meter | None = None,
        link: Link | None = None,
        placement: Placement | None = None,
        room: Room | None = None,
    ) -> None:
        self.settings = settings
        self.room = Room() if room is None else room
        self.found = LimitsWatch(settings)
        self.placement: Placement = Alone() if placement is None else placement
        self.registry = registry
        self.access = Access(settings, lambda: self.placement.members)
        self.auditor = Auditor(settings.audit_share, settings.audit_confidence)
        self.scheduler = Scheduler(settings.workers, self.auditor.spare)
        self.streams = StreamManager(
            max_streams=settings.max_streams,
            max_per_owner=settings.max_streams_per_key,
            resume_s=settings.resume_s,
            max_resume_s=settings.max_resume_s,
            store=None if settings.state_folder is None else TokenStore(settings.state_folder),
            freed=self._free,
            reserved=settings.sources,
        )
        self.admission = Admission(settings.workers, settings.headroom)
        self.caches = Caches(cache_bytes(settings), self._models_bytes)
        self.room.beside = lambda: self.caches.unfilled_bytes
        self._opening = threading.Lock()
        self.connections: set[Connection] = set()
        self.seats: dict[str, Seat] = {}
        self.life = ModelLife(self)
        self.viewing = Viewing(
            max_viewers=settings.max_viewers,
            max_per_stream=settings.max_viewers_per_stream,
            keep_bytes=settings.view_keep_bytes,
            quality=settings.jpeg_quality,
        )
        self.tickets = Tickets()
        self.mqtt = None if link is None else Bridge(settings, link, self.viewing)
        self.feeds = Feeds(self)
        self.limits = Limits(max_bytes=settings.max_message_bytes, max_pixels=settings.max_pixels, room=self.room.hold)
        self.watch = Watch(Metrics(), traces)
        self.meter = meter if meter is not None else Meter()
        register_machine(self.watch.metrics.registry, self.meter)
        self.draining = False
        self.warm = False
        self.warm_error: str | None = None
        self._looked = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._drained: asyncio.Task[None] | None = None

    def not_ready_because(self) -> str | None:
        """Why the server should get no work now; None when it should."""
        if self.draining:
            return "the server is shutting down"
        if self.warm_error is not None:
            return f"the default model failed: {self.warm_error}"
        default = self.registry.default
        if default is None:
            return "no model is loaded"
        if not self.warm:
            return "kernels and the default model are being compiled"
        state = self.registry.state(default)
        return None if state is ModelState.READY else f"the default model is {state}"

    def model_ran(self, name: str) -> None:
        """A model was loaded, compiled and run while the server runs: what was wrong with the default is mended."""
        if name == self.registry.default and self.warm_error is not None:
            self.warm, self.warm_error = True, None

    async def start(self) -> None:
        """Start the workers, and warm the default model in the background."""
        cv2.setNumThreads(1)  # the workers are as many as there are cores
        threads = ThreadPoolExecutor(cores().threads + QUICK_THREADS, "afterimage-quick")
        asyncio.get_running_loop().set_default_executor(threads)  # asyncio's own has a thread for each core of the host
        await asyncio.to_thread(self.found.begin)
        self.scheduler.start()
        if self.mqtt is not None:
            self.mqtt.start()
        self._tasks = [
            asyncio.create_task(self._warm(), name="afterimage-warm"),
            asyncio.create_task(self._sweep(), name="afterimage-sweep"),
        ]
        self.feeds.start()

    async def drain(self) -> None:
        """Take no more work, finish what is under way within the settings' time, close every connection."""
        if self._drained is None:
            self.draining = True
            self.auditor.close()
            self.viewing.close()
            self._drained = asyncio.create_task(self._drain(), name="afterimage-drain")
        await asyncio.shield(self._drained)

    async def move_away(self) -> None:
        """Send every stream that belongs to another member there; returns when they are gone, within the time to drain.

        What their clients sent before they heard of it is answered here. What such a stream has cached is freed,
        whether or not it has a connection. Cameras of the server stay.
        """
        deadline = asyncio.get_running_loop().time() + self.settings.drain_s

        async def move(connection: Connection, address: str) -> None:
            await connection.move(address, deadline)
            self._let_go(self.streams.get(connection.stream_id))

        places = [(one, self.placement.address(one.stream_id)) for one in self.connections if one.greeted]
        moves = [move(one, address) for one, address in places if address is not None]
        await asyncio.gather(*moves, return_exceptions=True)
        for stream in self.streams.all():
            self._let_go(stream)

    def _let_go(self, stream: Stream | None) -> None:
        """Free a stream that belongs to another member, where no connection has it."""
        alone = stream is not None and stream.attachment is None and stream.source is None
        if stream is not None and alone and self.placement.address(stream.id) is not None:
            self.streams.remove(stream, None)

    async def sought(self, stream_id: str) -> KeptStream | None:
        """What other members know of a stream that is not here. Raises Overloaded where they do not answer."""
        return None if self.streams.get(stream_id) is not None else await self.ask(self.placement.find(stream_id))

    async def ask(self, answer: Awaitable[T]) -> T:
        """What the placement answers. Raises Overloaded where that takes too long, and as it does."""
        try:
            async with asyncio.timeout(ASK_S):
                return await answer
        except TimeoutError:
            raise Overloaded("the other members of the cluster do not answer") from None

    @contextlib.asynccontextmanager
    async def claimed(
        self, stream_id: str, owner: str | None, kept: KeptStream | None, hello: Hello
    ) -> AsyncIterator[None]:
        """Within it a stream may be opened here; if it is not afterwards, the cluster does not take it for here.

        kept : what others know of it, where it is not here
        Raises as `Placement.claim`, and UnknownModel; a stream that is here does not need an answer.
        """
        known = self.streams.get(stream_id)
        stream = Stream.of(kept) if known is None and kept is not None else known
        model = self.registry.resolve(hello.model or (None if stream is None else stream.model))
        room = self.has_room(model, self.promised_fps(hello.max_fps), known)
        told = None if stream is None else stream.kept()
        if told is not None and hello.resume_s is not None:  # it is kept so long wherever it goes
            told = told.model_copy(update={"resume_s": self.streams.patience_s(hello.resume_s)})
        try:
            await self.ask(self.placement.claim(stream_id, owner if stream is None else stream.owner, told, room))
        except Overloaded:
            if known is None or not room:
                raise
        try:
            yield
        finally:
            self._leave_unopened(stream_id, kept)

    def _leave_unopened(self, stream_id: str, kept: KeptStream | None) -> None:
        """Have a stream that was claimed for here, and could not be opened, be nobody's; it may go elsewhere."""
        stream = self.streams.get(stream_id)
        if stream is None:
            (self.placement.release if kept is None else self.placement.leave)(stream_id)
        elif stream.pipeline is None and stream.attachment is None and kept is not None:
            self.streams.remove(stream, None)
        elif stream.pipeline is None:
            self._let_go(stream)

    def has_room(self, model_name: str, fps: float, known: Stream | None = None) -> bool:
        """Whether a stream would be opened here. known : the stream, where it is here already"""
        if known is not None and known.pipeline is not None:
            return True
        place = known is not None or len(self.streams) < self.settings.max_streams
        return place and not self.draining and self.refuse_stream(model_name, fps, known) is None

    @property
    def allowed_origins(self) -> Collection[str]:
        """Origins whose pages may use the server, beside its own: of the settings, and of the cluster."""
        return (*self.settings.allowed_origins, *self.placement.origins)

    async def stop(self) -> None:
        """Drain, then stop tasks and workers."""
        await self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not await in_thread(lambda: self.scheduler.stop(1.0)):
            log.warning("a worker was still busy at shutdown")
        if self.mqtt is not None:
            await self.mqtt.stop()
        traces = self.watch.traces
        if traces is not None and not await asyncio.to_thread(traces.close, FLUSH_S):
            log.warning("spans were still being sent at shutdown")

    def make_pipeline(self, model_name: str, *, audited: bool = True) -> FramePipeline:
        """A pipeline with a fresh session; loads and compiles on first use. Not for the event loop.

        audited : whether its frames may be audited, where the settings and the model allow it.
        Raises UnknownModel, ModelFailed, or Overloaded and CacheFull where there is no memory for it.
        """
        model = self.registry.get(model_name)
        model.ready()
        with self._opening:  # what one was granted the next one must see
            if (reason := self._lacks_memory(model, free=True)) is not None:
                raise Overloaded(reason)
            audits_of = self.auditor.stream if audited else (lambda model: None)
            pipeline = FramePipeline(model, None, self.limits, audits_of(model), self.caches, audits_of)
            pipeline.open()
        return pipeline

    def promised_fps(self, max_fps: float | None) -> float:
        """Frames a second that a stream is promised, from its hello's `max_fps`."""
        promised = slower(max_fps, self.settings.max_fps)
        return self.settings.useful_fps if promised is None else promised

    def refuse_stream(self, model_name: str, fps: float, known: Stream | None = None) -> str | None:
        """Why a new stream is one too many, with figures; None if it is not. On the event loop.

        known : the stream, where it is counted already.
        """
        if not self.settings.admission:
            return None
        others = [stream for stream in self.streams.all() if stream is not known]
        reason = self.admission.refuse(model_name, fps, others, time.monotonic())
        if reason is not None:
            return reason
        loaded = next((model for model in self.registry.loaded() if model.name == model_name), None)
        return None if loaded is None else self._lacks_memory(loaded)

    def refuse_image(self, model_name: str) -> str | None:
        """Why no single image should be computed now, with figures; None if it may. On the event loop."""
        if not self.settings.admission:
            return None
        reason = self.admission.refuse_image(self.streams.all(), time.monotonic())
        seat = self.seats.get(model_name)
        pipeline = None if seat is None else seat.pipeline
        if reason is not None or pipeline is None or pipeline.held_bytes:
            return reason
        return self._lacks_memory(pipeline.model)

    def refuse_model(self, model: Model) -> str | None:
        """Why a model that was just loaded is too much beside what is served, with figures; None if it is not."""
        return self._lacks_memory(model)

    def group(self, model: Model) -> Group[FrameJob] | None:
        """What lanes of streams of a model have in common; None where its frames are not computed together."""
        together = model.together
        limit = 1 if together is None else min(together.limit, self.settings.group_frames)
        return Group(model.name, limit, compute_together) if limit > 1 else None

    def memory_bytes(self) -> dict[str, int]:
        """What models, streams, audits and threads hold: plans once, every stream, a work space for each worker.

        Streams include the session that single images of a model are computed in. Left out: the interpreter, code,
        images under way, and what ONNX Runtime takes for tails.
        """
        memories = [model.memory for model in self.registry.loaded() if model.memory is not None]
        parts = {
            "models": self._models_bytes(),
            "streams": self.caches.held_bytes,
            "audits": self.auditor.memory_bytes,
            "threads": self.settings.workers * max((memory.thread for memory in memories), default=0),
        }
        return {**parts, "total": sum(parts.values())}

    def seat(self, model_name: str) -> Seat:
        """Where single images of a model are computed, one at a time."""
        seat = self.seats.get(model_name)
        if seat is None:
            lane: Lane[Callable[[], None]] = self.scheduler.lane(
                lambda job: job(), policy=Policy.ALL, capacity=self.settings.detect_queue
            )
            seat = self.seats[model_name] = Seat(lane)
        return seat

    def _models_bytes(self) -> int:
        return sum(model.memory.shared for model in self.registry.loaded() if model.memory is not None)

    def _lacks_memory(self, model: Model, *, free: bool = False) -> str | None:
        """Why there is no memory for one more session of a compiled model, without freeing what is in use.

        free : free what streams without a connection keep, where it helps; else only see whether it would.
        """
        if not self.settings.admission or model.memory is None:
            return None
        detached = [s.pipeline for s in self.streams.all() if s.attachment is None and s.pipeline is not None]
        single = [seat.pipeline for seat in list(self.seats.values()) if seat.pipeline is not None]
        spare = [*detached, *single]
        reason = self.caches.refuse(model.memory.stream, quiet_s=QUIET_S, spare=spare)
        if reason is not None:
            return reason
        needed, what = model.memory.stream, f"one more stream of {model.name}"
        kept = 0 if free else sum(pipeline.held_bytes for pipeline in detached)
        reason = self.room.lacks(needed, what, spare=RESERVE_BYTES, beside=kept)
        while free and reason is not None and self.caches.free_one(detached):
            give_back()
            reason = self.room.lacks(needed, what, spare=RESERVE_BYTES)
        return reason

    def _free(self, stream: Stream) -> None:
        if stream.lane is not None:
            self.watch.dropped(stream, len(self.scheduler.clear(stream.lane, close=True)), "left")
        stream.pipeline = None
        self.viewing.forget(stream)
        if stream.ending == "moved":
            self.placement.leave(stream.id)
        else:
            self.placement.release(stream.id)
        self.watch.stream_ended(stream.ending)

    async def _warm(self) -> None:
        try:
            async with progress_told(FOLDER):
                model = await self.life.ready(self.registry.resolve(None))
                await self._warm_single_images(model)
        except (UnknownModel, ModelFailed) as error:
            self.warm_error = str(error)
            log.error("the default model cannot be used: %s", error)
        except Exception as error:
            self.warm_error = f"{type(error).__name__}: {error}"
            log.exception("the default model failed while it was warmed")
        else:
            self.warm = True
            log.info("ready: model %s", self.registry.default, extra={"model": self.registry.default})
        finally:
            resume_collector()

    async def _warm_single_images(self, model: Model) -> None:
        """Compute a grey image as a request's, so that the first request waits for nothing that is made only once."""
        grey = codec.encode_jpeg(np.full((model.size[1], model.size[0], 3), 114, np.uint8))
        with contextlib.suppress(Problem):  # it only takes long: requests are answered all the same
            await compute(self, model.name, lambda pipeline: pipeline.run(grey, reset=True))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self._tidy()
            except Exception:
                log.exception("a sweep failed; the next one comes")

    async def _tidy(self) -> None:
        """Forget what has had its time."""
        for stream in self.streams.sweep():
            log.info("stream %s expired", stream.id, extra={"stream_id": stream.id, "model": stream.model})
        self._end_orphans()
        self.auditor.sweep()
        self.admission.forget(self.registry.names())
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            await asyncio.to_thread(self.found.look)
        if self.meter.known:
            await asyncio.to_thread(self.meter.read)  # often enough for a counter that goes round
        if self.mqtt is not None:
            self.mqtt.tick()  # last: where it fails, what frees things has been done

    def _end_orphans(self) -> None:
        """Streams whose key was removed, or has expired, end."""
        keys = self.access.keys
        for stream in self.streams.all() if keys is not None else ():
            if keys is not None and stream.owner is not None and not keys.has(stream.owner):
                if stream.attachment is not None:
                    stream.attachment.end(CloseCode.UNAUTHORIZED, "the key is no longer valid")
                self.streams.remove(stream)
                log.info("stream %s ended: its key is no longer valid", stream.id)

    async def _drain(self) -> None:
        deadline = asyncio.get_running_loop().time() + self.settings.drain_s
        endings = [connection.drain(deadline) for connection in list(self.connections)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline + 1.0):
                await asyncio.gather(*endings, self.feeds.stop(), self._finish_images(deadline), return_exceptions=True)

    async def _finish_images(self, deadline: float) -> None:
        """Wait for single images until `deadline`, then refuse those that are left."""
        seats = list(self.seats.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                for seat in seats:
                    await seat.idle.wait()
        for seat in seats:
            seat.refuse(overloaded("the server is shutting down", self.settings.retry_after_ms))


def cache_bytes(settings: Settings) -> int | None:
    """What models and streams may take; None where nothing is said and the machine's memory cannot be read."""
    if settings.cache_bytes is not None:
        return settings.cache_bytes
    limit = limit_bytes()
    return None if limit is None else default_cache_bytes(limit)


def service_of(connection: HTTPConnection) -> Service:
    """The service behind a request or a WebSocket."""
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service
