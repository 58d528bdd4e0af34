"""A camera of the configuration as a stream: its pictures through a lane and a session like those of any other.

The server has one for each of `sources`. Its stream is there from the start, is given to no connection, and never
expires; whatever its camera or its model does, the server goes on. Lives on the event loop, but for what the camera's
thread and the workers call. Bounds: two pictures in the lane, and one on its way to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clients.wire import Flags, FrameMessage, Op, Policy, Result
from service.admission import Overloaded
from service.caches import CacheFull
from service.ingest.address import parse
from service.ingest.camera import Camera, CameraOptions, CameraState, Picture, Status, wait_s
from service.jobs import Answer, FrameJob, Refused, compute, result_message
from service.pacing import slower
from service.pipeline import FramePipeline
from service.registry import ModelFailed, UnknownModel
from service.threads import in_thread
from service.viewing import Shown

if TYPE_CHECKING:
    from service.settings import CameraSource
    from service.state import Service

log = logging.getLogger("afterimage.cameras")

STARTING = "starting"
"""The state of a camera whose model is not ready; the others are `service.ingest.camera.CameraState`."""
_SEQUENCES = 1 << 32


@dataclass(frozen=True)
class Seen:
    """What was found in a camera's picture. `image` is uint8[H, W, 3] BGR, as decoded; not to be written to."""

    stream_id: str
    result: Result
    image: NDArray[np.uint8] = field(repr=False)


class Feed:
    """See the module."""

    def __init__(self, service: Service, name: str, source: CameraSource) -> None:
        settings = service.settings
        self.name = name
        self._service, self._source = service, source
        self._loop = asyncio.get_running_loop()
        self._stream = service.streams.create_own(name, source.model, self)
        self._stream.demand.promised_fps = service.promised_fps(source.max_fps)
        service.streams.attach(self._stream, self)
        options = CameraOptions(
            transport=source.transport, max_fps=slower(source.max_fps, settings.max_fps), stall_s=source.stall_s,
            open_s=source.open_s, max_pixels=settings.max_pixels,
        )  # fmt: skip
        address = parse(source.url.get_secret_value())
        self._camera = Camera(address, options, self._on_picture, self._on_status)
        self._lock = threading.Lock()
        self._newest: Picture | None = None
        self._callbacks: dict[object, Callable[[Seen], None]] = {}
        self._begun = False
        self._waits_because: str | None = None
        self._told: str | None = None
        self._ended = asyncio.Event()
        self._since = time.monotonic()
        self._task = asyncio.create_task(self._run(), name=f"afterimage-source-{name}")

    def subscribe(self, callback: Callable[[Seen], None]) -> Callable[[], None]:
        """Have every picture that is computed told, on the event loop, until what this returns is called.

        The callback must be quick.
        """
        key = object()
        self._callbacks[key] = callback

        def leave() -> None:
            self._callbacks.pop(key, None)

        return leave

    @property
    def latest(self) -> Shown | None:
        """What was computed last, as `service.viewing` keeps it; None before anything was, or where it was let go."""
        return self._service.viewing.last(self._stream)

    @property
    def status(self) -> Status:
        """How the camera is; connecting while its model is not ready."""
        return self._camera.status

    @property
    def state(self) -> str:
        """A word: `starting`, or the camera's."""
        if self._ended.is_set():
            return CameraState.STOPPED.value
        return self.status.state.value if self._begun else STARTING

    def brief(self) -> dict[str, Any]:
        """For GET /v1/streams: state, why it is so, and since when; no address."""
        status = self.status
        own = not self._begun or self._ended.is_set()
        return {
            "state": self.state,
            "reason": self._waits_because if own else status.reason,
            "since_s": round(time.monotonic() - (self._since if own else status.since), 3),
            "reconnects": status.reconnects,
            "decoded": status.decoded,
            "unchanged": status.unchanged,
        }

    def end(self, close_code: int, reason: str) -> None:
        """Stop for good, as the model was unloaded."""
        if not self._ended.is_set():
            self._waits_because, self._since = reason, time.monotonic()
            log.warning("camera %s ended: %s", self.name, reason, extra={"stream_id": self.name})
            self._ended.set()
            if not self._begun:  # it waits for its model: it must not begin with another one of that name
                self._task.cancel()

    async def stop(self) -> None:
        """Stop now; returns when the camera's process is gone."""
        self._ended.set()
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._begun and not await in_thread(self._camera.stop):
            log.warning("camera %s: its process was still there at shutdown", self.name)
        lane = self._stream.lane
        if lane is not None:
            self._service.watch.dropped(self._stream, len(self._service.scheduler.clear(lane)), "left")

    async def _run(self) -> None:
        stream, service = self._stream, self._service
        pipeline = await self._pipeline()
        stream.pipeline, stream.model = pipeline, pipeline.model.name
        stream.lane = service.scheduler.lane(compute, policy=Policy.LATEST, capacity=1)
        service.watch.opened(stream)
        self._begun, self._waits_because = True, None
        self._camera.start()
        await self._ended.wait()
        await in_thread(self._camera.stop)

    async def _pipeline(self) -> FramePipeline:
        """A pipeline for the stream, as soon as its model is there and there is room for it."""
        failures = 0
        while True:
            try:
                model = await self._service.life.ready(self._service.registry.resolve(self._source.model))
                return await in_thread(lambda name=model.name: self._service.make_pipeline(name))  # type: ignore[misc]
            except (UnknownModel, ModelFailed, Overloaded, CacheFull) as error:
                self._because(str(error))
            except Exception as error:
                self._because(f"its model failed: {type(error).__name__}")
                log.exception("camera %s: its model failed", self.name)
            failures += 1
            await asyncio.sleep(wait_s(failures))

    def _because(self, reason: str) -> None:
        if reason != self._waits_because:
            self._waits_because = reason
            log.warning("camera %s waits: %s", self.name, reason, extra={"stream_id": self.name})

    def _on_status(self, status: Status) -> None:
        """In the camera's thread. Trouble is said once, until pictures come again."""
        if status.state is CameraState.LIVE and self._told != "":
            log.info("camera %s is live", self.name, extra={"stream_id": self.name})
            self._told = ""
        elif status.reason is not None and status.reason != self._told:
            log.warning("camera %s: %s; trying again", self.name, status.reason, extra={"stream_id": self.name})
            self._told = status.reason

    def _on_picture(self, picture: Picture) -> None:
        """In the camera's thread. One picture at most is on its way to the event loop: the newest."""
        with self._lock:
            on_its_way, self._newest = self._newest is not None, picture
        if not on_its_way:
            self._on_loop(self._offer)

    def _offer(self) -> None:
        """Queue the newest picture."""
        with self._lock:
            picture, self._newest = self._newest, None
        stream, service = self._stream, self._service
        if picture is None or stream.lane is None or stream.pipeline is None or self._ended.is_set():
            return
        message = FrameMessage(Op.IMAGE, Flags.NONE, picture.sequence % _SEQUENCES, picture.captured_us, b"")
        service.watch.received(stream, message)
        stream.demand.offered.add(time.monotonic())
        job = FrameJob(
            stream_id=stream.id,
            frame=message,
            pipeline=stream.pipeline,
            deliver=self._deliver,
            abandoned=self._ended.is_set,
            received_ns=time.perf_counter_ns(),
            reset=False,
            min_confidence=self._source.min_confidence,
            received_ts_us=time.time_ns() // 1000,
            pixels=picture.image,
        )
        taken, replaced = service.scheduler.submit(stream.lane, job)
        service.watch.dropped(stream, len(replaced), "replaced")
        service.watch.dropped(stream, 0 if taken else 1, "left")

    def _deliver(self, job: FrameJob, answer: Answer) -> None:
        """In a worker's thread."""
        if self._stream.lane is not None:
            self._service.scheduler.answered(self._stream.lane)
        self._on_loop(lambda: self._computed(job, answer))

    def _computed(self, job: FrameJob, answer: Answer) -> None:
        """On the event loop: a picture's result is known. Whoever is to have the stream's results gets them here."""
        stream, watch = self._stream, self._service.watch
        if isinstance(answer, Refused):
            return watch.refused(stream, answer)
        outcome = answer.outcome
        stream.counters.evicted += outcome.evicted
        watch.computed(stream, job, answer)()
        if not self._ended.is_set():
            self._service.viewing.publish(stream, outcome.image, outcome, job.frame.seq)
        if not self._callbacks:
            return None
        result = result_message(job, answer, ack=job.frame.seq, dropped=stream.counters.dropped)
        seen = Seen(stream.id, result, outcome.image)
        for callback in list(self._callbacks.values()):
            try:
                callback(seen)
            except Exception:
                log.exception("camera %s: whoever wanted its results failed", self.name)
        return None

    def _on_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call)
