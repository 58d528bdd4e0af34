"""The fixed background: a room or a street of textured boxes, ray-cast once, with its depth in metres."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from service.scene.camera import Array, Camera, sample, smooth_noise
from service.scene.place import Box, Room
from service.scene.textures import PAINTS, facade_and_sky, ground, wall

SUPERSAMPLE = 2


@dataclass(frozen=True)
class Backdrop:
    """image : float32[H, W, 3] BGR 0..255; depth : float32[H, W] metres."""

    image: Array
    depth: Array


@dataclass
class _Canvas:
    camera: Camera
    room: Room
    noise: Array
    rays: Array
    colour: Array
    depth: Array


def render(room: Room, camera: Camera) -> Backdrop:
    """Ray-cast the room as the camera sees it."""
    view = camera.scaled(SUPERSAMPLE)
    rng = np.random.default_rng(room.seed)
    rays = _rays(view)
    shape = rays.shape[:2]
    canvas = _Canvas(
        view,
        room,
        smooth_noise(rng, 512, 512, 8),
        rays,
        np.zeros((*shape, 3), np.float32),
        np.full(shape, 60, np.float32),
    )
    _shell(canvas)
    for box in room.boxes:
        _cast_box(canvas, box)
    for x, z, height in room.plants:
        _draw_plant(canvas, x, z, height, rng)
    size = (camera.width, camera.height)
    image = cv2.resize(canvas.colour, size, interpolation=cv2.INTER_AREA)
    depth = cv2.resize(canvas.depth, size, interpolation=cv2.INTER_NEAREST)
    return Backdrop(np.clip(image, 0, 255).astype(np.float32), depth.astype(np.float32))


def _rays(view: Camera) -> Array:
    """World directions float32[H, W, 3] whose length along the view axis is 1."""
    x = (np.arange(view.width, dtype=np.float32) + 0.5 - view.width / 2) / view.focal
    y = (np.arange(view.height, dtype=np.float32) + 0.5 - view.height / 2) / view.focal
    gx, gy = np.meshgrid(x, y)
    directions = np.stack([gx, gy, np.ones_like(gx)], axis=2)
    return np.asarray(directions @ view.matrix, np.float32)


def _shell(canvas: _Canvas) -> None:
    """Ground, walls, ceiling or sky."""
    room, rays = canvas.room, canvas.rays
    origin_y = canvas.camera.height_m
    dx, dy, dz = rays[..., 0], rays[..., 1], rays[..., 2]
    far = np.float32(1e6)
    hits: list[tuple[str, Array]] = [
        ("floor", np.where(dy < -1e-4, -origin_y / np.minimum(dy, -1e-4), far)),
        ("back", np.where(dz > 1e-4, room.depth_m / np.maximum(dz, 1e-4), far)),
    ]
    if room.half_width_m is not None:
        hits.append(("side", room.half_width_m / np.maximum(np.abs(dx), 1e-4)))
    if room.ceiling_m is not None:
        hits.append(("ceiling", np.where(dy > 1e-4, (room.ceiling_m - origin_y) / np.maximum(dy, 1e-4), far)))
    nearest = np.min([hit for _, hit in hits], axis=0)
    for name, hit in hits:
        mask = hit <= nearest
        if not mask.any():
            continue
        t = hit[mask]
        x, y, z = t * dx[mask], origin_y + t * dy[mask], t * dz[mask]
        if name == "back" and room.ceiling_m is None:
            canvas.colour[mask] = facade_and_sky(canvas.noise, room, x, y)
        else:
            _surface(canvas, name, mask, x, y, z)
        canvas.depth[mask] = t


def _surface(canvas: _Canvas, name: str, mask: Array, x: Array, y: Array, z: Array) -> None:
    room = canvas.room
    edge = room.half_width_m if room.half_width_m is not None else 50.0
    if name == "floor":
        colour = ground(canvas.noise, room, x, z)
        corner = np.minimum(room.depth_m - z, edge - np.abs(x))
        normal = (0.0, 1.0, 0.0)
        for box in room.boxes:
            if box.low[1] < 0.6:
                colour *= _contact(box, x, z)[:, None]
    elif name == "ceiling":
        colour = np.full((x.size, 3), 215, np.float32) * (1 + 0.02 * sample(canvas.noise, x / 3, z / 3))[:, None]
        corner = np.minimum(room.depth_m - z, edge - np.abs(x))
        normal = (0.0, -1.0, 0.0)
    else:
        along = x if name == "back" else z
        colour = wall(canvas.noise, room, along, y)
        height = room.ceiling_m if room.ceiling_m is not None else 50.0
        side = edge - np.abs(x) if name == "back" else room.depth_m - z
        corner = np.minimum(np.minimum(y, height - y), side)
        normal = (0.0, 0.0, -1.0) if name == "back" else (-1.0, 0.0, 0.0)
    dark = 1 - 0.38 * np.exp(-np.maximum(corner, 0) / 0.35)
    canvas.colour[mask] = colour * (_light(room, x, y, z, normal) * dark)[:, None]


def _light(room: Room, x: Array, y: Array, z: Array, normal: tuple[float, float, float]) -> Array:
    total = np.full(x.shape, room.ambient, np.float32)
    for lx, ly, lz, strength in room.lamps:
        ax, ay, az = lx - x, ly - y, lz - z
        square = ax * ax + ay * ay + az * az + 0.3
        facing = (ax * normal[0] + ay * normal[1] + az * normal[2]) / np.sqrt(square)
        if normal[0]:
            facing = np.abs(facing)
        total += strength * (0.25 + np.maximum(facing, 0)) / (1 + 0.18 * square)
    return total


def _contact(box: Box, x: Array, z: Array) -> Array:
    """The shadow of a box on the ground around it."""
    gap_x = np.maximum(np.maximum(box.low[0] - x, x - box.high[0]), 0)
    gap_z = np.maximum(np.maximum(box.low[2] - z, z - box.high[2]), 0)
    strength = 0.5 * np.exp(-box.low[1] / 0.3)
    return np.asarray(1 - strength * np.exp(-np.hypot(gap_x, gap_z) / 0.16), np.float32)


def _cast_box(canvas: _Canvas, box: Box) -> None:
    """Draw a box where it is nearer than what is there."""
    camera = canvas.camera
    xs, ys, zs = zip(box.low, box.high, strict=True)
    corners = np.array([[x, y, max(z, 0.2)] for x in xs for y in ys for z in zs], np.float32)
    points = camera.project(corners)
    left, top = np.floor(points[:, :2].min(axis=0)).astype(int) - 1
    right, bottom = np.ceil(points[:, :2].max(axis=0)).astype(int) + 1
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, camera.width), min(bottom, camera.height)
    if left >= right or top >= bottom:
        return
    rays = canvas.rays[top:bottom, left:right]
    origin = np.array([0, camera.height_m, 0], np.float32)
    safe = np.where(np.abs(rays) < 1e-6, np.float32(1e-6), rays)
    first = (np.asarray(box.low, np.float32) - origin) / safe
    second = (np.asarray(box.high, np.float32) - origin) / safe
    enter, leave = np.minimum(first, second), np.maximum(first, second)
    t = enter.max(axis=2)
    axis = enter.argmax(axis=2)
    depth = canvas.depth[top:bottom, left:right]
    mask = (t <= leave.min(axis=2)) & (t > 0.1) & (t < depth)
    if not mask.any():
        return
    t, axis, d = t[mask], axis[mask], rays[mask]
    x, y, z = t * d[:, 0], camera.height_m + t * d[:, 1], t * d[:, 2]
    u = np.where(axis == 0, z - box.low[2], x - box.low[0])
    v = np.where(axis == 1, z - box.low[2], y - box.low[1])
    colour = PAINTS[box.paint](canvas.noise, box, u, v)
    if not box.glow:
        facing = np.where(axis == 1, 1.0, np.where(axis == 2, 0.82, 0.62)).astype(np.float32)
        light = _light(canvas.room, x, y, z, (0.0, 0.5, -0.8)) * facing
        light *= 1 - 0.3 * np.exp(-np.maximum(y, 0) / 0.12)
        colour = colour * light[:, None]
    canvas.colour[top:bottom, left:right][mask] = colour
    depth[mask] = t


def _draw_plant(canvas: _Canvas, x: float, z: float, height: float, rng: np.random.Generator) -> None:
    """Leaves around a stem, drawn flat at the plant's distance."""
    camera = canvas.camera
    foot, tip = camera.project(np.array([[x, 0.3, z], [x, height, z]], np.float32))
    depth = float(foot[2])
    scale = camera.focal / depth
    base = rng.uniform([20, 70, 25], [55, 125, 70])
    place = (np.array([value], np.float32) for value in (x, height / 2, z))
    light = float(_light(canvas.room, next(place), next(place), next(place), (0.0, 0.5, -0.8))[0])
    for _ in range(int(60 + 90 * height * height)):
        part = rng.uniform(0.25, 1)
        at = foot[:2] + (tip[:2] - foot[:2]) * part
        angle = rng.uniform(0, 2 * np.pi)
        length = rng.uniform(0.08, 0.2) * scale * (1.25 - 0.5 * part)
        way = np.array([np.cos(angle), 0.6 * np.sin(angle)])
        spread = 1 + 1.3 * max(0.0, height - 1.2) * float(np.sin(np.pi * min(1.0, part)))
        centre = at + way * length * rng.uniform(0.4, 1.6) * spread
        shade = light * rng.uniform(0.45, 1.25)
        turn = float(np.degrees(np.arctan2(way[1], way[0])) + rng.uniform(-30, 30))
        mask = np.zeros(canvas.depth.shape, np.uint8)
        axes = (max(1, round(length * 0.55)), max(1, round(length * rng.uniform(0.1, 0.22))))
        middle = (round(float(centre[0])), round(float(centre[1])))
        reach = axes[0] + 2
        rows = slice(max(0, middle[1] - reach), max(0, middle[1] + reach))
        columns = slice(max(0, middle[0] - reach), max(0, middle[0] + reach))
        mask = np.ascontiguousarray(mask[rows, columns])
        if mask.size == 0:
            continue
        cv2.ellipse(mask, (middle[0] - columns.start, middle[1] - rows.start), axes, turn, 0, 360, 1, -1)
        leaf = (mask > 0) & (canvas.depth[rows, columns] >= depth - 0.05)
        canvas.colour[rows, columns][leaf] = base * shade
        canvas.depth[rows, columns][leaf] = depth
