"""One client's connection to a stream, from hello to close: reader, sender and the answers of the workers."""

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
    Offer,
    Output,
    Policy,
    Ready,
    ServerProtocol,
    WireError,
)
from service.errors import new_error_id
from service.jobs import Answer, Computed, FrameJob, Refused, check_header, compute, result_message
from service.outbox import Outbox
from service.registry import ModelFailed, UnknownModel
from service.state import Service
from service.streams import NotAuthorised, Stream, StreamBusy, TooManyStreams

log = logging.getLogger("afterimage.ws")

FLUSH_S = 2.0
FPS_SLACK = 0.9  # of the frame interval: a camera's clock jitters


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their ends, whatever those are."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain


class _Closing(Exception):
    """Raised inside the connection's own tasks to end it; `finish` answers the frames under way first."""

    def __init__(self, code: int, reason: str, *, finish: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.finish = finish


class StreamConnection:
    """One client on one stream. Everything but `_deliver` runs on the event loop."""

    def __init__(
        self,
        websocket: WebSocket,
        service: Service,
        stream_id: str,
        offer: Offer,
        token: str | None,
        owner: str | None = None,
    ) -> None:
        self._websocket = websocket
        self._service = service
        self._stream_id = stream_id
        self._token = token
        self._owner = owner
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
        self._ending: asyncio.Future[_Closing] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._stream: Stream | None = None
        self._hello = Hello()
        self._reset_next = False
        self._last_frame_ns = 0
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
            log.debug("stream %s: the connection was gone at its end: %s", self._stream_id, error)
        finally:
            self._leave()
            self._gone.set()
            await _cancel(reader, sender)

    def end(self, close_code: int, reason: str) -> None:
        """Close soon, without waiting for frames under way."""
        self._end(_Closing(close_code, reason))

    async def drain(self, deadline: float) -> None:
        """Finish frames under way until `deadline` (loop time), then close with 1012; returns when closed."""
        self._deadline = deadline
        retry_ms = self._service.settings.retry_after_ms
        self._end(_Closing(CloseCode.DRAINING, f"server shutting down; retry in {retry_ms} ms", finish=True))
        await self._gone.wait()

    def _end(self, closing: _Closing) -> None:
        if not self._ending.done():
            self._ending.set_result(closing)

    def _closing_of(self, reader: asyncio.Task[None]) -> _Closing | None:
        """How to close; None when the other side is gone already."""
        if self._ending.done():
            return self._ending.result()
        if not reader.done() or reader.cancelled():
            return None
        error = reader.exception()
        if error is None or isinstance(error, WebSocketDisconnect):
            return None
        if isinstance(error, _Closing):
            return error
        error_id = new_error_id()
        log.error("stream %s: connection failed, error_id=%s", self._stream_id, error_id, exc_info=error)
        return _Closing(CloseCode.INTERNAL, f"server error {error_id}")

    async def _finish(self, reader: asyncio.Task[None], closing: _Closing) -> None:
        """Answer what is under way where that is promised, flush, close."""
        reader.cancel()
        with contextlib.suppress(TimeoutError):
            if closing.finish:
                fallback = self._loop.time() + self._service.settings.drain_s
                async with asyncio.timeout_at(self._deadline or fallback):
                    await self._settled.wait()
        if closing.code == CloseCode.DRAINING:
            self._put(Draining(retry_after_ms=self._service.settings.retry_after_ms))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._outbox.empty()
                if self._websocket.application_state is WebSocketState.CONNECTED:
                    await self._websocket.close(closing.code, closing.reason[:120])
        if closing.code == CloseCode.NORMAL and self._stream is not None and self._stream.token is None:
            self._service.streams.remove(self._stream)  # the client said bye: nobody will resume

    def _leave(self) -> None:
        stream = self._stream
        if stream is None or stream.attachment is not self:
            return
        if stream.lane is not None:
            stream.counters.dropped += len(self._service.scheduler.clear(stream.lane))
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

    def _put(self, message: Ready | ErrorMessage | Ack | Draining) -> None:
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
                    self._stream.counters.refused += 1
                self._put(self._protocol.refusal(error))
                if error.code is ErrorCode.MESSAGE_TOO_LARGE and text is None:
                    raise _Closing(CloseCode.TOO_BIG, error.detail) from None

    async def _read(self) -> None:
        """Hello, then frames until bye or the connection's end."""
        stream = await self._greet()
        while True:
            message = await self._receive()
            if isinstance(message, Bye):
                raise _Closing(CloseCode.NORMAL, "bye", finish=True)
            if isinstance(message, FrameMessage):
                await self._take_frame(stream, message)

    async def _greet(self) -> Stream:
        """Authorise, read hello, open the stream and say ready; _Closing with the reason otherwise."""
        service, settings = self._service, self._service.settings
        if service.draining:
            raise _Closing(CloseCode.DRAINING, "server shutting down")
        try:
            service.streams.authorise(self._stream_id, token=self._token, anonymous=self._anonymous, owner=self._owner)
            self._hello = await self._receive_hello(settings.hello_timeout_s)
            return await self._open(self._hello)
        except NotAuthorised as error:
            raise self._refuse(ErrorCode.UNAUTHORIZED, str(error), CloseCode.UNAUTHORIZED) from None
        except UnknownModel as error:
            raise self._refuse(ErrorCode.UNKNOWN_MODEL, str(error), CloseCode.UNAUTHORIZED) from None
        except ModelFailed as error:
            raise self._refuse(ErrorCode.MODEL_FAILED, str(error), CloseCode.UNAUTHORIZED) from None
        except (StreamBusy, TooManyStreams) as error:
            raise self._refuse(ErrorCode.OVERLOADED, str(error), CloseCode.OVERLOADED) from None

    async def _receive_hello(self, timeout_s: float) -> Hello:
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._receive()
        except TimeoutError:
            raise _Closing(CloseCode.PROTOCOL_ERROR, f"expected hello within {timeout_s:g} s") from None
        assert isinstance(message, Hello)  # the protocol lets nothing else through first
        return message

    def _refuse(self, code: ErrorCode, detail: str, close_code: CloseCode) -> _Closing:
        retry_ms = self._service.settings.retry_after_ms if close_code == CloseCode.OVERLOADED else None
        self._put(ErrorMessage(code=code.value, detail=detail, retry_after_ms=retry_ms))
        return _Closing(close_code, detail)

    async def _open(self, hello: Hello) -> Stream:
        service = self._service
        known = service.streams.get(self._stream_id)
        model = service.registry.resolve(hello.model or (known.model if known else None))
        stream, resumes = service.streams.open(
            self._stream_id,
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
        self._reset_next = not resumed
        self._use_lane(stream, hello)
        if stream.pipeline is None or stream.model != model:
            try:
                pipeline = await asyncio.to_thread(service.make_pipeline, model)
            except BaseException:
                if stream.token is None and stream.attachment is self:
                    service.streams.remove(stream)
                raise
            stream.pipeline, stream.model = pipeline, model
        self._say_ready(stream, resumed)
        return stream

    def _use_lane(self, stream: Stream, hello: Hello) -> None:
        """One lane per stream, whatever connections come and go: never two workers in one session."""
        capacity = self._service.settings.window
        if stream.lane is None:
            stream.lane = self._service.scheduler.lane(compute, policy=hello.policy, capacity=capacity)
        else:
            stream.counters.dropped += len(self._service.scheduler.clear(stream.lane))
            stream.lane.policy = hello.policy
        stream.lane.taken = lambda: self._on_loop(self._space.set)

    def _say_ready(self, stream: Stream, resumed: bool) -> None:
        settings = self._service.settings
        assert stream.pipeline is not None
        self._protocol.opened()
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
            )
        )

    async def _take_frame(self, stream: Stream, frame: FrameMessage) -> None:
        """Check a frame by its header and queue it; with policy `all`, wait for room."""
        if stream.attachment is not self:
            return None  # taken over by a newer connection: this one is about to be closed
        received_ns = time.perf_counter_ns()
        self._settled.clear()
        stream.counters.received += 1
        self._reset_next |= bool(frame.flags & Flags.RESET)  # kept for the next frame where this one is not computed
        refused = check_header(frame.payload, self._hello.content_type, self._service.limits)
        if refused is not None:
            return self._answer_refused(stream, frame.seq, refused)
        if self._too_soon(received_ns):
            stream.counters.dropped += 1
            return self._put(Ack(ack=self._settle(frame.seq), dropped=stream.counters.dropped))
        job = self._job(stream, frame, received_ns)
        assert stream.lane is not None
        scheduler = self._service.scheduler
        if stream.lane.policy is Policy.LATEST:
            job.reset = job.reset or any(waiting.reset for waiting in tuple(stream.lane.pending))
        while True:
            self._space.clear()
            taken, replaced = scheduler.submit(stream.lane, job)
            stream.counters.dropped += len(replaced)
            for old in replaced:
                self._settle(old.frame.seq)
            if taken:
                return None
            await self._space.wait()

    def _too_soon(self, now_ns: int) -> bool:
        max_fps = self._hello.max_fps
        if max_fps is not None and now_ns - self._last_frame_ns < FPS_SLACK * 1e9 / max_fps:
            return True
        self._last_frame_ns = now_ns
        return False

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
        stream.counters.results += 1
        stream.counters.compute_fraction_sum += answer.outcome.compute_fraction
        self._send_result(stream, job, answer)

    def _send_result(self, stream: Stream, job: FrameJob, computed: Computed) -> None:
        ack = self._settle(job.frame.seq)
        message = result_message(job, computed, ack=ack, dropped=stream.counters.dropped)
        self._outbox.put(self._protocol.encode(message))
        if computed.annotated is not None:
            self._outbox.put(computed.annotated)

    def _answer_refused(self, stream: Stream, seq: int, refused: Refused) -> None:
        if refused.error_id is None:
            stream.counters.refused += 1
        else:
            stream.counters.failed += 1
        ack = self._settle(seq)
        self._put(
            ErrorMessage(code=refused.code.value, detail=refused.detail, seq=seq, ack=ack, error_id=refused.error_id)
        )

    def _settle(self, seq: int) -> int:
        ack = self._protocol.settle(seq)
        if not self._protocol.unsettled:
            self._settled.set()
        return ack
