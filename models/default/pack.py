"""Reads the training pack: images out of its tars, labels out of `labels.json`. Needs NumPy and OpenCV alone."""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.default.metrics import Truth

LABELS = ("person", "face", "vehicle")
"""Classes of the pack, in the order of our class numbers."""

HUMAN_SOURCE = "coco_cc"
HUMAN_LABELS = ("person", "vehicle")
"""Where labels were drawn by people: these classes of this source. All others come from teacher networks."""


class PackError(ValueError):
    """The pack is missing, or not what was expected; the message says where."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """One image as its file's bytes, and its labels in its own pixels.

    tier : letter of its tar's licence tier. origin : what it was made from; CLIP@N for frame N of a clip.
    scores : float32[n], the teacher's for each box of `truth`; 1 where a person drew it
    """

    name: str
    source: str
    split: str
    tier: str
    origin: str
    jpeg: bytes
    truth: Truth
    scores: NDArray[np.float32]

    def image(self) -> NDArray[np.uint8]:
        """uint8[H, W, 3] BGR. Raises PackError."""
        image = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise PackError(f"{self.name} is not an image that can be decoded")
        return np.asarray(image, np.uint8)


def read_pack(folder: Path, split: str | None = None) -> Iterator[Labelled]:
    """The images of a split ("train" or "val"; None: of both), tar by tar, in the order of the tars.

    folder : with labels.json and the tars that it names; a record whose tar is absent is passed over (a tier may be
    left out), but at least one tar must be there. Raises PackError.
    """
    labels = _load(folder / "labels.json")
    boxes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for box in labels["annotations"]:
        boxes[box["image_id"]].append(box)
    numbers = {c["id"]: LABELS.index(c["name"]) for c in labels["categories"] if c["name"] in LABELS}
    wanted: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in labels["images"]:
        if split in (None, record["split"]):
            wanted[record["tar"]][record["file_name"]] = record
    tars = [folder / name for name in sorted(wanted) if (folder / name).is_file()]
    if not tars:
        named = ", ".join(sorted(wanted)) or f"none for split {split!r}"
        raise PackError(f"{folder}: expected one of the tars that labels.json names ({named}), found none")
    for path in tars:
        for record, jpeg in _read_tar(path, wanted[path.name]):
            known = [b for b in boxes[record["id"]] if b["category_id"] in numbers]
            yield Labelled(
                record["file_name"],
                record["source"],
                record["split"],
                path.name.removeprefix("images_")[:1],
                record.get("orig", ""),
                jpeg,
                truth_of(known, numbers),
                np.asarray([b.get("score", 1.0) for b in known], np.float32),
            )


def _read_tar(path: Path, wanted: dict[str, dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The wanted records of a tar, in its order, each with its file's bytes."""
    with tarfile.open(path) as tar:
        for member in tar:
            record = wanted.get(member.name)
            data = tar.extractfile(member) if record is not None else None
            if record is not None and data is not None:
                yield record, data.read()


def truth_of(boxes: Sequence[dict[str, Any]], numbers: dict[int, int]) -> Truth:
    """COCO annotations as arrays: bbox x, y, w, h; iscrowd marks what is to be ignored."""
    xywh = np.asarray([b["bbox"] for b in boxes], np.float64).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    class_id = np.asarray([numbers[b["category_id"]] for b in boxes], np.int32)
    return Truth(xyxy, class_id, np.asarray([bool(b["iscrowd"]) for b in boxes], bool))


def _load(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PackError(f"{path}: cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise PackError(f"{path}: not valid JSON: {error}") from error
    missing = [key for key in ("images", "annotations", "categories") if key not in found]
    if missing:
        raise PackError(f"{path}: expected images, annotations and categories, {', '.join(missing)} missing")
    return found
