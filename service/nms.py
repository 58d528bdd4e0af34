"""Non-maximum suppression and box overlap, on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_CANDIDATES = 4096  # bounds the work on a frame where everything fires


def iou_matrix(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
    """Intersection over union, float32[Na, Nb], of boxes a [Na, 4] and b [Nb, 4] (xyxy).

    Boxes of no area overlap nothing: their figure is 0.
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    side = np.clip(high - low, 0, None)
    inter = side[..., 0] * side[..., 1]
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - inter
    return np.asarray(inter / np.maximum(union, 1e-9), np.float32)


def nms(
    xyxy: NDArray[Any],
    score: NDArray[Any],
    class_id: NDArray[Any],
    iou: float,
    *,
    class_agnostic: bool = False,
) -> NDArray[np.intp]:
    """Greedy NMS: the rows that stay, best score first (equal scores: the earlier row first).

    xyxy : float32[N, 4]; score : float32[N]; class_id : int[N]
    A box goes when a better one of the same class (any class if `class_agnostic`) overlaps it by `iou` or
    more. Only the 4096 best rows take part.
    """
    order = np.argsort(-score, kind="stable")[:_MAX_CANDIDATES]
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        if not rest.size:
            break
        rival = iou_matrix(xyxy[best : best + 1], xyxy[rest])[0] >= iou
        if not class_agnostic:
            rival &= class_id[rest] == class_id[best]
        order = rest[~rival]
    return np.asarray(kept, np.intp)
