"""What is painted around a head: skin with eyes, nose and mouth, and hair, as maps of angle and height."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from service.scene.camera import Array, smooth_noise, smoothstep

RADII = np.array([0.076, 0.118, 0.097], np.float32)
"""Half-axes in metres: to the side, up, forward."""
_W, _H = 512, 256
PX_PER_M = _H / 2 / float(RADII[1])
"""Of the finest level, in the middle of the face."""


_SHADOWS = (
    (0.016, 0.006, 0.006, 0.012, 0.20),  # beside the bridge of the nose
    (0.014, -0.020, 0.006, 0.02, 0.13),  # sides of the nose
    (0.018, -0.041, 0.005, 0.007, 0.28),
    (0.0, -0.052, 0.015, 0.005, 0.28),  # below the nose
    (0.0, -0.087, 0.016, 0.005, 0.22),  # below the lip
    (0.030, -0.055, 0.005, 0.016, 0.10),
    (0.062, -0.030, 0.02, 0.05, 0.12),  # sides of the face
    (0.0, -0.125, 0.06, 0.016, 0.35),  # below the chin
    (0.0, -0.034, 0.007, 0.008, -0.20),  # light on the nose
    (0.0, -0.010, 0.005, 0.024, -0.13),
)
"""Soft spots of a face: place (both sides) and size in metres, strength."""


@dataclass(frozen=True)
class Face:
    """What a person's head looks like. Colours are BGR, lengths in metres."""

    skin: Array
    hair: Array
    iris: Array
    hairline: float
    sides: float
    """Where hair ends behind the ears, metres above the middle of the head."""
    bald: bool
    beard: float
    brow: float
    eye_gap: float
    mouth: float
    lips: float
    glasses: bool
    seed: int

    @cached_property
    def maps(self) -> tuple[Array, Array, Array]:
        """Angle around (0 in front), height, and x in a frontal view (9 behind): radians, metres, metres."""
        lon = ((np.arange(_W, dtype=np.float32) + 0.5) / _W * 2 - 1) * np.pi
        up = 1 - (np.arange(_H, dtype=np.float32) + 0.5) / _H * 2
        lon, up = np.meshgrid(lon, up)
        x = RADII[0] * np.sqrt(1 - up * up) * np.sin(lon)
        return lon, up * RADII[1], np.where(np.abs(lon) < 1.6, x, 9.0).astype(np.float32)

    @cached_property
    def noise(self) -> Array:
        """float32[256, 512], tileable."""
        return np.asarray(cv2.resize(smooth_noise(np.random.default_rng(self.seed), 256, 256, 7), (_W, _H)), np.float32)

    def skins(self, shut: bool, open_mouth: bool) -> list[Array]:
        """The painted skin float32[h, w, 3], each level half the one before."""
        key = (shut, open_mouth)
        if key not in self._painted:
            self._painted[key] = _levels(_Skin(self).paint(shut, open_mouth))
        return self._painted[key]

    @cached_property
    def _painted(self) -> dict[tuple[bool, bool], list[Array]]:
        return {}

    @cached_property
    def hairs(self) -> list[Array]:
        """Hair float32[h, w, 4] with its cover, each level half the one before."""
        lon, y, _ = self.maps
        rng = np.random.default_rng(self.seed + 1)
        side = smoothstep(0.75, 1.25, np.abs(lon))
        line = self.hairline * (1 - side) + (0.0 if self.sides > -0.09 else -0.05) * side
        line += (self.sides - line) * smoothstep(1.5, 1.9, np.abs(lon))
        line += 0.010 * self.noise
        cover = smoothstep(-0.006, 0.006, y - line)
        if self.bald:
            cover *= 0.6 * smoothstep(1.2, 1.7, np.abs(lon)) * smoothstep(0.06, 0.02, y)
        strands = cv2.resize(
            rng.standard_normal((12, _W // 2)).astype(np.float32), (_W, _H), interpolation=cv2.INTER_CUBIC
        )
        shine = 0.35 * np.exp(-(((y - 0.075) / 0.022) ** 2))
        tone = (0.85 + 0.16 * strands + 0.2 * self.noise) * (1 + shine)
        colour = self.hair * np.clip(tone, 0.3, 2)[..., None] + 12 * shine[..., None]
        return _levels(np.dstack([colour, cover]).astype(np.float32))


class _Skin:
    """Paints the skin of one face, feature by feature, over maps of the whole head."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self.lon, self.y, self.x = face.maps
        self.colour = (face.skin * (1 + 0.035 * face.noise)[..., None]).astype(np.float32)

    def tint(self, strength: float, mask: Array, colour: tuple[float, float, float] | Array) -> None:
        """Draw the colour towards another where the mask (0..1) says so."""
        amount = (strength * mask)[..., None]
        self.colour += amount * (np.asarray(colour, np.float32) - self.colour)

    def shadow(self, cx: float, cy: float, sx: float, sy: float, strength: float) -> None:
        """A soft dark spot at (+-cx, cy) metres; light where strength is below 0."""
        self.colour *= (1 - strength * self._spot(cx, cy, sx, sy))[..., None]

    def _spot(self, cx: float, cy: float, sx: float, sy: float) -> Array:
        return np.asarray(np.exp(-(((np.abs(self.x) - cx) / sx) ** 2) - ((self.y - cy) / sy) ** 2), np.float32)

    def paint(self, shut: bool, open_mouth: bool) -> Array:
        """float32[h, w, 3]."""
        face = self.face
        red = face.skin * np.array([0.78, 0.78, 1.04], np.float32)
        for cx, cy, size in ((0.037, -0.035, 0.017), (0.0, -0.036, 0.012)):  # cheeks and nose
            self.tint(0.4, self._spot(cx, cy, size, size), red)
        for shade in _SHADOWS:
            self.shadow(*shade)
        self.shadow(face.eye_gap, 0.003, 0.019, 0.013, 0.26)  # sockets
        if face.beard:
            jaw = smoothstep(-0.040, -0.066, self.y + 0.25 * np.abs(self.x))
            jaw = jaw * (1 - smoothstep(1.1, 1.5, np.abs(self.lon))) * (1 - self._spot(0, -0.071, 0.026, 0.012))
            self.tint(face.beard, np.clip(jaw * (0.8 + 0.3 * face.noise), 0, 1), face.hair * 0.9)
        self.mouth(open_mouth)
        self.eyes(shut)
        self.brows()
        self.tint(0.75, self._spot(0.008, -0.0455, 0.0042, 0.0026), face.skin * 0.22)  # nostrils
        if face.glasses:
            self.glasses()
        return np.asarray(cv2.GaussianBlur(self.colour, (0, 0), 0.7), np.float32)

    def mouth(self, open_mouth: bool) -> None:
        """Lips, and what is between them."""
        face, y, x = self.face, self.y, self.x
        ax = np.abs(x) / face.mouth
        lip = face.skin * np.array([0.62, 0.58, 0.86], np.float32)
        drop = 0.011 if open_mouth else 0.0
        line = -0.0700 - 0.0025 * (1 - ax * ax)
        ends = smoothstep(1.05, 0.85, ax)
        top = line + 0.0075 * face.lips * np.clip(1 - ax * ax, 0, 1) * (1 - 0.22 * np.exp(-((ax / 0.16) ** 2)))
        low = line - drop - 0.0105 * face.lips * np.clip(1 - ax * ax, 0, 1)
        soft = 0.0012
        between = smoothstep(-soft, soft, top - y) * smoothstep(-soft, soft, y - low) * ends
        self.tint(0.75, between * (y > line - drop / 2), lip * 0.82)
        self.tint(0.75, between * (y <= line - drop / 2), lip * 1.08)
        if open_mouth:
            gap = (1 - np.clip(ax * 1.1, 0, 1) ** 2) * drop
            hole = smoothstep(-soft, soft, line - y) * smoothstep(-soft, soft, y - (line - gap)) * ends
            self.tint(0.95, hole, (30, 22, 45))
            self.tint(0.8, hole * smoothstep(0.0055, 0.0035, line - y) * (ax < 0.75), (205, 215, 220))
        else:
            self.tint(0.75, np.exp(-(((y - line) / 0.0017) ** 2)) * ends, face.skin * 0.33)

    def eyes(self, shut: bool) -> None:
        """Lids, white, iris, pupil and lashes."""
        face, y, x = self.face, self.y, self.x
        ax = np.abs(x) - face.eye_gap
        u = ax / 0.0150
        inside = np.clip(1 - u * u, 0, 1)
        upper, lower = 0.0062 * inside**0.7, -0.0048 * inside**0.8
        if shut:
            self.tint(0.7, np.exp(-(((y + 0.003 * inside) / 0.0016) ** 2)) * (np.abs(u) < 1), face.skin * 0.35)
        else:
            soft = 0.0008
            eye = smoothstep(-soft, soft, upper - y) * smoothstep(-soft, soft, y - lower) * (np.abs(u) < 1)
            self.tint(0.95, eye, np.array([205, 212, 218]) * (0.45 + 0.55 * float(face.skin.mean()) / 160))
            distance = np.hypot(ax, y - 0.0005)
            self.tint(1.0, eye * smoothstep(0.0065, 0.0055, distance), face.iris)
            self.tint(0.9, eye * smoothstep(0.0030, 0.0023, distance), (12, 12, 14))
            spot = np.hypot(x - np.sign(x) * face.eye_gap + 0.002, y - 0.0028)
            self.tint(0.9, eye * smoothstep(0.0017, 0.0009, spot), (240, 240, 240))
            self.tint(0.45, eye * np.exp(-(((y - upper) / 0.0022) ** 2)), face.skin * 0.3)
            lash = np.exp(-(((y - upper) / 0.0016) ** 2)) * (np.abs(u) < 1.05)
            self.tint(0.85, lash, face.skin * 0.18)
            self.tint(0.35, np.exp(-(((y - lower) / 0.0012) ** 2)) * (np.abs(u) < 0.95), face.skin * 0.45)
        crease = np.exp(-(((y - 0.0105 + 0.10 * ax * u) / 0.0014) ** 2)) * (np.abs(u) < 1)
        self.tint(0.35, crease, face.skin * 0.5)

    def brows(self) -> None:
        """Hair above the eyes, thinner to the outside."""
        face, y = self.face, self.y
        ax = np.abs(self.x) - face.eye_gap
        arc = 0.0235 - 0.004 * ((ax - 0.004) / 0.02) ** 2 - 0.05 * np.maximum(ax - 0.008, 0)
        thick = face.brow * (1.0 - 0.5 * np.clip((ax + 0.005) / 0.025, 0, 1))
        brow = smoothstep(0.0014, -0.0010, np.abs(y - arc) - thick) * smoothstep(0.023, 0.019, np.abs(ax))
        self.tint(0.82, np.clip(brow * (0.9 + 0.25 * face.noise), 0, 1), face.hair * 0.75)

    def glasses(self) -> None:
        """Rims, bridge and temples."""
        ax, y, lon = np.abs(self.x), self.y, np.abs(self.lon)
        ring = np.abs(np.hypot((ax - self.face.eye_gap) / 1.2, y) - 0.0185)
        bridge = np.clip(1.5 - np.abs(y - 0.004) / 0.0014, 0, 1) * (ax < self.face.eye_gap - 0.021)
        temple = np.clip(1.5 - np.abs(y - 0.004) / 0.002, 0, 1) * (lon > 0.85) * (lon < 1.6)
        self.tint(0.9, np.clip(1.4 - ring / 0.0016, 0, 1), (35, 32, 30))
        self.tint(0.9, np.maximum(bridge, temple), (35, 32, 30))


def _levels(image: Array) -> list[Array]:
    levels = [np.ascontiguousarray(image, np.float32)]
    while levels[-1].shape[0] > 12:
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA))
    return levels
