"""A pinhole camera above the ground, and smooth noise: what room, people and scene share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""float32 throughout, unless a docstring says otherwise."""
Colour: TypeAlias = tuple[float, float, float]
"""BGR, 0..255."""


@dataclass(frozen=True)
class Camera:
    """Stands at (0, height_m, 0) and looks along +z, tilted down by pitch (radians).

    World: x right, y up, z away, in metres. View: x right, y down, z forward. focal is in pixels.
    """

    width: int
    height: int
    focal: float
    height_m: float
    pitch: float

    @property
    def matrix(self) -> Array:
        """float32[3, 3]: world directions to view directions."""
        s, c = np.sin(self.pitch), np.cos(self.pitch)
        return np.array([[1, 0, 0], [0, -c, -s], [0, -s, c]], np.float32)

    def project(self, points: Array) -> Array:
        """float32[N, 3] world points to float32[N, 3] of x, y in pixels and depth in metres (at least 0.05)."""
        view = (points - np.array([0, self.height_m, 0], np.float32)) @ self.matrix.T
        depth = np.maximum(view[:, 2], 0.05)
        x = view[:, 0] / depth * self.focal + self.width / 2
        y = view[:, 1] / depth * self.focal + self.height / 2
        return np.stack([x, y, depth], axis=1).astype(np.float32)

    def scaled(self, factor: int) -> Camera:
        """The same view with `factor` times as many pixels a side."""
        return Camera(self.width * factor, self.height * factor, self.focal * factor, self.height_m, self.pitch)

    def half_width(self, depth_m: float) -> float:
        """Half of what the picture shows at a distance, metres."""
        return depth_m * self.width / 2 / self.focal


def smooth_noise(rng: np.random.Generator, height: int, width: int, octaves: int = 5, lowest: int = 2) -> Array:
    """Tileable noise float32[height, width], mean 0, about -1..1: octaves of blurred random numbers."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = lowest << octave
        if cells > min(height, width):
            break
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        margin_y, margin_x = 2 * height // cells, 2 * width // cells
        large = cv2.resize(grid, (width + 2 * margin_x, height + 2 * margin_y), interpolation=cv2.INTER_CUBIC)
        total += large[margin_y : margin_y + height, margin_x : margin_x + width] * 0.55**octave
    return np.asarray(total / (1e-6 + 2.2 * total.std()), np.float32)


def sample(texture: Array, u: Array, v: Array) -> Array:
    """Values of a tileable texture float32[h, w] at u, v (1 is one period), bilinear; shape of u."""
    h, w = texture.shape
    flat_u, flat_v = u.reshape(1, -1), v.reshape(1, -1)
    columns = -(-flat_u.shape[1] // 16384)
    size = columns * 16384  # remap takes no rows longer than 32767
    x = np.zeros(size, np.float32)
    y = np.zeros(size, np.float32)
    x[: flat_u.shape[1]] = np.mod(flat_u * w, w)
    y[: flat_v.shape[1]] = np.mod(flat_v * h, h)
    shape = (columns, 16384)
    found = cv2.remap(texture, x.reshape(shape), y.reshape(shape), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(found.reshape(-1)[: flat_u.shape[1]].reshape(u.shape), np.float32)


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
