"""The training material in one file: JPEGs as they are, labels as arrays, and where each picture comes from.

    python -m models.default.data --data DATA --out build/pack.npz

It holds the labelled pack, frames of the clips (unlabelled: the teachers label them while training) and rendered
frames of the built-in test scene. Of each clip only the first part is used, so that the rest can be tested on; clips
whose pictures are in the validation split are left out altogether.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from models.default.pack import LABELS, read_pack

CLIP_SIDE_PX = 512
# Clip, tier of its licence, frames that training may see, every n-th.
CLIPS = (
    ("intel_one-by-one-person-detection.mp4", "A", 900, 3),
    ("intel_bottle-detection.mp4", "A", 800, 16),
    ("intel_car-detection.mp4", "A", 240, 4),
    ("intel_asl_walk.mkv", "A", 60, 1),
    ("sam2_bedroom.mp4", "A", 130, 2),
    ("ahm_vehicle_survaillance.mp4", "B", 170, 3),
)
_LIMITS = {name.partition(".")[0]: frames for name, _, frames, _ in CLIPS}
SCENE_SEEDS, SCENE_FRAMES = 36, 8


@dataclass(frozen=True)
class Picture:
    """One picture: JPEG bytes, and boxes float32[n, 4] xyxy in its pixels with class, score and ignore flag."""

    jpeg: bytes
    source: str
    tier: str
    split: str
    labelled: bool
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray


def labelled_pictures(folder: Path) -> Iterator[Picture]:
    """The pack's pictures, without frames of the clips' later parts. Raises `models.default.pack.PackError`."""
    for found in read_pack(folder):
        clip, _, frame = found.origin.partition("@")
        if frame and int(frame) >= _LIMITS.get(clip, 1 << 30):
            continue
        truth = found.truth
        boxes, classes = truth.xyxy.astype(np.float32), truth.class_id.astype(np.int64)
        yield Picture(
            found.jpeg, found.source, found.tier, found.split, True, boxes, classes, found.scores, truth.ignore
        )


def clip_pictures(folder: Path) -> Iterator[Picture]:
    """Frames of the clips, without labels."""
    from service.sources import open_source

    for name, tier, frames, every in CLIPS:
        with open_source(str(folder / name), frames=frames // every, every=every) as clip:
            for frame in clip:
                yield _unlabelled(_jpeg(_shrunk(frame.image)), name, tier)


def scene_pictures() -> Iterator[Picture]:
    """Frames of rendered scenes other than the one that is built in, with exact boxes."""
    from service.scene import Scene

    for seed in range(1, SCENE_SEEDS + 1):
        scene = Scene(seed, (CLIP_SIDE_PX, CLIP_SIDE_PX * 3 // 5))
        for index in np.random.default_rng(seed).choice(1200, SCENE_FRAMES, replace=False):
            found = scene.boxes(int(index))
            boxes = np.array([xyxy for _, xyxy in found], np.float32).reshape(-1, 4)
            classes = np.array([LABELS.index(label) for label, _ in found], np.int64)
            tiny = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=1e9) < 6
            ones = np.ones(len(boxes), np.float32)
            yield Picture(_jpeg(scene.frame(int(index))), "scene", "A", "train", True, boxes, classes, ones, tiny)


def _unlabelled(jpeg: bytes, source: str, tier: str) -> Picture:
    none = np.zeros(0, np.float32)
    empty = none.reshape(0, 4)
    return Picture(jpeg, source, tier, "train", False, empty, none.astype(np.int64), none, none.astype(bool))


def _shrunk(image: np.ndarray) -> np.ndarray:
    scale = CLIP_SIDE_PX / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _jpeg(image: np.ndarray, quality: int = 88) -> bytes:
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def save(pictures: list[Picture], path: Path) -> None:
    """Write everything as one .npz of plain arrays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = np.array([len(p.boxes) for p in pictures])
    np.savez(
        path,
        jpeg=np.frombuffer(b"".join(p.jpeg for p in pictures), np.uint8),
        jpeg_end=np.cumsum([len(p.jpeg) for p in pictures]),
        source=np.array([p.source for p in pictures]),
        tier=np.array([p.tier for p in pictures]),
        split=np.array([p.split for p in pictures]),
        labelled=np.array([p.labelled for p in pictures]),
        box_end=np.cumsum(count),
        boxes=np.concatenate([p.boxes for p in pictures]),
        classes=np.concatenate([p.classes for p in pictures]),
        scores=np.concatenate([p.scores for p in pictures]),
        ignored=np.concatenate([p.ignored for p in pictures]),
    )


def load(path: Path) -> list[Picture]:
    """What `save` wrote."""
    with np.load(path) as store:
        a = {name: store[name] for name in store.files}
    jpeg = np.split(a["jpeg"], a["jpeg_end"][:-1])
    rows = np.split(np.arange(len(a["boxes"])), a["box_end"][:-1])
    return [
        Picture(
            jpeg[i].tobytes(), str(a["source"][i]), str(a["tier"][i]), str(a["split"][i]), bool(a["labelled"][i]),
            *(a[key][rows[i]] for key in ("boxes", "classes", "scores", "ignored")),
        )
        for i in range(len(jpeg))
    ]  # fmt: skip


def main() -> None:
    """Collect everything and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with training/ and videos/")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    pictures = list(labelled_pictures(options.data / "training"))
    pictures += clip_pictures(options.data / "videos")
    pictures += scene_pictures()
    save(pictures, options.out)
    for source in sorted({p.source for p in pictures}):
        own = [p for p in pictures if p.source == source]
        print(f"{source:45s} tier {own[0].tier}  {len(own):5d} pictures  {sum(len(p.jpeg) for p in own) / 1e6:5.1f} MB")
    print(f"{len(pictures)} pictures, {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
