"""Which family a model is, from its metadata and the shapes of its inputs and outputs alone.

Each recogniser looks at `ModelFacts` and returns the specification fields that it is sure of, or None.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.onnx_import import OnnxModel

Fields = dict[str, Any]
_PASSIVE = {"Identity", "Reshape", "Transpose", "Squeeze", "Flatten", "Cast", "Unsqueeze"}


@dataclass(frozen=True)
class OutputFact:
    """One model output: its dimensions (None: dynamic) and the last op that computes its values."""

    name: str
    shape: tuple[int | None, ...]
    op: str


@dataclass(frozen=True)
class ModelFacts:
    """What can be known without running the model. Width, height: pixels, None where dynamic."""

    channels: int | None
    width: int | None
    height: int | None
    outputs: tuple[OutputFact, ...]
    metadata: Mapping[str, str]

    def cells(self, *strides: int) -> list[int]:
        """Cells of the feature map at each stride (sides rounded up); empty when the size is dynamic."""
        if self.width is None or self.height is None:
            return []
        return [-(-self.height // s) * -(-self.width // s) for s in strides]


def read_facts(model: OnnxModel) -> ModelFacts:
    """The facts of a loaded model."""
    graph = model.proto.graph
    producers = {name: node for node in graph.node for name in node.output}
    outputs = []
    for value in graph.output:
        dims = value.type.tensor_type.shape.dim
        node = producers.get(value.name)
        while node is not None and node.op_type in _PASSIVE:
            node = producers.get(node.input[0])
        op = "" if node is None else str(node.op_type)
        outputs.append(OutputFact(value.name, tuple(int(d.dim_value) or None for d in dims), op))
    shape = (model.inputs[0].shape if model.inputs else None) or ()
    channels, height, width = shape[1:] if len(shape) == 4 else (None, None, None)
    return ModelFacts(channels, width, height, tuple(outputs), model.metadata)


def literal(text: str | None) -> Any:
    """A Python literal from a metadata string, or None when it is not one."""
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        return None


def afterimage(facts: ModelFacts) -> Fields | None:
    """The product's own models name their family and their labels in the metadata."""
    if facts.metadata.get("afterimage.family") != "afterimage":
        return None
    names = [name.strip() for name in facts.metadata.get("labels", "").split(",")]
    return {"family": "afterimage", "labels": [name for name in names if name]}


def ultralytics(facts: ModelFacts) -> Fields | None:
    """Ultralytics writes names, stride, imgsz and task (YOLOv5: names and stride) into the metadata."""
    names, stride = literal(facts.metadata.get("names")), literal(facts.metadata.get("stride"))
    if not isinstance(names, dict | list) or not isinstance(stride, int):
        return None
    labels = [str(names[key]) for key in sorted(names)] if isinstance(names, dict) else list(map(str, names))
    task = facts.metadata.get("task", "detect")
    fields: Fields = {"labels": labels}
    imgsz = literal(facts.metadata.get("imgsz"))
    if isinstance(imgsz, list | tuple) and len(imgsz) == 2 and facts.width is None:
        fields["size"] = (imgsz[1], imgsz[0])
    if task == "classify":
        plain = {"mean": (0.0,), "std": (255.0,), "fit": "crop_centre", "scores": "auto"}
        return {**fields, **plain, "family": "classification"}
    if task not in ("detect", "segment", "pose"):
        return {**fields, "family": "raw"}
    points = literal(facts.metadata.get("kpt_shape"))
    if isinstance(points, list | tuple) and len(points) == 2:
        fields["keypoint_shape"] = (int(points[0]), int(points[1]))
    args = literal(facts.metadata.get("args"))
    nms_inside = isinstance(args, dict) and bool(args.get("nms"))
    if nms_inside or literal(facts.metadata.get("end2end")) is True:
        fields["layout"] = "end2end"
    elif facts.outputs:
        layout = head_layout(facts.outputs[0].shape, len(labels))
        if layout is not None:
            fields["layout"] = layout
    return {**fields, "family": "ultralytics", "stride": stride}


def head_layout(shape: tuple[int | None, ...], classes: int | None) -> str | None:
    """ "v5" (1 x N x 5+nc+extra), "v8" (1 x 4+nc+extra x N) or "end2end" (1 x N x 6+extra) of an output.

    None: it cannot be told. Extra channels are mask coefficients (32) or key points.
    """
    if len(shape) != 3:
        return None
    _, first, second = shape
    if first == 300 and second is not None and second <= 6 + 32 + 3 * 17:
        return "end2end"
    if classes is not None:
        rows = second in (5 + classes, 5 + classes + 32)
        columns = first in (4 + classes, 4 + classes + 32)
        if rows != columns:
            return "v5" if rows else "v8"
    if first is None or second is None:
        fixed = second if first is None else first
        return None if fixed is None else ("v5" if first is None else "v8")
    return "v5" if first > second else "v8"


def anchor_rows(facts: ModelFacts) -> Fields | None:
    """One 3-D output whose row count is that of the grids at strides 8, 16 and 32, or three times it."""
    if len(facts.outputs) != 1 or len(facts.outputs[0].shape) != 3:
        return None
    _, first, second = facts.outputs[0].shape
    grid = sum(facts.cells(8, 16, 32))
    if not grid or first is None or second is None:
        return None
    if first == grid and second >= 6:
        return {"family": "yolox", **_coco(second - 5)}
    if first == 3 * grid and second >= 6:
        return {"family": "ultralytics", "layout": "v5", **_coco(second - 5)}
    if second == grid and first >= 5:
        return {"family": "ultralytics", "layout": "v8", **_coco(first - 4)}
    return None


def per_stride_rows(facts: ModelFacts) -> Fields | None:
    """YuNet: (1, 1, 4, 10) columns at three strides. NanoDet: class scores and distributions per stride."""
    shapes = [out.shape for out in facts.outputs]
    if any(len(shape) != 3 for shape in shapes):
        return None
    grid = facts.cells(8, 16, 32)
    columns = [sorted(s[2] or 0 for s in shapes if s[1] == cells) for cells in grid]
    if not columns or len(shapes) != sum(map(len, columns)) or any(c != columns[0] for c in columns):
        return None
    if columns[0] == [1, 1, 4, 10]:
        return {"family": "yunet"}
    if len(columns[0]) == 2 and 32 in columns[0]:
        low, high = columns[0]
        return {"family": "nanodet", **_coco(high if low == 32 else low)}
    return None


def prior_rows(facts: ModelFacts) -> Fields | None:
    """UltraFace: scores 1xNx2 and boxes 1xNx4 with N of its priors (3, 2, 2, 3 a cell)."""
    if len(facts.outputs) != 2:
        return None
    grid = facts.cells(8, 16, 32, 64)
    priors = sum(cells * count for cells, count in zip(grid, (3, 2, 2, 3), strict=False))
    shapes = sorted((out.shape[1:] for out in facts.outputs), key=str)
    return {"family": "ultraface"} if grid and shapes == [(priors, 2), (priors, 4)] else None


def map_output(facts: ModelFacts) -> Fields | None:
    """A 4-D map: FastestDet's grid at stride 16, a mask of classes, or one probability channel."""
    maps = [out for out in facts.outputs if len(out.shape) == 4]
    if not maps or maps[0].shape[2:] == (1, 1):
        return None
    _, channels, height, width = maps[0].shape
    at_16 = facts.cells(16) and height == -(-(facts.height or 0) // 16) and width is not None
    if channels is not None and channels > 5 and at_16 and len(facts.outputs) == 1:
        return {"family": "fastestdet", **_coco(channels - 5)}
    scores = "probability" if maps[0].op in ("Sigmoid", "Softmax") else "logits"
    if channels == 1:
        return {"family": "segmentation", "scores": scores}
    names = {21: "voc21", 19: "cityscapes19"}.get(channels or 0)
    fields: Fields = {"family": "segmentation", "scores": scores, "background": 0 if channels == 21 else None}
    return {**fields, "labels": names} if names else fields


def class_row(facts: ModelFacts) -> Fields | None:
    """A square image (or one of dynamic size) and one row of two or more class scores."""
    if len(facts.outputs) != 1 or facts.channels not in (1, 3) or facts.width != facts.height:
        return None
    shape = facts.outputs[0].shape
    row = shape[1:2] if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)) else ()
    if not row or row[0] is None or row[0] < 2:
        return None
    op = facts.outputs[0].op
    return {"family": "classification", "scores": "probability" if op in ("Softmax", "Sigmoid") else "logits"}


def _coco(classes: int) -> Fields:
    return {"labels": "coco80"} if classes == 80 else {}


_RECOGNISERS: tuple[Callable[[ModelFacts], Fields | None], ...] = (
    afterimage,
    ultralytics,
    anchor_rows,
    per_stride_rows,
    prior_rows,
    map_output,
    class_row,
)


def recognise(facts: ModelFacts) -> Fields:
    """The specification fields of the first recogniser that knows the model; family "raw" if none does."""
    for recogniser in _RECOGNISERS:
        fields = recogniser(facts)
        if fields is not None:
            return fields
    return {"family": "raw"}
