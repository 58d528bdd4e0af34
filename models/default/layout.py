"""Where pictures land on a training canvas: letterbox, zoom, mosaic and pasted crops, and the boxes that result.

Plain NumPy, one sample at a time, run by the loader's worker processes; `render.py` draws the pixels on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.default.data import Picture

MAX_LAYERS = 12
MAX_BOXES = 96
VISIBLE, BARELY = 0.35, 0.12
"""A box is a truth if so much of it is left, is ignored down to the second share, and is forgotten below."""
SMALLEST_PX = 5.0


@dataclass(frozen=True)
class Layer:
    """A picture on a canvas: canvas x = offset + scale * picture x (mirrored first if flipped), inside `rect`."""

    picture: int
    rect: tuple[float, float, float, float]
    scale: tuple[float, float]
    offset: tuple[float, float]
    flip: bool


@dataclass(frozen=True)
class Sample:
    """A canvas's layers, last on top, and its truths in canvas pixels."""

    layers: list[Layer]
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray
    kind: str


class Composer:
    """Draws random samples from a pool of pictures.

    sizes : int[N, 2] width and height of each picture
    weights : float[N] how often each picture is drawn
    """

    def __init__(self, pictures: list[Picture], sizes: np.ndarray, weights: np.ndarray) -> None:
        self.pictures, self.sizes = pictures, sizes
        self.chance = weights / weights.sum()
        self.crops = [
            (index, row)
            for index, picture in enumerate(pictures)
            for row in np.flatnonzero(~picture.ignored & (picture.classes < 2))
        ]

    def sample(self, rng: np.random.Generator, width: int, height: int) -> Sample:
        """One random canvas of the given size."""
        kind = rng.choice(["letterbox", "zoom", "mosaic", "grid"], p=[0.25, 0.30, 0.35, 0.10])
        if kind == "letterbox":
            layers = [self._letterbox(rng, width, height)]
        elif kind == "zoom":
            layers = self._zoom(rng, width, height)
        else:
            layers = self._mosaic(rng, width, height, 2 if kind == "mosaic" else 3)
        if rng.random() < 0.35:
            room = MAX_LAYERS - len(layers)
            layers += [self._paste(rng, width, height) for _ in range(min(room, int(rng.integers(1, 4))))]
        return Sample(layers, *self._truths(layers), kind=str(kind))

    def plain(self, index: int, width: int, height: int) -> Sample:
        """The picture letterboxed as the product does it, unchanged otherwise."""
        w, h = self.sizes[index]
        scale = min(width / w, height / h)
        layer = Layer(index, (0, 0, w * scale, h * scale), (scale, scale), (0, 0), False)
        return Sample([layer], *self._truths([layer]), kind="letterbox")

    def _pick(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.chance), p=self.chance))

    def _letterbox(self, rng: np.random.Generator, width: int, height: int) -> Layer:
        index = self._pick(rng)
        w, h = self.sizes[index]
        stretch = np.exp(rng.normal(0, 0.08))
        scale = min(width / (w * stretch), height / h)
        scales = (scale * stretch, scale)
        return Layer(index, (0, 0, w * scales[0], h * scale), scales, (0, 0), rng.random() < 0.5)

    def _zoom(self, rng: np.random.Generator, width: int, height: int) -> list[Layer]:
        """One picture at any size and place; half the time another one fills what is left."""
        layers = []
        if rng.random() < 0.5:
            layers.append(self._cover(rng, (0, 0, width, height), 1.0))
        index = self._pick(rng)
        w, h = self.sizes[index]
        scale = min(width / w, height / h) * np.exp(rng.uniform(np.log(0.35), np.log(2.2)))
        stretch = np.exp(rng.normal(0, 0.1))
        scales = (scale * stretch, scale / stretch)
        size = (w * scales[0], h * scales[1])
        offset = tuple(
            rng.uniform(min(0, side - own), max(0, side - own)) for side, own in zip((width, height), size, strict=True)
        )
        rect = (max(0, offset[0]), max(0, offset[1]), min(width, offset[0] + size[0]), min(height, offset[1] + size[1]))
        layers.append(Layer(index, rect, scales, offset, rng.random() < 0.5))
        return layers

    def _cover(self, rng: np.random.Generator, rect: tuple[float, float, float, float], most: float) -> Layer:
        """A picture that fills a rectangle, or all but a strip of it, at a random zoom up to e**most."""
        index = self._pick(rng)
        w, h = self.sizes[index]
        room = (rect[2] - rect[0], rect[3] - rect[1])
        fill = max(room[0] / w, room[1] / h)
        fit = min(room[0] / w, room[1] / h)
        scale = rng.uniform(fit, fill) * np.exp(rng.uniform(0, most)) if rng.random() < 0.5 else fit
        stretch = np.exp(rng.normal(0, 0.08))
        scales = (scale * stretch, scale / stretch)
        size = (w * scales[0], h * scales[1])
        low = [rect[k] + min(0, room[k] - size[k]) for k in (0, 1)]
        high = [rect[k] + max(0, room[k] - size[k]) for k in (0, 1)]
        offset = (rng.uniform(low[0], high[0]), rng.uniform(low[1], high[1]))
        inside = (
            max(rect[0], offset[0]),
            max(rect[1], offset[1]),
            min(rect[2], offset[0] + size[0]),
            min(rect[3], offset[1] + size[1]),
        )
        return Layer(index, inside, scales, offset, rng.random() < 0.5)

    def _mosaic(self, rng: np.random.Generator, width: int, height: int, count: int) -> list[Layer]:
        """count x count pictures, or 2 x 2 with the cross at a random place."""
        cuts = []
        for side in (width, height):
            inner = [side * rng.uniform(0.25, 0.75)] if count == 2 else [side / 3, side * 2 / 3]
            cuts.append([0.0, *inner, float(side)])
        return [
            self._cover(rng, (cuts[0][i], cuts[1][j], cuts[0][i + 1], cuts[1][j + 1]), 0.8)
            for i in range(count)
            for j in range(count)
        ]

    def _paste(self, rng: np.random.Generator, width: int, height: int) -> Layer:
        """A person or a face with its surroundings, cut out of one picture, at any size and place."""
        index, row = self.crops[rng.integers(len(self.crops))]
        picture = self.pictures[index]
        x0, y0, x1, y1 = picture.boxes[row]
        face = picture.classes[row] == 1
        grow = rng.uniform(0.3, 1.0) if face else rng.uniform(0.05, 0.25)
        w, h = self.sizes[index]
        side = min(x1 - x0, y1 - y0)
        x0, y0 = max(0, x0 - grow * side), max(0, y0 - grow * side)
        x1, y1 = min(w, x1 + grow * side), min(h, y1 + grow * side)
        target = np.exp(rng.uniform(np.log(10), np.log(140))) if face else np.exp(rng.uniform(np.log(16), np.log(150)))
        scale = min(target / side, 4.0, width / (x1 - x0), height / (y1 - y0))
        size = ((x1 - x0) * scale, (y1 - y0) * scale)
        left, top = rng.uniform(0, max(0.0, width - size[0])), rng.uniform(0, max(0.0, height - size[1]))
        flip = bool(rng.random() < 0.5)
        first = w - x1 if flip else x0
        offset = (left - first * scale, top - y0 * scale)
        return Layer(index, (left, top, left + size[0], top + size[1]), (scale, scale), offset, flip)

    def _truths(self, layers: list[Layer]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Boxes that are left of all layers; what is mostly hidden is ignored or forgotten."""
        rows = [self._moved(layer, layers[depth + 1 :]) for depth, layer in enumerate(layers)]
        boxes, classes, scores, ignored = (np.concatenate(part) for part in zip(*rows, strict=True))
        order = np.argsort(ignored, kind="stable")[:MAX_BOXES]
        return boxes[order], classes[order], scores[order], ignored[order]

    def _moved(self, layer: Layer, above: list[Layer]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        picture = self.pictures[layer.picture]
        boxes = picture.boxes.astype(np.float64)
        if layer.flip:
            boxes[:, [0, 2]] = self.sizes[layer.picture][0] - boxes[:, [2, 0]]
        boxes = boxes * (layer.scale * 2) + (layer.offset * 2)
        whole = np.maximum(_area(boxes), 1e-6)
        boxes = _clip(boxes, layer.rect)
        left = _area(boxes)
        for other in above:
            left = np.minimum(left, _area(boxes) - _area(_clip(boxes, other.rect)))
        share = left / whole
        small = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=1e9) < SMALLEST_PX
        ignored = picture.ignored | (share < VISIBLE) | small
        keep = share > BARELY
        return boxes[keep].astype(np.float32), picture.classes[keep], picture.scores[keep], ignored[keep]


def _clip(boxes: np.ndarray, rect: tuple[float, float, float, float]) -> np.ndarray:
    low, high = np.array(rect[:2] * 2), np.array(rect[2:] * 2)
    return np.asarray(np.clip(boxes, low, high))


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def batch(samples: list[Sample]) -> dict[str, np.ndarray]:
    """Samples as arrays padded to the same number of layers and boxes."""
    count = len(samples)
    boxes: int = max(8, max(len(s.boxes) for s in samples))
    out: dict[str, np.ndarray] = {
        "picture": np.zeros((count, MAX_LAYERS), np.int64),
        "rect": np.zeros((count, MAX_LAYERS, 4), np.float32),
        "scale": np.ones((count, MAX_LAYERS, 2), np.float32),
        "offset": np.zeros((count, MAX_LAYERS, 2), np.float32),
        "flip": np.zeros((count, MAX_LAYERS), bool),
        "boxes": np.zeros((count, boxes, 4), np.float32),
        "classes": np.full((count, boxes), -1, np.int64),
        "scores": np.zeros((count, boxes), np.float32),
        "ignored": np.zeros((count, boxes), bool),
    }
    for i, s in enumerate(samples):
        for j, layer in enumerate(s.layers):
            for key in ("picture", "rect", "scale", "offset", "flip"):
                out[key][i, j] = getattr(layer, key)
        for key in ("boxes", "classes", "scores", "ignored"):
            out[key][i, : len(s.boxes)] = getattr(s, key)
    return out
