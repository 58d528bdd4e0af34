"""Runs the real models through ONNX Runtime: whole, and cut at their spatial heads at any size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest

from cache.onnx_import import OnnxModel, extract, import_graph, load_model
from service import families
from service.families.base import SpatialFamily
from service.model_spec import ModelSpec, guess_spec
from service.preprocess import fit
from service.sources import open_source

DATA = Path(__file__).parents[4] / "shared" / "data"


def session(data: bytes) -> onnxruntime.InferenceSession:
    """A single-threaded session, so that tests leave the machine to others."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class RealModel:
    """A model of the test data with its guessed specification and its decoder."""

    path: Path
    model: OnnxModel
    spec: ModelSpec
    family: SpatialFamily
    heads: tuple[str, ...]

    def tensor(self, frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """float32[1, C, H, W] as the network wants it."""
        image, _ = fit(frame, size, self.spec)
        table = self.spec.normalisation()
        channels = [table[image[:, :, c], c] for c in range(image.shape[2])]
        return np.stack(channels)[None]

    def full(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The model's own outputs."""
        return self._run(session(self.path.read_bytes()), x)

    def spatial(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The head tensors, at the size of x."""
        cut = extract(self.model, {self.model.inputs[0].name: x.shape}, self.heads)
        native = self.model.inputs[0].shape
        if x.shape != native:
            cut = _scale_reshapes(cut, x.shape[2] / native[2], x.shape[3] / native[3])
        return self._run(session(cut), x)

    def _run(self, ort: onnxruntime.InferenceSession, x: np.ndarray) -> dict[str, np.ndarray]:
        values: list[Any] = ort.run(None, {ort.get_inputs()[0].name: x})
        return dict(zip([out.name for out in ort.get_outputs()], values, strict=True))


def _scale_reshapes(data: bytes, down: float, across: float) -> bytes:
    """The model with the fixed sizes of its channel shuffles changed, so that it runs at another size."""
    model = onnx.load_from_string(data)
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for weight in model.graph.initializer:
        if weight.name not in targets:
            continue
        shape = onnx.numpy_helper.to_array(weight).copy()
        if shape.size == 3:
            shape[2] = round(shape[2] * down * across)
        else:
            shape[-2:] = np.rint(shape[-2:] * [down, across])
        weight.CopyFrom(onnx.numpy_helper.from_array(shape, weight.name))
    del model.graph.value_info[:]
    return model.SerializeToString()


@cache
def _real_model(name: str) -> RealModel:
    path = DATA / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"no test data: {path}")
    model = load_model(path)
    spec = guess_spec(model)
    family = families.create(spec)
    width, height = families.default_size(model, spec)
    heads = family.outputs(model, import_graph(model, (1, 3, height, width)))
    assert isinstance(family, SpatialFamily)
    assert heads
    return RealModel(path, model, spec, family, tuple(heads))


@cache
def _clip_frame(name: str, position: int) -> np.ndarray:
    path = DATA / "videos" / name
    if not path.is_file():
        pytest.skip(f"no test data: {path}")
    with open_source(path, start=position, frames=1) as source:
        return next(iter(source)).image


@pytest.fixture
def real_model():
    """Function from a model's name to its RealModel; skips without the test data."""
    return _real_model


@pytest.fixture
def clip_frame():
    """Function from clip name and frame number to uint8[H, W, 3]; skips without the test data."""
    return _clip_frame


@pytest.fixture
def data_dir():
    """The folder of clips and models; it may be absent."""
    return DATA


@pytest.fixture
def ort_session():
    """Function from the bytes of a model to an ONNX Runtime session of one thread."""
    return session
