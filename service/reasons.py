"""Why the engine decided as it did, as one word of a closed set: what a metric may be labelled with."""

from __future__ import annotations

REASONS = (
    "no_stored_frame", "nothing_changed", "refresh", "tiles_changed", "cheaper_whole", "moved", "exposure", "other",
)  # fmt: skip

_WORDS = (
    ("picture moved", "moved"),
    ("exposure", "exposure"),
    ("cheaper whole", "cheaper_whole"),
    ("tiles changed", "tiles_changed"),
    ("no stored frame", "no_stored_frame"),
    ("nothing changed", "nothing_changed"),
    ("refresh", "refresh"),
)
"""What a reason holds, the most telling first."""


def reason_label(reason: str) -> str:
    """One of `REASONS` for what `cache.opening` says, numbers and all; "other" for what it does not say."""
    return next((word for phrase, word in _WORDS if phrase in reason), "other")
