"""All cameras of the configuration. Bounded by the settings' `sources`. Use on the event loop only."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from service.ingest.camera import CameraState
from service.ingest.feed import STARTING, Feed

if TYPE_CHECKING:
    from service.state import Service

STATES = (STARTING, *(state.value for state in CameraState))


class Feeds:
    """One feed for each of the settings' sources, from `start` to `stop`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._feeds: dict[str, Feed] = {}

    def start(self) -> None:
        """Make the streams; models and cameras are waited for in the background."""
        for name, source in self._service.settings.sources.items():
            self._feeds[name] = Feed(self._service, name, source)

    async def stop(self) -> None:
        """Stop all of them."""
        await asyncio.gather(*(feed.stop() for feed in self._feeds.values()))

    def get(self, name: str) -> Feed | None:
        """The feed of a stream's id."""
        return self._feeds.get(name)

    def states(self) -> dict[str, int]:
        """How many cameras are in each state, by its word."""
        counts = Counter(feed.state for feed in self._feeds.values())
        return {state: counts[state] for state in STATES}

    @property
    def reconnects(self) -> int:
        """Times that cameras were lost, all together."""
        return sum(feed.status.reconnects for feed in self._feeds.values())
