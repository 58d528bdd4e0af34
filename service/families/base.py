"""What every model family shares: result types, the `Family` protocol, and reading spatial heads.

A family turns a model's output tensors into results in plan pixels (the pixels of the network's input).
It knows nothing of the network, of streams or of ONNX; it identifies heads by channels and spatial size.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.onnx_import import spatial_heads
from service.nms import nms

if TYPE_CHECKING:
    from cache.graph import Graph
    from cache.onnx_import import OnnxModel
    from service.model_spec import ModelSpec

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int32]
Outputs: TypeAlias = Mapping[str, NDArray[Any]]
Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

_EXP_LIMIT = np.float32(30.0)  # e**30 strides is far beyond any image; above it float32 would overflow


class FamilyError(ValueError):
    """The tensors are not what the family decodes; the message says what was expected and what came."""


@dataclass(frozen=True)
class Detections:
    """Boxes, best score first after NMS.

    xyxy : float32[N, 4], left, top, right, bottom in pixels (plan pixels as decoded)
    score : float32[N], 0..1
    class_id : int32[N]
    keypoints : float32[N, K, 3] of x, y in pixels and a visibility 0..1, or None
    """

    xyxy: FloatArray
    score: FloatArray
    class_id: IntArray
    keypoints: FloatArray | None = None

    def __len__(self) -> int:
        return int(self.score.shape[0])

    @staticmethod
    def empty() -> Detections:
        """No boxes at all."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))

    def select(self, index: NDArray[Any] | slice) -> Detections:
        """The rows that `index` (int array, bool mask or slice) names, in its order."""
        points = None if self.keypoints is None else self.keypoints[index]
        return Detections(self.xyxy[index], self.score[index], self.class_id[index], points)


@dataclass(frozen=True)
class Classification:
    """The best classes of a frame, best first: class_id int32[K], score float32[K] (probabilities)."""

    class_id: IntArray
    score: FloatArray


@dataclass(frozen=True)
class Mask:
    """A segmentation at the model's output resolution [h, w].

    classes : int32[h, w]; for a one-channel model 1 where the probability passes the threshold, else 0
    probability : float32[h, w] of the class chosen (of the one channel, for a one-channel model)
    regions : connected regions as boxes in plan pixels, score = mean probability of the region
    """

    classes: IntArray
    probability: FloatArray
    regions: Detections


@dataclass(frozen=True)
class RawOutputs:
    """The output tensors as they came; they are views, valid until the Session's next push."""

    tensors: Outputs


Result: TypeAlias = Detections | Classification | Mask | RawOutputs


def boxes_of(result: Result) -> Detections:
    """The boxes of any result: regions of a mask, none for a classification or raw tensors."""
    if isinstance(result, Detections):
        return result
    return result.regions if isinstance(result, Mask) else Detections.empty()


class Family(Protocol):
    """Decodes one kind of model. Make one per model (`families.create`); it remembers the heads it chose."""

    name: ClassVar[str]
    stride: int | None
    """Sizes must be multiples of this; None: only the sizes that the ONNX file itself accepts."""

    def outputs(self, model: OnnxModel, graph: Graph) -> Sequence[str] | None:
        """The tensors that a plan for this family ends at; None: the model's own outputs."""

    def decode(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Result:
        """Results in plan pixels of a plan of `size` (W, H). Raises FamilyError on unexpected tensors."""


class HeadLike(Protocol):
    """A spatial tensor and the ONNX op types between it and the model's output."""

    @property
    def tensor(self) -> str: ...

    @property
    def post(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class HeadTensor:
    """One head's values, float32[C, h, w], and the op types that the model would still apply."""

    values: FloatArray
    post: tuple[str, ...]

    @property
    def channels(self) -> int:
        return int(self.values.shape[0])

    def flat(self) -> FloatArray:
        """float32[C, h * w], row-major cells."""
        return self.values.reshape(self.channels, -1)

    def probabilities(self) -> FloatArray:
        """`flat`, after the Sigmoid that the model has behind this head, if it has one."""
        return sigmoid(self.flat()) if "Sigmoid" in self.post else self.flat()


@dataclass(frozen=True)
class Level:
    """All heads of one spatial size; `stride` in pixels, heads by rising channel count."""

    height: int
    width: int
    stride: float
    heads: tuple[HeadTensor, ...]

    def cells(self, index: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Column and row, float32[N], of flat cell numbers."""
        return (index % self.width).astype(np.float32), (index // self.width).astype(np.float32)


class SpatialFamily(abc.ABC):
    """A family that decodes from the spatial NCHW heads and so runs at any multiple of its stride."""

    name: ClassVar[str]
    stride: int | None = 32

    def __init__(self) -> None:
        self._post: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def outputs(self, model: OnnxModel, graph: Graph) -> Sequence[str] | None:
        """The spatial heads of the model. `graph` may have been imported at any size that works."""
        self.use_heads(spatial_heads(model, graph))
        return tuple(self._post)

    def use_heads(self, heads: Sequence[HeadLike]) -> None:
        """Decode from these heads from now on."""
        if not heads:
            raise FamilyError(f"{self.name}: expected spatial output tensors, found none in this model")
        self._post = MappingProxyType({head.tensor: head.post for head in heads})

    @abc.abstractmethod
    def candidates(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Boxes with score > spec.min_confidence, before NMS, in plan pixels, level by level."""

    def decode(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """The boxes left after class-aware NMS at spec.iou, best first."""
        return suppress(self.candidates(outputs, spec, size), spec)

    def levels(self, outputs: Outputs, size: Size) -> list[Level]:
        """The heads grouped by spatial size, largest map (smallest stride) first."""
        names = tuple(self._post) or tuple(outputs)
        groups: dict[tuple[int, int], list[HeadTensor]] = {}
        for name in names:
            if name not in outputs:
                raise FamilyError(f"{self.name}: expected head {name!r}, got {', '.join(outputs)}")
            values = outputs[name]
            if values.ndim != 4 or values.shape[0] != 1:
                shape = "x".join(map(str, values.shape))
                raise FamilyError(f"{self.name}: expected spatial heads 1xCxHxW, got {name!r} {shape}")
            head = HeadTensor(np.asarray(values[0], np.float32), self._post.get(name, ()))
            groups.setdefault((head.values.shape[1], head.values.shape[2]), []).append(head)
        ordered = sorted(groups.items(), key=lambda item: -item[0][0] * item[0][1])
        return [
            Level(h, w, size[0] / w, tuple(sorted(heads, key=lambda head: head.channels))) for (h, w), heads in ordered
        ]


def suppress(found: Detections, spec: ModelSpec) -> Detections:
    """NMS and the limit on the number of boxes, as the specification states them."""
    keep = nms(found.xyxy, found.score, found.class_id, spec.iou, class_agnostic=spec.class_agnostic)
    return found.select(keep[: spec.max_detections])


def gather(parts: Sequence[Detections]) -> Detections:
    """One Detections of several; keypoints stay when every part has them."""
    if not parts:
        return Detections.empty()
    points = [part.keypoints for part in parts if part.keypoints is not None]
    return Detections(
        np.concatenate([part.xyxy for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.class_id for part in parts]),
        np.concatenate(points) if len(points) == len(parts) else None,
    )


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + e^-x) in float32, without overflow."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -80.0, 80.0))), np.float32)


def softmax(x: FloatArray, axis: int) -> FloatArray:
    """Softmax along `axis` in float32, shifted by the maximum."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True), np.float32)


def exp(x: FloatArray) -> FloatArray:
    """e^x for box sizes, capped so that a broken model gives a huge box and no overflow."""
    return np.asarray(np.exp(np.minimum(x, _EXP_LIMIT)), np.float32)


def corners(cx: FloatArray, cy: FloatArray, w: FloatArray, h: FloatArray) -> FloatArray:
    """float32[N, 4] xyxy of centres and sizes, each float32[N]."""
    return np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=1).astype(np.float32)
