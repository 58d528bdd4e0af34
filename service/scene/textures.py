"""Procedural surfaces: floors, walls, houses, and the sides of furniture. Points in, BGR colours out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from service.scene.camera import Array, sample, smoothstep
from service.scene.place import Box, Room


def _hash(a: Array, b: Array, seed: int) -> Array:
    """0..1 for a pair of whole numbers."""
    value = np.sin(a * 127.1 + b * 311.7 + seed * 17.3) * 43758.547
    return np.asarray(value - np.floor(value), np.float32)


def ground(noise: Array, room: Room, x: Array, z: Array) -> Array:
    """Colours float32[N, 3] of the ground at x, z float32[N], not lit yet."""
    (kind, base), seed = room.floor, room.seed % 97
    if kind == "planks":
        row = np.floor(x / 0.13)
        shift = _hash(row, row * 0, seed) * 1.3
        piece = np.floor((z + shift) / 1.3)
        tone = 1 + 0.22 * (_hash(row, piece, seed) - 0.5)
        tone *= 1 + 0.10 * sample(noise, x / 0.35 + row * 0.37, z / 4 + piece * 0.21)
        gap = np.minimum(np.mod(x / 0.13, 1), 1 - np.mod(x / 0.13, 1)) * 0.13
        end = np.mod((z + shift) / 1.3, 1) * 1.3
        tone *= 1 - 0.45 * np.exp(-gap / 0.003) - 0.3 * np.exp(-end / 0.006)
    elif kind == "tiles":
        side = 0.45
        tone = 1 + 0.10 * (_hash(np.floor(x / side), np.floor(z / side), seed) - 0.5)
        tone *= 1 + 0.07 * sample(noise, x / 1.3, z / 1.3)
        gx, gz = np.mod(x / side, 1), np.mod(z / side, 1)
        gap = np.minimum(np.minimum(gx, 1 - gx), np.minimum(gz, 1 - gz)) * side
        tone *= 1 - 0.35 * np.exp(-((gap / 0.006) ** 2))
    elif kind == "paving":
        row = np.floor(z / 0.3)
        across = x / 0.6 + 0.5 * np.mod(row, 2)
        tone = 1 + 0.2 * (_hash(np.floor(across), row, seed) - 0.5)
        tone *= 1 + 0.14 * sample(noise, x / 0.9, z / 0.9) + 0.1 * sample(noise, x / 7, z / 7)
        gx, gz = np.mod(across, 1), np.mod(z / 0.3, 1)
        gap = np.minimum(np.minimum(gx, 1 - gx) * 0.6, np.minimum(gz, 1 - gz) * 0.3)
        tone *= 1 - 0.4 * np.exp(-((gap / 0.009) ** 2))
    else:
        tone = 1 + 0.10 * sample(noise, x / 0.25, z / 0.25) + 0.07 * sample(noise, x / 5, z / 5)
        if kind == "rug":
            inside = smoothstep(0, 0.03, 1.4 - np.abs(x)) * smoothstep(0, 0.03, 1.1 - np.abs(z - 4.2))
            pattern = 0.75 + 0.25 * np.sign(np.sin(x * 9) * np.sin(z * 9 + 0.5))
            rug = np.array([70, 60, 140], np.float32) * (pattern * (1 + 0.1 * sample(noise, x / 0.1, z / 0.1)))[:, None]
            plain = np.asarray(base, np.float32) * tone[:, None]
            return np.asarray(plain + inside[:, None] * (rug - plain), np.float32)
    return np.asarray(np.asarray(base, np.float32) * tone[:, None], np.float32)


def wall(noise: Array, room: Room, along: Array, y: Array) -> Array:
    """Colours float32[N, 3] of a wall at a distance along it and a height, float32[N], not lit yet."""
    kind, base = room.wall
    tone = 1 + 0.025 * sample(noise, along / 2.5, y / 2.5) + 0.012 * sample(noise, along / 0.2, y / 0.2)
    if kind == "stripes":
        tone *= 1 + 0.06 * np.sign(np.sin(along * 28))
    elif kind == "brick":
        row = np.floor(y / 0.075)
        across = along / 0.22 + 0.5 * np.mod(row, 2)
        tone *= 1 + 0.35 * (_hash(np.floor(across), row, room.seed % 89) - 0.5)
        tone *= 1 + 0.1 * sample(noise, along / 0.4, y / 0.4)
        gx, gy = np.mod(across, 1), np.mod(y / 0.075, 1)
        gap = np.minimum(np.minimum(gx, 1 - gx) * 0.22, np.minimum(gy, 1 - gy) * 0.075)
        tone *= 1 + 0.3 * np.exp(-((gap / 0.006) ** 2))
    elif kind == "panels":
        gap = np.minimum(np.mod(along / 1.2, 1), 1 - np.mod(along / 1.2, 1)) * 1.2
        tone *= 1 - 0.25 * np.exp(-gap / 0.01)
    colour = np.asarray(base, np.float32) * tone[:, None]
    if kind != "brick" and room.ceiling_m is not None:
        board = (y < 0.1)[:, None]
        colour = np.where(board, np.array([205, 208, 210], np.float32), colour)
        colour *= np.where(np.abs(y - 0.1) < 0.012, 0.7, 1)[:, None]
    return np.asarray(colour, np.float32)


def facade_and_sky(noise: Array, room: Room, x: Array, y: Array) -> Array:
    """A street's far side, lit: houses with windows, sky above them. x, y : float32[N], gives float32[N, 3]."""
    seed = room.seed % 83
    house = np.floor((x + 100 + seed) / 7.5)
    roof = 5.5 + 5 * _hash(house, house * 0 + 3, seed)
    tint = 0.75 + 0.5 * np.stack([_hash(house, house * 0 + k, seed) for k in range(3)], axis=1)
    grey = tint.mean(axis=1, keepdims=True)
    front = wall(noise, room, x, y) * (grey + 0.35 * (tint - grey))
    column, storey = np.mod((x + 100 + seed) / 1.9, 1), np.mod((y - 0.1) / 2.9, 1)
    number = _hash(np.floor((x + 100) / 1.9), np.floor(y / 2.9), seed)
    frame = (np.abs(column - 0.5) < 0.29) & (np.abs(storey - 0.55) < 0.28)
    pane = (np.abs(column - 0.5) < 0.25) & (np.abs(storey - 0.55) < 0.25) & (np.abs(column - 0.5) > 0.012)
    glass = np.array([120, 105, 90], np.float32) * (0.35 + 0.9 * number + 0.35 * sample(noise, x / 3, y / 3))[:, None]
    front = np.where(frame[:, None], np.array([190, 195, 198], np.float32), front)
    front = np.where(pane[:, None], glass, front)
    sky = np.array([235, 205, 175], np.float32) * np.clip(1.12 - 0.012 * y, 0.7, 1.12)[:, None]
    cloud = smoothstep(-0.1, 0.9, sample(noise, x / 40, y / 22))[:, None]
    sky = sky + cloud * (np.array([240, 240, 240], np.float32) - sky)
    front *= (room.ambient * 1.25 * (1 - 0.25 * np.exp(-y / 0.8)))[:, None]
    above = (y > roof)[:, None]
    return np.asarray(np.where(above, sky, front), np.float32)


def _plain(noise: Array, box: Box, u: Array, v: Array) -> Array:
    grain = 1 + 0.03 * sample(noise, u + box.seed * 0.17, v)
    return np.asarray(np.asarray(box.colour, np.float32) * grain[:, None], np.float32)


def _wood(noise: Array, box: Box, u: Array, v: Array) -> Array:
    grain = 1 + 0.14 * sample(noise, u / 3 + box.seed * 0.13, v * 3) + 0.05 * sample(noise, u, v * 20)
    return np.asarray(np.asarray(box.colour, np.float32) * grain[:, None], np.float32)


def _cloth(noise: Array, box: Box, u: Array, v: Array) -> Array:
    weave = 1 + 0.10 * sample(noise, u / 0.6 + box.seed * 0.31, v / 0.6) + 0.06 * sample(noise, u * 4, v * 4)
    height = box.high[1] - box.low[1]
    round_off = 1 - 0.25 * np.exp(-np.minimum(v, height - v).clip(0) / 0.03)
    return np.asarray(np.asarray(box.colour, np.float32) * (weave * round_off)[:, None], np.float32)


def _books(noise: Array, box: Box, u: Array, v: Array) -> Array:
    shelf = np.floor(v / 0.34)
    within = np.mod(v, 0.34)
    place = u / 0.036 + _hash(shelf, shelf * 0, box.seed) * 9 + 0.4 * np.sin(u * 37)
    book = np.floor(place)
    height = 0.2 + 0.09 * _hash(book, shelf, box.seed + 1)
    hue = np.stack([_hash(book, shelf, box.seed + 2 + k) for k in range(3)], axis=1)
    colour = 40 + 150 * (0.45 * hue + 0.55 * hue[:, :1])
    edge = np.mod(place, 1)
    colour *= (0.65 + 0.35 * np.sin(edge * np.pi))[:, None]
    label = (np.abs(within - 0.13) < 0.02) & (_hash(book, shelf, box.seed + 7) > 0.5)
    colour = np.where(label[:, None], colour * 0.4 + 120, colour)
    empty = (within > height) | (_hash(np.floor(book / 5), shelf, box.seed + 9) > 0.85)
    colour = np.where(empty[:, None], np.array([28, 32, 38], np.float32), colour)
    board = (within < 0.022)[:, None]
    return np.asarray(np.where(board, np.asarray(box.colour, np.float32), colour), np.float32)


def _picture(noise: Array, box: Box, u: Array, v: Array) -> Array:
    width, height = box.high[0] - box.low[0], box.high[1] - box.low[1]
    edge = np.minimum(np.minimum(u, width - u), np.minimum(v, height - v))
    rng = np.random.default_rng(box.seed)
    low, high = rng.uniform(40, 210, 3), rng.uniform(40, 230, 3)
    hill = v / height + 0.25 * sample(noise, u / 2 + box.seed * 0.37, v / 4)
    blend = smoothstep(0.3, 0.7, hill)[:, None]
    scene = low + (high - low) * blend
    scene = scene * (1 + 0.2 * sample(noise, u + 0.3, v + box.seed * 0.11))[:, None]
    inner = np.where((edge < 0.05)[:, None], np.array([225, 228, 230], np.float32), scene)
    return np.asarray(np.where((edge < 0.02)[:, None], np.asarray(box.colour, np.float32), inner), np.float32)


def _window(noise: Array, box: Box, u: Array, v: Array) -> Array:
    width, height = box.high[0] - box.low[0], box.high[1] - box.low[1]
    sky = np.array([250, 238, 225], np.float32) * (0.86 + 0.14 * v / height)[:, None]
    green = np.array([120, 165, 140], np.float32) * (1 + 0.25 * sample(noise, u / 1.5 + box.seed, v / 1.5))[:, None]
    hedge = smoothstep(-0.06, 0.06, 0.42 * height + 0.18 * sample(noise, u / 4, v * 0 + 0.3) - v)[:, None]
    view = sky + hedge * (green - sky)
    edge = np.minimum(np.minimum(u, width - u), np.minimum(v, height - v))
    bar = (edge < 0.045) | (np.abs(u - width / 2) < 0.025) | (np.abs(v - height * 0.6) < 0.018)
    return np.asarray(np.where(bar[:, None], np.array([196, 200, 202], np.float32), view), np.float32)


def _screen(noise: Array, box: Box, u: Array, v: Array) -> Array:
    width, height = box.high[0] - box.low[0], box.high[1] - box.low[1]
    edge = np.minimum(np.minimum(u, width - u), np.minimum(v, height - v))
    gloss = 24 + 30 * smoothstep(0.2, 1.3, (u / width + v / height))
    colour = np.stack([gloss * 1.1, gloss, gloss * 0.95], axis=1)
    return np.asarray(np.where((edge < 0.02)[:, None], np.array([16, 16, 17], np.float32), colour), np.float32)


def _door(noise: Array, box: Box, u: Array, v: Array) -> Array:
    width = box.high[0] - box.low[0]
    colour = _wood(noise, box, v, u)
    a = np.abs(u / width - 0.5)
    panel = np.minimum(np.abs(a - 0.32) * width, np.minimum(np.abs(v - 0.25), np.abs(v - 1.75)))
    inside = (a < 0.33) & (v > 0.24) & (v < 1.76)
    colour *= np.where(inside & (panel < 0.012), 0.65, 1)[:, None]
    knob = np.hypot(u - width * 0.9, v - 1.02) < 0.035
    return np.asarray(np.where(knob[:, None], np.array([120, 170, 190], np.float32), colour), np.float32)


PAINTS: Mapping[str, Callable[[Array, Box, Array, Array], Array]] = {
    "plain": _plain,
    "wood": _wood,
    "cloth": _cloth,
    "books": _books,
    "picture": _picture,
    "window": _window,
    "screen": _screen,
    "door": _door,
}
"""By `Box.paint`: colours float32[N, 3] of a box's side at u, v float32[N] metres from its lower corner."""
