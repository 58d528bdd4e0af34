"""ONNX files run node by node in PyTorch say what ONNX Runtime says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="PyTorch is not installed; only training needs it")

from models.default.loss import pair_iou
from models.default.pack import LABELS, read_pack
from models.default.render import PAD_VALUE
from models.default.teachers import STRIDES, OnnxNet, Teachers

CPU = torch.device("cpu")
DATA = Path(__file__).parents[3] / "shared" / "data"
TEACHERS = DATA / "models"
WIDTH, HEIGHT = 640, 384


def write(path: Path, *last) -> Path:
    """All operations that a teacher has, from x float32[1, 3, 8, 12] to y."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(0, 0.3, (4, 3, 3, 3)), "b": rng.normal(0, 0.3, 4)}
    weights = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
    for name, values in {"starts": [1], "ends": [2**31], "axes": [3], "steps": [2]}.items():
        weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    square = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], group=1, dilations=[1, 1], **square),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["m"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Add", ["m", "r"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["p"], **square),
        helper.make_node("Concat", ["a", "p"], ["k"], axis=1),
        helper.make_node(
            "Resize", ["k", "", "twice"], ["z"], mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Slice", ["z", "starts", "ends", "axes", "steps"], ["y"]),
        *last,
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_every_operation_is_as_in_onnxruntime(tmp_path):
    path = write(tmp_path / "t.onnx")
    x = np.random.default_rng(1).normal(0, 1, (1, 3, 8, 12)).astype(np.float32)
    found = OnnxNet(path, ("y", "p"), CPU, torch.float32)(torch.from_numpy(x))
    (wanted,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})
    np.testing.assert_allclose(found["y"].numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert tuple(found["p"].shape) == (1, 4, 8, 12)


def test_only_what_is_wanted_is_run(tmp_path):
    path = write(tmp_path / "t.onnx", helper.make_node("Erf", ["y"], ["e"]))
    assert [node.op_type for node in OnnxNet(path, ("r",), CPU, torch.float32).nodes] == ["Conv", "Relu"]
    with pytest.raises(ValueError, match="expected a known operation, got Erf"):
        OnnxNet(path, ("e",), CPU, torch.float32)(torch.zeros(1, 3, 8, 12))


@pytest.mark.data
@pytest.mark.skipif(not TEACHERS.exists(), reason="the teachers' files are not beside the checkout")
def test_targets_have_one_box_a_cell_for_each_class():
    soft = Teachers(TEACHERS, CPU, torch.float32)(torch.rand(2, 3, 64, 96) * 255)
    cells = sum((64 // s) * (96 // s) for s in STRIDES)
    assert tuple(soft.scores.shape) == (2, 3, cells)
    assert tuple(soft.boxes.shape) == (2, 3, cells, 4)
    assert tuple(soft.objects.shape) == (2, 80, cells)
    assert [tuple(f.shape) for f in soft.features] == [(2, 64, 64 // s, 96 // s) for s in STRIDES]
    assert ((soft.scores >= 0) & (soft.scores <= 1)).all()
    assert (soft.boxes[..., 2:] > soft.boxes[..., :2]).all()
    assert torch.equal(soft.scores[:, 0], soft.objects[:, 0])  # a COCO person is a person


@pytest.mark.data
@pytest.mark.skipif(not TEACHERS.exists(), reason="the teachers' files are not beside the checkout")
@pytest.mark.skipif(not (DATA / "training").exists(), reason="the training pack is not beside the checkout")
def test_their_best_boxes_are_the_labelled_ones():
    one_of_each = (
        picture
        for picture in read_pack(DATA / "training", "val")
        if sorted(picture.truth.class_id) == [0, 1] and not picture.truth.ignore.any()
    )
    picture = next(one_of_each)
    image = picture.image()
    ratio = min(WIDTH / image.shape[1], HEIGHT / image.shape[0])
    resized = cv2.resize(image, None, fx=ratio, fy=ratio)
    canvas = np.full((HEIGHT, WIDTH, 3), PAD_VALUE, np.float32)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    soft = Teachers(TEACHERS, CPU, torch.float32)(torch.from_numpy(canvas).permute(2, 0, 1)[None])
    for c, label in enumerate(LABELS[:2]):
        best = soft.boxes[0, c, soft.scores[0, c].argmax()]
        labelled = torch.from_numpy(picture.truth.xyxy[picture.truth.class_id == c][0] * ratio).float()
        assert pair_iou(best, labelled)[0] >= 0.5, label
