"""A small network of the product's own family, as its files are made, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ("person", "face", "vehicle")
SIZE = (96, 64)


def write_model(path: Path, labels=LABELS, size=SIZE, seed=0) -> Path:
    """Weights are float16 initializers, each followed by a Cast; heads at strides 8, 16 and 32."""
    rng = np.random.default_rng(seed)
    nodes, weights, outputs = [], [], []

    def conv(name, source, c_in, c_out, kernel, stride, relu=True, bias=0.0):
        w = rng.normal(0, (2 / (c_in * kernel * kernel)) ** 0.5, (c_out, c_in, kernel, kernel))
        b = np.broadcast_to(np.asarray(bias, np.float64), (c_out,))
        for suffix, values in (("weight", w), ("bias", b)):
            weights.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_{suffix}_half"))
            nodes.append(
                helper.make_node("Cast", [f"{name}_{suffix}_half"], [f"{name}_{suffix}"], to=TensorProto.FLOAT)
            )
        out = name + "_sum" if relu else name
        fields = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        nodes.append(helper.make_node("Conv", [source, f"{name}_weight", f"{name}_bias"], [out], **fields))
        if relu:
            nodes.append(helper.make_node("Relu", [out], [name]))
        return name

    bias = [-1.0] * len(labels) + [1.5] * (4 * len(labels))
    x = conv("a", "images", 3, 8, 3, 4)
    for stride in (8, 16, 32):
        x = conv(f"b{stride}", x, 8, 8, 3, 2)
        conv(f"head{stride}", x, 8, 5 * len(labels), 1, 1, relu=False, bias=bias)
        shape = [1, 5 * len(labels), size[1] // stride, size[0] // stride]
        outputs.append(helper.make_tensor_value_info(f"head{stride}", TensorProto.FLOAT, shape))
    weights[0].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[0]) / np.float16(255), weights[0].name))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size[1], size[0]])
    graph = helper.make_graph(nodes, "people", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"afterimage.family": "afterimage", "labels": ",".join(labels)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
