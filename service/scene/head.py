"""A head: an ellipsoid with a painted skin and a shell of hair, seen from any side."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from service.scene.camera import Array
from service.scene.face import PX_PER_M, RADII
from service.scene.paint import Patch


@dataclass(frozen=True)
class Pose:
    """Where a head is: its middle in pixels, scale in pixels a metre, turn float32[3, 3] from head to view."""

    x: float
    y: float
    scale: float
    turn: Array


def draw_shell(patch: Patch, pose: Pose, levels: list[Array], light: Array, grow: float, gloss: float) -> None:
    """An ellipsoid, RADII times `grow`, with a texture float32[h, w, 3 or 4] around it."""
    radii = RADII * np.float32(grow)
    reach = float(radii.max()) * pose.scale + 1
    window = patch.window(pose.x - reach, pose.y - reach, pose.x + reach, pose.y + reach)
    if window is None:
        return
    gx, gy = patch.grid(*window, pose.x, pose.y)
    gx, gy = gx / pose.scale, gy / pose.scale
    # The lower half of a head tapers to the chin, seen from any side.
    low = np.clip(gy / radii[1], 0, 1.1)
    gx = gx / (1 - 0.26 * low**1.8)
    inverse = pose.turn.T / radii[:, None]  # rows: head axes, scaled to a unit ball
    ex, ey, d = inverse[:, 0], inverse[:, 1], inverse[:, 2]
    a = float(d @ d)
    o = [gx * ex[k] + gy * ey[k] for k in range(3)]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1
    disc = b * b - a * c
    t = (-b - np.sqrt(np.maximum(disc, 0))) / a
    p = [o[k] + t * d[k] for k in range(3)]
    edge = 1 - np.sqrt(np.maximum(1 - disc / a, 0))
    cover = np.clip(edge * (float(radii[0] + radii[1]) / 2 * pose.scale) + 0.5, 0, 1)
    level = int(np.clip(np.floor(np.log2(max(PX_PER_M / pose.scale, 1e-3)) + 0.35), 0, len(levels) - 1))
    texture = levels[level]
    h, w = texture.shape[:2]
    map_x = (np.arctan2(p[0], p[2]) / np.pi + 1) * (w / 2) - 0.5
    map_y = (1 - np.clip(p[1], -1, 1)) * (h / 2) - 0.5
    found = cv2.remap(
        texture, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    towards = (pose.turn.T @ light) / radii
    n = [p[k] / radii[k] for k in range(3)]
    norm = np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + 1e-6
    lit = (p[0] * towards[0] + p[1] * towards[1] + p[2] * towards[2]) / norm
    facing = np.sqrt(np.maximum(disc, 0) / a).clip(0, 1)
    shade = (0.60 + 0.62 * np.maximum(lit, 0)) * (0.62 + 0.38 * facing**0.7)
    colour = found[..., :3] * shade[..., None]
    if gloss:
        colour = colour + (gloss * np.maximum(lit, 0) ** 14)[..., None]
    if found.shape[2] == 4:
        cover = cover * found[..., 3]
    patch.put(*window, colour, cover)
