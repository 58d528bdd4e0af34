import time

import numpy as np
import pytest

from cache.onnx_import import extract, import_graph, load_model, native_shape, spatial_heads
from tests.cache.interpreter import onnx_run, run, run_all
from tests.cache.onnx_models import model_path

MODELS = {
    "yolox_nano.onnx": (255, (1, 3, 416, 416)),
    "FastestDet.onnx": (1, (1, 3, 352, 352)),
    "nanodet_m_320.onnx": (1, (1, 3, 320, 320)),
    "yunet_n_320_320.onnx": (255, (1, 3, 320, 320)),
    "yunet_n_640_640.onnx": (255, (1, 3, 640, 640)),
    "ultraface_version-RFB-640.onnx": (1, (1, 3, 480, 640)),
    "ppocrv3_det.onnx": (1, (1, 3, 160, 224)),
}
# ONNX Runtime's sigmoid is only exact to 1e-7 absolute; on noise this model's map never leaves 1e-6.
LOGITS = {"ppocrv3_det.onnx": ["p2o.Add.77"]}


def noise(shape: tuple[int, ...], scale: float) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * scale).astype(np.float32)


def relative_error(found: dict[str, np.ndarray], expected: list[np.ndarray]) -> float:
    pairs = zip(found.values(), expected, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


@pytest.mark.data
@pytest.mark.parametrize("name", MODELS)
def test_real_models_agree_with_onnx_runtime(name: str) -> None:
    scale, shape = MODELS[name]
    model = load_model(model_path(name))
    assert native_shape(model) in (shape, None)
    start = time.perf_counter()
    graph = import_graph(model, shape, LOGITS.get(name))
    assert time.perf_counter() - start < 2
    x = noise(shape, scale)
    expected = onnx_run(extract(model, {graph.inputs[0]: shape}, graph.outputs), {graph.inputs[0]: x})
    assert relative_error(run_all(model, graph, x), expected) < 1e-4


@pytest.mark.data
@pytest.mark.parametrize("name", MODELS)
def test_real_models_cut_at_their_heads(name: str) -> None:
    scale, shape = MODELS[name]
    model = load_model(model_path(name))
    heads = LOGITS.get(name) or list(
        dict.fromkeys(head.tensor for head in spatial_heads(model, import_graph(model, shape)))
    )
    if name == "FastestDet.onnx":
        heads = ["input.624", "onnx::Concat_744", "onnx::Concat_960"]  # its own output joins a softmax in
    graph = import_graph(model, shape, heads)
    assert not any(node.is_foreign for node in graph.nodes)
    x = noise(shape, scale)
    expected = onnx_run(extract(model, {graph.inputs[0]: shape}, heads), {graph.inputs[0]: x})
    assert relative_error(run(graph, x), expected) < 1e-4


@pytest.mark.data
@pytest.mark.parametrize("shape", [(1, 3, 384, 640), (1, 3, 160, 224)])
def test_yolox_at_other_sizes(shape: tuple[int, int, int, int]) -> None:
    model = load_model(model_path("yolox_nano.onnx"))
    heads = ["1066", "1108", "1150"]
    graph = import_graph(model, shape, heads)
    assert graph.types["1066"].shape == (1, 85, shape[2] // 8, shape[3] // 8)
    x = noise(shape, 255)
    expected = onnx_run(extract(model, {"images": shape}, heads), {"images": x})
    assert relative_error(run(graph, x), expected) < 1e-4


@pytest.mark.data
def test_yolox_is_fused_as_far_as_it_goes() -> None:
    graph = import_graph(load_model(model_path("yolox_nano.onnx")), (1, 3, 416, 416), ["1066", "1108", "1150"])
    kinds = [node.op for node in graph.nodes]
    assert kinds.count("conv") == 113
    assert set(kinds) == {"conv", "add", "concat", "max_pool", "resize"}
    stem = graph.nodes[0]
    assert stem.inputs[0] == "images"
    assert graph.constants[stem.inputs[1]].shape[1:] == (3, 6, 6)
    assert stem.attrs["strides"] == (2, 2)
