"""The search for thresholds and blocks: probe each step, allocate, and take as much as the budget allows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cache.plan import Plan
from cache.session import Session
from service.calibration.allocate import PROBE, Floats, factors
from service.calibration.budget import Budget
from service.calibration.damage import Figures
from service.calibration.footage import Footage, replay
from service.opened import OpenedModel

ERROR_WEIGHT = 0.5
"""What a doubled error of outputs counts beside doubled damage of boxes: these are what matters, errors less noisy."""
PROBE_FRAMES = 30
"""Frames, of all clips together, that a step's effect is measured on."""
SCALES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Points of the frontier that are always measured."""
SMALLEST, LARGEST, HALVINGS = 0.125, 4.0, 5
AROUND = (0.6, 0.85, 1.2)
"""Of the best scale in the default blocks: what is tried first in finer ones."""
CARE = 0.93
"""What is taken of the largest scale that keeps the budget: the next clip is another one."""

Block = Literal[1, 2, 4]
Progress = Callable[[str, float], None]
"""Told what is being done, and the share of the search that is behind."""


class CalibrationError(ValueError):
    """No thresholds keep the budget; the message says what was expected and what came."""


@dataclass(frozen=True)
class Point:
    """A scale on all thresholds and what came of it, clip by clip."""

    scale: float
    clips: tuple[Figures, ...]

    @property
    def fraction(self) -> float:
        """Work left, mean over the clips."""
        return float(np.mean([f.fraction for f in self.clips]))


@dataclass(frozen=True, eq=False)
class Found:
    """factors : of every step with a threshold, by name. blocks : of those that decide more finely than by default, by
    name; none where that does not pay. chosen : the run with them. default : with the default ones. frontier,
    default_frontier : by ascending scale, in blocks as they are by default."""

    factors: dict[str, float]
    blocks: dict[str, Block]
    chosen: Point
    default: Point
    frontier: tuple[Point, ...]
    default_frontier: tuple[Point, ...]


@dataclass(frozen=True, eq=False)
class Tried:
    """live : factors of the steps with a threshold, before the point's scale. finely : in half the default blocks."""

    live: Floats
    finely: bool
    point: Point


class Probes:
    """What is measured of steps, kept in a file so that a search that was stopped goes on where it was.

    key : names what they were measured on; a file of another key is begun anew.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path, self._key = path, key
        self.found: dict[str, tuple[float, float]] = {}
        if path is not None and path.is_file():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                if kept["key"] == key:
                    self.found = {name: (float(a), float(b)) for name, (a, b) in kept["probes"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                self.found = {}

    def keep(self, name: str, gain: float, cost: float) -> None:
        """Add one."""
        self.found[name] = gain, cost
        if self._path is not None:
            fresh = self._path.with_name(self._path.name + ".new")
            fresh.write_text(json.dumps({"key": self._key, "probes": self.found}), encoding="utf-8")
            fresh.replace(self._path)

    def done(self) -> None:
        """The search is over."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def search_key(opened: OpenedModel, footages: Sequence[Footage]) -> str:
    """Names a model, its size and frames."""
    digest = hashlib.sha256(f"{opened.model.sha256} {opened.size} {opened.spec.tolerance}".encode())
    for footage in footages:
        for frame in footage.frames:
            digest.update(frame.tobytes())
    return digest.hexdigest()


def finer_blocks(plan: Plan) -> dict[str, Block]:
    """Half the default block of every step with a threshold that decides by more than single pixels, by name."""
    found: dict[str, Block] = {}
    for planned in plan.steps:
        target, name = plan.maps[planned.step.target], planned.step.name
        block = plan.policy.level(name, target.stride, target.height * target.width == 1).block
        if planned.epsilon > 0 and block > 1:
            found[name] = 2 if block == 4 else 1
    return found


class Search:
    """One search. session, finer : budget sessions of the model without factors, in default and in `finer_blocks`."""

    def __init__(
        self, opened: OpenedModel, session: Session, finer: Session, footages: Sequence[Footage], budget: Budget
    ) -> None:
        self._opened, self._session, self._footages, self._budget = opened, session, footages, budget
        self._finer = finer
        plan = session.plan
        self._live = [i for i, step in enumerate(plan.steps) if plan.program.epsilons[i] > 0]
        self.names = [plan.steps[i].step.name for i in self._live]
        self._shape = len(plan.steps)
        self._known: dict[tuple[bool, bool, float], Tried] = {}

    def _set(self, live: Floats, finely: bool = False) -> Session:
        every = np.ones(self._shape)
        every[self._live] = live
        session = self._finer if finely else self._session
        session.scale_thresholds(every)
        return session

    def _probe_frames(self) -> list[tuple[Footage, slice]]:
        """Neighbouring frames from the middle of each clip, of all clips alike many."""
        share = max(2, PROBE_FRAMES // len(self._footages))
        found = []
        for footage in self._footages:
            start = max(0, (len(footage.frames) - share) // 2)
            found.append((footage, slice(start, start + share)))
        return found

    def _effect(self, live: Floats) -> list[Figures]:
        """What the frames of probes give, clip by clip."""
        self._set(live)
        return [replay(self._opened, self._session, footage, frames) for footage, frames in self._probe_frames()]

    def probe(self, probes: Probes, progress: Progress) -> Floats:
        """Measure every step that is not known yet; returns the factors that they ask for, float64[steps with one]."""
        ones = np.ones(len(self._live))
        before = self._effect(ones) if any(name not in probes.found for name in self.names) else []
        for number, name in enumerate(self.names):
            if name not in probes.found:
                progress(name, number / len(self.names))
                live = ones.copy()
                live[number] = PROBE
                probes.keep(name, *effect(before, self._effect(live)))
        gains, costs = np.array([probes.found[name] for name in self.names]).reshape(-1, 2).T
        return factors(gains, costs) if len(self._live) else ones

    def at(self, live: Floats, scale: float, finely: bool = False) -> Point:
        """All clips with thresholds of these factors times a scale."""
        key = finely, bool(np.all(live == 1)), scale
        if key not in self._known:
            session = self._set(live * scale, finely)
            clips = tuple(replay(self._opened, session, footage) for footage in self._footages)
            self._known[key] = Tried(live, finely, Point(scale, clips))
        return self._known[key].point

    def keeps(self, point: Point) -> bool:
        """Whether every clip keeps the budget."""
        return all(self._budget.holds(f, c.noise) for f, c in zip(point.clips, self._footages, strict=True))

    def narrow(self, live: Floats, progress: Progress, scales: Sequence[float] = SCALES, finely: bool = False) -> bool:
        """Try scales around the largest one that keeps the budget; whether there is one from `SMALLEST` on.

        scales : those that are tried first, up to the first one that does not.
        """
        low, high = SMALLEST, LARGEST
        for scale in scales:
            progress(f"thresholds x {scale:g}", 0.0)
            if self.keeps(self.at(live, scale, finely)):
                low = scale
            else:
                high = scale
                break
        if low == SMALLEST and not self.keeps(self.at(live, SMALLEST, finely)):
            return False
        for turn in range(HALVINGS):
            progress("largest thresholds", turn / HALVINGS)
            middle = float(np.sqrt(low * high))
            if self.keeps(self.at(live, middle, finely)):
                low = middle
            else:
                high = middle
        return True

    def best(self) -> Tried:
        """Of all that was tried and keeps the budget, what leaves least work. Raises CalibrationError if none does."""
        kept = [tried for tried in self._known.values() if self.keeps(tried.point)]
        if not kept:
            found = [asdict(f) for f in min(self._known.values(), key=lambda t: t.point.scale).point.clips]
            raise CalibrationError(
                f"expected thresholds that keep the budget {self._budget}, but an eighth of the default ones does not: "
                f"{json.dumps(found)}; a smaller difference of tiles or a larger budget may"
            )
        return min(kept, key=lambda tried: tried.point.fraction)


def effect(before: Sequence[Figures], after: Sequence[Figures]) -> tuple[float, float]:
    """Work that a probe saved, and damage that it did in shares of what there was before; means over the clips."""
    saved = [b.fraction - a.fraction for b, a in zip(before, after, strict=True)]
    done = []
    for b, a in zip(before, after, strict=True):
        boxes = 0.0 if not b.boxes or a.boxes is None else a.boxes / b.boxes - 1
        done.append(boxes + ERROR_WEIGHT * (a.error / b.error - 1 if b.error > 0 else 0.0))
    return float(np.mean(saved)), float(np.mean(done))


def search(
    opened: OpenedModel, session: Session, finer: Session, footages: Sequence[Footage], budget: Budget, probes: Probes,
    progress: Progress,
) -> Found:  # fmt: skip
    """Find factors and blocks for a model's thresholds. Deterministic: the same clips give the same ones.

    session, finer : budget sessions without factors, in the default blocks and in `finer_blocks`.
    progress : told a stage and a share of the whole. Raises CalibrationError where no thresholds keep the budget.
    """
    run = Search(opened, session, finer, footages, budget)
    live = run.probe(probes, lambda name, share: progress(f"step {name}", 0.65 * share))
    ones = np.ones_like(live)
    run.narrow(live, lambda name, share: progress(name, 0.65 + 0.12 * share))
    run.narrow(ones, lambda name, share: progress(name, 0.77 + 0.12 * share))
    best = run.best()
    around = [best.point.scale * factor for factor in AROUND]
    run.narrow(best.live, lambda name, share: progress(f"{name}, in finer blocks", 0.9 + 0.08 * share), around, True)
    best = run.best()
    chosen, careful = best.point, run.at(best.live, best.point.scale * CARE, best.finely)
    if run.keeps(careful):
        chosen = careful
    frontier, default = (tuple(run.at(way, s) for s in SCALES) for way in (live, ones))
    values = {name: float(f"{f * chosen.scale:.4g}") for name, f in zip(run.names, best.live.tolist(), strict=True)}
    blocks = finer_blocks(session.plan) if best.finely else {}
    progress("done", 1.0)
    return Found(values, blocks, chosen, run.at(ones, 1.0), frontier, default)


def figures(point: Point) -> list[dict[str, Any]]:
    """A point's figures, clip by clip, for JSON."""
    return [asdict(f) for f in point.clips]
