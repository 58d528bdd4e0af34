"""Interleaved timing: each subject gets its turn in each round, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Turn = Callable[[], object]
Settle = Callable[[], None]

CALLS = 2
"""Timed calls of a turn; one that is not timed goes first and brings code, data and clock back."""


def interleaved(
    turns: Mapping[str, Turn], rounds: int, *, settle: Settle | None = None, calls: int = CALLS
) -> dict[str, list[float]]:
    """Milliseconds of every timed call, by the turn's name.

    The order moves on by one from round to round, so that none always follows the same one.
    settle : called before every turn; None where no engine keeps threads of its own.
    """
    names = list(turns)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names) if names else 0
        for name in names[first:] + names[:first]:
            if settle is not None:
                settle()
            turn = turns[name]
            turn()
            for _ in range(calls):
                times[name].append(milliseconds(turn))
    return times


def milliseconds(turn: Turn) -> float:
    """Wall time of one call."""
    begun = time.perf_counter_ns()
    turn()
    return (time.perf_counter_ns() - begun) / 1e6


def spread(times_ms: Sequence[float]) -> dict[str, float]:
    """Median ("ms"), 10th and 90th percentile ("p10_ms", "p90_ms") and the least ("min_ms")."""
    least, low, middle, high = np.percentile(np.asarray(times_ms, np.float64), [0, 10, 50, 90]).tolist()
    return {"ms": round(middle, 4), "p10_ms": round(low, 4), "p90_ms": round(high, 4), "min_ms": round(least, 4)}


def prefixed(prefix: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with their names behind a prefix and an underscore."""
    return {f"{prefix}_{name}": value for name, value in fields.items()}


def geometric_mean(values: Sequence[float | None]) -> float | None:
    """Of the values that are there; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.exp(np.mean(np.log(known)))) if known else None
