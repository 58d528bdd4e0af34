"""The limits of the machine or the container, as they are told: in the log, in GET /v1/models, and as warnings."""

from __future__ import annotations

import logging
from typing import Any

from service.machine_cpus import Cores, cores
from service.machine_memory import available_bytes, memory_limit
from service.settings import Settings

log = logging.getLogger("afterimage.limits")

SERVER_BYTES = 192 << 20
"""What a server takes beside plans and streams, as measured (docs/edge.md)."""
REST_BYTES = SERVER_BYTES + (64 << 20)
"""Of the memory, what models and streams leave for all else: the server itself, images under way, what is about to be
taken."""
CACHE_SHARE = 0.5
"""Of the memory there is, for models and streams, at most, where the settings do not say."""
LEAST_CACHE_BYTES = 16 << 20
LEAST_BYTES = 256 << 20
"""Below which no server starts."""


def default_cache_bytes(limit: int) -> int:
    """What models and streams may take of a machine or container with so many bytes."""
    return max(LEAST_CACHE_BYTES, min(int(limit * CACHE_SHARE), limit - REST_BYTES))


def too_small() -> str | None:
    """Why no server can run here, with figures; None if one can."""
    limit = memory_limit()
    if limit is None or limit.nbytes >= LEAST_BYTES:
        return None
    return f"expected at least {LEAST_BYTES >> 20} MiB of memory for a server, got {limit}"


def describe() -> dict[str, Any]:
    """For GET /v1/models: limits that were found now, who says so, and what is left."""
    found, memory = cores(), memory_limit()
    return {
        "cores": round(found.number, 3),
        "cores_source": found.source,
        "memory_bytes": None if memory is None else memory.nbytes,
        "memory_source": None if memory is None else memory.source,
        "memory_left_bytes": available_bytes(),
    }


def excesses(settings: Settings, found: Cores) -> list[str]:
    """What settings ask for beyond the limits, with figures: it is done all the same."""
    told = []
    for name in ("workers", "threads"):
        asked = getattr(settings, name)
        if asked > max(1.0, found.number):
            told.append(f"{name}: {asked} are set, there is time for {found}; frames will wait for each other")
    memory = memory_limit()
    if memory is not None and settings.cache_bytes is not None:
        usual = default_cache_bytes(memory.nbytes)
        if settings.cache_bytes > max(usual, memory.nbytes - REST_BYTES):
            told.append(
                f"cache_bytes: {settings.cache_bytes >> 20} MiB are set, which leaves less than {REST_BYTES >> 20} MiB"
                f" of {memory} for all else"
            )
    return told


class Watch:
    """Says at the start what was found, and later what has become otherwise. Memory is read anew for each decision,
    threads are started once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cores = cores()

    def begin(self) -> None:
        """Log limits and excesses."""
        memory = memory_limit()
        log.info("limits: %s, %s", self._cores, "memory unknown" if memory is None else memory)
        for words in excesses(self._settings, self._cores):
            log.warning("%s", words)

    def look(self) -> None:
        """Log where the number of cores is another one than at the last look. Reads files: not for the event loop."""
        found = cores()
        if found.number == self._cores.number:
            return
        self._cores = found
        log.warning(
            "limits: now %s; this server keeps %d workers and %d threads until it is started again",
            found, self._settings.workers, self._settings.threads,
        )  # fmt: skip
