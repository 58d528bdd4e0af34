"""Targets of a few cells, by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; only training needs it")

from models.default import loss
from models.default.loss import Cells, Goal
from models.default.teachers import Targets

CPU = torch.device("cpu")
CELLS = Cells.of(64, 64, CPU)
COUNT = 64 + 16 + 4


def heads(classes=2, logit=-5.0, side=2.0):
    return [
        torch.cat([torch.full((1, classes, n, n), logit), torch.full((1, 4 * classes, n, n), side)], 1)
        for n in (8, 4, 2)
    ]


def soft(score=0.0):
    return Targets(torch.full((1, 2, COUNT), score), torch.zeros(1, 2, COUNT, 4), torch.zeros(1, 80, COUNT), [])


def truth(box, kind=0, *, score=1.0, ignored=False):
    return {
        "boxes": torch.tensor([[box, [0, 0, 0, 0]]]).float(),
        "classes": torch.tensor([[kind, -1]]),
        "scores": torch.tensor([[score, 0.0]]),
        "ignored": torch.tensor([[ignored, False]]),
    }


def aim(box, *, teacher=0.0, labelled=True, **rest) -> Goal:
    logits, found = CELLS.boxes(heads(), 2)
    return loss.goal(logits, found, CELLS, truth(box, **rest), soft(teacher), torch.full((1, COUNT), labelled))


def test_cells_stand_row_by_row_finest_first():
    assert CELLS.centre[:2].tolist() == [[4, 4], [12, 4]]
    assert CELLS.centre[64].tolist() == [8, 8]
    assert CELLS.centre[-1].tolist() == [48, 48]
    assert CELLS.stride.tolist() == [8.0] * 64 + [16.0] * 16 + [32.0] * 4


def test_boxes_are_distances_in_strides_from_the_centre():
    some = heads()
    some[1][0, 2 + 4 : 2 + 8, 0, 1] = torch.tensor([0.5, 0.25, 1.0, 2.0])  # of class 1
    logits, boxes = CELLS.boxes(some, 2)
    assert tuple(logits.shape) == (1, 2, COUNT)
    assert boxes[0, 1, 65].tolist() == [24 - 8, 8 - 4, 24 + 16, 8 + 32]
    assert boxes[0, 0, 0].tolist() == [4 - 16, 4 - 16, 4 + 16, 4 + 16]


def test_overlap_of_pairs():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    iou, general = loss.pair_iou(a, b)
    torch.testing.assert_close(iou, torch.tensor([1, 1 / 3, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(general, torch.tensor([1, 1 / 3, -1 / 3]), atol=1e-5, rtol=0)


def test_a_label_takes_cells_inside_it_and_gives_them_its_box():
    box = [8, 8, 40, 40]
    found = aim(box)
    taken = (found.scores[0, 0] > 0).nonzero().flatten()
    assert 0 < len(taken) <= loss.TOP_CELLS
    centre = CELLS.centre[taken]
    assert ((centre > 8) & (centre < 40)).all()
    assert found.boxes[0, 0, taken].tolist() == [box] * len(taken)
    assert (found.scores[0, 1] == 0).all()
    assert (found.weights == 1).all()


def test_a_doubtful_label_asks_for_less():
    sure, doubtful = (float(aim([8, 8, 40, 40], score=score).scores.max()) for score in (1.0, 0.5))
    assert doubtful == pytest.approx(0.75 * sure)


def test_an_ignored_label_takes_no_cell_and_weighs_little():
    found = aim([8, 8, 40, 40], ignored=True)
    assert (found.scores == 0).all()
    inside = ((CELLS.centre > 8) & (CELLS.centre < 40)).all(1)
    assert (found.weights[0, 0, inside] == 0.5).all()
    assert (found.weights[0, 0, ~inside] == 1).all()
    assert (found.weights[0, 1] == 1).all()


@pytest.mark.parametrize(("labelled", "far"), [(True, 0.2), (False, 0.4)])
def test_the_teacher_speaks_where_there_is_no_label(labelled, far):
    found = aim([8, 8, 20, 20], teacher=0.4, labelled=labelled)
    assert float(found.scores[0, 0, 63]) == pytest.approx(far)  # the last cell of stride 8, at (60, 60)
    assert float(found.scores[0, 0, 9]) >= 0.4 - 1e-6  # at (12, 12)


def test_the_loss_is_least_for_the_answer_asked_for():
    found = aim([8, 8, 40, 40])
    worst = CELLS.boxes(heads(), 2)
    right = (torch.logit(found.scores.clamp(1e-4, 1 - 1e-4)), found.boxes)
    bad, good = (loss.detection_loss(*answer, found) for answer in (worst, right))
    assert good[0] < bad[0]
    assert good[1] == pytest.approx(0, abs=1e-4)
    assert bad[1] > 0.1


def test_the_pretext_asks_for_the_teachers_features_and_scores():
    torch.manual_seed(0)
    features = [torch.randn(1, loss.FEATURES, n, n) for n in (8, 4, 2)]
    objects = torch.zeros(1, loss.OBJECTS, COUNT)
    objects[:, 3] = 1
    target = soft()._replace(objects=objects, features=features)
    logits = torch.where(objects > 0, 12.0, -12.0).split([64, 16, 4], 2)
    right = [torch.cat([f, o.view(1, -1, *f.shape[2:])], 1) for f, o in zip(features, logits, strict=True)]
    assert loss.pretext_loss(right, target) < 0.01
    assert loss.pretext_loss([torch.randn_like(guess) for guess in right], target) > 1
