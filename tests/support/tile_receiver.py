"""A server that only takes frames and pastes tiles, written by the protocol alone, for clients to be watched by.

It keeps what each connection has sent: so a test sees which tiles came, and what the receiver's picture is by then.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import simplejpeg
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from clients.wire import Flags, FrameMessage, Op, decode_frame
from clients.wire.tiles import parse_tiles

TILE_PX = 16
OFFER = {"tile_px": TILE_PX, "difference": 3.0}


@dataclass
class Taken:
    """One frame as it came. tiles : bool[rows, columns] that changed, None of a whole frame. picture : after it."""

    connection: int
    op: Op
    flags: Flags
    seq: int
    size_bytes: int
    tiles: np.ndarray | None
    picture: np.ndarray | None
    refused: str | None


@dataclass
class TileReceiver:
    """What it answers can be changed at any time; what came is in `taken`."""

    size: tuple[int, int] = (640, 480)
    offer: dict[str, Any] | None = field(default_factory=lambda: dict(OFFER))
    window: int = 2
    most_bytes: int = 1 << 20
    refuse: deque[str] = field(default_factory=deque)  # codes for the next frames
    answer: bool = True  # False: frames are taken and not settled
    hellos: list[dict[str, Any]] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    url: str = ""
    live: ServerConnection | None = None

    def drop(self) -> None:
        """Break the connection."""
        assert self.live is not None
        self.live.socket.shutdown(2)

    def talk(self, socket: ServerConnection) -> None:
        """One connection."""
        self.live = socket
        connection = len(self.hellos)
        try:
            self.hellos.append(json.loads(socket.recv()))
            socket.send(json.dumps(self._ready()))
            reference = _Reference()
            for data in socket:
                if isinstance(data, bytes):
                    self._take(socket, reference, connection, decode_frame(data))
                else:
                    socket.close()
        except ConnectionClosed:
            return

    def _ready(self) -> dict[str, Any]:
        limits = {"max_message_bytes": self.most_bytes, "max_pixels": 1 << 24}
        ready = {"type": "ready", "stream_id": "door", "model": "none", "policy": "latest", "window": self.window}
        ready |= {"limits": limits, "resume": "r", "resumed": False, "size": list(self.size)}
        return ready | ({"tiles": self.offer} if self.offer else {})

    def _take(self, socket: ServerConnection, reference: _Reference, connection: int, frame: FrameMessage) -> None:
        code = self.refuse.popleft() if self.refuse else None
        code = code or reference.take(frame)
        if code:
            reference.name = None
        tiles = _bits(frame.payload) if frame.op == Op.TILES else None
        picture = None if reference.picture is None else reference.picture.copy()
        size_bytes = len(frame.payload)
        self.taken.append(Taken(connection, frame.op, frame.flags, frame.seq, size_bytes, tiles, picture, code))
        if not self.answer:
            return
        settled: dict[str, Any] = {"type": "ack", "ack": frame.seq, "dropped": 0}
        if code:
            settled = {"type": "error", "code": code, "detail": "asked for", "seq": frame.seq, "ack": frame.seq}
        socket.send(json.dumps(settled))


class _Reference:
    """Picture and name of what the client sent last."""

    def __init__(self) -> None:
        self.name: int | None = None
        self.picture: np.ndarray | None = None

    def take(self, frame: FrameMessage) -> str | None:
        """Take a frame in; returns the code of its refusal."""
        if frame.op == Op.IMAGE:
            self.picture = cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_COLOR)
        else:
            tiles = parse_tiles(frame.payload)
            held = None if self.picture is None else (self.picture.shape[1], self.picture.shape[0])
            if (tiles.base, (tiles.width, tiles.height), tiles.tile_px) != (self.name, held, TILE_PX):
                return "reference_mismatch"
            if tiles.count:
                self._paste(frame.payload)
        self.name = zlib.crc32(frame.payload)
        return None

    def _paste(self, payload: bytes) -> None:
        tiles = parse_tiles(payload)
        if tiles.image.startswith(b"\xff\xd8"):
            mosaic = simplejpeg.decode_jpeg(tiles.image, colorspace="BGR", fastupsample=True)
        else:
            mosaic = cv2.imdecode(np.frombuffer(tiles.image, np.uint8), cv2.IMREAD_COLOR)
        assert (mosaic.shape[1], mosaic.shape[0]) == tiles.mosaic_size
        assert self.picture is not None
        for place, (row, column) in enumerate(np.argwhere(_bits(payload))):
            top, left = row * TILE_PX, column * TILE_PX
            y, x = place // tiles.columns * TILE_PX, place % tiles.columns * TILE_PX
            part = self.picture[top : top + TILE_PX, left : left + TILE_PX]
            part[:] = mosaic[y : y + part.shape[0], x : x + part.shape[1]]


def _bits(payload: bytes) -> np.ndarray:
    tiles = parse_tiles(payload)
    rows, columns = tiles.grid
    flat = np.unpackbits(np.frombuffer(tiles.bitmap, np.uint8))[: rows * columns]
    return flat.reshape(rows, columns).astype(bool)


@contextmanager
def receiving() -> Iterator[TileReceiver]:
    """A receiver on an ephemeral port of 127.0.0.1."""
    receiver = TileReceiver()
    with serve(receiver.talk, "127.0.0.1", 0, subprotocols=["afterimage.v1"]) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever, name="receiver", daemon=True)
        thread.start()
        receiver.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        yield receiver
        server.shutdown()
        thread.join(10)
    assert not thread.is_alive()
