"""Boxes, what lives on them, and where a stream goes: `service.cluster.rendezvous` and `service.admission` at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.admission import KNOWN_ITEMS, Admission
from service.cluster.rendezvous import _hash

MODEL = "model"
HEARD_S = 2.0
"""So often members tell each other whether they have room."""
_CHUNK = 500


def preferences(streams: Sequence[str], boxes: Sequence[str]) -> NDArray[np.int16]:
    """Boxes of each stream, best first: int16[streams, boxes]; `rendezvous.preference` for equal weights, all at once.

    That of some of the boxes is the same without the others, so that it serves for every state of the cluster.
    """
    keys = np.array([_hash(stream) for stream in streams], np.uint64)
    names = np.array([_hash(box) for box in boxes], np.uint64)
    order = np.empty((keys.size, names.size), np.int16)
    for begin in range(0, keys.size, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        mixed = _mixed(keys[part, None] ^ names[None, :])
        score = -1.0 / np.log((mixed.astype(np.float64) + 0.5) / 2.0**64)
        order[part] = np.argsort(-score, axis=1, kind="stable")
    return order


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`rendezvous._mix` of arrays."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed


@dataclass
class Guest:
    """A stream as a box's admission sees it. mean_s : what its frames cost on average, as the lane has learnt it."""

    fps: float
    mean_s: float
    items: int = KNOWN_ITEMS
    since: float = -1e9
    model: str = MODEL
    attachment: object = MODEL

    @property
    def lane(self) -> Guest:
        """Of `service.admission.Candidate`."""
        return self

    @property
    def demand(self) -> Guest:
        """Of `service.admission.Candidate`."""
        return self

    def wanted_fps(self, now: float) -> float:
        """What it sends."""
        return self.fps


class WrongPlace(AssertionError):
    """An invariant does not hold; the message says which."""


@dataclass
class Places:
    """Which stream is where.

    order : of `preferences`. fps, mean_s : of streams; mean_s is read anew at each question. most : streams of a box
    at most, None: no bound but admission's.
    """

    order: NDArray[np.int16]
    workers: int
    headroom: float
    fps: float
    mean_s: NDArray[np.float64]
    most: int | None
    at: NDArray[np.int32] = field(init=False)
    alive: NDArray[np.bool_] = field(init=False)
    open: NDArray[np.bool_] = field(init=False)  # takes new streams: alive and not draining

    def __post_init__(self) -> None:
        streams, boxes = self.order.shape
        self.at = np.full(streams, -1, np.int32)
        self.alive = np.ones(boxes, np.bool_)
        self.open = np.ones(boxes, np.bool_)
        self._rank = np.argsort(self.order, axis=1).astype(np.int16)  # the inverse of `order`
        self._counts = np.zeros(boxes, np.int64)
        self._shut_s = np.full(boxes, -np.inf)
        self._on: list[set[int]] = [set() for _ in range(boxes)]
        self._admissions = [Admission(self.workers, self.headroom) for _ in range(boxes)]

    def on(self, box: int) -> list[int]:
        """Streams of a box, by number."""
        return sorted(self._on[box])

    def has_room(self, box: int, now: float) -> bool:
        """Whether it takes one more stream. A refusal of its admission holds until the others hear of it again."""
        if not self.open[box] or self._shut_s[box] > now or (self.most is not None and self._counts[box] >= self.most):
            return False
        there = [Guest(self.fps, float(self.mean_s[stream])) for stream in self._on[box]]
        if self._admissions[box].refuse(MODEL, self.fps, there, now) is None:
            return True
        self._shut_s[box] = now + HEARD_S
        return False

    def place(self, stream: int, now: float) -> tuple[int, bool]:
        """Put a stream that is nowhere on its first box with room: the box (-1: none has), and whether one was passed
        over for being full."""
        if self.at[stream] >= 0:
            raise WrongPlace(f"stream {stream} is on box {self.at[stream]} already")
        may = self.open & (self._shut_s <= now)
        if self.most is not None:
            may &= self._counts < self.most
        if not may.any():
            return -1, True
        first, row = self.first(stream), self.order[stream]
        for box in map(int, row[may[row]]):
            if self.has_room(box, now):
                self._on[box].add(stream)
                self._counts[box] += 1
                self.at[stream] = box
                return box, box != first
        return -1, True

    def leave(self, stream: int) -> None:
        """Take a stream from its box, if it has one."""
        box = int(self.at[stream])
        if box >= 0:
            self._on[box].discard(stream)
            self._counts[box] -= 1
            self._shut_s[box] = -np.inf
            self.at[stream] = -1

    def lose(self, box: int) -> list[int]:
        """A box is gone: its streams, which are nowhere now."""
        self.alive[box] = self.open[box] = False
        lost = self.on(box)
        for stream in lost:
            self.leave(stream)
        return lost

    def join(self, box: int) -> list[int]:
        """A box is there (again), and has learnt nothing yet: streams elsewhere that belong to it."""
        self.alive[box] = self.open[box] = True
        self._shut_s[box] = -np.inf
        self._admissions[box] = Admission(self.workers, self.headroom)
        placed = np.flatnonzero(self.at >= 0)
        nearer = placed[self._rank[placed, box] < self._rank[placed, self.at[placed]]]
        return [int(stream) for stream in nearer if self.first(int(stream)) == box]

    def first(self, stream: int) -> int:
        """The box that a stream belongs to: the best one that takes streams; -1 where none does."""
        return next((int(box) for box in self.order[stream] if self.open[box]), -1)

    def check(self) -> None:
        """Raise WrongPlace unless every stream is on one living box at most, and no box has more than it may."""
        counted = np.bincount(self.at[self.at >= 0], minlength=self.alive.size)
        if any(counted[box] != len(guests) for box, guests in enumerate(self._on)) or (counted != self._counts).any():
            raise WrongPlace("a stream is on two boxes, or on none that knows it")
        if counted[~self.alive].any():
            raise WrongPlace("a stream is on a box that is gone")
        if self.most is not None and (counted > self.most).any():
            raise WrongPlace(f"a box has {counted.max()} streams, {self.most} at most are allowed")
