"""A loaded model and what can be asked of it without knowing ONNX's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache.graph import Graph


class ModelError(ValueError):
    """A file is no model that can be run here; the message says what was expected and what was found."""


@dataclass(frozen=True)
class InputInfo:
    """A runtime input as the file declares it: None in shape is a dynamic size, shape None any rank."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A checked model; the proto is never changed after loading.

    source : the file's nodes as they stand (``onnx.*`` ops), its weights as constants.
    """

    path: Path | None
    name: str
    proto: Any = field(repr=False)
    opset: int
    metadata: dict[str, str]
    inputs: list[InputInfo]
    outputs: tuple[str, ...]
    sha256: str
    source: Graph = field(repr=False)


def native_shape(model: OnnxModel) -> tuple[int, int, int, int] | None:
    """The (1, C, H, W) that the file fixes for its image input, None when part of it is dynamic.

    A dynamic batch counts as 1.
    """
    if len(model.inputs) != 1 or model.inputs[0].shape is None or len(model.inputs[0].shape) != 4:
        return None
    batch, *rest = model.inputs[0].shape
    if batch not in (None, 1) or any(size is None for size in rest):
        return None
    channels, height, width = (int(size) for size in rest if size is not None)
    return 1, channels, height, width


def image_input(model: OnnxModel, reached: Sequence[str]) -> InputInfo:
    """The one float32 input among those reached. Raises ModelError when there are more, or none."""
    found = [item for item in model.inputs if item.name in reached]
    if len(found) != 1:
        names = [item.name for item in found]
        raise ModelError(f"expected a model with one input (an image), got {len(found)}: {names}")
    if found[0].dtype != np.float32:
        raise ModelError(f"expected a float32 image input, got {found[0].dtype} for {found[0].name!r}")
    return found[0]


def ancestors(source: Graph, outputs: Sequence[str], stops: Sequence[str]) -> tuple[list[int], list[str]]:
    """Positions of the nodes that make the outputs from the stops, and the runtime inputs they reach.

    Raises ModelError for a tensor that the model does not have.
    """
    where = {name: index for index, node in enumerate(source.nodes) for name in node.outputs if name}
    stop, positions = set(stops), set[int]()
    reached: dict[str, None] = {}
    pending = list(outputs)
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if not name or name in seen or name in stop:
            continue
        seen.add(name)
        if name in where:
            index = where[name]
            if index not in positions:
                positions.add(index)
                pending.extend(source.nodes[index].inputs)
        elif name in source.inputs:
            reached[name] = None
        elif name not in source.constants:
            raise ModelError(f"expected a tensor of the model, got {name!r}")
    return sorted(positions), list(reached)
