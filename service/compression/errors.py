"""What can go wrong as a model is compressed."""

from __future__ import annotations


class CompressionError(ValueError):
    """A model cannot be compressed as asked; the message says what was expected and what came."""
