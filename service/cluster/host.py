"""A server as its membership sees it: its load, and what follows where streams come to belong elsewhere."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from clients.wire import CloseCode
from service.cluster.messages import Load
from service.private_file import write_private
from service.registry import UnknownModel
from service.state import Service

log = logging.getLogger("afterimage.cluster")


class ServiceHost:
    """keys_file : where API keys that the cluster distributes are written for the service; None: it reads its own."""

    def __init__(self, service: Service, keys_file: Path | None = None) -> None:
        self._service = service
        self._keys_file = keys_file
        self._moving: asyncio.Task[None] | None = None
        self._again = False

    def load(self) -> Load:
        """What it has to do now; no room while it drains, or where a stream of the default model would be refused."""
        service, streams = self._service, self._service.streams.all()
        live = sum(stream.attachment is not None for stream in streams)
        wanted, most = service.admission.load(streams, time.monotonic()), service.settings.max_streams
        return Load(len(streams), live, wanted, len(streams) < most and self._admits(), most)

    def has(self, stream_id: str) -> bool:
        """Whether the stream is there."""
        return self._service.streams.get(stream_id) is not None

    def changed(self) -> None:
        """Send away what belongs elsewhere by now; once more where that changes meanwhile."""
        self._again = True
        if self._moving is None or self._moving.done():
            self._moving = asyncio.get_running_loop().create_task(self._move(), name="afterimage-move")

    async def settled(self) -> None:
        """Wait until nothing is being sent away."""
        while self._moving is not None and not self._moving.done():
            await asyncio.wait([self._moving])

    def lost(self, stream_ids: Sequence[str]) -> None:
        """Forget streams that another member has; a connection to one is told to come back."""
        for stream_id in stream_ids:
            stream = self._service.streams.get(stream_id)
            if stream is None:
                continue
            if stream.attachment is not None:
                stream.attachment.end(CloseCode.DRAINING, "another member of the cluster has the stream")
            self._service.streams.remove(stream, None)

    def deleted(self, stream_ids: Sequence[str]) -> None:
        """Forget streams that were deleted at another member; a connection to one is closed."""
        for stream_id in stream_ids:
            stream = self._service.streams.get(stream_id)
            if stream is None:
                continue
            if stream.attachment is not None:
                stream.attachment.end(CloseCode.NORMAL, "the stream was deleted")
            self._service.streams.remove(stream)

    def take_keys(self, text: str) -> bool:
        """The cluster's API keys are others now; False where they are to be told again."""
        return keep_keys(self._keys_file, text)

    def _admits(self) -> bool:
        service = self._service
        if service.draining:
            return False
        try:
            return service.refuse_stream(service.registry.resolve(None), service.promised_fps(None)) is None
        except UnknownModel:
            return False

    async def _move(self) -> None:
        while self._again:
            self._again = False
            await self._service.move_away()


def keep_keys(file: Path | None, text: str) -> bool:
    """Write API keys of the cluster for the service; False where that failed, and may do once more."""
    if file is None:
        log.warning("API keys of the cluster are not taken: this member was started without")
        return True
    try:
        write_private(file, text.encode())
    except OSError as error:
        log.error("API keys of the cluster cannot be kept: %s", error.strerror)
        return False
    return True
