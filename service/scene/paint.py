"""Shaded, anti-aliased shapes on a patch of the picture: round cones for limbs, lofts for trunks and skirts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from service.scene.camera import Array

_AMBIENT, _DIFFUSE = 0.60, 0.62


@dataclass
class Patch:
    """A part of the picture at (left, top): colour float32[h, w, 3] premultiplied by cover float32[h, w]."""

    left: int
    top: int
    colour: Array
    cover: Array

    @classmethod
    def empty(cls, left: int, top: int, right: int, bottom: int) -> Patch:
        """A patch of nothing."""
        h, w = bottom - top, right - left
        return cls(left, top, np.zeros((h, w, 3), np.float32), np.zeros((h, w), np.float32))

    def window(self, low_x: float, low_y: float, high_x: float, high_y: float) -> tuple[slice, slice] | None:
        """Rows and columns of the patch that a rectangle of the picture covers; None if none."""
        h, w = self.cover.shape
        x0, y0 = max(0, int(low_x) - self.left - 1), max(0, int(low_y) - self.top - 1)
        x1, y1 = min(w, int(high_x) - self.left + 3), min(h, int(high_y) - self.top + 3)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def grid(self, rows: slice, columns: slice, x: float, y: float) -> tuple[Array, Array]:
        """Pixel centres relative to (x, y): a row float32[1, w] and a column float32[h, 1]."""
        gx = np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(self.left + 0.5 - x)
        gy = np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(self.top + 0.5 - y)
        return gx[None, :], gy[:, None]

    def put(self, rows: slice, columns: slice, colour: Array, cover: Array) -> None:
        """Lay colour (not premultiplied) over what is there."""
        keep = 1 - cover
        self.cover[rows, columns] = self.cover[rows, columns] * keep + cover
        target = self.colour[rows, columns]
        target *= keep[..., None]
        target += colour * cover[..., None]


@dataclass(frozen=True)
class Cloth:
    """A material: BGR colour, and how strongly its folds and its print show. pattern : float32[256, 256] noise."""

    colour: Array
    folds: float
    pattern: Array
    stripes: float = 0.0
    stripes_per_m: float = 0.0

    def tone(self, along: Array, across: Array, scale: float) -> Array:
        """A factor per pixel; along and across in metres from the part's start, scale in pixels a metre."""
        if self.folds == 0 or scale < 25:
            return np.ones((1, 1), np.float32)
        x = np.mod(across * 420 + 128, 255).astype(np.float32)
        y = np.mod(along * 260 + 20, 255).astype(np.float32)
        tone = 1 + self.folds * cv2.remap(self.pattern, x, y, cv2.INTER_LINEAR)
        if self.stripes and scale > 80:
            tone = tone * (1 - self.stripes * (np.sin(along * (6.28 * self.stripes_per_m)) > 0.3))
        return np.asarray(tone, np.float32)


def limb(patch: Patch, start: Array, end: Array, start_r: float, end_r: float, cloth: Cloth, light: Array) -> None:
    """A round cone between two projected points (x, y in pixels); radii in pixels.

    light : float32[3], towards the light, in view directions (x right, y down, z forward)
    """
    ax, ay = float(start[0]), float(start[1])
    bx, by = float(end[0]), float(end[1])
    reach = max(start_r, end_r)
    window = patch.window(min(ax, bx) - reach, min(ay, by) - reach, max(ax, bx) + reach, max(ay, by) + reach)
    if window is None:
        return
    gx, gy = patch.grid(*window, ax, ay)
    dx, dy = bx - ax, by - ay
    square = max(dx * dx + dy * dy, 1e-3)
    t = np.clip((gx * dx + gy * dy) / square, 0, 1)
    radius = start_r + (end_r - start_r) * t
    vx, vy = (gx - t * dx) / radius, (gy - t * dy) / radius
    q = vx * vx + vy * vy
    cover = np.clip((1 - np.sqrt(q)) * radius + 0.5, 0, 1)
    nz = np.sqrt(np.maximum(1 - q, 0.0))
    shade = _AMBIENT + _DIFFUSE * np.maximum(vx * light[0] + vy * light[1] - nz * light[2], 0)
    shade *= 0.72 + 0.28 * nz
    length = square**0.5
    scale = reach / 0.06
    if cloth.folds:
        across = (gx * (-dy) + gy * dx) / (length * scale)
        shade = shade * cloth.tone(t * (length / scale), across, scale)
    patch.put(*window, shade[..., None] * cloth.colour, cover)


@dataclass(frozen=True)
class Profile:
    """Half-widths of a loft: at positions 0..1 along its axis, in metres."""

    at: tuple[float, ...]
    width: tuple[float, ...]

    def measure(self, s: Array, scale: float, length: float) -> tuple[Array, Array]:
        """Half-width in pixels at each s, rounded off between the points, and its slope."""
        dense = np.interp(np.linspace(0, 1, 65), self.at, self.width).astype(np.float32)[None]
        dense = cv2.GaussianBlur(dense, (9, 1), 1.6, borderType=cv2.BORDER_REPLICATE)[0] * np.float32(scale)
        slopes = np.gradient(dense).astype(np.float32) * np.float32(64 / length)
        place = np.clip(s, 0, 1) * 64
        cell = np.minimum(place.astype(np.int32), 63)
        part = place - cell
        half = dense[cell] * (1 - part) + dense[cell + 1] * part
        return np.maximum(half, 1e-3), slopes[cell]


def loft(patch: Patch, start: Array, end: Array, profile: Profile, scale: float, cloth: Cloth, light: Array) -> None:
    """A body whose half-width changes along the axis from start to end (x, y in pixels); scale in pixels a metre."""
    ax, ay = float(start[0]), float(start[1])
    dx, dy = float(end[0]) - ax, float(end[1]) - ay
    length = max((dx * dx + dy * dy) ** 0.5, 1e-3)
    reach = max(profile.width) * scale
    window = patch.window(
        min(ax, ax + dx) - reach,
        min(ay, ay + dy) - reach * 0.3,
        max(ax, ax + dx) + reach,
        max(ay, ay + dy) + reach * 0.3,
    )
    if window is None:
        return
    gx, gy = patch.grid(*window, ax, ay)
    ex, ey = dx / length, dy / length
    s = (gx * ex + gy * ey) / length
    across = gx * (-ey) + gy * ex
    half, slope = profile.measure(s, scale, length)
    u = across / half
    cover = np.clip((half - np.abs(across)) / np.sqrt(1 + slope * slope) + 0.5, 0, 1)
    cover *= np.clip(s * length + 0.5, 0, 1) * np.clip((1 - s) * length + 0.5, 0, 1)
    nz = np.sqrt(np.maximum(1 - u * u, 0))
    # A trunk is flatter than a cylinder, and its chest leans back towards the light.
    n = u * np.abs(u)
    facing = n * (-ey * light[0] + ex * light[1]) - nz * light[2] * 0.85 - 0.25 * light[1] * (s - 0.35)
    shade = (_AMBIENT + _DIFFUSE * np.maximum(facing, 0)) * (0.66 + 0.34 * nz)
    shade = shade * cloth.tone(s * (length / scale), across / scale, scale)
    patch.put(*window, shade[..., None] * cloth.colour, cover)
