"""Frames that fail half way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.program import run


def failing_after(steps: int) -> Callable[..., None]:
    """A stand-in for `kernels.program.run` that computes the first steps of a plan, then fails."""

    def fail(table: Any, *rest: Any) -> None:
        run(table[:steps], *rest)
        raise MemoryError("made by the test")

    return fail
