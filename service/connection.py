"""One client's connection to a stream, from hello to close: reader, sender and the answers of the workers.

Bounds: one message that was read, frames in the lane (`service.scheduler`), messages to be sent (`service.outbox`), and
sequence numbers that are not settled (`clients.wire.protocol`), which are those of the lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from clients.wire import (
    Ack,
    Bye,
    CloseCode,
    Draining,
    ErrorCode,
    ErrorMessage,
    Flags,
    FrameMessage,
    Hello,
    Limits,
    Moved,
    Offer,
    Op,
    Output,
    Phase,
    Policy,
    Ready,
    ResumeReason,
    ServerProtocol,
    TileRules,
    WireError,
    parse_tiles,
)
from service.admission import Demand, Overloaded
from service.caches import CacheFull
from service.closing import Closing, cancel
from service.errors import new_error_id
from service.jobs import Answer, Computed, FrameJob, Refused, check_header, compute, header_of, result_message
from service.metrics import Cause
from service.outbox import Outbox
from service.pacing import Pace, slower
from service.placement import ws_url
from service.reference import TILE_PX, Reference
from service.registry import ModelFailed, NoMemory, UnknownModel
from service.state import Service
from service.streams import NotAuthorised, Stream, StreamBusy, TooManyStreams
from service.threads import in_thread
from service.tracking import MISSING, TrackingUnavailable, is_available, load

log = logging.getLogger("afterimage.ws")

FLUSH_S = 2.0


class StreamConnection:
    """One client on one stream. Everything but `_deliver` runs on the event loop.

    token : as offered, if it is no key. owner : the name of the key that was. refused : why it gets no stream, if that
    is known from its handshake
    """

    def __init__(
        self,
        websocket: WebSocket,
        service: Service,
        stream_id: str,
        offer: Offer,
        token: str | None,
        owner: str | None = None,
        refused: NotAuthorised | None = None,
    ) -> None:
        self._websocket = websocket
        self._service = service
        self._watch = service.watch
        self.stream_id = stream_id
        self._token = token
        self._owner = owner
        self._refused = refused
        self._anonymous = service.access.anonymous
        settings = service.settings
        self._protocol = ServerProtocol(
            offer.encoding, window=settings.window, max_message_bytes=settings.max_message_bytes
        )
        self._outbox = Outbox(settings.outbox_messages)
        self._loop = asyncio.get_running_loop()
        self._space = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._taken = asyncio.Event()
        self._taken.set()
        self._moved = False  # the client was told to leave
        self._ending: asyncio.Future[Closing] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._stream: Stream | None = None
        self._hello = Hello()
        self._reset_next = False
        self._pace = Pace()
        self._whole_bytes = 0
        self._reference: Reference | None = None
        self._deadline: float | None = None

    @property
    def greeted(self) -> bool:
        """Whether the client has said a hello that was taken."""
        return self._stream is not None

    async def run(self) -> None:
        """Serve the connection until it is closed by either side."""
        sender = asyncio.create_task(self._send(), name="afterimage-sender")
        reader = asyncio.create_task(self._read(), name="afterimage-reader")
        try:
            waits: set[asyncio.Future[object]] = {sender, reader, self._ending}  # type: ignore[arg-type]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            closing = self._closing_of(reader)
            if closing is not None and not sender.done():
                await self._finish(reader, closing)
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("stream %s: the connection was gone at its end: %s", self.stream_id, error)
        finally:
            self._leave()
            self._gone.set()
            await cancel(reader, sender)

    def end(self, close_code: int, reason: str) -> None:
        """Close soon, without waiting for frames under way."""
        self._end(Closing(close_code, reason))

    async def drain(self, deadline: float) -> None:
        """Finish frames under way until `deadline` (loop time), then close with 1012; returns when closed."""
        self._deadline = deadline
        retry_ms = self._service.settings.retry_after_ms
        self._end(Closing(CloseCode.DRAINING, f"server shutting down; retry in {retry_ms} ms", finish=True))
        await self._gone.wait()

    async def move(self, address: str, deadline: float) -> None:
        """Say where the stream is now, and answer frames until the client leaves, or `deadline` (loop time): then close
        with 1012, and forget the stream. Returns when closed. address : of the server that it belongs to
        """
        closing = self._moving(address)
        if self._protocol.phase is not Phase.OPEN:  # no ready yet, or it has said bye
            self._end(closing)
        elif not self._moved and not self._ending.done():
            self._moved = True
            self._put(Moved(ws_url=ws_url(address, self.stream_id)))
        too_late = self._loop.call_at(deadline, self._end, closing)
        await self._gone.wait()
        too_late.cancel()

    def _moving(self, address: str) -> Closing:
        to = ws_url(address, self.stream_id)
        return Closing(CloseCode.DRAINING, "the stream belongs to another server", moved_to=to)

    def _end(self, closing: Closing) -> None:
        if not self._ending.done():
            self._ending.set_result(closing)

    def _closing_of(self, reader: asyncio.Task[None]) -> Closing | None:
        """How to close; None when the other side is gone already."""
        if self._ending.done():
            return self._ending.result()
        if not reader.done() or reader.cancelled():
            return None
        error = reader.exception()
        if error is None or isinstance(error, WebSocketDisconnect):
            return None
        if isinstance(error, Closing):
            return error
        error_id = new_error_id()
        about = {"stream_id": self.stream_id, "error_id": error_id}
        log.error("stream %s: connection failed, error_id=%s", *about.values(), exc_info=error, extra=about)
        return Closing(CloseCode.INTERNAL, f"server error {error_id}")

    async def _finish(self, reader: asyncio.Task[None], closing: Closing) -> None:
        """Answer what is under way where that is promised, flush, close."""
        with contextlib.suppress(TimeoutError):
            if closing.finish:
                fallback = self._loop.time() + self._service.settings.drain_s
                async with asyncio.timeout_at(self._deadline or fallback):
                    await self._taken.wait()  # a frame that was read and waits for room
                    reader.cancel()
                    await self._settled.wait()
        reader.cancel()
        if closing.moved_to is not None:
            if not self._moved:
                self._put(Moved(ws_url=closing.moved_to))
        elif closing.code == CloseCode.DRAINING:
            self._put(Draining(retry_after_ms=self._service.settings.retry_after_ms))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._outbox.empty()
                if self._websocket.application_state is WebSocketState.CONNECTED:
                    await self._websocket.close(closing.code, closing.reason[:120])
        stream = self._stream
        if (
            closing.code == CloseCode.NORMAL
            and stream is not None
            and stream.token is None
            and stream.attachment is self
        ):
            self._service.streams.remove(stream)  # the client said bye: nobody will resume
        elif closing.moved_to is not None and stream is not None and stream.attachment is self:
            self._service.streams.remove(stream, None)

    def _leave(self) -> None:
        stream = self._stream
        if stream is None or stream.attachment is not self:
            return
        if stream.lane is not None:
            self._watch.dropped(stream, len(self._service.scheduler.clear(stream.lane)), "left")
            stream.lane.taken = None  # or the lane would hold this connection for as long as the stream is kept
        stream.reference = None
        self._service.streams.detach(stream, self)

    async def _send(self) -> None:
        while True:
            message = await self._outbox.next()
            async with asyncio.timeout(self._service.settings.send_timeout_s):
                if isinstance(message, str):
                    await self._websocket.send_text(message)
                else:
                    await self._websocket.send_bytes(message)
            self._outbox.sent()

    def _put(self, message: Ready | ErrorMessage | Ack | Draining | Moved) -> None:
        self._outbox.put(self._protocol.encode(message))

    async def _receive(self) -> Bye | Hello | FrameMessage:
        """The next message that keeps to the protocol; the others are answered with an error here."""
        while True:
            await self._outbox.room()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            text, data = message.get("text"), message.get("bytes")
            try:
                return self._protocol.receive(text if text is not None else data or b"")
            except WireError as error:
                if self._stream is not None and error.seq is not None:
                    self._watch.refused(self._stream)
                self._put(self._protocol.refusal(error))
                if error.code is ErrorCode.MESSAGE_TOO_LARGE and text is None:
                    raise Closing(CloseCode.TOO_BIG, error.detail) from None

    async def _read(self) -> None:
        """Hello, then frames until bye or the connection's end."""
        stream = await self._greet()
        while not self._ending.done():
            message = await self._receive()
            if isinstance(message, Bye):
                raise Closing(CloseCode.NORMAL, "bye", finish=True)
            if isinstance(message, FrameMessage):
                self._taken.clear()
                try:
                    await self._take_frame(stream, message)
                finally:
                    self._taken.set()

    async def _greet(self) -> Stream:
        """Authorise, read hello, open the stream and say ready; Closing with the reason otherwise."""
        service, settings = self._service, self._service.settings
        if service.draining:
            raise Closing(CloseCode.DRAINING, "server shutting down")
        try:
            if self._refused is not None:
                raise self._refused
            self._hello = await self._receive_hello(settings.hello_timeout_s)
            self._check_place()
            kept = await service.sought(self.stream_id)
            service.streams.authorise(
                self.stream_id, token=self._token, anonymous=self._anonymous, owner=self._owner, kept=kept
            )
            async with service.claimed(self.stream_id, self._owner, kept, self._hello):
                self._check_place()
                if kept is not None:
                    service.streams.adopt(kept)
                return await self._open(self._hello)
        except NotAuthorised as error:
            raise self._refuse(ErrorCode.UNAUTHORIZED, str(error), CloseCode.UNAUTHORIZED) from None
        except UnknownModel as error:
            raise self._refuse(ErrorCode.UNKNOWN_MODEL, str(error), CloseCode.UNAUTHORIZED) from None
        except NoMemory as error:
            raise self._refuse(ErrorCode.OVERLOADED, str(error), CloseCode.OVERLOADED) from None
        except ModelFailed as error:
            raise self._refuse(ErrorCode.MODEL_FAILED, str(error), CloseCode.UNAUTHORIZED) from None
        except TrackingUnavailable as error:
            raise self._refuse(ErrorCode.UNSUPPORTED_OUTPUT, str(error), CloseCode.UNAUTHORIZED) from None
        except (StreamBusy, TooManyStreams, Overloaded, CacheFull) as error:
            raise self._refuse(ErrorCode.OVERLOADED, str(error), CloseCode.OVERLOADED) from None

    def _check_place(self) -> None:
        """Raise Closing where the stream belongs to another member of the cluster."""
        address = self._service.placement.address(self.stream_id)
        if address is not None:
            self._watch.connection_refused("moved")
            raise self._moving(address)

    async def _receive_hello(self, timeout_s: float) -> Hello:
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._receive()
        except TimeoutError:
            raise Closing(CloseCode.PROTOCOL_ERROR, f"expected hello within {timeout_s:g} s") from None
        assert isinstance(message, Hello)  # the protocol lets nothing else through first
        return message

    def _refuse(self, code: ErrorCode, detail: str, close_code: CloseCode) -> Closing:
        retry_ms = self._service.settings.retry_after_ms if close_code == CloseCode.OVERLOADED else None
        self._put(ErrorMessage(code=code.value, detail=detail, retry_after_ms=retry_ms))
        self._watch.connection_refused(code.value)
        return Closing(close_code, detail)

    async def _open(self, hello: Hello) -> Stream:
        service, settings = self._service, self._service.settings
        known = service.streams.get(self.stream_id)
        model = service.registry.resolve(hello.model or (known.model if known else None))
        promised_fps = service.promised_fps(hello.max_fps)
        if known is None or known.pipeline is None:
            too_much = service.refuse_stream(model, promised_fps, known)
            if too_much is not None:
                raise Overloaded(too_much)
        if Output.TRACKS in hello.outputs and not is_available():
            raise TrackingUnavailable(MISSING)
        stream, resumes = service.streams.open(
            self.stream_id,
            token=self._token,
            resume=hello.resume,
            anonymous=self._anonymous,
            owner=self._owner,
        )
        previous = service.streams.attach(stream, self)
        if previous is not None:
            previous.end(CloseCode.UNAUTHORIZED, "a newer connection has taken the stream over")
        self._stream = stream
        resumed = resumes and stream.model == model
        reason = service.streams.reason(stream, hello.resume, model)
        service.streams.keep_for(stream, hello.resume_s)
        self._reset_next = not resumed
        if not resumed:
            stream.demand = Demand()
        stream.demand.promised_fps = promised_fps
        self._pace = Pace(slower(hello.max_fps, settings.max_fps), hello.idle_fps, settings.idle_after_s)
        self._use_lane(stream, hello)
        try:
            if stream.pipeline is None or stream.model != model:
                await service.life.ready(model)
                pipeline = await in_thread(lambda: service.make_pipeline(model))
                service.registry.resolve(model)  # it may have been unloaded meanwhile
                stream.pipeline, stream.model = pipeline, model
            if Output.TRACKS in hello.outputs and stream.tracker is None:
                stream.tracker = await in_thread(lambda: load(settings.track_lost_s))
        except BaseException:
            if stream.token is None and stream.attachment is self:
                service.streams.remove(stream)
            elif stream.pipeline is None:
                self._leave()  # it may be opened elsewhere
            raise
        assert stream.lane is not None
        stream.lane.group = service.group(stream.pipeline.model)
        self._say_ready(stream, resumed, reason)
        return stream

    def _use_lane(self, stream: Stream, hello: Hello) -> None:
        """One lane per stream, whatever connections come and go: never two workers in one session."""
        capacity = self._service.settings.window
        if stream.lane is None:
            stream.lane = self._service.scheduler.lane(compute, policy=hello.policy, capacity=capacity)
        else:
            self._watch.dropped(stream, len(self._service.scheduler.clear(stream.lane)), "left")
            stream.lane.policy = hello.policy
        stream.lane.taken = lambda: self._on_loop(self._space.set)

    def _say_ready(self, stream: Stream, resumed: bool, reason: ResumeReason | None) -> None:
        settings = self._service.settings
        assert stream.pipeline is not None
        self._watch.opened(stream)
        offers = self._hello.tiles and settings.tiles
        self._protocol.opened(tiles=offers)
        self._reference = Reference(self._service.limits, 2 * settings.max_message_bytes) if offers else None
        stream.reference = self._reference
        self._put(
            Ready(
                stream_id=stream.id,
                model=stream.pipeline.model.name,
                policy=self._hello.policy,
                window=settings.window,
                limits=Limits(max_message_bytes=settings.max_message_bytes, max_pixels=settings.max_pixels),
                resume=stream.resume.mint(),
                resumed=resumed,
                size=stream.pipeline.model.size,
                resume_reason=reason,
                resume_s=stream.resume_s,
                max_fps=self._pace.max_fps,
                tiles=TileRules(tile_px=TILE_PX, difference=settings.tile_difference_levels) if offers else None,
            )
        )

    async def _take_frame(self, stream: Stream, frame: FrameMessage) -> None:
        """Check a frame by its header and queue it; with policy `all`, wait for room; with `drop_newest`, do not."""
        if stream.attachment is not self:
            return None  # taken over by a newer connection: this one is about to be closed
        received_ns, received_ts_us = time.perf_counter_ns(), time.time_ns() // 1000
        self._settled.clear()
        self._watch.received(stream, frame)
        self._reset_next |= bool(frame.flags & Flags.RESET)  # kept for the next frame where this one is not computed
        refused = self._refusal(frame)
        if refused is not None:
            return self._answer_refused(stream, frame.seq, refused)
        if self._pace.skips(received_ns, self._looks(frame), wanted=self._reset_next):
            stream.counters.paced += 1
            return self._drop(stream, frame.seq, "paced")
        stream.demand.offered.add(time.monotonic())
        job = self._job(stream, frame, received_ns)
        job.received_ts_us = received_ts_us
        assert stream.lane is not None
        scheduler = self._service.scheduler
        if stream.lane.policy is Policy.LATEST:
            job.reset = job.reset or any(waiting.reset for waiting in tuple(stream.lane.pending))
        while True:
            self._space.clear()
            taken, replaced = scheduler.submit(stream.lane, job)
            self._watch.dropped(stream, len(replaced), "replaced")
            for old in replaced:
                self._settle(old.frame.seq)
            if taken:
                return None
            if stream.lane.policy is Policy.DROP_NEWEST and not stream.lane.closed:
                self._reset_next |= job.reset
                return self._drop(stream, frame.seq, "full")
            if stream.lane.closed:
                self._drop(stream, frame.seq, "left")
                raise Closing(CloseCode.NORMAL, "the stream is gone")
            await self._room_for(stream, frame)

    def _refusal(self, frame: FrameMessage) -> Refused | None:
        """Why a frame is not worth queueing, by its header and what it lies on; None if it is.

        What is not refused here is part of the connection's picture, whatever becomes of the frame.
        """
        reference, wanted, limits = self._reference, self._hello.content_type, self._service.limits
        if frame.op is not Op.TILES or reference is None:
            header = header_of(frame.payload, wanted, limits)
            if isinstance(header, Refused):
                return header
            if reference is not None:
                size = header.width, header.height
                reference.take_whole(frame.seq, frame.payload, size, self._protocol.waiting)
            return None
        tiles = parse_tiles(frame.payload)
        refused = check_header(tiles.image, wanted, limits, tiles.mosaic_size) if tiles.count else None
        if refused is not None:
            reference.forget()
            return refused
        why = reference.take_tiles(frame.seq, frame.payload, tiles)
        return None if why is None else Refused(ErrorCode.REFERENCE_MISMATCH, why)

    def _looks(self, frame: FrameMessage) -> int:
        """The size by which a frame tells that it may show something else, bytes: of the picture, with its tiles."""
        if frame.op is not Op.TILES:
            self._whole_bytes = len(frame.payload)
            return self._whole_bytes
        return self._whole_bytes + len(frame.payload)

    async def _room_for(self, stream: Stream, frame: FrameMessage) -> None:
        """Wait until the lane may have room. A frame that waits as the connection ends is settled as dropped."""
        try:
            await self._space.wait()
        except asyncio.CancelledError:
            self._drop(stream, frame.seq, "left")
            raise

    def _drop(self, stream: Stream, seq: int, cause: Cause) -> None:
        """Settle a frame that is not computed."""
        self._watch.dropped(stream, 1, cause)
        self._put(Ack(ack=self._settle(seq), dropped=stream.counters.dropped))

    def _job(self, stream: Stream, frame: FrameMessage, received_ns: int) -> FrameJob:
        assert stream.pipeline is not None
        reset, self._reset_next = self._reset_next, False
        wants_image = Output.ANNOTATED in self._hello.outputs
        return FrameJob(
            stream_id=stream.id,
            frame=frame,
            pipeline=stream.pipeline,
            deliver=self._deliver,
            abandoned=self._gone.is_set,
            received_ns=received_ns,
            reset=reset,
            min_confidence=self._hello.min_confidence,
            annotate_quality=self._service.settings.jpeg_quality if wants_image else None,
            tracker=stream.tracker if Output.TRACKS in self._hello.outputs else None,
            changes=Output.CHANGES in self._hello.outputs,
            referenced=None if self._reference is None else self._reference.at(frame.seq),
        )

    def _deliver(self, job: FrameJob, answer: Answer) -> None:
        """Called in a worker's thread."""
        if self._stream is not None and self._stream.lane is not None:
            self._service.scheduler.answered(self._stream.lane)
        self._on_loop(lambda: self._answer(job, answer))

    def _on_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call)

    def _answer(self, job: FrameJob, answer: Answer) -> None:
        stream = self._stream
        if stream is None or self._gone.is_set():
            return
        if isinstance(answer, Refused):
            return self._answer_refused(stream, job.frame.seq, answer)
        stream.counters.evicted += answer.outcome.evicted
        self._pace.found(time.perf_counter_ns(), answer.outcome.changed_tiles > 0)
        self._send_result(stream, job, answer)
        self._service.viewing.publish(stream, answer.outcome.image, answer.outcome, job.frame.seq)

    def _send_result(self, stream: Stream, job: FrameJob, computed: Computed) -> None:
        ack = self._settle(job.frame.seq)
        sent = self._watch.computed(stream, job, computed)
        message = result_message(job, computed, ack=ack, dropped=stream.counters.dropped)
        self._outbox.put(self._protocol.encode(message), sent)
        if computed.annotated is not None:
            self._outbox.put(computed.annotated)

    def _answer_refused(self, stream: Stream, seq: int, refused: Refused) -> None:
        self._watch.refused(stream, refused)
        ack = self._settle(seq)
        self._put(
            ErrorMessage(code=refused.code.value, detail=refused.detail, seq=seq, ack=ack, error_id=refused.error_id)
        )

    def _settle(self, seq: int) -> int:
        ack = self._protocol.settle(seq)
        if not self._protocol.unsettled:
            self._settled.set()
        return ack
