"""What a scenario found, and what it was to show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """Figures of one scenario. shown : what it must show, and whether it did."""

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, bool] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether all that must be shown was."""
        return bool(self.shown) and all(self.shown.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "passed": self.passed, "shown": self.shown, "figures": self.figures}


def percentile(values: list[float], share: float) -> float:
    """The smallest of the values that this share of them does not pass; nan of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
