"""Python clients of a stream: `StreamClient` (blocking) and `AsyncStreamClient` (asyncio).

They need `websockets` and `msgspec`, and nothing of the server.
"""

from .aio import AsyncStreamClient
from .core import Event, FrameRefused, FrameResult, FramesLost, StreamOptions
from .errors import ClientClosed, ClientError, ConnectionFailed, Refused, ServerMisbehaved
from .reconnect import Reconnect
from .sync import StreamClient

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
]
