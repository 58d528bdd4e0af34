"""A camera as the rest of the program sees it: its latest picture, and how it is. It never fails and never blocks.

One thread looks after the camera's process (`service.ingest.reader`): starts it, takes over pictures, kills it when no
picture has come for `stall_s`, and starts another one after a wait that grows. States:

    connecting  --a picture-->  live  --no picture for stall_s-->  stalled  -->  waiting  -->  connecting
    connecting, live  --the process ended, or open_s passed-->  waiting
      any of them  --stop-->  stopped

Bounds: one picture here, two in the shared memory. Knows no streams and no web framework.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.ingest.address import Address
from service.ingest.slots import MAX_LINE_BYTES, Message, Nonsense, Request, Slots

log = logging.getLogger("afterimage.cameras")

Transport: TypeAlias = Literal["tcp", "udp"]

ROOT = Path(__file__).parents[2]
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")
"""Of the environment, which may hold keys and passwords, that the process gets."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
STEADY_S = 10.0
"""After so long without trouble the waits begin anew."""
_READ_BYTES = 1 << 16


class CameraState(StrEnum):
    """How a camera is."""

    CONNECTING = "connecting"  # its process was started; there is no picture yet
    LIVE = "live"  # pictures come
    STALLED = "stalled"  # no picture for stall_s: its process is being killed
    WAITING = "waiting"  # for the next try, after what `reason` says
    STOPPED = "stopped"


@dataclass(frozen=True)
class CameraOptions:
    """How a camera is read.

    transport : of RTSP. max_fps : pictures a second that are handed over at most; None: all. stall_s : without a
    picture for so long a live camera counts as stalled. open_s : wait for the first picture. max_pixels : of a picture.
    skip_unchanged : pictures that are, to the last bit, like the one before are handed over once a second only.
    memory_bytes : address space of its process.
    """

    transport: Transport = "tcp"
    max_fps: float | None = None
    stall_s: float = 2.5
    open_s: float = 15.0
    max_pixels: int = 4096 * 4096
    skip_unchanged: bool = True
    memory_bytes: int = 3 << 30


@dataclass(frozen=True)
class Picture:
    """A decoded picture: uint8[H, W, 3] BGR, nobody else's.

    sequence : 0, 1, 2... over those handed over. timestamp_ns : monotonic clock, when it was decoded; captured_us : the
    same moment, microseconds since 1970.
    """

    image: NDArray[np.uint8] = field(repr=False)
    sequence: int
    timestamp_ns: int
    captured_us: int


@dataclass(frozen=True)
class Status:
    """How a camera is. `reason`: why it was lost, until it is live again.

    since : when the state began, monotonic seconds.
    decoded, unchanged : pictures decoded, and those not handed over because nothing had changed. pid : of its process.
    """

    state: CameraState = CameraState.CONNECTING
    reason: str | None = None
    reconnects: int = 0
    decoded: int = 0
    unchanged: int = 0
    since: float = field(default_factory=time.monotonic)
    pid: int | None = None


class Camera:
    """See the module. `on_picture` and `on_status` are called in the camera's thread and must be quick and not raise.

    A status is told when the state changes. Use `start` once; `stop` when done.
    """

    def __init__(
        self,
        address: Address,
        options: CameraOptions = CameraOptions(),
        on_picture: Callable[[Picture], None] = lambda picture: None,
        on_status: Callable[[Status], None] = lambda status: None,
    ) -> None:
        self._address, self._options = address, options
        self._on_picture, self._on_status = on_picture, on_status
        self._status = Status()
        self._latest: Picture | None = None
        self._lived_s = 0.0
        self._sequence = 0
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="afterimage-camera", daemon=True)

    @property
    def status(self) -> Status:
        """How it is now."""
        return self._status

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Kill the process; whether all has ended in time. May be called in any thread, and again."""
        with self._news:
            self._stopping.set()
            if self._child is not None:
                self._child.kill()
            self._news.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def take(self, timeout_s: float | None = None) -> Picture | None:
        """The latest picture, once; waits for the next where it was taken already. None: none came in time."""
        with self._news:
            self._news.wait_for(lambda: self._latest is not None or self._stopping.is_set(), timeout_s)
            picture, self._latest = self._latest, None
            return picture

    def _run(self) -> None:
        failures, failed = 0, None
        while not self._stopping.is_set():
            self._become(CameraState.CONNECTING, self._status.reason)
            try:
                reason = self._attend()
            except OSError as error:
                reason = f"its decoder cannot be started: {error.strerror}"
            except Exception as error:
                reason = f"its reader failed: {type(error).__name__}"
                if reason != failed:
                    log.exception("a camera's reader failed; it is tried again")
                failed = reason
            if self._stopping.is_set():
                break
            steady = self._lived_s >= STEADY_S
            failures = 1 if steady else failures + 1
            self._become(CameraState.WAITING, reason)
            self._stopping.wait(wait_s(failures))
            self._status = replace(self._status, reconnects=self._status.reconnects + 1)
        self._become(CameraState.STOPPED)
        with self._news:
            self._news.notify_all()

    def _attend(self) -> str:
        """Start the process and take over what it decodes until it ends; returns why it did."""
        self._lived_s = 0.0
        slots = Slots.make(self._options.max_pixels)
        try:
            child = self._spawn(slots)
            if child is None:
                return "stopped"
            try:
                return self._take_over(child, slots)
            finally:
                child.kill()
                child.wait()
                with self._news:
                    self._child = None
                for pipe in (child.stdin, child.stdout):
                    if pipe is not None:
                        with contextlib.suppress(OSError):
                            pipe.close()
                self._status = replace(self._status, pid=None)
        finally:
            slots.close()

    def _spawn(self, slots: Slots) -> subprocess.Popen[bytes] | None:
        """The process, told what to do; None where the camera was stopped meanwhile."""
        options = self._options
        request = Request(
            url=self._address.url, scheme=self._address.scheme, transport=options.transport, fd=slots.fd,
            max_pixels=options.max_pixels, memory_bytes=options.memory_bytes, max_fps=options.max_fps,
            skip_unchanged=options.skip_unchanged,
        )  # fmt: skip
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
        with self._news:
            if self._stopping.is_set():
                return None
            self._child = child = subprocess.Popen(
                [sys.executable, "-m", "service.ingest.reader"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=(slots.fd,),
                env=environment, cwd="/", start_new_session=True, bufsize=0,
            )  # fmt: skip
        self._status = replace(self._status, pid=child.pid)
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone already; its exit status says why
            child.stdin.write(request.encode())
        return child

    def _take_over(self, child: subprocess.Popen[bytes], slots: Slots) -> str:
        assert child.stdout is not None
        options, begun = self._options, time.monotonic()
        poll, pending, last = select.poll(), b"", begun
        poll.register(child.stdout, select.POLLIN)
        decoded, unchanged = self._status.decoded, self._status.unchanged
        while True:
            live = self._status.state is CameraState.LIVE
            left_s = last + (options.stall_s if live else options.open_s) - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1e3):
                if not live:
                    return f"no picture came within {options.open_s:g} s"
                reason = f"no picture came for {options.stall_s:g} s"
                self._become(CameraState.STALLED, reason)
                return reason
            data = os.read(child.stdout.fileno(), _READ_BYTES)
            if not data:
                return _ended(child)
            *lines, pending = (pending + data).split(b"\n")
            try:
                messages = [Message.decode(line) for line in lines]
                if len(pending) > MAX_LINE_BYTES:
                    raise Nonsense("expected shorter lines")
                self._take_newest(child, slots, messages)
            except Nonsense as error:
                return f"its decoder sent nonsense: {error}"
            if heard := [message for message in messages if not message.failed]:
                last = time.monotonic()
                self._lived_s = last - begun
                self._status = replace(
                    self._status, decoded=decoded + heard[-1].decoded, unchanged=unchanged + heard[-1].unchanged
                )
                self._become(CameraState.LIVE)
            if len(heard) < len(messages):
                return messages[-1].failed or "its decoder goes on after it failed"

    def _take_newest(self, child: subprocess.Popen[bytes], slots: Slots, messages: list[Message]) -> None:
        """Copy the last picture of some messages, and give all their slots back. Raises Nonsense."""
        filled = [message for message in messages if message.slot >= 0]
        if filled:
            newest = filled[-1]
            image = slots.view(newest.slot, newest.width, newest.height).copy()
        with contextlib.suppress(OSError):  # it is gone; what it sent before is still good
            assert child.stdin is not None
            child.stdin.write(bytes(message.slot for message in filled if message.slot <= 255))
        if filled:
            late_us = max(0, time.monotonic_ns() - newest.stamp_ns) // 1000
            picture = Picture(image, self._sequence, newest.stamp_ns, time.time_ns() // 1000 - late_us)
            self._sequence += 1
            with self._news:
                self._latest = picture
                self._news.notify_all()
            self._on_picture(picture)

    def _become(self, state: CameraState, reason: str | None = None) -> None:
        if state is self._status.state and reason == self._status.reason:
            return
        self._status = replace(self._status, state=state, reason=reason, since=time.monotonic())
        try:
            self._on_status(self._status)
        except Exception:
            log.exception("whoever wanted a camera's status failed")


def wait_s(failures: int, rng: random.Random = random.Random()) -> float:  # noqa: B008  # shared on purpose
    """Wait after so many failures in a row, seconds: it doubles, is bounded, and is drawn from its upper half."""
    full = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - 1, 60))
    return full * (0.5 + 0.5 * rng.random())


def _ended(child: subprocess.Popen[bytes]) -> str:
    """How a process ended that said nothing, in words."""
    try:
        code = child.wait(1.0)
    except subprocess.TimeoutExpired:
        return "its decoder says nothing any more"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"its decoder was ended by {name}"
    return f"its decoder ended with status {code}"
