"""Keeping the error of a stream within a budget by looking at few of its frames. Arithmetic: no engine, no clock.

An *audit* compares what caching made of a frame with a dense run of it. What comes here is the frame's *excess*: its
error less what it may be, in a unit in which it is at most 1. A budget is kept where the mean excess is 0 or less. Both
promises made here, and their sources, are derived in docs/audits.md.
"""

from __future__ import annotations

import math

RATES = tuple(0.9 * 0.6**k for k in range(8))
"""Values of the bound's parameter, of which the best counts; they share the probability of an error."""
LARGEST = 1.0
"""What an excess is at most."""


class MeanBound:
    """What audits found on average, and how much the truth may lie above it.

    confidence : of `upper`, above 0 and below 1. It holds for all moments at once: one may look as often as one likes.
    """

    def __init__(self, confidence: float = 0.95) -> None:
        if not 0 < confidence < 1:
            raise ValueError(f"expected a confidence above 0 and below 1, got {confidence}")
        self.confidence = confidence
        self.count = 0
        self._sum = 0.0
        self._squares = 0.0  # of excess less what was predicted from those before

    def add(self, excess: float) -> None:
        """Count one frame drawn at random. Raises ValueError for an excess above 1."""
        check(excess)
        predicted = max(0.0, self._sum / (self.count + 1))  # of 0 or more, so that it is missed by 1 at most
        self._squares += (excess - predicted) ** 2
        self._sum += excess
        self.count += 1

    @property
    def mean(self) -> float:
        """Of what was added; 0 before."""
        return self._sum / self.count if self.count else 0.0

    @property
    def upper(self) -> float:
        """With the stated confidence, the mean of what was to be expected of each frame is at most this.

        An empirical Bernstein bound: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic
        confidence sequences", Annals of Statistics 49 (2021), theorem 4, with a mixture over `RATES` in the place of a
        curve.
        """
        if not self.count:
            return LARGEST
        unlikely = math.log(len(RATES) / (1 - self.confidence))
        room = min((unlikely + (-math.log1p(-rate) - rate) * self._squares) / rate for rate in RATES)
        return min(LARGEST, (self._sum + room) / self.count)


class Controller:
    """A factor on a stream's thresholds: lower after a frame above its budget, higher after one below.

    step : by how much the logarithm of the factor falls for an excess of 1. lowest : below it thresholds are given up:
    the factor is 0 and every frame is to be computed whole, which has no error, until what was too much is made up for.
    highest : reached only while `bound` says that the budget is kept; else it is 1. margin : by how much less than the
    budget is aimed at, as an excess; a frame without error must lie at least so far below it.

    Whatever the frames were, the mean excess of T audits is at most (1 + margin + log(1 / lowest) / step) / T - margin:
    online gradient descent on a threshold, as in Gibbs, Candès, "Adaptive conformal inference under distribution shift"
    (2021), and Feldman, Ringel, Bates, Romano, "Achieving risk control in online learning settings" (2023).
    """

    def __init__(
        self,
        confidence: float = 0.95,
        *,
        step: float = 1.0,
        lowest: float = 1 / 8,
        highest: float = 2.0,
        margin: float = 0.0,
    ) -> None:
        if not step > 0:
            raise ValueError(f"expected a step above 0, got {step}")
        if not 0 <= margin < 1:
            raise ValueError(f"expected a margin of 0 or more and below 1, got {margin}")
        if not 0 < lowest <= 1 <= highest < math.inf:
            raise ValueError(f"expected factors 0 < lowest <= 1 <= highest, got {lowest} and {highest}")
        self.bound = MeanBound(confidence)
        self.step, self.margin = step, margin
        self.audits = 0
        self._lowest, self._highest = math.log(lowest), math.log(highest)
        self._level = 0.0

    @property
    def whole(self) -> bool:
        """Whether frames are to be computed whole: no factor keeps the budget now."""
        return self._level <= self._lowest

    @property
    def factor(self) -> float:
        """On all thresholds; 0 where frames are computed whole."""
        return 0.0 if self.whole else math.exp(self._level)

    @property
    def guarantee(self) -> float:
        """What the mean excess of all audits so far cannot exceed, whatever the frames were."""
        return (LARGEST + self.margin - self._lowest / self.step) / max(1, self.audits) - self.margin

    def add(self, excess: float, *, drawn: bool = True) -> None:
        """Take in one audit of a frame that had the present factor.

        drawn : whether the frame was drawn at random among those computed with thresholds: only then it counts for
        `bound`. Raises ValueError for an excess above 1.
        """
        check(excess)
        if drawn:
            self.bound.add(excess)
        self.audits += 1
        most = self._highest if self.bound.upper <= 0 else 0.0
        self._level = min(self._level - self.step * (excess + self.margin), most)


def check(excess: float) -> None:
    """Raise ValueError unless an excess is one."""
    if not -math.inf < excess <= LARGEST:
        raise ValueError(f"expected an excess of at most {LARGEST:g}, got {excess}")
