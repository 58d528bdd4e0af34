"""The scene: background, people and camera put together. The same for the same seed and frame index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from service.scene import decor
from service.scene.camera import Array
from service.scene.figure import Drawn, draw_person
from service.scene.room import render
from service.scene.script import write_script

FPS = 25
"""Frames a second at which people walk at their natural speed."""

Label: TypeAlias = Literal["person", "face"]
Box: TypeAlias = tuple[Label, tuple[float, float, float, float]]

_MIN_FACE_PX = 7
_MIN_PERSON_PX = 12


@dataclass(frozen=True)
class _Sensor:
    """What the camera does to the light: white balance and exposure, edge fall-off, noise."""

    gain: Array
    falloff: Array
    blur: float
    noise: Array


class Scene:
    """A moving scene without an end, people and faces known. Seeds differ in place, light, camera and people.

    seed : 0 or more; 0 is the one shown to users
    size : width and height in pixels, at least 64x64
    """

    def __init__(self, seed: int = 0, size: tuple[int, int] = (640, 384)) -> None:
        if seed < 0:
            raise ValueError(f"expected a seed of 0 or more, got {seed}")
        if min(size) < 64:
            raise ValueError(f"expected a size of at least 64x64, got {size[0]}x{size[1]}")
        rng = np.random.default_rng([seed, 23])
        street = seed != 0 and rng.random() < 0.35
        self.seed, self.size = seed, size
        self._camera = decor.make_camera(rng, size, street)
        room = decor.make_street(rng, seed) if street else decor.make_room(rng, seed)
        self._sensor = _make_sensor(rng, size, room.warmth)
        backdrop = render(room, self._camera)
        self._depth = backdrop.depth
        image = cv2.GaussianBlur(backdrop.image, (0, 0), self._sensor.blur)
        # Automatic exposure: the mean of the picture is about the same in every place.
        exposure = np.float32(rng.uniform(88, 135) / max(1.0, float(image.mean())))
        image = image * self._sensor.falloff[..., None] * (self._sensor.gain * exposure)
        self._image = np.minimum(image, 250).astype(np.float32)
        self._brightness = np.float32(rng.uniform(0.9, 1.2))
        side = float(rng.uniform(-0.7, 0.7))
        light = np.array([side, -0.62, -0.7], np.float32)
        self._light = light / np.float32(np.linalg.norm(light))
        self._script = write_script(rng, self._camera, room)
        self._noise_seed = int(rng.integers(1 << 30))
        self._last: tuple[int, NDArray[np.uint8], list[Box]] | None = None

    @property
    def period(self) -> int:
        """Frames after which the same movements come again (the noise does not repeat)."""
        return round(self._script.seconds * FPS)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Frame `index` (0 or more), uint8[H, W, 3] BGR; the caller's own."""
        return self._at(index)[1].copy()

    def boxes(self, index: int) -> list[Box]:
        """Who is to be seen in that frame: ("person" or "face", (left, top, right, bottom)) in pixels.

        Only the visible part counts; people and faces that are nearly hidden, or too small, are left out.
        """
        return list(self._at(index)[2])

    def _at(self, index: int) -> tuple[int, NDArray[np.uint8], list[Box]]:
        if index < 0:
            raise ValueError(f"expected a frame index of 0 or more, got {index}")
        if self._last is None or self._last[0] != index:
            self._last = (index, *self._draw(index))
        return self._last

    def _draw(self, index: int) -> tuple[NDArray[np.uint8], list[Box]]:
        now = (index % self.period) / FPS
        people: list[Drawn] = []
        for role in self._script.roles:
            stance = role.stance(now)
            drawn = None if stance is None else draw_person(role.person, stance, self._camera, self._light)
            if drawn is not None:
                people.append(drawn)
        people.sort(key=lambda drawn: -drawn.depth)
        canvas = self._image.copy() if people else self._image
        for drawn in people:
            self._shadow(canvas, drawn)
        owner = np.zeros(self._depth.shape, np.uint8) if people else None
        whole = [self._lay(canvas, owner, drawn, number + 1) for number, drawn in enumerate(people)]
        boxes: list[Box] = []
        if owner is not None:
            for number, (drawn, area) in enumerate(zip(people, whole, strict=True)):
                boxes += _visible(owner, drawn, number + 1, area)
        return self._expose(canvas, index), boxes

    def _shadow(self, canvas: Array, drawn: Drawn) -> None:
        """A soft shadow on the ground."""
        x, y, reach = (float(v) for v in drawn.feet)
        h, w = self._depth.shape
        x0, x1 = max(0, int(x - 2.2 * reach)), min(w, int(x + 2.2 * reach) + 1)
        y0, y1 = max(0, int(y - 0.8 * reach)), min(h, int(y + 0.8 * reach) + 1)
        if x0 >= x1 or y0 >= y1:
            return
        gx = (np.arange(x0, x1, dtype=np.float32) - x)[None] / reach
        gy = (np.arange(y0, y1, dtype=np.float32) - y)[:, None] / (0.36 * reach)
        canvas[y0:y1, x0:x1] *= (1 - 0.42 * np.exp(-gx * gx - gy * gy))[..., None]

    def _lay(self, canvas: Array, owner: NDArray[np.uint8] | None, drawn: Drawn, number: int) -> int:
        """Put a person into the picture, behind what is nearer; how many pixels they would cover by themselves."""
        patch = drawn.patch
        h, w = patch.cover.shape
        rows, columns = slice(patch.top, patch.top + h), slice(patch.left, patch.left + w)
        open_to_view = (self._depth[rows, columns] > drawn.depth - 0.35).astype(np.float32)
        layers = cv2.GaussianBlur(np.dstack([patch.colour, patch.cover]), (0, 0), self._sensor.blur)
        layers *= open_to_view[..., None]
        target = canvas[rows, columns]
        target *= 1 - layers[..., 3:]
        target += layers[..., :3] * (self._sensor.gain * self._brightness * self._sensor.falloff[rows, columns, None])
        if owner is not None:
            owner[rows, columns][layers[..., 3] > 0.5] = number
        return int(np.count_nonzero(patch.cover > 0.5))

    def _expose(self, canvas: Array, index: int) -> NDArray[np.uint8]:
        """Noise and rounding. The noise of each frame is a different piece of one large field."""
        h, w = self._depth.shape
        rng = np.random.default_rng([self._noise_seed, index])
        y, x = int(rng.integers(64)), int(rng.integers(64))
        noise = self._sensor.noise[y : y + h, x : x + w]
        if rng.random() < 0.5:
            noise = noise[:, ::-1]
        return np.asarray(cv2.add(canvas, np.ascontiguousarray(noise), dtype=cv2.CV_8U), np.uint8)


def _make_sensor(rng: np.random.Generator, size: tuple[int, int], warmth: float) -> _Sensor:
    width, height = size
    gain = np.array([1 - warmth, 1, 1 + warmth], np.float32)
    x = (np.arange(width, dtype=np.float32)[None] / width - 0.5) * 2
    y = (np.arange(height, dtype=np.float32)[:, None] / height - 0.5) * 2
    falloff = 1 - float(rng.uniform(0.06, 0.2)) * (x * x + y * y) / 2
    shape = (height + 64, width + 64)
    grey = rng.standard_normal((*shape, 1)).astype(np.float32)
    tint = rng.standard_normal((*shape, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(0.8 * grey + 0.6 * tint, (0, 0), 0.45)
    sigma = float(rng.uniform(1.2, 1.8))
    return _Sensor(
        gain.astype(np.float32),
        falloff.astype(np.float32),
        float(rng.uniform(0.55, 0.9)),
        noise * (sigma / noise.std()),
    )


def _visible(owner: NDArray[np.uint8], drawn: Drawn, number: int, area: int) -> list[Box]:
    """The boxes of one person, as far as they are to be seen."""
    patch = drawn.patch
    h, w = patch.cover.shape
    mine = owner[patch.top : patch.top + h, patch.left : patch.left + w] == number
    count = int(np.count_nonzero(mine))
    if count < max(40, 0.15 * area):
        return []
    ys, xs = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
    left, right = patch.left + float(xs[0]), patch.left + float(xs[-1]) + 1
    top, bottom = patch.top + float(ys[0]), patch.top + float(ys[-1]) + 1
    found: list[Box] = []
    if bottom - top >= _MIN_PERSON_PX:
        found.append(("person", (left, top, right, bottom)))
    if drawn.face is None:
        return found
    full_w, full_h = drawn.face[2] - drawn.face[0], drawn.face[3] - drawn.face[1]
    fx0, fy0 = max(drawn.face[0], 0.0), max(drawn.face[1], 0.0)
    fx1, fy1 = min(drawn.face[2], float(owner.shape[1])), min(drawn.face[3], float(owner.shape[0]))
    if fx1 - fx0 < max(0.4 * full_w, 1) or fy1 - fy0 < max(0.4 * full_h, 1) or full_h < _MIN_FACE_PX:
        return found
    part = owner[int(fy0) : int(fy1) + 1, int(fx0) : int(fx1) + 1] == number
    if part.mean() > 0.55:
        found.append(("face", (fx0, fy0, fx1, fy1)))
    return found
