"""What a student is told to say at each cell: the pack's labels and the teachers' scores, as one target.

Labels choose their cells by task alignment (TOOD, Feng et al. 2021, arXiv:2108.07755): the cells whose score and box
already fit best. Everywhere else, and on pictures without labels, the target is the teacher's own score at that cell;
so too in regions that the labels leave out, at half the weight: the labels do not know, the teacher may.
All shapes are static, nothing waits for the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.default.teachers import STRIDES, Targets

TOP_CELLS = 10
FEATURES, OBJECTS = 64, 80
"""Channels of the teacher's features, and the things that it tells apart."""
BOX_FLOOR = 0.05
"""Cells with a target below this teach no box."""


@dataclass(frozen=True)
class Cells:
    """All cells of a canvas. centre: float[N, 2] px, stride: float[N] px."""

    centre: Tensor
    stride: Tensor

    @staticmethod
    def of(width: int, height: int, device: torch.device) -> Cells:
        """Cells at strides 8, 16 and 32, row by row."""
        centres, strides = [], []
        for stride in STRIDES:
            rows, columns = (torch.arange(side // stride, device=device) for side in (height, width))
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            centres.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
            strides.append(torch.full((centres[-1].shape[0],), float(stride), device=device))
        return Cells(torch.cat(centres).float(), torch.cat(strides))

    def boxes(self, heads: list[Tensor], classes: int) -> tuple[Tensor, Tensor]:
        """Logits float[B, C, N] and boxes float[B, C, N, 4] xyxy px of the network's heads."""
        flat = torch.cat([head.float().flatten(2) for head in heads], 2)
        sides = flat[:, classes:].view(flat.shape[0], classes, 4, -1).transpose(2, 3) * self.stride[:, None]
        boxes = torch.cat([self.centre - sides[..., :2], self.centre + sides[..., 2:]], -1)
        return flat[:, :classes], boxes


def pair_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of boxes float[..., 4], and the generalised IoU (Rezatofighi et al. 2019)."""
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area_a, area_b = ((s[..., 2:] - s[..., :2]).clamp(min=0).prod(-1) for s in (a, b))
    union = area_a + area_b - inner + 1e-6
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1) + 1e-6
    iou = inner / union
    return iou, iou - (hull - union) / hull


@dataclass(frozen=True)
class Goal:
    """Targets per class and cell. scores, weights: float[B, C, N]; boxes: float[B, C, N, 4] xyxy px."""

    scores: Tensor
    weights: Tensor
    boxes: Tensor


@torch.no_grad()
def goal(
    logits: Tensor, found: Tensor, cells: Cells, truth: dict[str, Tensor], soft: Targets, labelled: Tensor
) -> Goal:
    """The targets for one student's present answers.

    labelled : bool[B, N], whether the picture at the cell's centre has labels
    """
    count, classes, _ = logits.shape
    boxes, valid = truth["boxes"], (truth["classes"] >= 0) & ~truth["ignored"]
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    centre = cells.centre[None, None]
    inside = ((centre > low) & (centre < high)).all(-1)
    middle = (low + high) / 2
    near = ((centre - middle).abs() < cells.stride[None, None, :, None]).all(-1) & (cells.stride == STRIDES[0])
    index = truth["classes"].clamp(min=0)
    batch = torch.arange(count, device=logits.device)[:, None]
    iou = pair_iou(found[batch, index], boxes[:, :, None])[0]
    score = torch.sigmoid(logits)[batch, index]
    metric = score.sqrt() * iou.pow(6) * ((inside | near) & valid[:, :, None])
    best, place = metric.topk(TOP_CELLS, dim=2)
    chosen = torch.zeros_like(metric).scatter_(2, place, (best > 1e-9).float()) > 0
    metric = metric * chosen
    top_iou = (iou * chosen).amax(2, keepdim=True)
    aligned = metric / metric.amax(2, keepdim=True).clamp(min=1e-9) * top_iou
    aligned = aligned * (0.5 + 0.5 * truth["scores"])[:, :, None]

    scores, weights = soft.scores.clone(), torch.ones_like(logits)
    target = soft.boxes.clone()
    outside = ((centre > low - 8) & (centre < high + 8)).all(-1)
    for c in range(classes):
        own = truth["classes"] == c
        ignored = (inside & (own & truth["ignored"])[:, :, None]).any(1)
        touched = (outside & own[:, :, None]).any(1)
        value, which = (aligned * own[:, :, None]).max(1)
        # The labels were made by the same teachers on larger pictures: where they found nothing, halve a finding here.
        scores[:, c] = torch.where(labelled & ~touched, scores[:, c] * 0.5, scores[:, c])
        weights[:, c] = torch.where(ignored & (value <= 0), 0.5, 1.0)
        picked = boxes.gather(1, which[:, :, None].expand(-1, -1, 4))
        target[:, c] = torch.where((value > 0)[..., None], picked, target[:, c])
        scores[:, c] = torch.maximum(scores[:, c], value)
    return Goal(scores, weights, target)


def detection_loss(logits: Tensor, found: Tensor, aim: Goal) -> tuple[Tensor, Tensor]:
    """Score loss (cross entropy with soft targets) and box loss (1 - generalised IoU), each per unit of target."""
    total = aim.scores.sum().clamp(min=1.0)
    score = functional.binary_cross_entropy_with_logits(logits, aim.scores, aim.weights, reduction="sum") / total
    weight = aim.scores * (aim.scores > BOX_FLOOR)
    box = ((1 - pair_iou(found, aim.boxes)[1]) * weight).sum() / weight.sum().clamp(min=1.0)
    return score, box


def pretext_loss(guesses: list[Tensor], soft: Targets) -> Tensor:
    """How far guesses float[B, FEATURES + OBJECTS, H/s, W/s] are from the teacher's features and its scores."""
    features = sum(
        functional.mse_loss(_normal(guess[:, :FEATURES].float()), _normal(feature.float()))
        for guess, feature in zip(guesses, soft.features, strict=True)
    )
    objects = torch.cat([guess[:, FEATURES:].float().flatten(2) for guess in guesses], 2)
    entropy = functional.binary_cross_entropy_with_logits(objects, soft.objects, reduction="sum")
    return features / len(guesses) + entropy / soft.objects.sum().clamp(min=1.0)


def _normal(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-3)
