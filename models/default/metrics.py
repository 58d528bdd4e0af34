"""How good boxes are: average precision against labels, F1 against another detector. NumPy only.

Knows arrays, and neither files nor networks nor the rest of the product, so that training can use it anywhere.

Matching is COCO's. In each image and class, found boxes take their turn by falling score; each takes the free truth
that it overlaps most, at an IoU of the threshold or more. Truths that may be ignored come second: a region marked
`ignore` is overlapped by intersection over the found box's own area, and takes any number of them (COCO's iscrowd).
What an ignored truth takes counts neither as right nor as wrong, and an ignored truth is never a miss. Within a size
bin, a truth of another size is ignored too (by IoU, once), and so is a found box of another size that matches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Bin: TypeAlias = tuple[float, float]
"""Sizes from the first (included) to the second (left out), pixels; the size of a box is sqrt(width * height)."""

EVERY_SIZE: Bin = (0.0, math.inf)
SIZE_BINS: Mapping[str, Bin] = MappingProxyType(
    {"<16": (0.0, 16.0), "16-32": (16.0, 32.0), "32-96": (32.0, 96.0), ">=96": (96.0, math.inf)}
)
"""COCO's small (below 32), medium (32 to 96) and large, with small parted in two. Pixels at the network's input."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where COCO reads the interpolated precision."""

HIT, MISS, NEITHER = 1, 0, -1
"""What becomes of a found box: right, wrong, or left out."""


class Scored(Protocol):
    """Boxes found in one image; `service.families.Detections` is one.

    xyxy : float[N, 4], pixels. score : float[N]. class_id : int[N].
    """

    @property
    def xyxy(self) -> Array: ...

    @property
    def score(self) -> Array: ...

    @property
    def class_id(self) -> Array: ...


class Found(NamedTuple):
    """The plainest `Scored`."""

    xyxy: Array
    score: Array
    class_id: Array


class Truth(NamedTuple):
    """The labels of one image: xyxy float[M, 4] in pixels, class_id int[M], ignore bool[M]."""

    xyxy: Array
    class_id: Array
    ignore: Array


Pair: TypeAlias = tuple[Scored, Truth]
"""One image: what was found, and what is there, in the same pixels."""


def area(xyxy: Array) -> NDArray[np.float64]:
    """float64[N], px²; 0 for a box turned inside out."""
    sides = np.clip(xyxy[:, 2:].astype(np.float64) - xyxy[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float64)


def size(xyxy: Array) -> NDArray[np.float64]:
    """float64[N], px: side of the square of a box's area."""
    return np.sqrt(area(xyxy))


def intersection(a: Array, b: Array) -> NDArray[np.float64]:
    """float64[Na, Nb], px², of boxes a [Na, 4] and b [Nb, 4]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2]).astype(np.float64)
    sides = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - low, 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float64)


def overlap(found: Array, truth: Array, ignore: Array) -> NDArray[np.float64]:
    """float64[N, M]: IoU; in the columns of `ignore`, intersection over the found box's area."""
    inter = intersection(found, truth)
    union = area(found)[:, None] + area(truth)[None, :] - inter
    base = np.where(ignore.astype(bool)[None, :], area(found)[:, None], union)
    return np.asarray(inter / np.maximum(base, 1e-9), np.float64)


def assign(overlaps: Array, threshold: float, left_out: Array, many: Array) -> NDArray[np.int8]:
    """HIT, MISS or NEITHER for each found box, int8[N].

    overlaps : float[N, M], rows by falling score. left_out : bool[M], truths that are neither hit nor missed.
    many : bool[M], truths that take any number of boxes.
    """
    state = np.full(len(overlaps), MISS, np.int8)
    fits = np.where(overlaps >= threshold, overlaps, -1.0)
    free = np.ones(fits.shape[1], bool)
    for row in np.flatnonzero((fits >= 0).any(axis=1)):
        for group, verdict in ((free & ~left_out, HIT), (free & left_out, NEITHER)):
            candidates = np.where(group, fits[row], -1.0)
            best = int(candidates.argmax())
            if candidates[best] >= 0:
                state[row] = verdict
                free[best] = many[best]
                break
    return state


@dataclass(frozen=True, eq=False)
class Point:
    """Counts at one score threshold; precision and recall are NaN where nothing was found or is there."""

    score: float
    hits: int
    misses: int
    positives: int

    @property
    def precision(self) -> float:
        """Share of the found boxes that are right."""
        counted = self.hits + self.misses
        return self.hits / counted if counted else math.nan

    @property
    def recall(self) -> float:
        """Share of the truths that were found."""
        return self.hits / self.positives if self.positives else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall: 2 hits over found and truths together."""
        total = self.hits + self.misses + self.positives
        return 2 * self.hits / total if total else math.nan


@dataclass(frozen=True, eq=False)
class Curve:
    """Found boxes of one class over all images, best score first, those that count neither way left out.

    score : float64[N], falling. hit : bool[N]. positives : truths that should be found.
    """

    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    positives: int

    def average_precision(self) -> float:
        """Area under the precision-recall curve, COCO's way: precision made falling, mean at 101 recalls.

        NaN without any truth.
        """
        if not self.positives:
            return math.nan
        hits = np.cumsum(self.hit)
        precision = hits / np.arange(1, hits.size + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        index = np.searchsorted(hits / self.positives, RECALLS, side="left")
        return float(np.append(precision, 0.0)[index].mean())

    def at(self, score: float) -> Point:
        """Counts of the boxes with at least this score."""
        taken = int(np.searchsorted(-self.score, -score, side="right"))
        hits = int(np.count_nonzero(self.hit[:taken]))
        return Point(score, hits, taken - hits, self.positives)

    def best(self) -> Point:
        """Where F1 is largest; the higher threshold of equal ones. At score 1 without any box."""
        if not self.score.size:
            return self.at(1.0)
        hits = np.cumsum(self.hit)
        f1 = 2 * hits / (np.arange(1, hits.size + 1) + self.positives)
        f1[:-1][self.score[:-1] == self.score[1:]] = -1.0  # a threshold cannot part equal scores
        return self.at(float(self.score[int(f1.argmax())]))


def curve(images: Iterable[Pair], class_id: int, *, iou: float = 0.5, within: Bin = EVERY_SIZE) -> Curve:
    """Match one class over all images at an IoU threshold, for truths of a size bin."""
    return _match(images, class_id, iou, within, regions=True)


def average_precision(images: Iterable[Pair], class_id: int, *, iou: float = 0.5, within: Bin = EVERY_SIZE) -> float:
    """Average precision of one class, 0..1, with 101-point interpolation; NaN without any truth."""
    return curve(images, class_id, iou=iou, within=within).average_precision()


def agreement(
    images: Iterable[tuple[Scored, Scored]],
    class_id: int,
    *,
    strong: float = 0.4,
    weak: float | None = 0.2,
    iou: float = 0.5,
) -> Curve:
    """Found boxes against another detector's, image by image as (found, reference).

    The reference's boxes with score >= strong are the truths. A found box, best first, takes the free truth that it
    overlaps most (IoU >= iou); one that gets none and fits a free reference box of weak <= score < strong counts
    neither way, and each such box excuses one. weak=None makes no such allowance. The F1 at an operating threshold is
    `agreement(...).at(threshold).f1`.
    """
    least = strong if weak is None else weak
    pairs = ((found, _as_truth(reference, strong, least)) for found, reference in images)
    return _match(pairs, class_id, iou, EVERY_SIZE, regions=False)


def summary(
    images: Sequence[Pair],
    labels: Sequence[str],
    *,
    threshold: float,
    iou: float = 0.5,
    bins: Mapping[str, Bin] = SIZE_BINS,
) -> dict[str, dict[str, Any]]:
    """The figures of every class, ready for JSON (None where there is no truth).

    labels : class names; class_id is the position. threshold : score from which boxes count for precision and recall.
    Keys of a class: ap50, truths, precision, recall, f1, best_f1, best_threshold, sizes {bin: {ap50, truths, recall}}.
    The name ap50 stands for another IoU too, if one is given.
    """
    report = {}
    for class_id, label in enumerate(labels):
        whole = curve(images, class_id, iou=iou)
        point, best = whole.at(threshold), whole.best()
        sizes = {}
        for name, within in bins.items():
            part = curve(images, class_id, iou=iou, within=within)
            sizes[name] = {
                "ap50": _plain(part.average_precision()),
                "truths": part.positives,
                "recall": _plain(part.at(threshold).recall),
            }
        report[label] = {
            "ap50": _plain(whole.average_precision()),
            "truths": whole.positives,
            "precision": _plain(point.precision),
            "recall": _plain(point.recall),
            "f1": _plain(point.f1),
            "best_f1": _plain(best.f1),
            "best_threshold": best.score,
            "sizes": sizes,
        }
    return report


def _match(images: Iterable[Pair], class_id: int, iou: float, within: Bin, *, regions: bool) -> Curve:
    """The curve of one class. regions : ignored truths are regions, else boxes like any other."""
    scores: list[Array] = []
    states: list[NDArray[np.int8]] = []
    positives = 0
    for found, truth in images:
        chosen = np.flatnonzero(found.class_id == class_id)
        chosen = chosen[np.argsort(-found.score[chosen], kind="stable")]
        labels = np.flatnonzero(truth.class_id == class_id)
        boxes, marked = truth.xyxy[labels], truth.ignore[labels].astype(bool)
        many = marked & regions
        left_out = marked | ~_inside(boxes, within)
        positives += int(np.count_nonzero(~left_out))
        state = assign(overlap(found.xyxy[chosen], boxes, many), iou, left_out, many)
        state[(state == MISS) & ~_inside(found.xyxy[chosen], within)] = NEITHER
        scores.append(found.score[chosen])
        states.append(state)
    return _gather(scores, states, positives)


def _inside(xyxy: Array, within: Bin) -> NDArray[np.bool_]:
    measured = size(xyxy)
    return np.asarray((measured >= within[0]) & (measured < within[1]))


def _as_truth(reference: Scored, strong: float, weak: float) -> Truth:
    kept = np.flatnonzero(reference.score >= weak)
    return Truth(reference.xyxy[kept], reference.class_id[kept], reference.score[kept] < strong)


def _gather(scores: Sequence[Array], states: Sequence[NDArray[np.int8]], positives: int) -> Curve:
    """One curve of all images: by falling score, equal ones in the order of the images."""
    score = np.concatenate([np.zeros(0), *scores]).astype(np.float64)
    state = np.concatenate([np.zeros(0, np.int8), *states])
    order = np.argsort(-score, kind="stable")
    order = order[state[order] != NEITHER]
    return Curve(score[order], state[order] == HIT, positives)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
