"""A detector that can be told by hand, and a pack and clips to try it on. Test code only.

The network sees white squares of 32 px on the 32 px grid of its 640x384 input as persons; everything darker than
`darkest` gives nothing. Frames of 320x192 fill that input at a ratio of 2, so that squares of 16 px are found in them.
"""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import helper, numpy_helper

CELL_PX = 16
"""Side of a square, and pitch of the grid, in pictures of 320x192."""


def write_model(
    path: Path, labels: tuple[str, ...] = ("person", "face"), darkest: int = 204, best: float = 1.0
) -> Path:
    """A YOLOX head at stride 32 and its specification beside it. Score: `best` for white, 0 for `darkest` and below."""
    channels = 5 + len(labels)
    weight = np.zeros((channels, 3, 32, 32), np.float32)
    weight[4] = 1 / ((255 - darkest) * weight[4].size)
    bias = np.asarray([0.5, 0.5, 0, 0, -darkest / (255 - darkest), best, *[0] * (channels - 6)], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["sum"], kernel_shape=[32, 32], strides=[32, 32]),
            helper.make_node("Relu", ["sum"], ["y"]),
        ],
        "squares",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 384, 640])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, channels, 12, 20])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    names = ", ".join(f'"{label}"' for label in labels)
    path.with_suffix(".toml").write_text(f'family = "yolox"\nlabels = [{names}]\nmin_confidence = 0.3\n')
    return path


def square(column: int, row: int) -> tuple[int, int, int, int]:
    """xyxy of the square in a cell, in pixels of a 320x192 picture."""
    left, top = column * CELL_PX, row * CELL_PX
    return left, top, left + CELL_PX, top + CELL_PX


def picture(*cells: tuple[int, int], value: int = 255) -> np.ndarray:
    """uint8[192, 320, 3], dark, with squares in these cells."""
    image = np.full((192, 320, 3), 20, np.uint8)
    for cell in cells:
        left, top, right, bottom = square(*cell)
        image[top:bottom, left:right] = value
    return image


def label(box: tuple[int, int, int, int], kind: int = 1, *, ignore: bool = False) -> dict:
    """A COCO annotation of a box xyxy; the picture's number is filled in by `write_pack`."""
    left, top, right, bottom = box
    return {"category_id": kind, "bbox": [left, top, right - left, bottom - top], "iscrowd": int(ignore)}


def write_pack(folder: Path, pictures: list[tuple[str, str, np.ndarray, list[dict]]]) -> Path:
    """A pack of (source, split, image, annotations), all in one tar."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    with tarfile.open(folder / "images_A1.tar", "w") as tar:
        for number, (source, split, image, boxes) in enumerate(pictures):
            data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            member = tarfile.TarInfo(f"{number:05d}.jpg")
            member.size = len(data)
            tar.addfile(member, BytesIO(data))
            record = {"id": number, "file_name": member.name, "source": source, "split": split}
            images.append({**record, "tar": "images_A1.tar"})
            annotations += [{**box, "image_id": number} for box in boxes]
    kinds = [{"id": 1, "name": "person"}, {"id": 2, "name": "face"}, {"id": 3, "name": "vehicle"}]
    labels = {"images": images, "annotations": annotations, "categories": kinds}
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def write_clip(folder: Path, frames: list[np.ndarray]) -> Path:
    """A clip as a folder of PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:04d}.png"), frame)
    return folder


def write_people_model(path: Path, labels: tuple[str, ...] = ("person", "face")) -> Path:
    """The same with the heads of our own family: persons at stride 32, nothing at 8 and 16. Score .97 for white."""
    channels, nodes, weights, outputs = 5 * len(labels), [], [], []
    for stride in (8, 16, 32):
        weight = np.zeros((channels, 3, stride, stride), np.float32)
        bias = np.full(channels, 0.5, np.float32)  # every side half a stride away
        bias[: len(labels)] = -10
        if stride == 32:
            weight[0] = 10 / (51 * weight[0].size)
            bias[0] = -5 - 10 * 204 / 51
        weights += [numpy_helper.from_array(weight, f"w{stride}"), numpy_helper.from_array(bias, f"b{stride}")]
        sides = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", ["images", f"w{stride}", f"b{stride}"], [f"head{stride}"], **sides))
        shape = [1, channels, 384 // stride, 640 // stride]
        outputs.append(helper.make_tensor_value_info(f"head{stride}", onnx.TensorProto.FLOAT, shape))
    images = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 384, 640])
    graph = helper.make_graph(nodes, "people", [images], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"afterimage.family": "afterimage", "labels": ",".join(labels)})
    path.write_bytes(model.SerializeToString())
    return path
