"""What tensors a model has: the network's own, and an image's. Knows models and tensors, no HTTP.

An image comes as pixels or encoded, and gives what the model finds in it; the network's own input gives its outputs as
they are. Which of them a request means follows from the name of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.codec import Limits
from service.open_inference.messages import MessageError, Request
from service.open_inference.tensors import Tensor, TensorError
from service.pipeline import FramePipeline, Outcome
from service.registry import Model, ModelFailed

PLATFORM = "afterimage_onnx"
PIXELS = "image"
ENCODED = "encoded_image"
FOUND = {"boxes": ("FP32", [-1, 4]), "scores": ("FP32", [-1]), "class_ids": ("INT32", [-1]), "labels": ("BYTES", [-1])}
"""Outputs of an image: boxes are left, top, right, bottom in its pixels; best first."""

Call = Callable[[FramePipeline], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Signature:
    """Names of a model's inputs, and its outputs by kind of input. pixels, encoded : None where it finds nothing in
    images, because nobody knows how to read its outputs."""

    model: Model
    network: str
    pixels: str | None
    encoded: str | None

    @classmethod
    def of(cls, model: Model) -> Signature:
        """Of a model that is warm. Where the network's own input has one of our names, ours gets another."""
        if model.spec.family == "raw":
            return cls(model, model.input_name, None, None)
        pixels, encoded = (
            f"decoded_{name}" if name == model.input_name else name for name in (PIXELS, ENCODED)
        )  # fmt: skip
        return cls(model, model.input_name, pixels, encoded)

    @property
    def network_shape(self) -> tuple[int, int, int, int]:
        """(1, C, H, W)."""
        width, height = self.model.size
        return 1, self.model.spec.channels, height, width

    def metadata(self) -> dict[str, Any]:
        """The reply to GET /v2/models/{model}."""
        inputs = [_told(self.network, "FP32", self.network_shape)]
        outputs = [
            _told(info.name, Tensor.of(info.name, np.zeros(0, info.dtype)).datatype, info.shape)
            for info in self.model.outputs
        ]
        if self.pixels is not None and self.encoded is not None:
            inputs += [_told(self.pixels, "UINT8", (-1, -1, 3)), _told(self.encoded, "BYTES", (1,))]
            outputs += [_told(name, kind, shape) for name, (kind, shape) in FOUND.items()]
        return {
            "name": self.model.name,
            "versions": [str(self.model.version)],
            "platform": PLATFORM,
            "inputs": inputs,
            "outputs": outputs,
        }

    def call(self, request: Request, limits: Limits) -> Call:
        """What answers a request with its outputs, in the order asked for. Raises MessageError or TensorError."""
        known = [name for name in (self.network, self.pixels, self.encoded) if name is not None]
        if len(request.inputs) != 1 or next(iter(request.inputs)) not in known:
            got = ", ".join(map(repr, list(request.inputs)[:8]))
            raise MessageError(f"expected one input, {' or '.join(map(repr, known))}, got {got}")
        (tensor,) = request.inputs.values()
        of_network = tensor.name == self.network
        names = [info.name for info in self.model.outputs] if of_network else list(FOUND)
        for name in request.outputs:
            if name not in names:
                raise MessageError(f"expected outputs of {', '.join(names)} for {tensor.name!r}, got {name[:128]!r}")
        wanted = list(request.outputs) or names
        run = self._network(tensor) if of_network else self._image(tensor, request, limits)

        def answer(pipeline: FramePipeline) -> dict[str, Tensor]:
            if pipeline.model.newest() is not self.model:
                raise ModelFailed(f"{self.model.name} was reloaded meanwhile; ask again")
            tensors = run(pipeline)
            return {name: tensors[name] for name in wanted}

        return answer

    def _network(self, tensor: Tensor) -> Call:
        x = _array(tensor, "FP32", self.network_shape)
        if not np.isfinite(x).all():
            raise TensorError(f"input {tensor.name!r}: expected finite numbers, got others among them")
        return lambda pipeline: {name: Tensor.of(name, value) for name, value in pipeline.run_tensor(x).items()}

    def _image(self, tensor: Tensor, request: Request, limits: Limits) -> Call:
        confidence = _confidence(request)
        if tensor.name == self.encoded:
            if tensor.datatype != "BYTES" or len(tensor.values) != 1:
                got = f"{tensor.datatype}{list(tensor.shape)}"
                raise TensorError(f"input {tensor.name!r}: expected one JPEG, PNG or WebP image as BYTES[1], got {got}")
            (data,) = tensor.elements
            return lambda pipeline: found(pipeline.run(data, min_confidence=confidence, reset=True))
        image = pixels_of(tensor, limits)
        return lambda pipeline: found(pipeline.run_pixels(image, min_confidence=confidence, reset=True))


def pixels_of(tensor: Tensor, limits: Limits) -> NDArray[np.uint8]:
    """uint8[H, W, 3] BGR of a tensor of RGB pixels, [H, W, 3] or [1, H, W, 3]. Raises TensorError."""
    shape = tensor.shape[1:] if len(tensor.shape) == 4 and tensor.shape[0] == 1 else tensor.shape
    if tensor.datatype != "UINT8" or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        got = f"{tensor.datatype}{list(tensor.shape)}"
        raise TensorError(f"input {tensor.name!r}: expected RGB pixels as UINT8[H, W, 3], got {got}")
    if shape[0] * shape[1] > limits.max_pixels:
        raise TensorError(
            f"input {tensor.name!r}: expected at most {limits.max_pixels} pixels, got {shape[1]}x{shape[0]}"
        )
    return np.ascontiguousarray(tensor.array.reshape(shape)[:, :, ::-1])


def found(outcome: Outcome) -> dict[str, Tensor]:
    """What was found in an image, as tensors of `FOUND`; classes of a whole image have its corners as their boxes."""
    boxes: list[tuple[float, float, float, float]]
    if outcome.found.classes is not None:
        items = [(one.score, one.class_id, one.label) for one in outcome.found.classes]
        boxes = [(0.0, 0.0, float(outcome.width), float(outcome.height))] * len(items)
    else:
        detections = outcome.found.detections or ()
        items = [(one.score, one.class_id, one.label) for one in detections]
        boxes = [one.xyxy for one in detections]
    return {
        "boxes": Tensor.of("boxes", np.asarray(boxes, np.float32).reshape(-1, 4)),
        "scores": Tensor.of("scores", np.asarray([score for score, _, _ in items], np.float32)),
        "class_ids": Tensor.of("class_ids", np.asarray([number for _, number, _ in items], np.int32)),
        "labels": Tensor.of_texts("labels", [label for _, _, label in items]),
    }


def _array(tensor: Tensor, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if tensor.datatype != datatype or tensor.shape != shape:
        got = f"{tensor.datatype}{list(tensor.shape)}"
        raise TensorError(f"input {tensor.name!r}: expected {datatype}{list(shape)}, got {got}")
    return tensor.array


def _confidence(request: Request) -> float | None:
    value = request.parameters.get("min_confidence")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise MessageError(f"min_confidence: expected a number from 0 to 1, got {value!r:.32}")
    return float(value)


def _told(name: str, datatype: str, shape: tuple[int, ...] | list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}
