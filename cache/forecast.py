"""From how many changed tiles on a frame is cheaper recomputed whole: told by what partial frames have cost so far.

In multiply-accumulates and the plan's measured costs, never in time: the same frames are always decided the same way.
"""

from __future__ import annotations

LEAST = 0.3
"""Share of changed tiles below which a frame is never recomputed whole, and from which nothing is learnt."""
WEIGHT = 0.25
"""Of the last partial frame."""
FADING = 0.97
"""Per frame that was recomputed whole, so that partial ones are tried again."""


class Forecast:
    """What a partial frame of one stream will cost.

    tiles : of a frame. whole_from : share of the work at which a partial frame costs as much as a whole one. most :
    share of changed tiles from which a frame is recomputed whole in any case.
    """

    def __init__(self, tiles: int, whole_from: float, most: float) -> None:
        self._tiles, self._whole_from, self._most = tiles, whole_from, most
        self._work_per_share = 0.0  # compute fraction over the share of changed tiles; 0 for unknown

    def reset(self) -> None:
        """Forget what frames have cost."""
        self._work_per_share = 0.0

    @property
    def most_changed(self) -> int:
        """Changed tiles above which a frame is recomputed whole."""
        share = self._most
        if self._work_per_share > 0:
            share = min(share, max(self._whole_from / self._work_per_share, LEAST))
        return int(share * self._tiles)

    @property
    def limit(self) -> int:
        """Changed tiles above which a frame would be recomputed whole, whatever others have cost."""
        return int(self._most * self._tiles)

    def learn(self, changed: int, fraction: float) -> None:
        """A partial frame with so many changed tiles has done `fraction` of a dense frame's work."""
        share = changed / self._tiles
        if share >= LEAST:
            found = fraction / share
            known = self._work_per_share
            self._work_per_share = found if known == 0 else known + WEIGHT * (found - known)

    def fade(self) -> None:
        """A frame has been recomputed whole."""
        self._work_per_share *= FADING
