"""People: what one looks like, and where the joints are of one who stands or walks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.scene.camera import Array, smooth_noise
from service.scene.face import Face
from service.scene.paint import Cloth

STRIDE_M = 1.36
"""Two steps of a person of 1.75 m."""

_SKINS = (
    (175, 200, 232),
    (150, 180, 222),
    (135, 165, 210),
    (110, 145, 195),
    (85, 120, 172),
    (62, 92, 140),
    (45, 68, 105),
)
_HAIRS = ((22, 24, 28), (28, 34, 45), (35, 50, 75), (55, 85, 120), (95, 140, 175), (40, 55, 120), (150, 152, 155))
_TOPS = (
    (35, 35, 38), (60, 45, 40), (110, 75, 45), (190, 190, 192), (140, 140, 142), (95, 95, 98), (50, 50, 150),
    (60, 90, 60), (150, 120, 70), (70, 150, 190), (60, 40, 95), (150, 165, 175), (120, 60, 60),
    (80, 110, 150), (215, 216, 218),
)  # fmt: skip
_TROUSERS = (
    (40, 36, 34),
    (95, 65, 45),
    (70, 50, 38),
    (60, 60, 62),
    (95, 125, 150),
    (120, 120, 122),
    (45, 60, 70),
    (30, 30, 32),
)


@dataclass(frozen=True)
class Person:
    """What somebody looks like. Lengths in metres."""

    stature: float
    build: float
    face: Face
    skin: Cloth
    top: Cloth
    bottom: Cloth
    shoes: Cloth
    hair: Cloth
    long_sleeves: bool
    skirt: float
    """Length below the hip; 0 for trousers."""
    shorts: bool
    long_hair: float
    bag: Cloth | None
    hat: Cloth | None


def make_person(rng: np.random.Generator) -> Person:
    """Somebody at random."""
    skin = np.asarray(_SKINS[rng.integers(len(_SKINS))], np.float32) * np.float32(rng.uniform(0.92, 1.06))
    dark = skin.mean() < 110
    hair = np.asarray(_HAIRS[rng.integers(2 if dark else len(_HAIRS))], np.float32) * np.float32(rng.uniform(0.8, 1.2))
    woman = rng.random() < 0.5
    pattern = smooth_noise(rng, 256, 256, 6, 3)
    plain = smooth_noise(rng, 256, 256, 4)
    long_hair = float(rng.uniform(0.12, 0.30)) if rng.random() < (0.65 if woman else 0.07) else 0.0
    face = Face(
        skin=skin,
        hair=hair,
        iris=np.asarray(((40, 60, 85), (30, 40, 55), (110, 95, 70), (75, 95, 80))[rng.integers(4)], np.float32),
        hairline=float(rng.uniform(0.046, 0.078)),
        sides=-0.118 if long_hair else float(rng.uniform(-0.085, -0.05)),
        bald=not woman and rng.random() < 0.12,
        beard=0.0 if woman else float(rng.choice([0, 0, 0.22, 0.35, 0.75])),
        brow=float(rng.uniform(0.0022, 0.004)) * (0.8 if woman else 1.05),
        eye_gap=float(rng.uniform(0.0305, 0.034)),
        mouth=float(rng.uniform(0.0235, 0.0275)),
        lips=float(rng.uniform(0.8, 1.25)) * (1.2 if woman else 0.9),
        glasses=bool(rng.random() < 0.22),
        seed=int(rng.integers(1 << 30)),
    )

    def cloth(choices: tuple[tuple[int, int, int], ...], folds: float) -> Cloth:
        colour = np.asarray(choices[rng.integers(len(choices))], np.float32)
        colour = np.clip(colour * rng.uniform(0.75, 1.2) + rng.normal(0, 8, 3), 12, 235).astype(np.float32)
        stripes = float(rng.choice([0, 0, 0, 0.25, 0.5]))
        return Cloth(colour, folds, pattern, stripes if folds > 0.1 else 0.0, float(rng.uniform(9, 22)))

    top, bottom = cloth(_TOPS, 0.16), cloth(_TROUSERS, 0.09)
    return Person(
        stature=float(rng.normal(1.66 if woman else 1.78, 0.06)),
        build=float(rng.uniform(0.9, 1.22)),
        face=face,
        skin=Cloth(skin, 0.02, plain),
        top=top,
        bottom=bottom,
        shoes=Cloth(
            np.asarray(((30, 30, 33), (45, 60, 85), (200, 200, 205))[rng.integers(3)], np.float32), 0.05, plain
        ),
        hair=Cloth(hair, 0.22, pattern),
        long_sleeves=bool(rng.random() < 0.6),
        skirt=float(rng.uniform(0.3, 0.6)) if woman and rng.random() < 0.3 else 0.0,
        shorts=bool(rng.random() < 0.12),
        long_hair=long_hair,
        bag=cloth(_TOPS, 0.1) if rng.random() < 0.25 else None,
        hat=cloth(_TOPS, 0.05) if rng.random() < 0.12 else None,
    )


@dataclass(frozen=True)
class Stance:
    """How somebody stands at one moment. Place in metres, angles in radians."""

    x: float
    z: float
    heading: float
    """0 looks away from the camera, pi at it."""
    phase: float = 0.0
    """Of the gait; 2 pi is two steps."""
    pace: float = 0.0
    """0 stands, 1 walks."""
    gaze: float = 0.0
    """Turn of the head against the body."""
    nod: float = 0.0
    tilt: float = 0.0
    gesture: float = 0.0
    """0: arms hang, 1: one forearm is raised."""
    blink: bool = False
    talk: bool = False


def turned(angle: float) -> Array:
    """World axes of a body that looks along `angle`: columns are side, up, forward."""
    s, c = np.sin(angle), np.cos(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


def joints(person: Person, stance: Stance) -> dict[str, Array]:
    """Joints in world metres; l and r are the body's sides, to +x and -x of it."""
    k = person.stature
    b = person.build
    side: dict[str, float] = {"l": 1.0, "r": -1.0}
    local: dict[str, Array] = {}
    thigh, shank, ankle_h = 0.245 * k, 0.240 * k, 0.045 * k
    drops = {}
    for name, sign in side.items():
        swing = np.sin(stance.phase) * sign
        ahead = np.cos(stance.phase) * sign
        hip = stance.pace * (0.40 * swing + 0.06)
        knee = 0.03 + stance.pace * (0.10 + 0.85 * max(0.0, ahead) ** 1.4)
        lower = hip - knee
        z1, y1 = np.sin(hip) * thigh, -np.cos(hip) * thigh
        z2, y2 = z1 + np.sin(lower) * shank, y1 - np.cos(lower) * shank
        foot = stance.pace * (0.35 * min(0.0, lower) + 0.12 * max(0.0, swing)) - 0.06
        apart = sign * (0.052 * k * b**0.3 + 0.02 * (1 - stance.pace))
        local["hip_" + name] = np.array([sign * 0.052 * k, 0, 0])
        local["knee_" + name] = np.array([(sign * 0.052 * k + apart) / 2, y1, z1])
        local["ankle_" + name] = np.array([apart, y2, z2])
        local["toe_" + name] = np.array(
            [apart * 1.15, y2 - 0.028 * k + np.sin(foot) * 0.12 * k, z2 + np.cos(foot) * 0.115 * k]
        )
        drops[name] = y2 - ankle_h
    base = -min(drops.values())
    for name in local:
        local[name][1] += base
    lean = 0.035 * stance.pace
    local["pelvis"] = np.array([0, base - 0.015 * k, 0])
    local["neck"] = np.array([0, base + 0.305 * k, lean * 0.3 * k])
    for name, sign in side.items():
        shoulder = np.array([sign * 0.100 * k * b**0.5, base + 0.243 * k, lean * 0.27 * k])
        upper = -stance.pace * 0.42 * np.sin(stance.phase) * sign + 0.04
        bend = 0.18 + stance.pace * (0.22 + 0.18 * max(0.0, np.sin(upper)))
        raised = stance.gesture if sign > 0 else 0.0
        upper += 0.5 * raised
        bend += 1.7 * raised
        out = 0.05 + 0.02 * b
        elbow = shoulder + 0.172 * k * np.array([sign * (np.sin(out) + 0.2 * (b - 0.9)), -np.cos(upper), np.sin(upper)])
        fore = upper + bend
        wrist = elbow + 0.150 * k * np.array([sign * 0.02 - sign * 0.3 * raised, -np.cos(fore), np.sin(fore)])
        local["shoulder_" + name], local["elbow_" + name], local["wrist_" + name] = shoulder, elbow, wrist
        local["hand_" + name] = wrist + 0.055 * k * np.array([-sign * 0.1, -np.cos(fore + 0.2), np.sin(fore + 0.2)])
    local["chin"] = local["neck"] + np.array([0, 0.04 * k, 0.012 * k])
    local["head"] = local["neck"] + np.array([0, 0.072 * k + 0.018, 0.018 * k + 0.03 * stance.nod])
    axes = turned(stance.heading)
    offset = np.array([stance.x, 0, stance.z])
    return {name: (axes @ point + offset).astype(np.float32) for name, point in local.items()}
