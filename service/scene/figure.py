"""Draws a person in a stance onto a patch of the picture, part by part, the farther ones first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.scene.camera import Array, Camera
from service.scene.face import RADII
from service.scene.head import Pose, draw_shell
from service.scene.paint import Cloth, Patch, Profile, limb, loft
from service.scene.people import Person, Stance, joints, turned

_TRUNK = (
    (0.0, 0.088, 1.0), (0.08, 0.098, 1.0), (0.2, 0.090, 1.0), (0.38, 0.084, 1.0),
    (0.56, 0.097, 0.5), (0.70, 0.116, 0.5), (0.80, 0.130, 0.5), (0.865, 0.131, 0.5),
)  # fmt: skip
"""From the hips to the shoulders: part of the length, half-width for a stature of 1, power of the build."""


@dataclass(frozen=True)
class Drawn:
    """A person on a patch, their distance, and the face's box (xyxy, pixels) unless it is turned away."""

    patch: Patch
    depth: float
    face: tuple[float, float, float, float] | None
    feet: Array
    """float32[3]: middle of the ground shadow, x, y in pixels, and its half-width in pixels."""


class _Painter:
    """Draws one person in one stance."""

    def __init__(self, person: Person, stance: Stance, camera: Camera, light: Array) -> None:
        self.person, self.stance, self.camera, self.light = person, stance, camera, light
        self.world = joints(person, stance)
        points = camera.project(np.stack(list(self.world.values())))
        self.at = dict(zip(self.world, points, strict=True))
        margin = 0.20 * camera.focal / float(points[:, 2].min())
        left, top = points[:, :2].min(axis=0) - margin
        right, bottom = points[:, :2].max(axis=0) + margin
        x0, y0 = int(np.clip(left, 0, camera.width)), int(np.clip(top, 0, camera.height))
        x1, y1 = int(np.clip(right, x0, camera.width)), int(np.clip(bottom, y0, camera.height))
        self.patch = Patch.empty(x0, y0, x1, y1)

    def scale(self, name: str) -> float:
        return self.camera.focal / float(self.at[name][2])

    def bone(self, first: str, second: str, first_m: float, second_m: float, cloth: Cloth) -> None:
        k = self.person.stature
        limb(
            self.patch, self.at[first], self.at[second],
            max(0.6, first_m * k * self.scale(first)), max(0.6, second_m * k * self.scale(second)), cloth, self.light,
        )  # fmt: skip

    def draw(self) -> None:
        """All parts, the farther ones first."""
        trunk = float(self.at["pelvis"][2] + self.at["neck"][2]) / 2
        near = {s: float(self.at["shoulder_" + s][2] + self.at["wrist_" + s][2]) / 2 for s in "lr"}
        facing = np.cos(self.stance.heading + self.stance.gaze) < 0.2
        broadside = abs(np.cos(self._relative(self.stance.heading, "neck"))) < 0.6
        arms = sorted("lr", key=lambda s: -near[s])
        for s in arms:
            if near[s] > trunk + 0.015:
                self.forearm(s)
            if near[s] > trunk + 0.015 or not broadside:
                self.upper_arm(s)
        legs = sorted("lr", key=lambda s: -float(self.at["knee_" + s][2] + self.at["ankle_" + s][2]))
        for s in legs:
            self.leg(s)
        if facing:
            self.mane()
        self.neck()
        self.trunk()
        self.head()
        if not facing:
            self.mane()
        for s in arms:
            if near[s] <= trunk + 0.015:
                self.forearm(s)
                if broadside:
                    self.upper_arm(s)

    def leg(self, s: str) -> None:
        person, b = self.person, self.person.build**0.6
        bare = person.skirt > 0 or person.shorts
        self.bone("ankle_" + s, "toe_" + s, 0.022, 0.018, person.shoes)
        self.bone("knee_" + s, "ankle_" + s, 0.033 * b, 0.021 * b, person.skin if bare else person.bottom)
        if not bare:
            self.bone("ankle_" + s, "ankle_" + s, 0.024 * b, 0.024 * b, person.bottom)
        self.bone("hip_" + s, "knee_" + s, 0.056 * b, 0.037 * b, person.bottom)

    def upper_arm(self, s: str) -> None:
        b = self.person.build**0.6
        self.bone("shoulder_" + s, "elbow_" + s, 0.032 * b, 0.026 * b, self.person.top)

    def forearm(self, s: str) -> None:
        person, b = self.person, self.person.build**0.6
        sleeve = person.top if person.long_sleeves else person.skin
        self.bone("wrist_" + s, "hand_" + s, 0.017, 0.020, person.skin)
        self.bone("elbow_" + s, "wrist_" + s, 0.025 * b, 0.019 * b, sleeve)

    def neck(self) -> None:
        dark = Cloth(self.person.skin.colour * np.float32(0.80), 0.02, self.person.skin.pattern)
        self.bone("neck", "chin", 0.036, 0.033, dark)

    def trunk(self) -> None:
        person, k, b = self.person, self.person.stature, self.person.build
        turn = abs(float(np.cos(self._relative(self.stance.heading, "neck"))))
        flat = float(np.sqrt(turn * turn + (0.62 * 0.62) * (1 - turn * turn)))
        scale = self.scale("neck")
        start, end = self.at["pelvis"].copy(), self.at["neck"]
        start = start + (start - end) * 0.10
        shape = [(at, k * w * b**power * flat) for at, w, power in _TRUNK]
        shape += [(0.92, 0.104 * k * (1 + flat) / 2), (0.96, 0.062 * k), (1.0, 0.038 * k)]
        profile = Profile(tuple(at for at, _ in shape), tuple(w for _, w in shape))
        if person.bag is not None and np.cos(self.stance.heading) < 0.5:
            self._bag(flat, k)
        if person.skirt:
            low = start + (start - end) * (person.skirt / (0.35 * k))
            flare = Profile((0, 0.5, 1), (0.135 * k * flat + 0.03, 0.115 * k * flat + 0.015, 0.09 * k * b * flat))
            loft(self.patch, low, start + (end - start) * 0.08, flare, scale, person.bottom, self.light)
        else:
            hips = Profile((0, 0.4, 1), (0.07 * k * b * flat, 0.095 * k * b * flat, 0.086 * k * b * flat))
            low, high = start + (start - end) * 0.06, start + (end - start) * 0.2
            loft(self.patch, low, high, hips, scale, person.bottom, self.light)
        loft(self.patch, start, end, profile, scale, person.top, self.light)
        if person.bag is not None and np.cos(self.stance.heading) >= 0.5:
            self._bag(flat, k)

    def _bag(self, flat: float, k: float) -> None:
        """A rucksack: behind the trunk, or before it when the person walks away."""
        assert self.person.bag is not None
        back = turned(self.stance.heading) @ np.array([0, 0, -0.09 * k], np.float32)
        hip, neck = self.world["pelvis"], self.world["neck"]
        low, high = self.camera.project(np.stack([hip * 0.7 + neck * 0.3, hip * 0.1 + neck * 0.9]) + back)
        wide = 0.085 * k * (0.5 + 0.5 * flat)
        shape = Profile((0, 0.1, 0.5, 0.9, 1), (wide * 0.8, wide, wide, wide * 0.85, wide * 0.5))
        loft(self.patch, low, high, shape, self.scale("neck"), self.person.bag, self.light)

    def _relative(self, angle: float, name: str) -> float:
        """An angle as seen along the line from the camera to a joint."""
        point = self.world[name]
        return angle - float(np.arctan2(point[0], point[2]))

    def mane(self) -> None:
        """Long hair, behind the head."""
        if not self.person.long_hair:
            return
        k = self.person.stature / 1.75
        back = turned(self.stance.heading + self.stance.gaze) @ np.array([0, 0, -0.045], np.float32)
        head = self.world["head"] + back
        points = np.stack([head - [0, self.person.long_hair * k, 0], head + np.array([0, 0.05, 0])]).astype(np.float32)
        low, high = self.camera.project(points)
        shape = Profile((0, 0.12, 0.5, 0.85, 1), (0.05 * k, 0.078 * k, 0.09 * k, 0.085 * k, 0.06 * k))
        loft(self.patch, low, high, shape, self.scale("head"), self.person.hair, self.light)

    def head_pose(self) -> Pose:
        stance = self.stance
        yaw = turned(stance.heading + stance.gaze)
        s, c = np.sin(stance.nod), np.cos(stance.nod)
        nod = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
        s, c = np.sin(stance.tilt), np.cos(stance.tilt)
        tilt = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
        # View rays are not parallel: a head to the side of the picture is seen from the side.
        point = self.world["head"]
        view = turned(-float(np.arctan2(point[0], point[2])))
        turn = self.camera.matrix @ view @ yaw @ nod @ tilt
        at = self.at["head"]
        scale = self.scale("head") * self.person.stature / 1.75
        return Pose(float(at[0]), float(at[1]), scale, turn.astype(np.float32))

    def head(self) -> None:
        person, pose = self.person, self.head_pose()
        face = person.face

        def spot(x: float, y: float, z: float) -> Array:
            view = pose.turn @ np.array([x, y, z], np.float32)
            return np.array([pose.x + view[0] * pose.scale, pose.y + view[1] * pose.scale, view[2]], np.float32)

        ears = sorted((spot(s * 0.074, -0.004, -0.012) for s in (-1, 1)), key=lambda p: -p[2])
        for ear in ears:
            if ear[2] < 0.055 and not person.long_hair:
                lower = ear + np.array([0, 0.020 * pose.scale, 0], np.float32)
                limb(self.patch, ear, lower, 0.0165 * pose.scale, 0.012 * pose.scale, person.skin, self.light)
        nose, bridge = spot(0, -0.034, 0.108), spot(0, 0.002, 0.092)
        side_on = abs(float(pose.turn[0, 2]))
        if pose.turn[2, 2] < 0.3 and side_on > 0.55:
            limb(self.patch, bridge, nose, 0.007 * pose.scale, 0.0105 * pose.scale, person.skin, self.light)
        draw_shell(self.patch, pose, face.skins(self.stance.blink, self.stance.talk), self.light, 1.0, 16.0)
        lift = 0.008 * pose.scale
        raised = Pose(pose.x, pose.y - lift, pose.scale, pose.turn)
        draw_shell(self.patch, raised, face.hairs, self.light, 1.07 if not face.bald else 1.015, 0.0)
        if person.hat is not None:
            low, high = spot(0, 0.045, 0.0), spot(0, 0.140, -0.005)
            shape = Profile((0, 0.15, 0.6, 1), (0.088, 0.09, 0.08, 0.035))
            loft(self.patch, low, high, shape, pose.scale, person.hat, self.light)

    def face_box(self) -> tuple[float, float, float, float] | None:
        """Forehead to chin and the visible cheeks; None when the face looks away."""
        pose = self.head_pose()
        if pose.turn[2, 2] > 0.12:
            return None
        lon, up = np.meshgrid(np.linspace(-1.22, 1.22, 13), np.linspace(-0.97, 0.60, 9))
        ball = np.stack([np.sqrt(1 - up * up) * np.sin(lon), up, np.sqrt(1 - up * up) * np.cos(lon)], axis=-1)
        normal = (ball / RADII) @ pose.turn.T
        view = (ball * RADII) @ pose.turn.T
        seen = view[normal[..., 2] < 0]
        if len(seen) < 8:
            return None
        x, y = pose.x + seen[:, 0] * pose.scale, pose.y + seen[:, 1] * pose.scale
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def draw_person(person: Person, stance: Stance, camera: Camera, light: Array) -> Drawn | None:
    """Draw somebody; None when outside the picture."""
    painter = _Painter(person, stance, camera, light)
    if painter.patch.cover.size == 0:
        return None
    painter.draw()
    ground = np.array([[stance.x, 0, stance.z], [stance.x + 0.30, 0, stance.z]], np.float32)
    middle, edge = camera.project(ground)
    feet = np.array([middle[0], middle[1], abs(edge[0] - middle[0])], np.float32)
    depth = float(painter.at["pelvis"][2] + painter.at["neck"][2]) / 2
    return Drawn(painter.patch, depth, painter.face_box(), feet)
