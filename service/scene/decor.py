"""Furnishes a room or a street at random: what stands where, in metres, and how it is lit."""

from __future__ import annotations

import numpy as np

from service.scene.camera import Camera, Colour
from service.scene.place import Box, Room

_WOODS: tuple[Colour, ...] = ((60, 95, 140), (45, 70, 110), (95, 130, 165), (35, 50, 75), (120, 150, 175))
_CLOTHS: tuple[Colour, ...] = ((95, 85, 75), (60, 70, 110), (110, 95, 70), (150, 155, 160), (70, 100, 80), (50, 45, 45))
_WALLS: tuple[Colour, ...] = (
    (205, 212, 215), (190, 200, 210), (200, 195, 180), (170, 195, 200), (185, 190, 175), (150, 160, 165),
    (175, 180, 205),
)  # fmt: skip


def make_camera(rng: np.random.Generator, size: tuple[int, int], street: bool) -> Camera:
    """A camera for this kind of place; size is width and height in pixels."""
    width, height = size
    focal = width * rng.uniform(0.78, 1.0)
    height_m = rng.uniform(1.5, 2.6) if street else rng.uniform(1.3, 1.9)
    pitch = np.radians(rng.uniform(2, 6)) + max(0.0, (height_m - 1.5)) * 0.09
    return Camera(width, height, float(focal), float(height_m), float(pitch))


def make_room(rng: np.random.Generator, seed: int) -> Room:
    """A living room, an office or a hall."""
    depth = float(rng.uniform(6.0, 8.5))
    half = float(rng.uniform(3.3, 5.0))
    ceiling = float(rng.uniform(2.5, 3.1))
    floors: tuple[tuple[str, Colour], ...] = (
        ("planks", _pick(rng, _WOODS)), ("tiles", (175, 182, 188)), ("carpet", (105, 105, 110)),
        ("carpet", (120, 105, 90)), ("rug", (120, 150, 175)), ("planks", (110, 145, 175)),
    )  # fmt: skip
    floor = floors[rng.integers(len(floors))]
    wall = (str(rng.choice(["plain", "plain", "stripes", "brick", "panels"])), _pick(rng, _WALLS))
    if wall[0] == "brick":
        wall = ("brick", (85, 100, 150))
    boxes: list[Box] = []
    _back_wall(boxes, rng, depth, half)
    _sides(boxes, rng, depth, half)
    if rng.random() < 0.6:
        _desk(boxes, rng, float(rng.choice([-1, 1])))
    plants = tuple(
        (float(side * (half - 0.45)), float(rng.uniform(4.5, depth - 0.5)), float(rng.uniform(0.9, 1.7)))
        for side in (-1, 1)
        if rng.random() < 0.6
    )
    for x, z, _ in plants:
        boxes.append(Box((x - 0.17, 0, z - 0.17), (x + 0.17, 0.36, z + 0.17), (90, 110, 150), "cloth", seed))
    lamps = tuple(
        (
            float(rng.uniform(-half, half)),
            ceiling - 0.3,
            float(rng.uniform(1.5, depth - 1)),
            float(rng.uniform(0.35, 0.75)),
        )
        for _ in range(int(rng.integers(2, 5)))
    )
    ambient, warmth = float(rng.uniform(0.38, 0.62)), float(rng.uniform(-0.06, 0.12))
    return Room(depth, half, ceiling, floor, wall, tuple(boxes), plants, lamps, ambient, warmth, seed)


def make_street(rng: np.random.Generator, seed: int) -> Room:
    """A pavement before houses."""
    depth = float(rng.uniform(11, 17))
    floors: tuple[tuple[str, Colour], ...] = (
        ("paving", (150, 155, 160)),
        ("asphalt", (95, 95, 97)),
        ("paving", (125, 140, 155)),
    )
    walls: tuple[tuple[str, Colour], ...] = (
        ("brick", (95, 110, 160)),
        ("plain", (170, 190, 205)),
        ("panels", (160, 165, 170)),
    )
    boxes: list[Box] = []
    for _ in range(int(rng.integers(2, 5))):  # posts, bins, benches
        x, z = float(rng.uniform(-6, 6)), float(rng.uniform(7, depth - 1))
        kind = rng.integers(4)
        if kind == 0:
            boxes.append(Box((x - 0.05, 0, z), (x + 0.05, 5, z + 0.1), (60, 62, 65)))
        elif kind == 1:
            boxes.append(Box((x - 0.25, 0, z), (x + 0.25, 0.95, z + 0.5), (60, 80, 60), "cloth", seed))
        elif kind == 2:
            boxes += [
                Box((x - 0.8, 0.4, z), (x + 0.8, 0.46, z + 0.4), (60, 90, 125), "wood", seed),
                Box((x - 0.8, 0.55, z + 0.38), (x + 0.8, 0.9, z + 0.42), (60, 90, 125), "wood", seed),
                Box((x - 0.7, 0, z), (x - 0.62, 0.4, z + 0.4), (50, 50, 52)),
                Box((x + 0.62, 0, z), (x + 0.7, 0.4, z + 0.4), (50, 50, 52)),
            ]
        else:
            boxes.append(Box((x - 0.6, 0, z), (x + 0.6, 0.6, z + 0.6), (120, 125, 130), "cloth", seed))
    for step in range(-4, 5):
        if rng.random() < 0.5:
            x = step * 1.5
            boxes.append(Box((x - 0.06, 0, 6.8), (x + 0.06, 0.9, 6.92), (70, 72, 74)))
    plants = tuple(
        (float(rng.uniform(-6, 6)), float(rng.uniform(8, depth - 0.5)), float(rng.uniform(1, 3.4)))
        for _ in range(int(rng.integers(1, 4)))
    )
    for x, z, _ in plants:
        boxes.append(Box((x - 0.35, 0, z - 0.35), (x + 0.35, 0.5, z + 0.35), (120, 130, 140), "cloth", seed))
    ambient, warmth = float(rng.uniform(0.7, 1.05)), float(rng.uniform(-0.08, 0.06))
    floor, wall = floors[rng.integers(len(floors))], walls[rng.integers(len(walls))]
    return Room(depth, None, None, floor, wall, tuple(boxes), plants, (), ambient, warmth, seed)


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    blue, green, red = np.asarray(colours[rng.integers(len(colours))]) * rng.uniform(0.85, 1.15)
    return float(blue), float(green), float(red)


def _back_wall(boxes: list[Box], rng: np.random.Generator, depth: float, half: float) -> None:
    """From left to right along the back wall: windows, shelves, doors, pictures, a sofa."""
    x = -half + 0.3
    while x < half - 0.9:
        kind = str(rng.choice(["window", "shelf", "door", "picture", "sofa", "cabinet", "coats", "gap"]))
        seed = int(rng.integers(1, 1000))
        wood, cloth = _pick(rng, _WOODS), _pick(rng, _CLOTHS)
        z = depth
        if kind == "window":
            boxes.append(Box((x, 0.9, z - 0.04), (x + 1.5, 2.2, z), wood, "window", seed, glow=True))
            boxes.append(Box((x - 0.05, 0.82, z - 0.15), (x + 1.55, 0.88, z), (200, 205, 208)))
            x += 1.9
        elif kind == "shelf":
            boxes.append(Box((x, 0, z - 0.35), (x + 1.1, 2.05, z), wood, "books", seed))
            boxes.append(Box((x - 0.03, 0, z - 0.37), (x, 2.08, z), wood, "wood", seed))
            boxes.append(Box((x + 1.1, 0, z - 0.37), (x + 1.13, 2.08, z), wood, "wood", seed))
            x += 1.4
        elif kind == "door":
            boxes.append(Box((x - 0.07, 0, z - 0.03), (x + 0.97, 2.12, z), (205, 208, 210)))
            boxes.append(Box((x, 0, z - 0.06), (x + 0.9, 2.05, z), wood, "door", seed))
            x += 1.3
        elif kind == "picture":
            size = float(rng.uniform(0.5, 1.1))
            boxes.append(Box((x, 1.3, z - 0.03), (x + size, 1.3 + size * 0.72, z), wood, "picture", seed))
            x += size + 0.4
        elif kind == "sofa":
            _sofa(boxes, x, z, cloth, seed)
            boxes.append(Box((x + 0.5, 1.4, z - 0.03), (x + 1.4, 2.0, z), wood, "picture", seed))
            x += 2.3
        elif kind == "cabinet":
            boxes.append(Box((x, 0, z - 0.45), (x + 1.4, 0.55, z), wood, "wood", seed))
            boxes.append(Box((x + 0.1, 0.62, z - 0.25), (x + 1.3, 1.3, z - 0.2), wood, "screen", seed))
            x += 1.7
        elif kind == "coats":  # a coat on its hook: about the shape of a person, and none
            boxes.append(Box((x + 0.1, 1.7, z - 0.06), (x + 0.8, 1.76, z), wood, "wood", seed))
            boxes.append(Box((x + 0.2, 0.75, z - 0.16), (x + 0.55, 1.68, z - 0.02), cloth, "cloth", seed))
            x += 1.1
        else:
            x += float(rng.uniform(0.3, 0.9))


def _sofa(boxes: list[Box], x: float, z: float, cloth: Colour, seed: int) -> None:
    boxes.append(Box((x, 0.1, z - 0.95), (x + 2.0, 0.42, z - 0.1), cloth, "cloth", seed))
    boxes.append(Box((x, 0.1, z - 0.3), (x + 2.0, 0.85, z - 0.1), cloth, "cloth", seed + 1))
    for side in (x - 0.14, x + 2.0):
        boxes.append(Box((side, 0.05, z - 0.95), (side + 0.16, 0.62, z - 0.1), cloth, "cloth", seed + 2))
    boxes.append(Box((x + 0.15, 0.42, z - 0.5), (x + 0.55, 0.75, z - 0.3), (70, 120, 190), "cloth", seed + 3))


def _sides(boxes: list[Box], rng: np.random.Generator, depth: float, half: float) -> None:
    """Furniture along the side walls."""
    for side in (-1, 1):
        if rng.random() < 0.5:
            z = float(rng.uniform(4.5, max(4.5, depth - 1.6)))
            wood = _pick(rng, _WOODS)
            low, high = sorted((side * half, side * (half - 0.42)))
            height = float(rng.uniform(0.7, 2.0))
            boxes.append(Box((low, 0, z), (high, height, z + 1.2), wood, "wood", 5))
            boxes.append(
                Box((low + 0.1, height, z + 0.3), (high - 0.1, height + 0.25, z + 0.5), (150, 130, 90), "cloth", 6)
            )
        if rng.random() < 0.6:
            z = float(rng.uniform(4.0, depth - 1.5))
            low, high = sorted((side * half, side * (half - 0.04)))
            boxes.append(Box((low, 1.2, z), (high, 1.9, z + 1.0), _pick(rng, _WOODS), "picture", int(rng.integers(99))))
    if rng.random() < 0.5:  # a table with chairs, far enough back not to stand in the way
        x, z = float(rng.uniform(-half + 1.2, half - 1.2)), depth - 1.75
        wood = _pick(rng, _WOODS)
        boxes.append(Box((x - 0.7, 0.7, z - 0.4), (x + 0.7, 0.75, z + 0.4), wood, "wood", 7))
        for dx in (-0.64, 0.6):
            for dz in (-0.36, 0.32):
                boxes.append(Box((x + dx, 0, z + dz), (x + dx + 0.05, 0.7, z + dz + 0.05), wood, "wood", 8))
        boxes.append(Box((x - 0.2, 0.75, z - 0.1), (x - 0.08, 1.0, z + 0.02), _pick(rng, _CLOTHS), "cloth", 9))


def _desk(boxes: list[Box], rng: np.random.Generator, side: float) -> None:
    """A desk in a corner of the foreground, with what lies on it."""
    wood = _pick(rng, _WOODS)
    x = side * float(rng.uniform(0.85, 1.2))
    low, high = x - 0.45, x + 0.45
    boxes.append(Box((low, 0.7, 1.55), (high, 0.74, 2.1), wood, "wood", 3))
    boxes.append(Box((low, 0, 1.55), (low + 0.05, 0.7, 2.1), wood, "wood", 4))
    boxes.append(Box((high - 0.05, 0, 1.55), (high, 0.7, 2.1), wood, "wood", 4))
    boxes.append(Box((x - 0.22, 0.78, 1.9), (x + 0.22, 1.08, 1.93), (30, 30, 32), "screen", 5))
    boxes.append(Box((x - 0.05, 0.74, 1.9), (x + 0.05, 0.8, 1.95), (40, 40, 42)))
    boxes.append(Box((x - 0.35, 0.74, 1.65), (x - 0.27, 0.84, 1.73), _pick(rng, _CLOTHS), "plain", 6))
