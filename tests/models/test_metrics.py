"""Average precision and F1 against examples worked by hand, and against a plain-loop twin."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.default.metrics import (
    EVERY_SIZE,
    SIZE_BINS,
    Found,
    Truth,
    agreement,
    average_precision,
    curve,
    intersection,
    overlap,
    size,
    summary,
)

A, B, C, FAR = (0, 0, 10, 10), (100, 0, 110, 10), (200, 0, 210, 10), (500, 0, 510, 10)
HALF_OF_A = (0, 0, 10, 6)  # IoU 0.6 with A


def found(*rows, class_id=0):
    """Rows of (box, score)."""
    boxes = np.asarray([box for box, _ in rows], np.float32).reshape(-1, 4)
    return Found(boxes, np.asarray([score for _, score in rows], np.float32), np.full(len(rows), class_id, np.int32))


def truth(*boxes, ignore=(), class_id=0):
    rows = np.asarray([*boxes, *ignore], np.float64).reshape(-1, 4)
    return Truth(rows, np.full(len(rows), class_id), np.arange(len(rows)) >= len(boxes))


def test_the_101_points_worked_by_hand():
    images = [(found((A, 0.9), (FAR, 0.8), (B, 0.7)), truth(A, B, C))]
    # Precision 1 up to recall 1/3 (34 points), 2/3 up to 2/3 (33 points), 0 beyond.
    assert average_precision(images, 0) == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_precision_is_made_falling():
    images = [(found((FAR, 0.9), (A, 0.8), (B, 0.7)), truth(A, B))]
    assert average_precision(images, 0) == pytest.approx(2 / 3)


def test_scores_rank_over_all_images():
    one = (found((FAR, 0.9)), truth())
    other = (found((A, 0.8)), truth(A))
    assert average_precision([one, other], 0) == pytest.approx(0.5)
    assert average_precision([other, one], 0) == pytest.approx(0.5)


def test_a_truth_serves_once_and_the_better_score_has_it():
    images = [(found((HALF_OF_A, 0.9), (A, 0.8)), truth(A))]
    result = curve(images, 0)
    assert result.hit.tolist() == [True, False]
    assert curve([(found((A, 0.8), (A, 0.7)), truth(A))], 0).hit.tolist() == [True, False]


def test_each_box_takes_the_truth_that_it_overlaps_most():
    near = (2, 0, 12, 10)
    result = curve([(found((A, 0.9), (near, 0.8)), truth(near, A))], 0)
    assert result.hit.tolist() == [True, True]


def test_iou_at_the_threshold_is_enough():
    assert curve([(found(((0, 0, 10, 5), 0.9)), truth(A))], 0).hit.tolist() == [True]
    assert curve([(found(((0, 0, 10, 4.9), 0.9)), truth(A))], 0).hit.tolist() == [False]
    assert curve([(found((HALF_OF_A, 0.9)), truth(A))], 0, iou=0.75).hit.tolist() == [False]


def test_ignored_regions_take_any_number_and_are_no_miss():
    region = (0, 0, 100, 100)
    inside = [((x, 0, x + 10, 10), 0.9) for x in (0, 20, 40)]  # IoU with the region is 0.01
    result = curve([(found(*inside, (FAR, 0.5)), truth(B, ignore=[region]))], 0)
    assert result.hit.tolist() == [False]
    assert result.positives == 1


def test_half_of_the_found_box_must_lie_in_an_ignored_region():
    region = (0, 0, 100, 100)
    assert curve([(found(((90, 0, 110, 10), 0.9)), truth(ignore=[region]))], 0).score.size == 0
    assert curve([(found(((91, 0, 111, 10), 0.9)), truth(ignore=[region]))], 0).hit.tolist() == [False]


def test_a_truth_goes_before_a_better_fitting_ignored_region():
    result = curve([(found((HALF_OF_A, 0.9)), truth(A, ignore=[HALF_OF_A]))], 0)
    assert result.hit.tolist() == [True]
    duplicates = curve([(found((A, 0.9), (A, 0.8)), truth(A, ignore=[A]))], 0)
    assert duplicates.hit.tolist() == [True]  # the second falls to the region


def test_classes_do_not_mix():
    images = [(found((A, 0.9), class_id=1), truth(A, class_id=0))]
    assert average_precision(images, 0) == 0.0
    assert math.isnan(average_precision(images, 1))
    assert curve(images, 1).hit.tolist() == [False]


def test_nothing_found_and_nothing_there():
    assert average_precision([(found(), truth(A))], 0) == 0.0
    assert math.isnan(average_precision([(found(), truth())], 0))
    assert math.isnan(average_precision([], 0))
    empty = curve([], 0)
    assert math.isnan(empty.at(0.5).precision)
    assert math.isnan(empty.at(0.5).recall)
    assert math.isnan(empty.best().f1)


def test_size_bins_leave_out_other_sizes():
    small, large = (0, 0, 10, 10), (200, 0, 300, 100)
    images = [(found((small, 0.9), (large, 0.8), (FAR, 0.7)), truth(small, large))]
    assert size(np.asarray([small, large])).tolist() == [10, 100]
    low, high = curve(images, 0, within=SIZE_BINS["<16"]), curve(images, 0, within=SIZE_BINS[">=96"])
    assert (low.positives, low.hit.tolist()) == (1, [True, False])  # FAR is small and wrong, `large` is left out
    assert (high.positives, high.hit.tolist()) == (1, [True])
    middle = curve(images, 0, within=SIZE_BINS["16-32"])
    assert (middle.positives, middle.score.size) == (0, 0)


def test_a_found_box_of_another_size_still_finds_its_truth():
    edge = (0, 0, 16, 16)
    inner = (0, 0, 15, 15)  # in the bin below
    images = [(found((inner, 0.9)), truth(edge))]
    assert curve(images, 0, within=SIZE_BINS["16-32"]).hit.tolist() == [True]
    below = curve(images, 0, within=SIZE_BINS["<16"])
    assert (below.positives, below.score.size) == (0, 0)


def test_bins_cover_every_size_once():
    edges = [bound for pair in SIZE_BINS.values() for bound in pair]
    assert edges[1:-1:2] == edges[2::2]
    assert (edges[0], edges[-1]) == EVERY_SIZE


def test_a_truth_of_another_size_excuses_one_box_only():
    small = (0, 0, 15, 15)
    images = [(found((small, 0.9), (small, 0.8)), truth((0, 0, 16, 16)))]
    assert curve(images, 0, within=SIZE_BINS["<16"]).hit.tolist() == [False]


def test_counts_at_a_score():
    result = curve([(found((A, 0.9), (FAR, 0.6), (B, 0.6), (C, 0.2)), truth(A, B, C))], 0)
    point = result.at(0.6)
    assert (point.hits, point.misses, point.positives) == (2, 1, 3)
    assert (point.precision, point.recall, point.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert math.isnan(result.at(0.95).precision)
    assert result.at(0.95).recall == 0.0
    assert result.best().score == pytest.approx(0.2)
    assert result.best().f1 == pytest.approx(6 / 7)


def test_the_best_threshold_parts_no_equal_scores():
    result = curve([(found((A, 0.5), (FAR, 0.5)), truth(A))], 0)
    assert result.best().f1 == pytest.approx(2 / 3)


def test_agreement_with_strong_boxes():
    reference = found((A, 0.9), (B, 0.5), (C, 0.3))
    ours = found((A, 0.8), (C, 0.7), (FAR, 0.6), (B, 0.3))
    lenient = agreement([(ours, reference)], 0).at(0.4)
    assert (lenient.hits, lenient.misses, lenient.positives) == (1, 1, 2)  # C counts neither way
    assert lenient.f1 == pytest.approx(0.5)
    strict = agreement([(ours, reference)], 0, weak=None).at(0.4)
    assert (strict.hits, strict.misses, strict.positives) == (1, 2, 2)
    assert strict.f1 == pytest.approx(0.4)
    assert agreement([(ours, reference)], 0).at(0.3).recall == 1.0


def test_a_weak_reference_box_excuses_one_box_of_its_own_size():
    reference = found(((0, 0, 100, 100), 0.3), (B, 0.1))
    twice = found(((0, 0, 100, 100), 0.9), ((0, 0, 100, 99), 0.8), (A, 0.7), (B, 0.6))
    result = agreement([(twice, reference)], 0)
    assert result.hit.tolist() == [False, False, False]  # A only lies inside; B's partner is below the weak score
    assert result.positives == 0


def test_a_detector_agrees_with_itself():
    boxes = found((A, 0.9), (B, 0.4), (C, 0.39))
    assert agreement([(boxes, boxes)], 0).at(0.4).f1 == 1.0
    assert math.isnan(agreement([(found(), found())], 0).at(0.4).f1)


def test_summary_is_ready_for_json():
    images = [(found((A, 0.9), (FAR, 0.3)), truth(A))]
    report = summary(images, ("person", "face"), threshold=0.5)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    person = report["person"]
    assert (person["ap50"], person["precision"], person["recall"], person["truths"]) == (1.0, 1.0, 1.0, 1)
    assert person["best_threshold"] == pytest.approx(0.9)
    assert person["sizes"]["<16"] == {"ap50": 1.0, "truths": 1, "recall": 1.0}
    assert report["face"]["ap50"] is None
    assert report["face"]["sizes"][">=96"] == {"ap50": None, "truths": 0, "recall": None}


def test_boxes_without_area_overlap_nothing():
    flat = np.asarray([(5, 5, 5, 9), (9, 9, 1, 1)], np.float32)
    assert overlap(flat, np.asarray([A]), np.asarray([True])).tolist() == [[0.0], [0.0]]
    assert intersection(np.asarray([A]), np.asarray([HALF_OF_A, B])).tolist() == [[60.0, 0.0]]


def plain_area(box):
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def plain_overlap(box, other, region):
    low, high = [max(box[i], other[i]) for i in (0, 1)], [min(box[i], other[i]) for i in (2, 3)]
    shared = plain_area((*low, *high))
    base = plain_area(box) if region else plain_area(box) + plain_area(other) - shared
    return shared / base if base else 0.0


def plain_average_precision(images, threshold, within):
    """The same rule in loops, after the text of COCO's evaluation."""
    outcomes, positives = [], 0
    for boxes, labels in images:
        inside = [within[0] <= math.sqrt(plain_area(box)) < within[1] for box in labels.xyxy]
        positives += sum(i and not g for i, g in zip(inside, labels.ignore, strict=True))
        taken = set()
        for n in sorted(range(len(boxes.score)), key=lambda n: (-boxes.score[n], n)):
            best = {True: (threshold, None), False: (threshold, None)}
            for m, region in enumerate(labels.ignore):
                if m in taken and not region:
                    continue
                left_out = bool(region) or not inside[m]
                value = plain_overlap(boxes.xyxy[n], labels.xyxy[m], region)
                limit, holder = best[left_out]
                if value > limit or (value == limit and holder is None):
                    best[left_out] = (value, m)
            if best[False][1] is not None:
                taken.add(best[False][1])
                outcomes.append((boxes.score[n], True))
            elif best[True][1] is not None:
                taken.add(best[True][1])
            elif within[0] <= math.sqrt(plain_area(boxes.xyxy[n])) < within[1]:
                outcomes.append((boxes.score[n], False))
    if not positives:
        return math.nan
    outcomes.sort(key=lambda item: -item[0])
    points = [(sum(h for _, h in outcomes[: k + 1]), k + 1) for k in range(len(outcomes))]
    total = 0.0
    for step in range(101):
        reached = [hits / count for hits, count in points if hits / positives >= step / 100]
        total += max(reached, default=0.0)
    return total / 101


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_plain_twin_agrees(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    images = []
    for _ in range(data.draw(st.integers(0, 4))):
        count, seen = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 8))
        corner = rng.integers(0, 30, (count, 2))
        labels = np.concatenate([corner, corner + rng.integers(1, 40, (count, 2))], axis=1).astype(np.float64)
        corner = rng.integers(0, 30, (seen, 2))
        boxes = np.concatenate([corner, corner + rng.integers(1, 40, (seen, 2))], axis=1).astype(np.float64)
        near = rng.random(seen) < 0.6
        if count:
            boxes[near] = labels[rng.integers(0, count, near.sum())] + rng.integers(-2, 3, (near.sum(), 4))
        score = rng.permutation(seen).astype(np.float64) + rng.random()
        zeros = np.zeros
        images.append(
            (Found(boxes, score, zeros(seen, int)), Truth(labels, zeros(count, int), rng.random(count) < 0.3))
        )
    within = data.draw(st.sampled_from([EVERY_SIZE, (0.0, 16.0), (16.0, math.inf)]))
    expected = plain_average_precision(images, 0.5, within)
    assert average_precision(images, 0, within=within) == pytest.approx(expected, nan_ok=True)
