"""How far a registered model is, and what is told of it (docs/life.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.registry import Model


class ModelState(StrEnum):
    """How far a registered model is."""

    REGISTERED = "registered"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"


@dataclass
class Entry:
    """A name in the registry. loader : makes its model, from its file."""

    loader: Callable[[], Model]
    lock: threading.Lock = field(default_factory=threading.Lock)
    model: Model | None = None
    error: str | None = None
    loading: bool = False
    unloading: bool = False

    @property
    def state(self) -> ModelState:
        """Derived from what is under way; a model that is reloaded stays ready."""
        if self.unloading:
            return ModelState.UNLOADING
        if self.loading or (self.model is not None and self.model.compiling):
            return ModelState.LOADING
        if self.why is not None:
            return ModelState.FAILED
        return ModelState.READY if self.model is not None and self.model.compiled else ModelState.REGISTERED

    @property
    def why(self) -> str | None:
        """Why it failed; None if it did not."""
        return self.error or (None if self.model is None else self.model.error)


def describe(name: str, entry: Entry, is_default: bool) -> dict[str, Any]:
    """An entry as GET /v1/models tells it."""
    described: dict[str, Any] = {"name": name, "default": is_default, "state": entry.state.value}
    if entry.why is not None:
        described["error"] = entry.why
    if entry.model is not None:
        model = entry.model
        described |= {
            "family": model.spec.family,
            "version": model.version,
            "size": list(model.size),
            "labels": list(model.spec.labels),
            "min_confidence": model.spec.min_confidence,
            "compiled": model.compiled,
            "memory_bytes": None if model.memory is None else model.memory.as_dict(),
        }
    return described
