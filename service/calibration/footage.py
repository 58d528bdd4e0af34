"""Clips as a calibration sees them: frames as from a camera, the dense run's answers, and the noise floor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.session import Session
from service.calibration.damage import FAINT, Damage, Figures, samples
from service.evaluate import CAMERA_QUALITY, NOISE_QUALITY, through_jpeg, to_plan_size
from service.families.base import Detections, Outputs, boxes_of
from service.opened import OpenedModel
from service.preprocess import fit

Image = NDArray[np.uint8]
Samples = dict[str, NDArray[np.float32]]

SMALLEST_SPREAD = 1e-12
"""Variance below which an output counts as constant."""


@dataclass(frozen=True, eq=False)
class Footage:
    """One clip. frames : uint8[H, W, C], inputs of the plan. boxes, outputs, spreads : of the dense run, by frame;
    samples of the outputs, and their variance. noise : the dense run on the same frames after stronger compression,
    against that."""

    name: str
    frames: list[Image]
    boxes: list[Detections]
    outputs: list[Samples]
    spreads: dict[str, float]
    noise: Figures


def decoder(opened: OpenedModel) -> Callable[[Outputs], Detections]:
    """Boxes of output tensors, faint ones too."""
    spec = opened.spec.model_copy(update={"min_confidence": min(FAINT, opened.spec.min_confidence)})

    def decode(outputs: Outputs) -> Detections:
        return boxes_of(opened.family.decode({k: np.array(v) for k, v in outputs.items()}, spec, opened.size))

    return decode


def look(opened: OpenedModel, whole: Session, name: str, images: Iterable[Image]) -> Iterator[Footage | int]:
    """Run a clip densely; yields the number of frames done, and last the footage.

    whole : an exact session of the model. images : uint8[H, W, 3] BGR of any size.
    """
    decode, frames, noisy = decoder(opened), list[Image](), list[tuple[Detections, Samples]]()
    boxes, outputs = list[Detections](), list[Samples]()
    for image in images:
        small = to_plan_size(image, opened.size)
        seen = [through_jpeg(small, quality) for quality in (CAMERA_QUALITY, NOISE_QUALITY)]
        first, second = (np.ascontiguousarray(fit(one, opened.size, opened.spec)[0]) for one in seen)
        for frame, keep in ((first, True), (second, False)):
            whole.reset()
            result = whole.push(frame).outputs
            found, taken = decode(result), samples(result)
            if keep:
                frames.append(frame)
                boxes.append(found)
                outputs.append(taken)
            else:
                noisy.append((found, taken))
        yield len(frames)
    spreads = {
        key: max(float(np.var([taken[key].astype(np.float64) for taken in outputs])), SMALLEST_SPREAD)
        for key in (outputs[0] if outputs else {})
    }
    noise = Damage(spreads)
    for (found, taken), truth, expected in zip(noisy, boxes, outputs, strict=True):
        noise.add(found, truth, taken, expected)
    yield Footage(name, frames, boxes, outputs, spreads, noise.figures())


def replay(opened: OpenedModel, session: Session, footage: Footage, frames: slice = slice(None)) -> Figures:
    """Run some neighbouring frames of a clip incrementally, from an empty cache."""
    decode, damage = decoder(opened), Damage(footage.spreads)
    session.reset()
    for number, frame in enumerate(footage.frames[frames]):
        result = session.push(frame)
        index = number + (frames.start or 0)
        damage.add(
            decode(result.outputs), footage.boxes[index], result.outputs, footage.outputs[index],
            result.compute_fraction if number else None,
        )  # fmt: skip
    return damage.figures()
