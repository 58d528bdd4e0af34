"""Light models with drawn weights: the same ones every time, of the files' own shapes, and nothing left constant."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.light_networks import FOLDER, NAMES, SPREAD, frames, imagenet_table, light_model
from cache.tail import runtime_session


def weights(data: bytes) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(data).graph.initializer}


def test_the_package_ships_these_networks():
    assert [path.stem for path in sorted(FOLDER.glob("*.onnx"))] == [f"light_{name}" for name in NAMES]


def test_weights_have_the_shapes_of_the_file_and_are_drawn_from_the_seed():
    data = light_model("squeezenet", side=64)
    file = onnx.load(FOLDER / "light_squeezenet.onnx")
    given = {item.name: numpy_helper.to_array(item) for item in file.graph.initializer}
    made = {n.output[0]: given.pop(n.input[0]) for n in file.graph.node if n.op_type == "ConstantOfShape"}
    shapes = {name: tuple(shape) for name, shape in made.items()} | {name: value.shape for name, value in given.items()}
    found = weights(data)
    assert {name: value.shape for name, value in found.items()} == shapes
    assert all(np.unique(value).size > 1 for value in found.values())
    assert data == light_model("squeezenet", side=64)
    assert data != light_model("squeezenet", side=64, seed=1)


def test_what_goes_into_the_softmax_has_the_spread_that_was_asked_for():
    model = onnx.load_from_string(light_model("squeezenet", side=64))
    model.graph.output.append(onnx.ValueInfoProto(name=model.graph.node[-1].input[0]))
    x = np.random.default_rng(1).standard_normal((1, 3, 64, 64), np.float32)
    _, logits = runtime_session(model.SerializeToString()).run(None, {model.graph.input[0].name: x})
    assert logits.std() == pytest.approx(SPREAD, rel=1e-3)


def test_matrix_products_are_narrowed_but_for_the_last_ones_outputs():
    found = weights(light_model("zfnet512", narrow=32))
    shapes = {name: value.shape for name, value in found.items() if "fc" in name and value.ndim == 2}
    assert shapes == {"gpu_0/fc6_w_0": (32, 18432), "gpu_0/fc7_w_0": (32, 32), "gpu_0/fc8_w_0": (1000, 32)}


def test_another_size_is_refused_where_the_file_is_made_for_its_own():
    with pytest.raises(ValueError, match=r"expected resnet50 at 224 px, .*got 64"):
        light_model("resnet50", side=64)


def test_frames_differ_only_around_the_block():
    first, second = frames(64, 2)
    assert (first.dtype, first.shape) == (np.uint8, (64, 64, 3))
    changed = (first != second).any(axis=2)
    assert 0 < changed.mean() < 0.05


def test_bytes_become_what_imagenets_networks_expect():
    assert imagenet_table()[255] == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)
