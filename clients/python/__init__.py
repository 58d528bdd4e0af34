"""Python clients of a stream: `StreamClient` (blocking) and `AsyncStreamClient` (asyncio).

They need `websockets` and `msgspec`, and nothing of the server.
"""

from ..wire import (
    Audit,
    ClassScore,
    Detection,
    Encoding,
    Limits,
    Mask,
    Policy,
    Ready,
    Result,
    ResumeReason,
    Tensor,
    Timing,
    WireError,
)
from .aio import AsyncStreamClient
from .core import Event, FrameRefused, FrameResult, FramesLost, StreamOptions
from .errors import ClientClosed, ClientError, ConnectionFailed, Refused, ServerMisbehaved
from .reconnect import Reconnect
from .sync import StreamClient
from .tiles import TileEncoder, TilesUnavailable

__all__ = [
    "AsyncStreamClient",
    "Audit",
    "ClassScore",
    "ClientClosed",
    "ClientError",
    "ConnectionFailed",
    "Detection",
    "Encoding",
    "Event",
    "FrameRefused",
    "FrameResult",
    "FramesLost",
    "Limits",
    "Mask",
    "Policy",
    "Ready",
    "Reconnect",
    "Refused",
    "Result",
    "ResumeReason",
    "ServerMisbehaved",
    "StreamClient",
    "StreamOptions",
    "Tensor",
    "TileEncoder",
    "TilesUnavailable",
    "Timing",
    "WireError",
]
