"""What can be expected to go wrong in a measurement."""

from __future__ import annotations


class BenchError(RuntimeError):
    """A measurement cannot be made as asked for; the message says why."""
