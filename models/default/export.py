"""A trained network as an ONNX file: branches and normalisations folded, weights float16, written node by node.

The file depends on nothing but the weights, so that the same checkpoint gives the same bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.default.network import INPUT_SCALE, Conv, Network

OPSET = 13


def to_onnx(network: Network, labels: tuple[str, ...], width: int, height: int) -> bytes:
    """The file's bytes: input `images` float32[1, 3, H, W] BGR 0..255, outputs head8, head16, head32."""
    nodes, weights = [], []

    def constant(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        nodes.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
        return name

    outputs = []
    for node in network.description.nodes:
        name = node.name
        if node.op in ("conv", "head"):
            step = network.steps[name]
            if isinstance(step, Conv):
                weight, bias = step.folded()
            else:
                weight, bias = step.weight, step.bias
            scale = INPUT_SCALE if node.inputs[0] == "images" else 1.0
            w = constant(name + "_weight", weight.detach().cpu().numpy() * scale)
            b = constant(name + "_bias", bias.detach().cpu().numpy())
            out = name + "_sum" if node.op == "conv" and node.relu else name
            shape = {"kernel_shape": [node.kernel] * 2, "strides": [node.step] * 2, "pads": [node.padding] * 4}
            nodes.append(helper.make_node("Conv", [node.inputs[0], w, b], [out], group=node.groups, **shape))
            if out != name:
                nodes.append(helper.make_node("Relu", [out], [name]))
        elif node.op == "add":
            nodes.append(helper.make_node("Add", list(node.inputs), [name + "_sum"]))
            nodes.append(helper.make_node("Relu", [name + "_sum"], [name]))
        else:
            if not any(w.name == "twice" for w in weights):
                weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            nodes.append(helper.make_node("Resize", [node.inputs[0], "", "twice"], [name], **how))
        if node.op == "head":
            shape_out = [1, node.channels, height // node.stride, width // node.stride]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape_out))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, width])
    graph = helper.make_graph(nodes, "people", [images], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="afterimage")
    model.ir_version = 8
    helper.set_model_props(model, {"afterimage.family": "afterimage", "labels": ",".join(labels)})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def write(network: Network, labels: tuple[str, ...], width: int, height: int, path: Path) -> str:
    """Write the file; returns its SHA-256."""
    data = to_onnx(network, labels, width, height)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
