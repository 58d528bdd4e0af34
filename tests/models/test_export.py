"""The ONNX file says what the trained network says."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; only training needs it")

from models.default import export
from models.default.network import ARCHITECTURES, Network
from tests.models.trained import settle

LABELS = ("person", "face")
SIZE = (96, 64)


def trained(name="small", seed=0):
    return settle(Network(ARCHITECTURES[name](len(LABELS)), len(LABELS)), seed)


@pytest.mark.parametrize("name", ["small", "residual", "local", "separable"])
def test_onnxruntime_gives_what_pytorch_gives(name):
    net = trained(name)
    image = torch.rand(1, 3, SIZE[1], SIZE[0]) * 255
    session = onnxruntime.InferenceSession(export.to_onnx(net, LABELS, *SIZE), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        heads, _ = net(image)
    for head, found in zip(heads, session.run(["head8", "head16", "head32"], {"images": image.numpy()}), strict=True):
        wanted = head.numpy()
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 0.01 * np.abs(wanted).max()  # weights are float16: 11 bits, many layers


def test_the_file_says_what_it_is():
    model = onnx.load_from_string(export.to_onnx(trained(), LABELS, *SIZE))
    assert {p.key: p.value for p in model.metadata_props} == {
        "afterimage.family": "afterimage",
        "labels": "person,face",
    }
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert (model.graph.input[0].name, shape) == ("images", [1, 3, 64, 96])
    halves = [t for t in model.graph.initializer if t.name.endswith("_half")]
    assert {t.data_type for t in halves} == {onnx.TensorProto.FLOAT16}
    assert len(halves) == sum(node.op_type == "Cast" for node in model.graph.node)


def test_the_same_weights_give_the_same_bytes(tmp_path):
    digest = export.write(trained(), LABELS, *SIZE, tmp_path / "a.onnx")
    assert digest == export.write(trained(), LABELS, *SIZE, tmp_path / "b.onnx")
    assert digest == hashlib.sha256((tmp_path / "a.onnx").read_bytes()).hexdigest()
    assert digest != export.write(trained(seed=1), LABELS, *SIZE, tmp_path / "b.onnx")
