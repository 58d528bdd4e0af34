"""All steps of a plan in one call: what is stale, how it is computed, by whom, what was written.

Steps, reads and maps are rows of int64 tables (`cache.program` writes them). A step's kernel is known by the address
of its entry alone, so that this loop is compiled once, whatever the ops. With helpers, a step's list is cut into
parts that whoever is free takes next; the parts of a step never depend on each other, so that the bits of a pixel do
not depend on who computed it.
"""

from __future__ import annotations

import numpy as np

from kernels.atomic import (
    atomic_add,
    atomic_load,
    atomic_replace,
    atomic_store,
    call_entry,
    flush_denormals,
    give_way,
    now_ns,
    pause,
    restore_denormals,
)
from kernels.byte_maps import spread_bytes
from kernels.constants import STORE, TEST_BITS, TEST_RMS, UNMARKED
from kernels.jit import jit
from kernels.layout import Map
from kernels.masks import list_packed, list_part, pack_mask, project_packed
from kernels.motion import mark_moved
from kernels.record import MOVES, arena_of, indices_at, mask_of, words_at
from kernels.simd import address_of
from kernels.spread import spread

# Columns of a step. METHOD, FEW : entry, record, block and unit of the two ways to compute it (a block of 0: none).
# ALL, ALL_COUNT, ALL_BLOCK : the list of every pixel, in the smallest blocks that METHOD computes. LANES, LANE_COUNT :
# int64[n], lanes that hold a channel.
# BITS : a threshold applies where it is 0. BYTES : the target is a byte map, and its spread counts in quanta.
TARGET, FIRST_READ, READS, METHOD, ALL, ALL_COUNT, FEW, LANES, LANE_COUNT, CHANNELS, BITS, BYTES, ALL_BLOCK = (
    0, 1, 2, 3, 7, 8, 9, 13, 14, 15, 16, 17, 18
)  # fmt: skip
STEP_WORDS = 19
ENTRY, RECORD, BLOCK, UNIT = range(4)

# Columns of a read: the map, and per axis the addresses of int32 first and last input of each output, and their step.
# STRIDE, TAPS, OFFSET : of the columns, as `kernels.masks.project_packed` takes them.
MAP, ROW_LOW, ROW_HIGH, ROW_STEP, COLUMN_LOW, COLUMN_HIGH, COLUMN_STEP, STRIDE, TAPS, OFFSET, READ_WORDS = range(11)

# Columns of a map: size, `kernels.layout.Map`, and where its packed mask lies among those of all maps.
HEIGHT, WIDTH, ORIGIN, PLANE, ROW, PIXEL, BLOCKS, PACKED, MAP_WORDS = range(9)

# Columns of a move: how far a map was moved, in px of its own, and whether it is to be recomputed whole.
DOWN, RIGHT, WHOLLY, MOVE_WORDS = range(4)

BIT, BITS_OF_WORD = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)

# What is known of a map in a frame.
UNTOUCHED, TOUCHED, IS_PACKED = range(3)

# Columns of a job: a step's list under way.
J_ENTRY, J_RECORD, J_STATE, J_PIXELS, J_COUNT, J_PART, J_PARTS = range(7)
J_MODE, J_LIMIT, J_BLOCK, J_FINISHED, J_WRITTEN, J_WORKERS = range(7, 13)
JOB_WORDS = 16

# The ticket: serial number of the job << 40 | its step << 28 | a bit for each part that someone has taken.
STEP_SHIFT, SERIAL_SHIFT = 28, 40
MOST_PARTS = 28
PARTS_MASK, STEP_MASK, SERIAL_MASK = (1 << 28) - 1, (1 << 12) - 1, (1 << 22) - 1
NO_STEP = STEP_MASK
WAITING = PARTS_MASK  # a frame has begun, no job yet: step 0, of which every part is taken
PART_NS = 8000.0  # a part worth handing over takes at least so long
# Which spreads a whole frame measures: those of every step; none; or, for 0 to SPREAD_TURN - 1, of every so many-th.
EVERY_SPREAD, NO_SPREAD, SPREAD_TURN = -1, -2, 8
REFRESHED = 0.3  # of a threshold, from which what is looked at again is written
PATIENCE = 256  # pauses before another thread is let run


@jit
def _run_part(job: np.ndarray, part: int, worker: int) -> int:
    """Compute one part of a job; returns the pixels written."""
    first = part * job[J_PART]
    count = min(job[J_PART], job[J_COUNT] - first)
    written: int = call_entry(
        job[J_ENTRY], job[J_RECORD], job[J_STATE], job[J_PIXELS] + first * 8, count, job[J_MODE],
        job.view(np.float64)[J_LIMIT], job[J_BLOCK], worker,
    )  # fmt: skip
    return written


@jit
def next_ticket(ticket: int, step: int, taken: int) -> int:
    """The ticket that follows: another serial number, so that nobody takes a part of what is over."""
    serial = ((ticket >> SERIAL_SHIFT) + 1) & SERIAL_MASK
    return serial << SERIAL_SHIFT | step << STEP_SHIFT | taken


@jit
def _free_part(taken: int, parts: int, worker: int, workers: int) -> int:
    """A part that nobody has taken, -1 if there is none.

    Each worker has a stretch of the list of its own, the same in every step: what it wrote is then mostly what it
    reads in the next one, from the cache of its own core. Others' parts come after.
    """
    first = worker * parts // workers
    for i in range(parts):
        part = first + i
        if part >= parts:
            part -= parts
        if (taken >> part) & 1 == 0:
            return part
    return -1


@jit
def help_out(jobs: int, ticket: int, worker: int) -> int:
    """Take parts of jobs until the frame is done; returns how many. Addresses of the jobs and of the ticket."""
    done, idle, mode = 0, 0, flush_denormals()
    while True:
        seen = atomic_load(ticket)
        step = (seen >> STEP_SHIFT) & STEP_MASK
        if step == NO_STEP:
            restore_denormals(mode)
            return done
        address = jobs + step * JOB_WORDS * 8
        job = words_at(address, JOB_WORDS)
        part = -1
        if seen & PARTS_MASK != PARTS_MASK:
            part = _free_part(seen & PARTS_MASK, min(job[J_PARTS], MOST_PARTS), worker, max(job[J_WORKERS], 1))
        if part < 0:
            idle += 1
            pause()
            if idle % PATIENCE == 0:
                give_way()
        elif atomic_replace(ticket, seen, seen | 1 << part):  # the job stays as it is until this part is finished
            written = _run_part(job, part, worker)
            atomic_add(address + J_WRITTEN * 8, written)
            atomic_add(address + J_FINISHED * 8, 1)
            done += 1


@jit
def _share_out(jobs: np.ndarray, step: int, ticket: np.ndarray, parts: int) -> int:
    """Publish a job, take parts of it, wait for those that others took; returns the pixels written."""
    job, address = jobs[step], address_of(jobs) + step * JOB_WORDS * 8
    job[J_FINISHED], job[J_WRITTEN], job[J_PARTS] = 0, 0, parts
    at, workers = address_of(ticket), job[J_WORKERS]
    atomic_store(at, next_ticket(atomic_load(at), step, 0))
    while True:
        seen = atomic_load(at)
        part = _free_part(seen & PARTS_MASK, parts, 0, workers)
        if part < 0:
            break
        if atomic_replace(at, seen, seen | 1 << part):
            atomic_add(address + J_WRITTEN * 8, _run_part(job, part, 0))
            atomic_add(address + J_FINISHED * 8, 1)
    idle = 0
    while atomic_load(address + J_FINISHED * 8) < parts:
        idle += 1
        pause()
        if idle % PATIENCE == 0:
            give_way()
    written: int = atomic_load(address + J_WRITTEN * 8)
    return written


@jit
def _packed(masks: np.ndarray, maps: np.ndarray, index: int) -> np.ndarray:
    """uint64[H, words], the place of a map's packed mask."""
    words = (maps[index, WIDTH] + 63) // 64
    at = maps[index, PACKED]
    return masks[at : at + maps[index, HEIGHT] * words].reshape((maps[index, HEIGHT], words))


@jit
def _mark_stale(
    step: np.ndarray, reads: np.ndarray, maps: np.ndarray, touched: np.ndarray, state: np.ndarray, masks: np.ndarray,
    stale: np.ndarray,
) -> None:  # fmt: skip
    """stale = what the maps written this frame make stale of the step's target, packed."""
    stale[:] = np.uint64(0)
    height, width = maps[step[TARGET], HEIGHT], maps[step[TARGET], WIDTH]
    for r in range(step[FIRST_READ], step[FIRST_READ] + step[READS]):
        read = reads[r]
        index = read[MAP]
        if touched[index] == UNTOUCHED:
            continue
        packed = _packed(masks, maps, index)
        if touched[index] == TOUCHED:
            pack_mask(mask_of(state, index), packed)
            touched[index] = IS_PACKED
        project_packed(
            packed, indices_at(read[ROW_LOW], height), indices_at(read[ROW_HIGH], height), read[ROW_STEP],
            indices_at(read[COLUMN_LOW], width), indices_at(read[COLUMN_HIGH], width), read[COLUMN_STEP], read[STRIDE],
            read[TAPS], read[OFFSET], stale,
        )  # fmt: skip


@jit
def _mark_cut(stale: np.ndarray, height: int, width: int, tile: int) -> None:
    """Add to stale the tiles that the map's end cuts: a whole tile that came to lie there rounded otherwise."""
    last, end = stale.shape[1] - 1, np.uint64((width - 1) % 64)
    if height % tile != 0:
        for word in range(last):
            stale[height - 1, word] = BITS_OF_WORD
        stale[height - 1, last] = BITS_OF_WORD >> (np.uint64(63) - end)
    if width % tile != 0:
        for y in range(height):
            stale[y, last] |= BIT << end


@jit
def _mark_moved(step: np.ndarray, reads: np.ndarray, maps: np.ndarray, state: np.ndarray, stale: np.ndarray) -> None:
    """Add to stale what a move of the maps leaves stale of the step's target."""
    target, count = step[TARGET], maps.shape[0]
    moves = words_at(state[MOVES], count * MOVE_WORDS).reshape((count, MOVE_WORDS))
    height, width, down, right = maps[target, HEIGHT], maps[target, WIDTH], moves[target, DOWN], moves[target, RIGHT]
    if moves[target, WHOLLY]:
        down = height  # as if all of it came in
    for r in range(step[FIRST_READ], step[FIRST_READ] + step[READS]):
        read = reads[r]
        mark_moved(
            indices_at(read[ROW_LOW], height), indices_at(read[ROW_HIGH], height), indices_at(read[COLUMN_LOW], width),
            indices_at(read[COLUMN_HIGH], width), moves[read[MAP], DOWN], moves[read[MAP], RIGHT], down, right, stale,
        )  # fmt: skip


@jit
def _is_touched(step: np.ndarray, reads: np.ndarray, touched: np.ndarray) -> bool:
    seen = False
    for r in range(step[FIRST_READ], step[FIRST_READ] + step[READS]):
        seen |= touched[reads[r, MAP]] != UNTOUCHED
    return seen


@jit
def _choose(
    step: np.ndarray, cost: np.ndarray, stale: np.ndarray, height: int, width: int, pixels: np.ndarray, fixed: bool
) -> tuple[int, int, int]:
    """List the stale pixels for the cheaper of a step's methods; returns its column, the entries, distinct pixels.

    fixed : always the first method, so that the choice never shows in the bits.
    """
    if fixed or step[FEW + BLOCK] == 0:
        listed, distinct = list_packed(stale, height, width, step[METHOD + BLOCK], pixels)
        return METHOD, listed, distinct
    few, few_distinct = list_packed(stale, height, width, step[FEW + BLOCK], pixels)
    few_cost = cost[2] + cost[3] * few
    if step[FEW + BLOCK] <= step[METHOD + BLOCK] and few_cost <= cost[0] + cost[1] * few:
        return FEW, few, few_distinct
    if step[METHOD + BLOCK] == step[FEW + BLOCK]:
        return METHOD, few, few_distinct
    listed, distinct = list_packed(stale, height, width, step[METHOD + BLOCK], pixels)
    if cost[0] + cost[1] * listed <= few_cost:
        return METHOD, listed, distinct
    few, few_distinct = list_packed(stale, height, width, step[FEW + BLOCK], pixels)
    return FEW, few, few_distinct


@jit
def _compute(
    jobs: np.ndarray, index: int, ticket: np.ndarray, step: np.ndarray, method: int, state: int, pixels: int, count:
    int, block: int, mode: int, limit: float, cost: float, workers: int,
) -> int:  # fmt: skip
    """Compute a list, alone or with helpers; returns the pixels written.

    block : the list's, squared pixels. cost : nanoseconds it may take.
    """
    parts = 1
    if workers > 1:
        parts = int(min(cost / PART_NS, 4.0 * workers, float(MOST_PARTS)))
    unit = step[method + UNIT]
    parts = min(parts, count // unit)
    if parts <= 1:
        written: int = call_entry(
            step[method + ENTRY], step[method + RECORD], state, pixels, count, mode, limit, block, 0
        )
        return written
    size = (count // unit + parts - 1) // parts * unit
    job = jobs[index]
    job[J_ENTRY], job[J_RECORD], job[J_STATE] = step[method + ENTRY], step[method + RECORD], state
    job[J_PIXELS], job[J_COUNT], job[J_PART], job[J_MODE] = pixels, count, size, mode
    job.view(np.float64)[J_LIMIT] = limit
    job[J_BLOCK], job[J_WORKERS] = block, workers
    return _share_out(jobs, index, ticket, (count + size - 1) // size)


@jit
def _measure(step: np.ndarray, target: np.ndarray, arena: np.ndarray) -> float:
    """Standard deviation of a step's target."""
    layout = Map(target[ORIGIN], target[PLANE], target[ROW], target[PIXEL])
    lanes = words_at(step[LANES], step[LANE_COUNT])
    if step[BYTES]:
        return spread_bytes(arena, layout, target[HEIGHT], target[WIDTH], lanes)
    return spread(arena, layout, target[HEIGHT], target[WIDTH], lanes)


@jit
def _run_whole(
    steps: np.ndarray, maps: np.ndarray, costs: np.ndarray, spreads: np.ndarray, state: np.ndarray, touched: np.ndarray,
    jobs: np.ndarray, ticket: np.ndarray, workers: int, measured: int, done: np.ndarray, clock: np.ndarray,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Every pixel of every map."""
    arena = arena_of(state)
    for index in range(begin, end):
        started = now_ns() if clock.size > 0 else 0
        step = steps[index]
        count = step[ALL_COUNT]
        _compute(
            jobs, index, ticket, step, METHOD, address_of(state), step[ALL], count, step[ALL_BLOCK], STORE, UNMARKED,
            costs[index, 1] * count, workers,
        )  # fmt: skip
        touched[step[TARGET]] = TOUCHED
        done[index] = 1.0
        if step[BITS] == 0 and (measured == EVERY_SPREAD or index % SPREAD_TURN == measured):
            spreads[index] = _measure(step, maps[step[TARGET]], arena)
        if clock.size > 0:
            clock[index] = now_ns() - started


@jit
def share_of_turn(start: float, end: float, part: int, parts: int) -> tuple[float, float]:
    """Of what lies between two points of a turn from 0 to 1: first and end, from 0 to 1, of the share of one part.

    Equal where nothing does, or where there are 0 parts. Parts that follow each other meet.
    """
    if parts == 0 or end <= start:
        return 0.0, 0.0
    first, last = (part / parts - start) / (end - start), ((part + 1) / parts - start) / (end - start)
    return min(max(first, 0.0), 1.0), min(max(last, 0.0), 1.0)


@jit
def _run_stale(
    steps: np.ndarray, reads: np.ndarray, maps: np.ndarray, costs: np.ndarray, epsilons: np.ndarray,
    spreads: np.ndarray, state: np.ndarray, touched: np.ndarray, masks: np.ndarray, stale: np.ndarray, pixels:
    np.ndarray, jobs: np.ndarray, ticket: np.ndarray, workers: int, exact: bool, turn: np.ndarray, part: int, parts:
    int, done: np.ndarray, clock: np.ndarray, begin: int, end: int,
) -> None:  # fmt: skip
    """What was written to one map makes stale of the next, step by step; and a part of all is looked at again."""
    moved = state[MOVES] != 0
    for index in range(begin, end):
        step, cost = steps[index], costs[index]
        is_touched, written = moved or _is_touched(step, reads, touched), 0
        begins, ends = share_of_turn(turn[index], turn[index + 1], part, parts)
        if not is_touched and begins == ends:
            continue
        started = now_ns() if clock.size > 0 else 0
        target = maps[step[TARGET]]
        height, width = target[HEIGHT], target[WIDTH]
        words = (width + 63) // 64
        mode, limit = TEST_RMS, (epsilons[index] * spreads[index]) ** 2 * step[CHANNELS]
        if exact or step[BITS]:
            mode, limit = TEST_BITS, 0.0
        if is_touched:
            mask = stale[: height * words].reshape((height, words))
            _mark_stale(step, reads, maps, touched, state, masks, mask)
            if moved:
                _mark_moved(step, reads, maps, state, mask)
                if exact:
                    _mark_cut(mask, height, width, step[ALL_BLOCK])
            method, count, distinct = _choose(step, cost, mask, height, width, pixels, exact)
            if count > 0:
                expected = cost[1] * count if method == METHOD else cost[3] * count
                written = _compute(
                    jobs, index, ticket, step, method, address_of(state), address_of(pixels), count,
                    step[method + BLOCK], mode, limit, expected, workers,
                )  # fmt: skip
                done[index] = distinct / (height * width)
        if begins < ends:
            block = step[METHOD + BLOCK]
            blocks = ((height + block - 1) // block) * ((width + block - 1) // block)
            count, distinct = list_part(height, width, block, int(blocks * begins), int(blocks * ends), pixels)
            if count > 0:
                written += _compute(
                    jobs, index, ticket, step, METHOD, address_of(state), address_of(pixels), count,
                    block, mode, limit * REFRESHED**2, cost[1] * count, workers,
                )  # fmt: skip
                done[index] += distinct / (height * width)
        touched[step[TARGET]] = TOUCHED if written > 0 else UNTOUCHED
        if clock.size > 0:
            clock[index] = now_ns() - started


@jit
def work_done(macs: np.ndarray, shares: np.ndarray) -> float:
    """Multiply-accumulates of steps (float64[steps]) of which the shares float64[steps] were computed."""
    total = 0.0
    for index in range(macs.size):
        total += macs[index] * shares[index]
    return total


@jit
def run(
    steps: np.ndarray, reads: np.ndarray, maps: np.ndarray, costs: np.ndarray, epsilons: np.ndarray,
    spreads: np.ndarray, state: np.ndarray, touched: np.ndarray, masks: np.ndarray, stale: np.ndarray, pixels:
    np.ndarray, jobs: np.ndarray, ticket: np.ndarray, workers: int, keyframe: bool, exact: bool, measured: int,
    turn: np.ndarray, part: int, parts: int, done: np.ndarray, clock: np.ndarray, begin: int, end: int,
) -> None:  # fmt: skip
    """Bring every map up to date with what was written to those of which `touched` is set.

    steps, reads, maps : int64 tables, columns as named above. costs : float64[steps, 4], nanoseconds: per call and per
        listed pixel of the first method, then of the second. epsilons : float64[steps], thresholds in spreads.
    spreads : float64[steps], standard deviation of each target, measured on keyframes that are not exact.
    state : int64 words (see `kernels.record`). touched : uint8[maps], set where this frame wrote to a map.
    masks : uint64, room for the packed masks of all maps. stale : uint64, room for the largest one.
    pixels : int32[largest list, 2]. jobs : int64[steps, 16]. ticket : int64[1].
    workers : 1 and those who call `help_out`. keyframe : recompute everything. exact : write what differs in any bit.
    measured : of a keyframe, whose spreads are measured: `EVERY_SPREAD`, `NO_SPREAD` or a number.
    turn, part, parts : float64[steps + 1], where in a turn over all steps each begins and the last one ends; which of
        so many parts of it is recomputed, whatever was written, and written where it differs by more than `REFRESHED`
        of the threshold. 0 parts for none.
    done : float64[steps], zeros; share of the target's pixels that were recomputed. clock : int64[steps], zeros, or
        [0]; nanoseconds taken by each step. begin, end : the steps that are run; those before them have been, of
        this frame.
    """
    mode = flush_denormals()
    if keyframe:
        _run_whole(
            steps, maps, costs, spreads, state, touched, jobs, ticket, workers, measured, done, clock,
            begin, end,
        )  # fmt: skip
    else:
        _run_stale(
            steps, reads, maps, costs, epsilons, spreads, state, touched, masks, stale, pixels, jobs, ticket, workers,
            exact, turn, part, parts, done, clock, begin, end,
        )  # fmt: skip
    restore_denormals(mode)


@jit
def close(ticket: np.ndarray) -> None:
    """Send the helpers away: the frame is done."""
    at = address_of(ticket)
    atomic_store(at, next_ticket(atomic_load(at), NO_STEP, 0))
