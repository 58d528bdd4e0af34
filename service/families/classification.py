"""Image classification: one score per class for the whole frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from service.families.base import Classification, FamilyError, Outputs, Size, softmax

if TYPE_CHECKING:
    from cache.graph import Graph
    from cache.onnx_import import OnnxModel
    from service.model_spec import ModelSpec


class Classifier:
    """Reads the model's first output, 1 x classes (or 1 x classes x 1 x 1)."""

    name: ClassVar[str] = "classification"
    stride: int | None = None

    def outputs(self, model: OnnxModel, graph: Graph) -> Sequence[str] | None:
        """None: the model's own outputs."""
        return None

    def decode(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Classification:
        """The spec.top_k best classes, whatever their probability."""
        name, values = next(iter(outputs.items()))
        row = np.asarray(values, np.float32).reshape(-1)
        if row.size < 2 or row.size != max(values.shape):
            shape = "x".join(map(str, values.shape))
            raise FamilyError(f"classification: expected one row of class scores, got {name!r} {shape}")
        done = spec.scores == "probability" or (
            spec.scores == "auto" and row.min() >= 0 and abs(float(row.sum()) - 1.0) < 1e-2
        )
        probability = row if done else softmax(row, axis=0)
        order = np.argsort(-probability, kind="stable")[: spec.top_k]
        return Classification(order.astype(np.int32), probability[order])
