"""Which member of a cluster a stream belongs to: weighted rendezvous hashing, with members that are full passed over.

Each member has a score for a stream's id, and the highest has it. When a member leaves, only its own streams move, to
their next best; one that comes takes its share from all alike. No table has to be kept or agreed on: whoever knows the
members' names and weights has the same answer.

Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); weights after Schindelhauer
and Schomaker, "Weighted distributed hash tables" (2005): -weight / ln(hash in 0..1) gives each its share. Passing over
full ones after Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from hashlib import blake2b

_MASK = (1 << 64) - 1


def preference(stream_id: str, members: Mapping[str, float]) -> list[str]:
    """All members, the one that the stream belongs to first.

    members : weights by name, each above 0, in any unit; one twice as heavy is given twice as many streams
    Raises ValueError for a weight that is not above 0.
    """
    key = _hash(stream_id)
    return sorted(members, key=lambda name: (_score(key, name, members[name]), name), reverse=True)


def owner(stream_id: str, members: Mapping[str, float], has_room: Callable[[str], bool] | None = None) -> str | None:
    """The first of `preference` that has room; None where no member has.

    has_room : asked of one member at a time, best first; None: all have
    """
    if has_room is None:
        key = _hash(stream_id)
        return max(members, key=lambda name: (_score(key, name, members[name]), name), default=None)
    return next((name for name in preference(stream_id, members) if has_room(name)), None)


def _score(key: int, name: str, weight: float) -> float:
    if not weight > 0:
        raise ValueError(f"expected a weight above 0 for {name!r}, got {weight:g}")
    mixed = _mix(key ^ _hash(name))
    return -weight / math.log((mixed + 0.5) / 2.0**64)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _mix(value: int) -> int:
    """Stafford's thirteenth finaliser of 64 bits: every bit of the sum of two hashes decides about every other."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
