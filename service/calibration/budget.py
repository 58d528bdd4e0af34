"""What a user allows caching to cost."""

from __future__ import annotations

from dataclasses import dataclass

from service.calibration.damage import Figures

MARGINS = (0.005, 0.02)
"""By how much agreement at IoU 0.5 and 0.75 may lie below the noise floor: of that size is the luck of one box."""
SLACK = 0.06
"""By how much the mean damage of a box may lie above noise's: agreement alone does not see boxes that begin to slip."""


class BudgetError(ValueError):
    """A budget is not one; the message says what was expected and what came."""


@dataclass(frozen=True)
class Budget:
    """kind : "noise": no worse than the noise floor, that is than the dense network on the same frames from stronger
    compression; "agreement": agreement at IoU 0.5 of at least `value`; "error": mean square error of outputs over their
    variance of at most `value`.
    """

    kind: str = "noise"
    value: float = 0.0

    @staticmethod
    def parse(text: str) -> Budget:
        """The budget of "noise", "0.99" (agreement) or "error=0.002". Raises BudgetError."""
        if text == "noise":
            return Budget()
        kind, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not equals and 0 < value <= 1:
            return Budget("agreement", value)
        if kind == "error" and 0 < value < float("inf"):
            return Budget("error", value)
        raise BudgetError(f'expected "noise", an agreement such as 0.99, or an error such as error=0.002, got {text!r}')

    def __str__(self) -> str:
        return {"noise": "noise", "agreement": f"{self.value:g}", "error": f"error={self.value:g}"}[self.kind]

    def holds(self, found: Figures, noise: Figures) -> bool:
        """Whether a run keeps the budget. noise : figures of the noise floor on the same frames."""
        if self.kind == "error":
            return found.error <= self.value
        if self.kind == "agreement":
            return found.iou50 is None or found.iou50 >= self.value
        if found.iou50 is None or noise.iou50 is None:
            return found.error <= noise.error
        agrees = found.iou50 >= noise.iou50 - MARGINS[0] and (found.iou75 or 0) >= (noise.iou75 or 0) - MARGINS[1]
        return agrees and (found.boxes or 0) <= (noise.boxes or 0) + SLACK
