"""Who walks where and when: acts that follow each other in a loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from service.scene.camera import Camera
from service.scene.people import STRIDE_M, Person, Stance, make_person
from service.scene.place import Room


@dataclass(frozen=True)
class Leg:
    """A stretch of somebody's way: a straight walk, or a stand when both ends are the same. Metres, seconds."""

    start: tuple[float, float]
    end: tuple[float, float]
    seconds: float
    face: float | None = None
    """Heading while standing; None keeps that of the walk before."""
    lively: bool = False
    """Standing: whether the head moves, the eyes blink and the mouth talks."""

    @property
    def walks(self) -> bool:
        return self.start != self.end

    @property
    def heading(self) -> float:
        if not self.walks:
            return np.pi if self.face is None else self.face
        return float(np.arctan2(self.end[0] - self.start[0], self.end[1] - self.start[1]))


@dataclass(frozen=True)
class Role:
    """Somebody's part: from when on (seconds into the loop), and the way."""

    person: Person
    begins: float
    legs: tuple[Leg, ...]
    phase: float

    @property
    def ends(self) -> float:
        return self.begins + sum(leg.seconds for leg in self.legs)

    def stance(self, now: float) -> Stance | None:
        """Where and how they are, `now` seconds into the loop; None when absent."""
        if not self.begins <= now < self.ends:
            return None
        since, walked = now - self.begins, 0.0
        for number, leg in enumerate(self.legs):
            length = float(np.hypot(leg.end[0] - leg.start[0], leg.end[1] - leg.start[1]))
            if since >= leg.seconds:
                since -= leg.seconds
                walked += length
                continue
            part = since / leg.seconds
            x = leg.start[0] + (leg.end[0] - leg.start[0]) * part
            z = leg.start[1] + (leg.end[1] - leg.start[1]) * part
            heading, pace = self._turned(number, since)
            steps = (walked + length * part) / (STRIDE_M * self.person.stature / 1.75)
            stance = Stance(x, z, heading, self.phase + 2 * np.pi * steps, pace)
            return _alive(stance, since, leg.seconds) if leg.lively else stance
        return None

    def _turned(self, number: int, since: float) -> tuple[float, float]:
        """Heading and pace, eased over the half second around a corner, a start or a stop."""
        leg = self.legs[number]
        heading, pace = leg.heading, float(leg.walks)
        left = leg.seconds - since
        other, share = None, 0.0
        if since < 0.3 and number > 0:
            other, share = self.legs[number - 1], 0.5 - since / 0.6
        elif left < 0.3 and number + 1 < len(self.legs):
            other, share = self.legs[number + 1], 0.5 - left / 0.6
        if other is not None:
            turn = (other.heading - heading + np.pi) % (2 * np.pi) - np.pi
            heading += turn * share
            pace += (float(other.walks) - pace) * share
        return heading, pace


def _alive(stance: Stance, since: float, seconds: float) -> Stance:
    """Small movements of somebody who stands and talks; still at both ends and for a while in the middle."""
    ease = float(np.clip(min(since - 0.5, seconds - 0.5 - since) / 0.6, 0, 1))
    if seconds > 5 and seconds * 0.45 < since < seconds * 0.45 + 1.6:
        return stance  # a pause: nothing moves
    return replace(
        stance,
        gaze=ease * (0.30 * np.sin(since * 0.9) + 0.10 * np.sin(since * 2.3 + 1)),
        nod=ease * 0.09 * np.sin(since * 1.7),
        tilt=ease * 0.07 * np.sin(since * 1.1 + 0.5),
        gesture=ease * max(0.0, float(np.sin(since * 0.8 - 0.6))) * 0.8,
        blink=(since % 2.6) < 0.12 and ease > 0,
        talk=ease > 0 and np.sin(since * 9) + np.sin(since * 5.3) > 0.4,
        x=stance.x + ease * 0.02 * float(np.sin(since * 0.7)),
    )


@dataclass(frozen=True)
class Script:
    """All roles, and the length of the loop in seconds."""

    roles: tuple[Role, ...]
    seconds: float


class _Writer:
    """Writes acts one after the other."""

    def __init__(self, rng: np.random.Generator, camera: Camera, room: Room) -> None:
        self.rng, self.camera, self.room = rng, camera, room
        self.now = 0.0
        self.roles: list[Role] = []
        self.cast = [make_person(rng) for _ in range(5)]
        self.next = 0

    def person(self) -> Person:
        self.next += 1
        return self.cast[self.next % len(self.cast)]

    def edge(self, z: float) -> float:
        """Where at this distance one is out of the picture."""
        return self.camera.half_width(z) + 0.55

    def near(self, person: Person, z: float) -> float:
        """At least z, and so far away that the whole head is well inside the picture."""
        height = self.camera.height
        while z < 4:
            top, chin = self.camera.project(
                np.array([[0, person.stature, z], [0, person.stature - 0.25, z]], np.float32)
            )[:, 1]
            if top > 0.07 * height and chin < 0.66 * height:
                break
            z += 0.05
        return z

    def enter(self, begins: float, points: list[tuple[float, float]], stops: dict[int, Leg], speed: float) -> float:
        """A role along points; `stops` are stands after the way to the point of that number. When it ends."""
        legs: list[Leg] = []
        for number in range(1, len(points)):
            start, end = points[number - 1], points[number]
            length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
            legs.append(Leg(start, end, length / speed))
            if number in stops:
                legs.append(replace(stops[number], start=end, end=end))
        role = Role(self.person(), begins, tuple(legs), float(self.rng.uniform(0, 6.28)))
        self.roles.append(role)
        return role.ends

    def cross(self, count: int) -> None:
        """People walk across; one may stop, look at the camera and stand still."""
        rng, ends = self.rng, self.now
        far = self.room.depth_m - 2.4 if self.room.ceiling_m is not None else 8.5
        for number in range(count):
            z = float(rng.uniform(2.3, min(far, 6.0)))
            side = float(rng.choice([-1, 1]))
            z_end = float(np.clip(z + rng.uniform(-0.8, 0.8), 2.2, far))
            stop = float(rng.uniform(-0.3, 0.3)) * z
            points = [(side * self.edge(z), z), (stop, (z + z_end) / 2), (-side * self.edge(z_end), z_end)]
            stops = {}
            if number == 0 and rng.random() < 0.6:
                stops[1] = Leg(
                    (0, 0),
                    (0, 0),
                    float(rng.uniform(2.5, 4)),
                    np.pi + float(rng.uniform(-0.5, 0.5)),
                    rng.random() < 0.5,
                )
            begins = self.now + number * float(rng.uniform(0.6, 2.2))
            ends = max(ends, self.enter(begins, points, stops, float(rng.uniform(0.95, 1.45))))
        self.now = ends

    def visit(self) -> None:
        """Somebody comes near, as before a webcam, and talks."""
        rng = self.rng
        z = self.near(self.cast[(self.next + 1) % len(self.cast)], float(rng.uniform(0.85, 1.4)))
        side = float(rng.choice([-1, 1]))
        x = float(rng.uniform(-0.18, 0.18))
        seconds = float(rng.uniform(5.5, 8))
        stand = Leg((0, 0), (0, 0), seconds, np.pi + np.arctan2(x, z) + float(rng.uniform(-0.15, 0.15)), True)
        points = [(side * (self.edge(z + 0.3)), z + 0.3), (x, z), (-side * self.edge(z + 0.5), z + 0.5)]
        ends = self.enter(self.now, points, {1: stand}, 0.85)
        self.now = ends

    def approach(self) -> None:
        """Somebody comes from afar towards the camera and leaves to the side."""
        rng = self.rng
        far = self.room.depth_m - 2.3 if self.room.ceiling_m is not None else 10.0
        side = float(rng.choice([-1, 1]))
        points = [
            (side * self.edge(far), far),
            (float(rng.uniform(-0.4, 0.4)), far - 0.4),
            (float(rng.uniform(-0.3, 0.3)), 2.0),
            (-side * self.edge(1.7), 1.6),
        ]
        self.now = self.enter(self.now, points, {}, float(rng.uniform(1.0, 1.3)))

    def leave(self) -> None:
        """Somebody comes in near and walks away, back to the camera, then out."""
        rng = self.rng
        far = self.room.depth_m - 2.3 if self.room.ceiling_m is not None else 9.0
        side = float(rng.choice([-1, 1]))
        points = [
            (side * self.edge(2.0), 2.0),
            (float(rng.uniform(-0.4, 0.4)), 2.5),
            (float(rng.uniform(-0.6, 0.6)), far),
            (-side * self.edge(far), far),
        ]
        self.now = self.enter(self.now, points, {}, float(rng.uniform(1.0, 1.3)))

    def empty(self, seconds: float) -> None:
        """Nobody is there."""
        self.now += seconds


def write_script(rng: np.random.Generator, camera: Camera, room: Room) -> Script:
    """Acts in a random order, with empty stretches between."""
    writer = _Writer(rng, camera, room)
    order = ["cross", "visit", "pair", "approach", "leave"]
    rng.shuffle(order)
    writer.empty(0.8)
    for act in order:
        if act == "cross":
            writer.cross(1)
        elif act == "pair":
            writer.cross(int(rng.integers(2, 4)))
        elif act == "visit":
            writer.visit()
        elif act == "approach":
            writer.approach()
        else:
            writer.leave()
        writer.empty(float(rng.uniform(0.2, 1.8)))
    return Script(tuple(writer.roles), writer.now)
