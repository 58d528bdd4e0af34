"""Maps of one stream that move without being copied: a map is found at another place of the arena, what it holds stays.

After a move down by a row, what belongs to a pixel lies where the pixel above it was. So it is the map that goes, by as
many elements as lie between the two. Maps of one geometry that follow the picture alike (a *group*) lie side by side
and go together. Around each group there is room for some moves; when that is used up, groups are copied back to where
they began. Whatever names a place, the records of the stream's steps above all, is the stream's own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cache.arena import LANES, MapInfo
from cache.moving import STILL, Pitch, Pitches, places_of
from cache.steps import Floats, Method, Step, Words
from kernels.layout import Map
from kernels.motion import clear_borders
from kernels.program import FEW, METHOD, ORIGIN, RECORD

if TYPE_CHECKING:
    from cache.plan import Plan


@dataclass(frozen=True, eq=False)
class Room:
    """Where groups of maps may lie, in elements of the arena.

    of : int64[maps], the group of each map, -1 where it stays. start, end : int64[groups], where the maps and their
    borders begin and end before any move. slack : int64[groups], how far they may go either way.
    """

    of: Words
    start: Words
    end: Words
    slack: Words


@dataclass(frozen=True, eq=False)
class Records:
    """words : int64[n], the records of all methods of a plan. starts : int64[steps, 2], where that of a step's method
    and of its other one begin; -1 for none. at, group : int64[m], words that are the origin of a map, and its group.
    """

    words: Words
    starts: Words
    at: Words
    group: Words


def group_maps(maps: Sequence[MapInfo], pitches: Pitches) -> Words | None:
    """int64[maps], the group of each map; None where one follows no rule, or none moves. The image is made anew, and
    stays."""
    keys: dict[tuple[int, int, Pitch], int] = {}
    of = np.full(len(maps), -1, np.int64)
    for info, pitch, wholly in zip(maps, pitches.pitches, pitches.wholly, strict=True):
        if wholly:
            return None
        if info.index and pitch != (STILL, STILL):
            if info.pixel % LANES:
                return None
            of[info.index] = keys.setdefault((info.row, info.pixel, pitch), len(keys))
    return of if keys else None


def with_room(
    maps: Sequence[MapInfo], of: Words, pitches: Sequence[Pitch], room_px: int
) -> tuple[tuple[MapInfo, ...], int, Room]:
    """The maps at places with room for moves of the image of so many px; the arena's elements; the room."""
    placed = {m.index: m for m in maps if m.outside}
    bounds, at = [], 0
    for group in range(-1, int(of.max(initial=-1)) + 1):
        members = [m for m in maps if of[m.index] == group and not m.outside]
        slack = 0
        if group >= 0:
            down, right = (int(room_px / p) if p else 0 for p in pitches[members[0].index])
            slack = max(down * members[0].row, right * members[0].pixel)
        start = at = -(-(at + slack) // LANES) * LANES
        zeros = 0
        for m in members:
            before, after = m.zeros
            origin = -(-(at + max(zeros, before)) // LANES) * LANES
            placed[m.index] = replace(m, origin=origin)
            at, zeros = origin + m.extent, after
        at += zeros
        if group >= 0:
            bounds.append((start, at, slack))
        at += slack
    start_end_slack = np.array(bounds, np.int64).reshape(-1, 3).T
    room = Room(of, *(column.copy() for column in start_end_slack))
    return tuple(placed[m.index] for m in maps), -(-at // LANES) * LANES + LANES, room


def find_records(steps: Iterable[Step], maps: Sequence[MapInfo], of: Words) -> Records | None:
    """The records of steps, and the words of them that follow a group; None where a step names places otherwise."""
    words: list[Words] = []
    starts, at, group, size = [], [], [], 0
    for step in steps:
        if not moves_as_one(step, maps, of):
            return None
        row = []
        for way in (step.method, step.few):
            row.append(-1 if way is None else size)
            if way is None:
                continue
            groups = groups_of(way, step, maps, of)
            if groups is None:
                return None
            at += [size + word for (word, _), found in zip(way.maps, groups, strict=True) if found >= 0]
            group += [found for found in groups if found >= 0]
            words.append(way.words)
            size += way.words.size
        starts.append(row)
    joined = np.concatenate([*words, np.zeros(0, np.int64)])
    return Records(joined, np.array(starts, np.int64).reshape(-1, 2), np.array(at, np.int64), np.array(group, np.int64))


def moves_as_one(step: Step, maps: Sequence[MapInfo], of: Words) -> bool:
    """Whether the target and what is read at its strides move together, so that distances between them stay."""
    target = maps[step.target]
    if target.height * target.width == 1:
        return True
    alike = [r.map for r in step.reads if (maps[r.map].row, maps[r.map].pixel) == (target.row, target.pixel)]
    return len({int(of[i]) for i in (*alike, step.target)}) == 1


def groups_of(way: Method, step: Step, maps: Sequence[MapInfo], of: Words) -> list[int] | None:
    """The group of each map among a method's arguments; None where the target is not among them, or one is unclear."""
    target, found = maps[step.target].layout, []
    for _, given in way.maps:
        groups = {int(of[step.target])} if given == target else groups_read(given, step, maps, of)
        if len(groups) != 1:
            return None
        found.append(groups.pop())
    return found if any(given == target for _, given in way.maps) else None


def groups_read(given: Map, step: Step, maps: Sequence[MapInfo], of: Words) -> set[int]:
    """The groups of the maps that a step may mean by an argument: those of its strides, or of one pixel for all."""
    reads = [maps[r.map] for r in step.reads]
    if given.row == given.pixel == 0:
        return {int(of[m.index]) for m in reads if m.height * m.width == 1}
    return {int(of[m.index]) for m in reads if (m.row, m.pixel) == (given.row, given.pixel)}


class Slider:
    """The places of one stream's maps.

    steps, maps : as in `cache.program.Program`. taps : as in the plan. All of them follow.
    """

    def __init__(self, plan: Plan, room: Room, records: Records) -> None:
        program = plan.program
        self._room, self._group, self._at = room, records.group, records.at
        self._words = records.words.copy()
        self.steps, self.maps = program.steps.copy(), program.maps.copy()
        for column, starts in ((METHOD + RECORD, records.starts[:, 0]), (FEW + RECORD, records.starts[:, 1])):
            own = starts >= 0
            self.steps[own, column] = self._words.ctypes.data + starts[own] * 8
        self.taps = tuple(replace(tap, offsets=tap.offsets.copy()) for tap in plan.taps.values())
        self._plan_taps = tuple(plan.taps.values())
        self._plan_words, self._plan_origins = records.words[records.at], program.maps[:, ORIGIN].copy()
        self._places = places_of(plan.maps)[room.of >= 0]
        self._one = np.array([np.flatnonzero(room.of == g)[0] for g in range(room.start.size)], np.int64)
        self._strides = np.array([[plan.maps[i].row, plan.maps[i].pixel] for i in self._one], np.int64).reshape(-1, 2)
        self._gone = np.zeros(room.start.size, np.int64)  # elements from where a group was first

    def move(self, arena: Floats, moves: Words) -> None:
        """Move all maps but the image: int64[maps, 3], as `kernels.program` has them."""
        by = (moves[self._one, :2] * self._strides).sum(axis=1)
        gone = self._gone - by
        if (np.abs(gone) > self._room.slack).any():
            for start, end, slack, distance in zip(
                self._room.start, self._room.end, self._room.slack, gone, strict=True
            ):
                copy_within(arena[start - slack : end + slack], int(slack), int(slack + distance), int(end - start))
            gone[:] = 0
        self._go(gone)
        clear_borders(arena, self._places, moves[self._room.of >= 0])

    def _go(self, gone: Words) -> None:
        """Find the groups so many elements from where they were first."""
        self._gone = gone
        moved = self._room.of >= 0
        distance = np.where(moved, gone[self._room.of], 0)
        self.maps[:, ORIGIN] = self._plan_origins + distance
        self._places[:, 0] = self.maps[moved, ORIGIN]
        self._words[self._at] = self._plan_words + gone[self._group]
        for tap, first in zip(self.taps, self._plan_taps, strict=True):
            tap.offsets[:] = first.offsets + distance[first.maps[0]]


def copy_within(place: Floats, to: int, source: int, size: int) -> None:
    """Copy `size` elements of an array to where they may overlap; what would come from outside it is left out."""
    skipped = max(-source, 0)
    size = min(size, place.size - source) - skipped
    if size > 0:
        start, item = place.ctypes.data, place.itemsize
        ctypes.memmove(start + (to + skipped) * item, start + (source + skipped) * item, size * item)
