"""Any other model: the output tensors as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from service.families.base import Outputs, RawOutputs, Size

if TYPE_CHECKING:
    from cache.graph import Graph
    from cache.onnx_import import OnnxModel
    from service.model_spec import ModelSpec


class Raw:
    """Passes the tensors through."""

    name: ClassVar[str] = "raw"
    stride: int | None = None

    def outputs(self, model: OnnxModel, graph: Graph) -> Sequence[str] | None:
        """None: the model's own outputs."""
        return None

    def decode(self, outputs: Outputs, spec: ModelSpec, size: Size) -> RawOutputs:
        """The tensors themselves, not copied."""
        return RawOutputs(outputs)
