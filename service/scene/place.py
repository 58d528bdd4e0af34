"""What a place consists of: walls, solids, plants and lamps, in metres."""

from __future__ import annotations

from dataclasses import dataclass

from service.scene.camera import Colour


@dataclass(frozen=True)
class Box:
    """A solid with sides along the axes; low and high corners in metres. `paint` names its texture."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: Colour
    paint: str = "plain"
    seed: int = 0
    glow: bool = False


@dataclass(frozen=True)
class Room:
    """What stands where. Sides without a wall have None."""

    depth_m: float
    half_width_m: float | None
    ceiling_m: float | None
    floor: tuple[str, Colour]
    wall: tuple[str, Colour]
    boxes: tuple[Box, ...]
    plants: tuple[tuple[float, float, float], ...]
    """x, z and height of plants, metres."""
    lamps: tuple[tuple[float, float, float, float], ...]
    """x, y, z and strength."""
    ambient: float
    warmth: float
    seed: int
