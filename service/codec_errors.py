"""Why an image is not taken."""

from __future__ import annotations


class CodecError(ValueError):
    """An image cannot be taken; the message says what was expected and what came."""


class UnsupportedImage(CodecError):
    """Not JPEG, PNG or WebP, or a kind of these that is not taken (animations)."""


class TruncatedImage(CodecError):
    """The data ends before the image does."""


class CorruptImage(CodecError):
    """The data is long enough but makes no image."""


class TooManyBytes(CodecError):
    """More bytes than the limit."""


class TooManyPixels(CodecError):
    """The header announces more pixels than the limit."""


class TooCostly(CodecError):
    """More scans, chunks or packed data than an image of its size needs: it would cost far more than its pixels."""
