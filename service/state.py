"""What one server process holds: settings, models, workers, streams; and its start and drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

import cv2
from starlette.requests import HTTPConnection

from clients.wire import CloseCode, Policy
from service.access import Access
from service.audits.auditor import Auditor
from service.codec import Limits
from service.pipeline import FramePipeline
from service.registry import ModelFailed, ModelRegistry, UnknownModel
from service.scheduler import Lane, Scheduler
from service.settings import Settings
from service.startup import resume_collector
from service.streams import Stream, StreamManager

log = logging.getLogger("afterimage.service")

SWEEP_S = 1.0


class Connection(Protocol):
    """A WebSocket connection that can be drained."""

    @property
    def greeted(self) -> bool:
        """Whether it has a stream."""

    async def drain(self, deadline: float) -> None:
        """Finish frames under way until `deadline` (loop time), say goodbye, close with 1012."""


class Service:
    """Started and stopped by the app's lifespan; reached as `app.state.service`."""

    def __init__(self, settings: Settings, registry: ModelRegistry) -> None:
        self.settings = settings
        self.registry = registry
        self.access = Access(settings)
        self.auditor = Auditor(settings.audit_share, settings.audit_confidence)
        self.scheduler = Scheduler(settings.workers, self.auditor.spare)
        self.streams = StreamManager(
            max_streams=settings.max_streams,
            max_per_owner=settings.max_streams_per_key,
            resume_s=settings.resume_s,
            freed=self._free,
        )
        self.connections: set[Connection] = set()
        self.detect_lanes: dict[str, Lane[Callable[[], None]]] = {}
        self.detect_pipelines: dict[str, FramePipeline] = {}
        self.limits = Limits(max_bytes=settings.max_message_bytes, max_pixels=settings.max_pixels)
        self.draining = False
        self.warm = False
        self.warm_error: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._drained: asyncio.Task[None] | None = None

    def not_ready_because(self) -> str | None:
        """Why the server should get no work now; None when it should."""
        if self.draining:
            return "the server is shutting down"
        if self.warm_error is not None:
            return f"the default model failed: {self.warm_error}"
        if not self.warm:
            return "kernels and the default model are being compiled"
        return None

    async def start(self) -> None:
        """Start the workers, and warm the default model in the background."""
        cv2.setNumThreads(1)  # the workers are as many as there are cores
        self.scheduler.start()
        self._tasks = [
            asyncio.create_task(self._warm(), name="afterimage-warm"),
            asyncio.create_task(self._sweep(), name="afterimage-sweep"),
        ]

    async def drain(self) -> None:
        """Take no more work, finish what is under way within the settings' time, close every connection."""
        if self._drained is None:
            self.draining = True
            self.auditor.close()
            self._drained = asyncio.create_task(self._drain(), name="afterimage-drain")
        await asyncio.shield(self._drained)

    async def stop(self) -> None:
        """Drain, then stop tasks and workers."""
        await self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not await asyncio.to_thread(self.scheduler.stop, 1.0):
            log.warning("a worker was still busy at shutdown")

    def make_pipeline(self, model_name: str, *, audited: bool = True) -> FramePipeline:
        """A pipeline with a fresh session; loads and compiles on first use. Not for the event loop.

        audited : whether its frames may be audited, where the settings and the model allow it.
        Raises UnknownModel or ModelFailed.
        """
        model = self.registry.get(model_name)
        session = model.open_session()
        return FramePipeline(model, session, self.limits, self.auditor.stream(model) if audited else None)

    def memory_bytes(self) -> dict[str, int]:
        """What models, streams, audits and threads hold: plans once, every stream, a work space for each worker.

        Streams include the session that single images of a model are computed in. Left out: the interpreter, code,
        images under way, and what ONNX Runtime takes for tails.
        """
        memories = [model.memory for model in self.registry.loaded() if model.memory is not None]
        detecting = [pipeline.model.memory for pipeline in self.detect_pipelines.values()]
        parts = {
            "models": sum(memory.shared for memory in memories),
            "streams": sum(stream.memory_bytes for stream in self.streams.all())
            + sum(memory.stream for memory in detecting if memory is not None),
            "audits": self.auditor.memory_bytes,
            "threads": self.settings.workers * max((memory.thread for memory in memories), default=0),
        }
        return {**parts, "total": sum(parts.values())}

    def detect_lane(self, model_name: str) -> Lane[Callable[[], None]]:
        """The lane in which single images of a model are computed, one at a time."""
        lane = self.detect_lanes.get(model_name)
        if lane is None:
            lane = self.scheduler.lane(lambda job: job(), policy=Policy.ALL, capacity=self.settings.detect_queue)
            self.detect_lanes[model_name] = lane
        return lane

    def _free(self, stream: Stream) -> None:
        if stream.lane is not None:
            self.scheduler.clear(stream.lane, close=True)
        stream.pipeline = None

    async def _warm(self) -> None:
        try:
            await asyncio.to_thread(self.registry.warm)
        except (UnknownModel, ModelFailed) as error:
            self.warm_error = str(error)
            log.error("the default model cannot be used: %s", error)
        except Exception as error:
            self.warm_error = f"{type(error).__name__}: {error}"
            log.exception("the default model failed while it was warmed")
        else:
            self.warm = True
            log.info("ready: model %s", self.registry.default)
        finally:
            resume_collector()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for stream in self.streams.sweep():
                log.info("stream %s expired", stream.id)
            self._end_orphans()
            self.auditor.sweep()

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
                await asyncio.gather(*endings, return_exceptions=True)


def service_of(connection: HTTPConnection) -> Service:
    """The service behind a request or a WebSocket."""
    service = connection.app.state.service
    assert isinstance(service, Service)
    return service
