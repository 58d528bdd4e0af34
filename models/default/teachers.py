"""The teachers, run on the same canvases as the students: YOLOX-nano for people and vehicles, YuNet for faces.

Both are anchor-free with one box per cell at strides 8, 16 and 32, as the students are, so that every cell of a student
has its own soft target (dense distillation). Their ONNX files are executed node by node in PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

STRIDES = (8, 16, 32)
COCO_PERSON, COCO_VEHICLES = 0, (1, 2, 3, 5, 7)


class OnnxNet:
    """The nodes of an ONNX file that the named tensors need, as PyTorch calls. Weights in the given dtype."""

    def __init__(self, path: Path, wanted: tuple[str, ...], device: torch.device, dtype: torch.dtype) -> None:
        graph = onnx.load(path).graph
        self.input = next(i.name for i in graph.input if i.name not in {t.name for t in graph.initializer})
        self.weights = {t.name: _tensor(numpy_helper.to_array(t), device, dtype) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.weights[node.output[0]] = _tensor(numpy_helper.to_array(node.attribute[0].t), device, dtype)
        makers = {name: node for node in graph.node for name in node.output}
        needed, stack = set(), list(wanted)
        while stack:
            name = stack.pop()
            if name in makers and name not in needed and name not in self.weights:
                needed.add(name)
                stack += makers[name].input
        self.nodes = [node for node in graph.node if node.output[0] in needed]
        self.wanted = wanted

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """The wanted tensors for a batch of images in the file's own normalisation."""
        values: dict[str, Tensor] = {self.input: images}
        for node in self.nodes:
            inputs = [values[i] if i in values else self.weights[i] for i in node.input if i]
            values[node.output[0]] = _execute(node, inputs)
        return {name: values[name] for name in self.wanted}


def _tensor(array: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(np.array(array))
    return tensor.to(device, dtype) if tensor.is_floating_point() and tensor.ndim > 0 else tensor


def _execute(node: onnx.NodeProto, x: list[Tensor]) -> Tensor:
    a = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Conv":
        top, left = a.get("pads", [0, 0, 0, 0])[:2]
        bias = x[2] if len(x) > 2 else None
        return functional.conv2d(x[0], x[1], bias, a["strides"], (top, left), a.get("dilations", [1, 1]), a["group"])
    if node.op_type == "Sigmoid":
        return torch.sigmoid(x[0])
    if node.op_type == "Relu":
        return torch.relu(x[0])
    if node.op_type == "Mul":
        return x[0] * x[1]
    if node.op_type == "Add":
        return x[0] + x[1]
    if node.op_type == "Concat":
        return torch.cat(x, a["axis"])
    if node.op_type == "MaxPool":
        return functional.max_pool2d(x[0], a["kernel_shape"], a["strides"], a.get("pads", [0, 0])[:2])
    if node.op_type == "Resize":
        return functional.interpolate(x[0], scale_factor=2, mode="nearest")
    if node.op_type == "Slice":
        starts, ends, axes, steps = ([int(v) for v in part.flatten()] for part in x[1:5])
        out = x[0]
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            index = [slice(None)] * out.ndim
            index[axis] = slice(start, min(end, out.shape[axis]), step)
            out = out[tuple(index)]
        return out
    raise ValueError(f"teacher: expected a known operation, got {node.op_type}")


class Targets(NamedTuple):
    """Soft targets, cells of all strides in a row.

    scores : float[B, C, N]; boxes : float[B, C, N, 4] xyxy in canvas pixels
    objects : float[B, 80, N] all COCO scores; features : per stride float[B, 64, H/s, W/s]
    """

    scores: Tensor
    boxes: Tensor
    objects: Tensor
    features: list[Tensor]


class Teachers:
    """Both teachers on one device."""

    _HEADS = ("1066", "1108", "1150")

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        graph = onnx.load(folder / "yolox_nano.onnx").graph
        producers = {node.output[0]: node for node in graph.node}
        # The stem of each head: the last value that its class and its box branch share.
        self._stems = tuple(_stem(producers, head) for head in self._HEADS)
        self.objects = OnnxNet(folder / "yolox_nano.onnx", (*self._HEADS, *self._stems), device, dtype)
        self._faces = {"cls": ("297", "299", "301"), "obj": ("309", "311", "313"), "box": ("303", "305", "307")}
        wanted = tuple(name for names in self._faces.values() for name in names)
        self.faces = OnnxNet(folder / "yunet_n_640_640.onnx", wanted, device, dtype)
        self.dtype = dtype

    @torch.no_grad()
    def __call__(self, canvases: Tensor) -> Targets:
        """Targets of canvases float[B, 3, H, W], BGR 0..255."""
        images = canvases.to(self.dtype)
        found, faces = self.objects(images), self.faces(images)
        scores, boxes, objects = [], [], []
        for level, stride in enumerate(STRIDES):
            head = found[self._HEADS[level]].float().flatten(2)
            height, width = found[self._HEADS[level]].shape[2:]
            every = head[:, 4:5] * head[:, 5:]
            thing = _boxes(head[:, :4], width, height, stride)
            one, other = (torch.sigmoid(faces[self._faces[k][level]].float().flatten(2)) for k in ("cls", "obj"))
            face = _boxes(faces[self._faces["box"][level]].float().flatten(2), width, height, stride)
            vehicle = every[:, list(COCO_VEHICLES)].amax(1)
            scores.append(torch.stack([every[:, COCO_PERSON], torch.sqrt(one * other)[:, 0], vehicle], 1))
            boxes.append(torch.stack([thing, face, thing], 1))
            objects.append(every)
        return Targets(
            torch.cat(scores, 2), torch.cat(boxes, 2), torch.cat(objects, 2), [found[name] for name in self._stems]
        )


def _boxes(head: Tensor, width: int, height: int, stride: int) -> Tensor:
    """xyxy float[B, N, 4] of x, y, log w, log h [B, 4, N] in strides from each cell's corner."""
    y, x = torch.meshgrid(
        torch.arange(height, device=head.device), torch.arange(width, device=head.device), indexing="ij"
    )
    centre = (head[:, :2] + torch.stack([x.flatten(), y.flatten()])[None]) * stride
    half = torch.exp(head[:, 2:].clamp(max=6)) * (stride / 2)
    return torch.cat([centre - half, centre + half], 1).transpose(1, 2)


def _stem(producers: Mapping[str, onnx.NodeProto], head: str) -> str:
    """The output of the convolution block that all branches of a head read."""
    ancestors = []
    for branch in producers[head].input:
        chain: list[str] = []
        name = branch
        while name in producers and len(chain) < 40:
            chain.append(name)
            name = producers[name].input[0]
        ancestors.append(chain)
    return next(name for name in ancestors[0] if all(name in chain for chain in ancestors[1:]))
