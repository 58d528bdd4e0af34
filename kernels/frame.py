"""A frame of one stream in two calls: what changed is found and taken in; then every step, and what is handed out.

Frames of several streams may go through the steps together: each begins, all run, each ends.

All that a frame works on is told by two records of int64 words, made once for a stream: a call from Python with twenty
arrays costs more than many a step. Who makes a record keeps the arrays behind its addresses.
"""

from __future__ import annotations

import numpy as np

from kernels.hand_out import hand_out
from kernels.ingest import grow_tiles, show_tiles, take_tiles
from kernels.jit import jit
from kernels.noise import count_differences
from kernels.program import TOUCHED as WAS_WRITTEN
from kernels.program import run, share_of_turn, work_done
from kernels.record import (
    MOVES,
    bytes_3d_at,
    bytes_at,
    clear_masks,
    doubles_2d_at,
    doubles_at,
    floats_2d_at,
    floats_at,
    index_2d_at,
    ints_2d_at,
    ints_at,
    map_at,
    mask_at,
    mask_of,
    unsigned_at,
    words_at,
)
from kernels.tile_diff import changed_tiles, changed_tiles_within, differing_tiles

# Words of the record of `open_frame`; arrays take their address and shape.
# FRAME, REFERENCE : uint8[H, W, C]. TILES, GROWN : uint8[rows, columns], the latter scratch. TILE : edge, px.
# LIMITS, SUMS : as `changed_tiles` takes them. COUNTS, SEEN, SEEN_END : which tiles `count_differences` adds to what:
# also where all has changed, it may be noise. SUSPECT : changed tiles above which nothing is done yet, the answer is
# ASK. MOST : changed tiles above which all is recomputed. VALID : whether the maps were made from the reference frame.
# EVERYTHING : clear all marks. STATE, TOUCHED, MASKS : of the stream (`kernels.record`).
# TABLE, SLOPE, SHIFT : normalisation (`show_tiles`). IMAGE : float32[n] that map 0 lies in, PLACE where, IMAGE_LANES
# its channels side by side. REACH : tiles around the changed ones that are made too. SHOWS : 0 where others do that.
# IMAGE_END : float64[1 or more], where in a turn (see `run`) the image ends. PART, PARTS : which of so many parts of a
# turn is due: tiles in it are taken in where any byte differs. 0 parts for none. WITHIN : uint8[rows, columns], where
# HINTED the only tiles that can have changed; nothing is learnt of noise then. KNOWN : CHANGED, TILES and SUMS hold
# what comparing gives, of the call before.
# Answers: CHANGED tiles, DECISION.
FRAME, REFERENCE, TILES, GROWN = 0, 4, 8, 11
TILE, LIMITS, SUMS, COUNTS = 14, 15, 18, 21
SEEN, SEEN_END, SUSPECT, MOST, VALID, EVERYTHING = range(24, 30)
STATE, TOUCHED, MASKS, TABLE, SLOPE, SHIFT = 30, 32, 34, 37, 40, 42
IMAGE, PLACE, IMAGE_LANES, REACH, SHOWS = 44, 46, 50, 51, 52
IMAGE_END, PART, PARTS = 53, 55, 56
WITHIN, HINTED, KNOWN = 57, 60, 61
CHANGED, DECISION, OPEN_WORDS = range(62, 65)
REUSE, PARTIAL, KEYFRAME, ASK = range(4)

# Words of the record of `run_frame`: the arguments of `run` in order, then those of `hand_out` and `work_done`.
STEPS, READS, MAPS, COSTS, EPSILONS, SPREADS, RUN_STATE, RUN_TOUCHED = 0, 3, 6, 9, 12, 14, 16, 18
PACKED, STALE, PIXELS, JOBS, TICKET = 20, 22, 24, 27, 30
WORKERS, WHOLE, EXACT, MEASURED, TURN, RUN_PART, RUN_PARTS = 32, 33, 34, 35, 36, 38, 39
DONE, CLOCK, TAPS, TAP_MAPS, MACS, RUN_WORDS = 40, 42, 44, 47, 49, 51


@jit
def open_frame(r: np.ndarray) -> None:
    """Compare a frame with the reference frame, decide, clear old marks, and take in what is to be recomputed.

    r : int64[OPEN_WORDS], as above.
    """
    frame, reference = bytes_3d_at(r, FRAME), bytes_3d_at(r, REFERENCE)
    tiles = mask_at(r[TILES], r[TILES + 1], r[TILES + 2])
    state, changed = ints_at(r, STATE), tiles.size
    moved = state[MOVES] != 0
    if r[VALID]:
        sums, limits = index_2d_at(r, SUMS), index_2d_at(r, LIMITS)
        if r[KNOWN]:
            changed = r[CHANGED]
        elif r[HINTED]:
            within = mask_at(r[WITHIN], r[WITHIN + 1], r[WITHIN + 2])
            changed = changed_tiles_within(frame, reference, r[TILE], limits, within, tiles)
        else:
            changed = changed_tiles(frame, reference, r[TILE], limits, sums, tiles)
        if changed > r[SUSPECT]:
            r[CHANGED], r[DECISION] = changed, ASK
            return
        if not r[HINTED]:
            count_differences(reference, r[TILE], sums, r[SEEN], r[SEEN_END], index_2d_at(r, COUNTS))
    decision = PARTIAL
    if not r[VALID] or changed > r[MOST]:
        decision = KEYFRAME
        tiles[:] = 1
    elif r[PARTS] > 0:
        first, end = share_of_turn(0.0, doubles_at(r, IMAGE_END)[0], r[PART], r[PARTS])
        differing_tiles(frame, reference, r[TILE], int(tiles.size * first), int(tiles.size * end), tiles)
    elif changed == 0 and not moved:
        decision = REUSE
    r[CHANGED], r[DECISION] = changed, decision
    touched = bytes_at(r, TOUCHED)
    clear_masks(ints_2d_at(r, MASKS), touched, r[EVERYTHING] != 0)
    if decision == REUSE:
        return
    take_tiles(frame, tiles, r[TILE], reference, mask_of(state, 0))
    touched[0] = 1
    if r[SHOWS]:
        shown = tiles
        if r[REACH] > 0:
            shown = mask_at(r[GROWN], r[GROWN + 1], r[GROWN + 2])
            grow_tiles(tiles, r[REACH], shown)
        if moved:
            shown = mask_at(r[GROWN], r[GROWN + 1], r[GROWN + 2])
            shown[:] = 1
        show_tiles(
            reference, floats_2d_at(r, TABLE), floats_at(r, SLOPE), floats_at(r, SHIFT), shown, r[TILE],
            floats_at(r, IMAGE), map_at(r, PLACE), r[IMAGE_LANES],
        )  # fmt: skip


@jit
def _run_steps(r: np.ndarray, begin: int, end: int) -> None:
    """Run some steps of a frame, those before them having been run."""
    run(
        ints_2d_at(r, STEPS), ints_2d_at(r, READS), ints_2d_at(r, MAPS), doubles_2d_at(r, COSTS),
        doubles_at(r, EPSILONS), doubles_at(r, SPREADS), ints_at(r, RUN_STATE), bytes_at(r, RUN_TOUCHED),
        unsigned_at(r, PACKED), unsigned_at(r, STALE), index_2d_at(r, PIXELS), ints_2d_at(r, JOBS),
        ints_at(r, TICKET), r[WORKERS], r[WHOLE] != 0, r[EXACT] != 0, r[MEASURED], doubles_at(r, TURN), r[RUN_PART],
        r[RUN_PARTS], doubles_at(r, DONE), ints_at(r, CLOCK), begin, end,
    )  # fmt: skip


@jit
def begin_frame(r: np.ndarray, end: int) -> None:
    """Run the first `end` steps of a frame. r : int64[RUN_WORDS], as above."""
    doubles_at(r, DONE)[:] = 0.0
    _run_steps(r, 0, end)


@jit
def run_together(frames: np.ndarray, ends: np.ndarray) -> None:
    """Run steps of several streams' frames by stretches: one stretch of all frames, then the next one.

    A stretch's weights are then in the cache for all frames but the first. frames : int64[n], addresses of records of
    `run_frame`, of one plan, none of them whole; each with packed masks of its own, everything else of a work space may
    be shared. ends : int64[m], steps at which stretches end; the steps before the first end have been run.
    """
    for stretch in range(1, ends.size):
        for frame in range(frames.size):
            _run_steps(words_at(frames[frame], RUN_WORDS), ends[stretch - 1], ends[stretch])


@jit
def end_frame(r: np.ndarray) -> float:
    """After all steps, copy what was written to tensors; returns the multiply-accumulates done. r : as above."""
    state, touched = ints_at(r, RUN_STATE), bytes_at(r, RUN_TOUCHED)
    whole = r[WHOLE] != 0 or state[MOVES] != 0
    if state[MOVES]:
        touched[:] = WAS_WRITTEN  # what is handed out is another picture, even where no step wrote
    hand_out(ints_2d_at(r, TAPS), ints_at(r, TAP_MAPS), state, touched, whole)
    return work_done(doubles_at(r, MACS), doubles_at(r, DONE))


@jit
def run_frame(r: np.ndarray) -> float:
    """Bring every map up to date, copy what was written to tensors; returns the multiply-accumulates done.

    r : int64[RUN_WORDS], as above.
    """
    begin_frame(r, r[STEPS + 1])
    return end_frame(r)
