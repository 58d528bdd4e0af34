"""Python clients of a stream: `StreamClient` (blocking) and `AsyncStreamClient` (asyncio).

They need `websockets` and `msgspec`, and nothing of the server.
"""

from clients.python.aio import AsyncStreamClient
from clients.python.core import Event, FrameRefused, FrameResult, FramesLost, StreamOptions
from clients.python.errors import ClientClosed, ClientError, ConnectionFailed, Refused, ServerMisbehaved
from clients.python.reconnect import Reconnect
from clients.python.sync import StreamClient
from clients.python.tiles import TileEncoder, TilesUnavailable

__all__ = [
    "AsyncStreamClient",
    "ClientClosed",
    "ClientError",
    "ConnectionFailed",
    "Event",
    "FrameRefused",
    "FrameResult",
    "FramesLost",
    "Reconnect",
    "Refused",
    "ServerMisbehaved",
    "StreamClient",
    "StreamOptions",
    "TileEncoder",
    "TilesUnavailable",
]
