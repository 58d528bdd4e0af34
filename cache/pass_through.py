"""Models that a Plan cannot hold: run whole in ONNX Runtime, and again only when an input has changed.

A Plan needs one float32 image (1, C, H, W). Whatever else ONNX Runtime runs (several inputs, other ranks or types,
batches) runs here with the same answer; a stream whose inputs stand still costs a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.model import ModelError, OnnxModel
from cache.plan import Plan, Shape, Table
from cache.policy import Policy
from cache.proto import all_nodes
from cache.tail import TailRunner

Array = npt.NDArray[Any]

RANDOM_OPS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Ops that may answer differently to the same inputs: a model that has one is never answered from memory."""


@dataclass(frozen=True)
class PassResult:
    """outputs : by name, read-only; they stay as they are. reused : whether they are those of the call before."""

    outputs: Mapping[str, Array]
    reused: bool


class PassThrough:
    """A whole model in ONNX Runtime, and the inputs and outputs of its last call. Not thread-safe.

    reason : why the model has no Plan; empty when nobody asked. input_names, output_names : as the file lists them.
    Raises ModelError for an input or output that is no tensor, TailError for a model that ONNX Runtime refuses.
    """

    def __init__(self, model: OnnxModel, reason: str = "") -> None:
        self.name = model.name
        self.reason = reason
        self.input_names = tuple(item.name for item in model.inputs)
        self.output_names = model.outputs
        self._runner = TailRunner(model.proto.SerializeToString(), self.input_names, self.output_names)
        for name, kind in self._runner.types.items():
            if not kind.startswith("tensor("):
                raise ModelError(f"{model.name}: expected tensors for inputs and outputs, got {kind} for {name!r}")
        self._deterministic = not has_random_op(model)
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array] | None = None

    def run(self, feeds: Mapping[str, Array]) -> PassResult:
        """Outputs for one set of inputs, the last ones again where every input has the same bits.

        feeds : one array per input of the model; copied. Raises ValueError for other names, TailError with ONNX
        Runtime's reason for a wrong shape or type (the outputs of the call before are then forgotten).
        """
        if set(feeds) != set(self.input_names):
            expected, found = ", ".join(self.input_names) or "none", ", ".join(sorted(feeds)) or "none"
            raise ValueError(f"expected the inputs {expected}; got {found}")
        given = {name: np.asarray(value) for name, value in feeds.items()}
        if self._outputs is not None and all(same_bits(given[n], self._inputs[n]) for n in self.input_names):
            return PassResult(self._outputs, True)
        self._outputs = None
        outputs = self._runner.run(given)
        for value in outputs.values():
            value.flags.writeable = False
        if self._deterministic:
            self._inputs = {name: value.copy() for name, value in given.items()}
            self._outputs = outputs
        return PassResult(outputs, False)

    def reset(self) -> None:
        """Forget the last call: the next one runs."""
        self._inputs, self._outputs = {}, None


def same_bits(one: Array, other: Array) -> bool:
    """Whether two arrays have the same type, shape and bits: NaN is itself, and 0.0 is not -0.0."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        return bool(np.array_equal(one, other))
    return one.tobytes() == other.tobytes()


def has_random_op(model: OnnxModel) -> bool:
    """Whether any node, or a node of a branch or loop body, may answer at random."""
    return any(
        node.op_type in RANDOM_OPS or (node.op_type == "Dropout" and len(node.input) > 2)  # with a training mode
        for node in all_nodes(model.proto.graph)
    )


def obstacle(model: OnnxModel, input_shape: Shape | None = None) -> str | None:
    """Why no Plan can hold a model, whatever its nodes are; None when it has one float32 image input."""
    if len(model.inputs) != 1:
        names = ", ".join(item.name for item in model.inputs) or "none"
        return f"expected one input (an image), got {len(model.inputs)}: {names}"
    (image,) = model.inputs
    if image.dtype != np.float32:
        return f"expected a float32 image, got {image.dtype} for {image.name!r}"
    if image.shape is None:
        return None if input_shape is not None else f"expected an image (1, C, H, W), got any rank for {image.name!r}"
    if len(image.shape) != 4:
        return f"expected an image (1, C, H, W), got {len(image.shape)} dimensions for {image.name!r}"
    if image.shape[0] not in (None, 1):
        return f"expected one image at a time, got a batch of {image.shape[0]} for {image.name!r}"
    return None


def open_plan(
    model: OnnxModel,
    input_shape: Shape | None = None,
    outputs: Sequence[str] | None = None,
    normalisation: Table | None = None,
    policy: Policy | None = None,
) -> Plan | PassThrough:
    """A Plan where the model has an image input, else a PassThrough whose `reason` says why not.

    Arguments as for `Plan.compile`; a PassThrough ends at the model's own outputs and takes inputs as they are.
    Raises ModelError where a model with an image input cannot run at the size, or has no size of its own and none
    is given; TailError where ONNX Runtime cannot run it.
    """
    reason = obstacle(model, input_shape)
    if reason is None:
        return Plan.compile(model, input_shape, outputs, normalisation, policy)
    return PassThrough(model, reason)
