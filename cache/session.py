"""A Session: all that one stream remembers, and how a frame passes through it.

The closed loop: every map keeps one stored value per pixel. A step recomputes the pixels that see something written
this frame; what it finds is written, and so seen by its readers, only where it differs from the stored value by more
than the step's threshold. So at every pixel of every map, for ever, whatever the frames were,

    | stored - step(stored inputs) | <= threshold      (root mean square over channels)

and with exact=True the outputs are those of a full recompute, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_zeros
from cache.change import Frame, TileGrid
from cache.half import HalfState
from cache.opening import Decision, Opening, Tiles, reason_of
from cache.plan import Plan, Tap
from cache.refresh import Turn
from cache.sliding import Slider
from cache.state import State, workspace
from cache.steps import Words
from cache.team import helpers
from kernels.frame import (
    CLOCK,
    JOBS,
    MEASURED,
    PACKED,
    RUN_PART,
    RUN_PARTS,
    RUN_WORDS,
    STALE,
    WHOLE,
    WORKERS,
    begin_frame,
    end_frame,
    run_frame,
)
from kernels.hand_out import FLOATS, HALVES, SIGNED, TAP_WORDS, UNSIGNED
from kernels.image import ingest_tensor
from kernels.program import EVERY_SPREAD, JOB_WORDS, NO_SPREAD, SPREAD_TURN
from kernels.record import encode

Array = npt.NDArray[Any]
Clock = npt.NDArray[np.int64]
NO_CLOCK: Clock = np.zeros(0, np.int64)
NO_STORE: npt.NDArray[np.uint16] = np.zeros(0, np.uint16)
STAGES = 8


@dataclass(frozen=True)
class FrameResult:
    """What one frame gave.

    outputs : by tensor name, shapes of the model; read-only, valid until the next push.
    compute_fraction : multiply-accumulates done over those of a dense frame (0 where a model has none cached).
    changed_tiles : tiles that differed from the reference frame. tiles : bool[rows, columns], those recomputed from
    (all of them for a keyframe). stages : float64[STAGES], the share recomputed of each stage of the network, from the
    image to the outputs; stages are of equal work.
    decision, reason : what was done and why. diff_ns, infer_ns : time spent comparing the frame and taking it in, and
    on the network.
    """

    outputs: Mapping[str, Array]
    compute_fraction: float
    changed_tiles: int
    tiles: npt.NDArray[np.bool_]
    stages: npt.NDArray[np.float64]
    decision: Decision
    reason: str
    diff_ns: int
    infer_ns: int


@dataclass(frozen=True)
class Begun:
    """A frame that was taken in, but not run yet.

    whole, fresh : why it is recomputed whole, if it is: nothing is stored of the picture; nothing is stored at all.
    start_ns, compared_ns : when it came, and when it was taken in.
    """

    decision: Decision
    whole: bool
    fresh: bool
    start_ns: int
    compared_ns: int


def new_state(plan: Plan) -> State:
    """Memory for the maps of one stream."""
    if plan.half is not None:
        return HalfState(plan.half)
    state = State(plan.maps, aligned_zeros(plan.arena_elements))
    if plan.room is not None and plan.records is not None:
        state.slider = Slider(plan, plan.room, plan.records)
    return state


def tap_table(taps: Sequence[Tap], tensors: Mapping[str, Array], state: State) -> tuple[Words, Words]:
    """Taps and the maps that they lie in, as `kernels.hand_out.hand_out` takes them.

    tensors : by name, [1, C, H, W] each, of the taps' types. These, the taps and the state must outlive the table.
    """
    rows, maps = np.zeros((len(taps), TAP_WORDS), np.int64), list[int]()
    store, others = (state.store, HALVES) if isinstance(state, HalfState) else (NO_STORE, FLOATS)
    for row, tap in zip(rows, taps, strict=True):
        out, kind = tensors[tap.name], {np.uint8: UNSIGNED, np.int8: SIGNED}.get(tap.dtype.type, others)
        row[:] = [
            tap.offsets.ctypes.data, tap.row, tap.pixel, out.ctypes.data, *out.shape[1:], len(maps), len(tap.maps),
            kind, store.ctypes.data, store.size,
        ]  # fmt: skip
        maps += tap.maps
    return rows, np.array(maps, np.int64)


def stage_weights(macs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64[STAGES, steps]: how much of each stage's work is each step's; rows add up to 1, or 0 where nothing works.

    macs : float64[steps], multiply-accumulates of each, in the order in which they run.
    """
    ends = np.cumsum(macs)
    total = float(ends[-1]) if ends.size else 0.0
    edges = np.linspace(0.0, total, STAGES + 1)
    inside = np.minimum(ends, edges[1:, None]) - np.maximum(ends - macs, edges[:-1, None])
    found: npt.NDArray[np.float64] = np.maximum(inside, 0.0) * (STAGES / total if total else 0.0)
    return found


class Session:
    """One stream's state on a Plan. Not thread-safe: one worker at a time holds it.

    exact : thresholds are zero; the result is bit-identical to a full recompute of the same frame.
    threads : cores a frame may use while no other stream's frame is under way (see `cache.team`); never shows in the
    bits.
    """

    def __init__(self, plan: Plan, exact: bool = False, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"expected 1 thread or more, got {threads}")
        self.threads = threads
        self.plan = plan
        self.exact = exact
        policy = plan.policy
        self._state = new_state(plan)
        self._opening = Opening(plan, self._state, exact)
        self._spread = np.zeros(len(plan.steps))
        self._shares = np.zeros(len(plan.steps))
        self._epsilons = plan.program.epsilons.copy()
        self._macs = np.array([s.step.macs for s in plan.steps], np.float64)
        self._total_macs = plan.total_macs
        self._stages = stage_weights(self._macs)
        self._ticket = aligned_zeros(LANES).view(np.int64)
        self._jobs = aligned_zeros(len(plan.steps) * JOB_WORDS * 2).view(np.int64).reshape(-1, JOB_WORDS)
        self._tensors: dict[str, Array] = {t.name: np.zeros(t.shape, t.dtype) for t in plan.taps.values()}
        self._handed = self._views({**plan.constants, **self._tensors})
        self._tail_outputs: dict[str, Array] = {}
        slider = self._state.slider
        taps = tuple(plan.taps.values()) if slider is None else slider.taps
        self._taps, self._tap_maps = tap_table(taps, self._tensors, self._state)
        self._running, self._kept_run = self._run_record()
        self._tensor = aligned_zeros(0)  # the image of `push_tensor`, where that lies outside the arena
        self._valid = False
        self._reference_valid = False
        self._turn = Turn(0 if exact else policy.refresh_frames, policy.refresh_s)
        self._keyframes = 0
        self._done = 0.0  # multiply-accumulates of the last frame

    @property
    def grid(self) -> TileGrid:
        """The tiles in which frames are compared."""
        return self._opening.grid

    @property
    def nbytes(self) -> int:
        """Memory held by this stream: feature maps, reference frame, masks, scratch and handed-out tensors."""
        arrays: list[Array] = [self._jobs, self._tensor, *self._tensors.values(), *self._tail_outputs.values()]
        return self._state.nbytes + self._opening.nbytes + sum(a.nbytes for a in arrays)

    @property
    def step_shares(self) -> npt.NDArray[np.float64]:
        """float64[steps], the share of each step that the last frame recomputed; zeros after one that was reused."""
        return self._shares.copy() if self._done else np.zeros_like(self._shares)

    def reset(self) -> None:
        """Forget the stored frame, and what was learnt of the stream: the next one is a keyframe, as the first was."""
        self._valid, self._keyframes = False, 0
        self._opening.reset()
        self._turn.forget()

    def scale_thresholds(self, factors: float | npt.NDArray[np.float64]) -> None:
        """From the next frame on, take the plan's thresholds times these factors.

        factors : one for all steps, or float64[steps], 0 or more. What is stored keeps the bound it was written under.
        """
        found = np.broadcast_to(np.asarray(factors, np.float64), self._epsilons.shape)
        if not (np.isfinite(found).all() and (found >= 0).all()):
            raise ValueError(f"expected finite factors of 0 or more, got {found.min():g} to {found.max():g}")
        self._epsilons[:] = self.plan.program.epsilons * found

    def push(self, frame: Frame, at_s: float | None = None, within: Tiles | None = None) -> FrameResult:
        """Run one frame.

        frame : uint8[H, W, C] at the plan's size and in its channel order. at_s : when it came, in seconds of a clock
        that only rises; None where frames have no time. within : bool[rows, columns] of `grid`, tiles outside of which
        no byte differs from the frame pushed before, which are not compared; None where that is not known. Raises
        ValueError for another shape or dtype (the session keeps its state); any other error invalidates the session, so
        that the next frame is a keyframe.
        """
        return self.run(self.begin(frame, at_s, within))

    def begin(self, frame: Frame, at_s: float | None = None, within: Tiles | None = None) -> Begun:
        """Compare a frame and take it in: the first part of `push`, with its arguments and errors.

        Before another session of this thread begins, the steps that read the image must have been run.
        """
        expected = (self.plan.height, self.plan.width, self.plan.channels)
        if not isinstance(frame, np.ndarray):
            raise ValueError(f"expected a frame uint8{list(expected)}, got {type(frame).__name__}")
        if frame.shape != expected or frame.dtype != np.uint8:
            raise ValueError(f"expected a frame uint8{list(expected)}, got {frame.dtype}{list(frame.shape)}")
        if within is not None and (within.shape != self.grid.shape or within.dtype != np.bool_):
            raise ValueError(f"expected tiles bool{list(self.grid.shape)}, got {within.dtype}{list(within.shape)}")
        frame = np.ascontiguousarray(frame)
        start, opening = time.perf_counter_ns(), self._opening
        fresh, whole = not self._valid, not (self._valid and self._reference_valid)
        self._state.enter()
        self._state.mend()
        self._valid, self._done = False, 0.0
        part, parts = self._turn.next(at_s)
        self._running[RUN_PART], self._running[RUN_PARTS] = part, parts
        compare_ns = opening.take(frame, whole, fresh, part, parts, within)
        decision = opening.decision
        if decision == "keyframe":
            self._turn.restart()
        if decision != "reuse" and not opening.shows:
            assert isinstance(self._state, HalfState)
            self._state.show(opening.reference, self.plan.table)
        return Begun(decision, whole, fresh, start, start + compare_ns)

    def run(self, begun: Begun) -> FrameResult:
        """Run all steps of a frame that was begun, by itself: the second part of `push`."""
        if begun.decision != "reuse":
            self._run(begun.decision == "keyframe", begun.fresh)
        return self.finish(begun)

    def begin_steps(self, packed: npt.NDArray[np.uint64], end: int) -> int:
        """Run the first `end` steps of a partial frame that was begun; returns the address of its record, with which
        `kernels.frame.run_together` runs the others.

        packed : uint64[mask_words], this frame's masks in bits until all steps have been run.
        """
        words, space = self._running, workspace()
        self._state.borrow(space, self.plan.needs)
        words[PACKED:JOBS] = space.words
        words[PACKED:STALE] = packed.ctypes.data, packed.size
        words[WORKERS], words[WHOLE] = 1, 0
        begin_frame(words, end)
        return int(words.ctypes.data)

    def end_steps(self) -> None:
        """All steps of a frame have been run: bring what is handed out up to date."""
        self._done = end_frame(self._running)
        self._run_tails(False)

    def finish(self, begun: Begun, infer_ns: int | None = None) -> FrameResult:
        """The result of a frame of which all steps have been run. infer_ns : its time on the network; None for all
        since it was taken in."""
        opening = self._opening
        opening.learn(self._fraction())
        self._valid = self._reference_valid = True
        return self._result(
            begun.decision, opening.reason(begun.whole), opening.changed, begun.start_ns, begun.compared_ns, infer_ns
        )

    def push_tensor(self, x: npt.NDArray[np.float32]) -> FrameResult:
        """Run one frame given as numbers instead of pixels: float32[1, C, H, W], normalised already.

        Pixels whose bits differ from the stored ones have changed, whatever the policy's threshold for frames.
        """
        if x.shape != self.plan.input_shape or x.dtype != np.float32:
            raise ValueError(f"expected a tensor float32{list(self.plan.input_shape)}, got {x.dtype}{list(x.shape)}")
        start = time.perf_counter_ns()
        self._running[RUN_PARTS], self._done = 0, 0.0
        valid, seen, self._valid, self._reference_valid = self._valid, self._reference_valid, False, False
        self._state.enter()
        self._state.mend()
        self._state.clear(not valid)
        image, mask, place = self.plan.maps[0], self._state.written[0], self._state.arena
        if image.outside:
            place = self._tensor = self._tensor if self._tensor.size else aligned_zeros(image.room)
            self._state.look_at(place)
            if valid and seen:
                self._opening.show(place)
        if isinstance(self._state, HalfState) and not image.outside:
            self._state.ingest_tensor(x[0])
        else:
            ingest_tensor(np.ascontiguousarray(x[0]), place, image.layout, image.pixel, mask)
        if not valid:
            mask[:] = 1
        changed = self._opening.tiles_of(mask)
        decision: Decision = "keyframe" if not valid else "partial" if changed else "reuse"
        compared = time.perf_counter_ns()
        if decision != "reuse":
            self._state.touched[0] = 1
            self._run(decision == "keyframe", not valid)
        self._valid = True
        tiles = len(self._opening.grid)
        return self._result(decision, reason_of(decision, not valid, changed, tiles, tiles), changed, start, compared)

    def _result(
        self,
        decision: Decision,
        reason: str,
        changed: int,
        start_ns: int,
        compared_ns: int,
        infer_ns: int | None = None,
    ) -> FrameResult:
        """The result of a frame that is done now."""
        if infer_ns is None:
            infer_ns = time.perf_counter_ns() - compared_ns
        return FrameResult(
            self._outputs(), self._fraction(), changed, self._opening.tiles.astype(bool),
            self._stages @ self._shares if decision != "reuse" else np.zeros(STAGES), decision, reason,
            compared_ns - start_ns, infer_ns,
        )  # fmt: skip

    def profile(self, frame: Frame) -> Clock:
        """Nanoseconds taken by each step of the plan on a keyframe of `frame`; int64[steps]."""
        self.reset()
        self.push(frame)
        clock = np.zeros(len(self.plan.steps), np.int64)
        self._running[CLOCK : CLOCK + 2] = clock.ctypes.data, clock.size
        try:
            self._run(True, False)
        finally:
            self._running[CLOCK : CLOCK + 2] = NO_CLOCK.ctypes.data, 0
        return clock

    def _run_record(self) -> tuple[Words, tuple[Any, ...]]:
        """The record of `kernels.frame.run_frame`; the thread's work space is told before each frame."""
        program, state = self.plan.program, self._state
        places = program if state.slider is None else state.slider
        nothing, no_list = np.zeros(0, np.uint64), np.zeros((0, 2), np.int32)
        words, kept = encode(
            places.steps, program.reads, places.maps, program.costs, self._epsilons, self._spread, state.words,
            state.touched, nothing, nothing, no_list, self._jobs, self._ticket, 1, 0, int(self.exact), NO_SPREAD,
            program.turn, 0, 0, self._shares, NO_CLOCK, self._taps, self._tap_maps,
            self._macs,
        )  # fmt: skip
        assert words.size == RUN_WORDS
        return words, kept

    def _run(self, keyframe: bool, fresh: bool) -> None:
        """Bring every map and what is handed out up to date with what was written to map 0.

        fresh : nothing is known of what came before, so that a keyframe measures the spread of every map.
        """
        words, space = self._running, workspace()
        with helpers(self.threads) as team:
            self._state.borrow(space, self.plan.needs, team.workers)
            words[PACKED:JOBS] = space.words
            words[WORKERS], words[WHOLE] = team.workers, keyframe
            if keyframe and not self.exact:
                words[MEASURED] = EVERY_SPREAD if fresh else self._keyframes % SPREAD_TURN
                self._keyframes += 1
            team.begin(self._jobs, self._ticket)
            try:
                self._done = run_frame(words)
            finally:
                team.end(self._ticket)
        self._run_tails(keyframe)

    def _run_tails(self, keyframe: bool) -> None:
        """Run the tails that read what was written."""
        if not self.plan.tails:
            return
        touched = self._state.touched
        fresh = {tap.name for tap in self.plan.taps.values() if any(touched[m] for m in tap.maps)}
        for tail in self.plan.tails:
            if keyframe or fresh.intersection(tail.inputs):
                found = tail.run(self._tensors)
                self._tail_outputs.update(found)
                self._handed = {**self._handed, **self._views(found)}

    def _views(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Read-only views of those arrays that are outputs, in the order of the outputs."""
        views = {name: arrays[name].view() for name in self.plan.output_names if name in arrays}
        for view in views.values():
            view.flags.writeable = False
        return views

    def _outputs(self) -> dict[str, Array]:
        return {name: self._handed[name] for name in self.plan.output_names if name in self._handed}

    def _fraction(self) -> float:
        return self._done / self._total_macs if self._total_macs else 0.0
