"""The process of one camera: `python -m service.ingest.reader`, started by `service.ingest.camera` and by nobody else.

It gets the address on its standard input, where nobody else can read it, decodes, and hands over the latest picture
(`service.ingest.slots`). It has no sockets of the server, no environment of it, bounded memory and may not write files.
It ends when its standard input does: with the process that started it, however that ends.
"""

from __future__ import annotations

import os
import queue
import resource
import sys
import threading
import time
from typing import Any, BinaryIO

from service.ingest.address import Address, redact
from service.ingest.decoding import DecodingError, pictures, same_picture
from service.ingest.slots import SLOTS, Message, Request, Slots

BEAT_S = 0.2
"""How often it says at least that it decodes."""
LOOK_S = 1.0
"""A picture is handed over so often at least, though nothing changes."""
FILES = 64
FAILED = 3


class Handover:
    """Decides which pictures are handed over, and says so.

    free : slots that are this side's. Everything but `free` belongs to one thread.
    """

    def __init__(self, slots: Slots, channel: int, max_fps: float | None, skip_unchanged: bool) -> None:
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(SLOTS):
            self.free.put(slot)
        self._slots, self._channel = slots, channel
        self._interval_s = 0.0 if max_fps is None else 1 / max_fps
        self._skip_unchanged = skip_unchanged
        self._decoded = self._unchanged = 0
        self._last: Any = None
        self._due_s = self._looked_s = self._said_s = float("-inf")

    def offer(self, frame: Any, may_be_same: bool) -> None:
        """Take the next decoded picture; `may_be_same` says whether comparing it with the one before is worth it."""
        now_s, stamp_ns = time.monotonic(), time.monotonic_ns()
        self._decoded += 1
        if now_s < self._due_s - self._interval_s / 2:  # a camera of just this rate loses none for its jitter
            return self._beat(now_s)
        recent = self._skip_unchanged and now_s - self._looked_s < LOOK_S
        if recent and may_be_same and same_picture(frame, self._last):
            self._unchanged += 1
            return self._beat(now_s)
        try:
            slot = self.free.get_nowait()
        except queue.Empty:  # the other side is behind: a later picture will do
            return self._beat(now_s)
        pixels = frame.to_ndarray(format="bgr24")
        height, width = pixels.shape[:2]
        self._slots.view(slot, width, height)[:] = pixels
        self._last, self._looked_s = frame, now_s
        self._due_s = max(now_s, self._due_s) + self._interval_s
        self._say(now_s, Message(self._decoded, self._unchanged, slot, width, height, stamp_ns))
        return None

    def _beat(self, now_s: float) -> None:
        if now_s - self._said_s >= BEAT_S:
            self._say(now_s, Message(self._decoded, self._unchanged))

    def _say(self, now_s: float, message: Message) -> None:
        self._said_s = now_s
        say(self._channel, message)


def say(channel: int, message: Message) -> None:
    """Write a message; when nobody reads, end."""
    line = message.encode()
    try:
        while line:
            line = line[os.write(channel, line) :]
    except OSError:
        os._exit(0)


def confine(memory_bytes: int) -> None:
    """Give up what decoding does not need: core dumps, files, address space without end."""
    wanted = {
        resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_AS: memory_bytes,
    }  # fmt: skip
    for which, most in wanted.items():
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(which, (most, most))
        except (ValueError, OSError):  # systems differ in what they let one lower; macOS has no such RLIMIT_AS
            continue


def listen(source: BinaryIO, free: queue.SimpleQueue[int]) -> None:
    """Take back slots until the other side is gone; then end at once, whatever FFmpeg is doing."""
    while given := source.read(1):
        if given[0] < SLOTS:
            free.put(given[0])
    os._exit(0)


def main() -> None:
    """Read the request, decode until there is nothing more, say why."""
    source, channel = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # what libraries print is no message
    line = source.readline()
    if not line.endswith(b"\n"):
        return
    request = Request.decode(line)
    confine(request.memory_bytes)
    slots = Slots(request.fd, request.max_pixels)
    handover = Handover(slots, channel, request.max_fps, request.skip_unchanged)
    threading.Thread(target=listen, args=(source, handover.free), name="listen", daemon=True).start()
    address = Address(request.url, request.scheme, "")
    try:
        for frame, tiny in pictures(address, transport=request.transport, max_pixels=request.max_pixels):
            handover.offer(frame, tiny)
    except DecodingError as error:
        say(channel, Message(failed=redact(str(error))))
    except MemoryError:
        say(channel, Message(failed=f"decoding it needs more than {request.memory_bytes >> 20} MiB"))
    except Exception as error:  # its text might hold the address
        say(channel, Message(failed=f"the decoder failed ({type(error).__name__})"))
    os._exit(FAILED)


if __name__ == "__main__":
    main()
