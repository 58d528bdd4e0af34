"""How well two sets of boxes agree: the measure that results are judged by.

Every strong box (score > 0.4) of either side must be matched by a box (score > 0.25) of the other side, of
the same class, at a given IoU. The figure is matched over total, over both directions and all frames. The
margin between the two scores keeps boxes that hover at one threshold from being counted as disagreement.
"""

from __future__ import annotations

import numpy as np

from service.families.base import Detections
from service.nms import iou_matrix

STRONG = 0.4
WEAK = 0.25
THRESHOLDS = (0.5, 0.75)


class Agreement:
    """Collects matched and total counts frame by frame."""

    def __init__(self) -> None:
        self._matched = dict.fromkeys(THRESHOLDS, 0)
        self.total = 0
        """Strong boxes of both sides so far."""

    def add(self, one: Detections, other: Detections) -> None:
        """Count one frame. Both sides must have been decoded with a threshold of 0.25 or less."""
        for a, b in ((one, other), (other, one)):
            strong = a.select(a.score > STRONG)
            weak = b.select(b.score > WEAK)
            self.total += len(strong)
            for threshold in THRESHOLDS:
                self._matched[threshold] += matched(strong, weak, threshold)

    def figures(self) -> dict[str, float] | None:
        """{"iou50", "iou75"}, 0..1 each; None when there was no strong box."""
        if not self.total:
            return None
        return {f"iou{round(t * 100)}": self._matched[t] / self.total for t in THRESHOLDS}


def matched(boxes: Detections, others: Detections, threshold: float) -> int:
    """How many of `boxes` find a partner of their class in `others` at IoU >= threshold.

    Greedy, best score first on both sides; a partner serves once.
    """
    boxes = boxes.select(np.argsort(-boxes.score, kind="stable"))
    others = others.select(np.argsort(-others.score, kind="stable"))
    fits = iou_matrix(boxes.xyxy, others.xyxy) >= threshold
    fits &= boxes.class_id[:, None] == others.class_id[None, :]
    count = 0
    for row in fits:
        partners = np.flatnonzero(row)
        if partners.size:
            fits[:, partners[0]] = False
            count += 1
    return count
