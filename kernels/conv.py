"""Direct convolution of listed output pixels: any kernel size, stride, dilation, padding and groups.

No matrix is built. A call gathers `PIXELS` output pixels (more, where few outputs leave registers free) from anywhere
in the map. One table of tap offsets per group of output blocks covers kernel size, dilation and groups, reads from
several maps as if they were concatenated, and leaves out input blocks that a group does not see. Knows arrays and ints
only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import HALF, LANES, STORE, VECTOR_BYTES
from kernels.jit import jit, jit_inlined
from kernels.layout import (
    CHUNK,
    Act,
    Finish,
    Map,
    Memory,
    Test,
    activation,
    are_runs,
    chunk_pixels,
    commit_pixels,
    exits,
    fill_addresses,
    memory,
    reset_metrics,
)
from kernels.layout import address_table as address_table
from kernels.micro import (
    WIDE_1,
    WIDE_2,
    dense_1x1,
    dense_1x2,
    dense_1x3,
    dense_3x1,
    dense_3x2,
    dense_3x3,
    dense_8x1,
    dense_8x2,
    dense_8x3,
    dense_9x1,
    dense_9x2,
    dense_9x3,
    dense_16x1,
    dense_16x2,
    dense_16x3,
    depthwise_block,
    half_1,
    half_3,
    half_8,
    half_9,
    half_16,
    quads_3x1,
    quads_3x2,
    quads_5x1,
    quads_5x2,
    wide_9x1,
    wide_9x2,
    wide_16x1,
    wide_16x2,
)
from kernels.simd import address_of, make_table, prefetch, table_get, table_set
from kernels.target import HALF_PIXELS, HOST, PIXELS

__all__ = ["convolve", "convolve_depthwise"]

QUADS = HOST.quads
JOINED = 64  # taps of nine lanes, at most
FETCHED_TAPS = 16  # at most, of the first pixels of a list: nothing is computed meanwhile
joined_taps = make_table(JOINED)
_Exits = tuple[int, int, int, int, int, int, int]


@jit
def address_chunk(
    arena: np.ndarray, source: Map, target: Map, pixels: np.ndarray, start: int, slots: int, count: int,
    stride_y: int, stride_x: int, bases: int, outs: int,
) -> None:  # fmt: skip
    """Byte addresses of the input corner and the output of each pixel; spare slots repeat the last pixel.

    bases, outs : addresses of tables made by `address_table`. slots : at most `CHUNK`.
    """
    m = Memory(address_of(arena), address_of(pixels), 0, 0, 0, 0, 0)
    fill_addresses(m, source, stride_y, stride_x, start, count, bases)
    fill_addresses(m, target, 1, 1, start, count, outs)
    for i in range(count, slots):
        table_set(bases, i, table_get(bases, count - 1))
        table_set(outs, i, table_get(outs, count - 1))


@jit_inlined
def _dense(
    lanes: int, vectors: int, bases: int, taps: int, count: int, w: int, bias: int, act: Finish, to: _Exits
) -> None:
    """Call the micro-kernel made for this many lanes per tap and vectors of outputs."""
    if lanes == 16:
        if vectors == 3:
            dense_16x3(bases, taps, count, w, bias, act, to)
        elif vectors == 2:
            dense_16x2(bases, taps, count, w, bias, act, to)
        else:
            dense_16x1(bases, taps, count, w, bias, act, to)
    elif lanes == 8:
        if vectors == 3:
            dense_8x3(bases, taps, count, w, bias, act, to)
        elif vectors == 2:
            dense_8x2(bases, taps, count, w, bias, act, to)
        else:
            dense_8x1(bases, taps, count, w, bias, act, to)
    elif lanes == 9:
        if vectors == 3:
            dense_9x3(bases, taps, count, w, bias, act, to)
        elif vectors == 2:
            dense_9x2(bases, taps, count, w, bias, act, to)
        else:
            dense_9x1(bases, taps, count, w, bias, act, to)
    elif lanes == 3:
        if vectors == 3:
            dense_3x3(bases, taps, count, w, bias, act, to)
        elif vectors == 2:
            dense_3x2(bases, taps, count, w, bias, act, to)
        else:
            dense_3x1(bases, taps, count, w, bias, act, to)
    else:
        if vectors == 3:
            dense_1x3(bases, taps, count, w, bias, act, to)
        elif vectors == 2:
            dense_1x2(bases, taps, count, w, bias, act, to)
        else:
            dense_1x1(bases, taps, count, w, bias, act, to)


@jit_inlined
def _half(lanes: int, bases: int, taps: int, count: int, w: int, bias: int, act: Finish, to: _Exits) -> None:
    """`_dense` for half a block of outputs, of `HALF_PIXELS` pixels."""
    if lanes == 16:
        half_16(bases, taps, count, w, bias, act, to)
    elif lanes == 9:
        half_9(bases, taps, count, w, bias, act, to)
    elif lanes == 8:
        half_8(bases, taps, count, w, bias, act, to)
    elif lanes == 3:
        half_3(bases, taps, count, w, bias, act, to)
    else:
        half_1(bases, taps, count, w, bias, act, to)


@jit_inlined
def _wide(
    lanes: int, vectors: int, step: int, bases: int, taps: int, count: int, w: int, bias: int, act: Finish,
    to: _Exits,
) -> None:  # fmt: skip
    """`_dense` for calls of `_wide_pixels`, whose inputs are `step` bytes apart."""
    if lanes == 16:
        if vectors == 2:
            wide_16x2(step, bases, taps, count, w, bias, act, to)
        else:
            wide_16x1(step, bases, taps, count, w, bias, act, to)
    else:
        if vectors == 2:
            wide_9x2(step, bases, taps, count, w, bias, act, to)
        else:
            wide_9x1(step, bases, taps, count, w, bias, act, to)


@jit
def _wide_pixels(lanes: int, vectors: int) -> int:
    """Pixels of a call where few outputs leave registers free for more of them; 0 for none."""
    if lanes < 9 or vectors > 2 or vectors == 0:
        return 0
    return WIDE_2 if vectors == 2 else WIDE_1


@jit
def _can_join(taps: np.ndarray, spans: np.ndarray, lanes: int) -> bool:
    """Whether taps of nine lanes can take the place of three neighbouring ones of three.

    A row of a 3x3 kernel over three interleaved channels is nine floats side by side, and so are its weights.
    """
    if lanes != 3 or taps.size % 3 != 0 or taps.size > 3 * JOINED:
        return False
    for g in range(spans.shape[0]):
        if spans[g, 2] % 3 != 0 or spans[g, 3] % 3 != 0:
            return False
    joins = True
    for k in range(0, taps.size, 3):
        joins &= taps[k + 1] == taps[k] + 12 and taps[k + 2] == taps[k] + 24
    return joins


@jit
def fetch_lines(table: int, slot: int, pixels: int, every: int, offset: int) -> None:
    """Prefetch the lines that a call's pixels, or every so many of them, have at an offset.

    The pixels are those of a table from `slot` on.
    """
    for p in range(slot, slot + pixels, every):
        prefetch(table_get(table, p) + offset)


@jit_inlined
def _fetch_ahead(
    ahead: tuple[int, int], slot: int, pixels: int, every: int, taps: int, fetched: tuple[int, int], target: Map, act:
    Act, first: int, blocks: int,
) -> None:  # fmt: skip
    """Prefetch what a call of `pixels` will read by some of its taps, and be compared with in some blocks, if asked."""
    if ahead[0] != 0:
        for k in range(fetched[0], fetched[1]):
            fetch_lines(ahead[0], slot, pixels, every, table_get(taps, k))
    if ahead[1] != 0:
        for v in range(first, first + blocks):
            fetch_lines(ahead[1], slot, pixels, 1, v * target.plane * 4)
            if act.before + act.after != 0:  # one of them is
                fetch_lines(ahead[1], slot, pixels, 1, v * target.plane * 4 + act.before + act.after)


@jit
def dense_pixels(
    m: Memory, target: Map, test: Test, start: int, count: int, bases: int, outs: int, ahead: tuple[int, int], step:
    int, even: bool, lanes: int, together: int, taps: int, spans: np.ndarray, weights: int, bias: int, act: Act,
    slopes: int,
) -> None:  # fmt: skip
    """Convolve the listed pixels from `start` on, whose inputs and outputs the tables `bases` and `outs` tell.

    ahead : tables like `bases` and `outs`, of the pixels that come next, whose lines are prefetched; 0 for none.
    step : bytes from a pixel's input to that of its neighbour; even : whether all inputs are so far apart, whatever
    pixels are listed. together : taps of the table that are taken as one, 1 or 3. taps, weights, bias, slopes :
    addresses.
    """
    every = 1 if lanes in (LANES, HALF) else 3  # pixels of an image share their lines
    for g in range(spans.shape[0]):
        first, vectors, first_tap, tap_count = spans[g, 0], spans[g, 1], spans[g, 2], spans[g, 3]
        if together == 3:
            first_tap, tap_count = first_tap // 3, tap_count // 3
        read, shift = taps + first_tap * 8, bias + first * VECTOR_BYTES
        w, finish = weights + spans[g, 4] * 4, activation(act, slopes, first)
        share = (tap_count + spans.shape[0] - 1) // spans.shape[0]  # of the taps, to prefetch beside this group
        fetched = min(g * share, tap_count), min((g + 1) * share, tap_count)
        wide, slot = _wide_pixels(lanes, vectors), 0
        unit = wide if wide % PIXELS == 0 else 2 * wide  # whole narrow calls, so that none goes past the tables
        while slot < count:
            base, to = bases + slot * 8, exits(m, target, test, outs, slot, first)
            if wide != 0 and slot + unit <= count and (even or are_runs(m, start + slot, unit)):
                for _ in range(unit // wide):
                    _wide(lanes, vectors, step, base, read, tap_count, w, shift, finish, to)
                    slot += wide
                    base, to = bases + slot * 8, exits(m, target, test, outs, slot, first)
            else:
                if vectors == 0:
                    _fetch_ahead(ahead, slot, HALF_PIXELS, every, read, fetched, target, act, first, 1)
                    _half(lanes, base, read, tap_count, w, shift, finish, to)
                    slot += HALF_PIXELS
                else:
                    _fetch_ahead(ahead, slot, PIXELS, every, read, fetched, target, act, first, vectors)
                    _dense(lanes, vectors, base, read, tap_count, w, shift, finish, to)
                    slot += PIXELS


@jit
def convolve(
    arena: np.ndarray, source: Map, taps: np.ndarray, spans: np.ndarray, lanes: int, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int,
    act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Convolve at the listed output pixels, activate, compare with the stored values, write what passes.

    arena : float32[:], holds source and target maps; the source's border of zeros covers every tap.
    taps : int64[:], byte offsets from a pixel's input corner; each reads `lanes` channels (16, 9, 8, 3 or 1).
    spans : int64[groups, 5], per group of output blocks: first block, blocks (1 to `MAX_VECTORS`; 0, where
        `HALF_PIXELS` is not, for the lower half of one, whose upper half becomes 0), first tap, taps, first weight.
    weights : float32[:], per group [tap][lane][block][16], or [tap][lane][8]; 64-byte aligned.
    bias, slope : float32[blocks * 16]; slope is read for PReLU alone.
    pixels : int32[n, 2], C-contiguous, (y, x) in the target; whole blocks of `test.block` squared pixels in a row.
    scratch : float32[scratch_elements(blocks)]. written : uint8[H, W] of 0 and 1, set to 1 where the target changed.

    Returns the number of pixels written. Arithmetic per output: bias, then taps and lanes in table order,
    fused.
    """
    blocks, total, together, step = bias.size // LANES, 0, 1, source.pixel * stride_x * 4
    bases, outs, next_bases, next_outs = address_table(), address_table(), address_table(), address_table()
    m, slopes, all_taps = memory(arena, pixels, scratch, blocks, written), address_of(slope), address_of(taps)
    all_weights, all_bias = address_of(weights), address_of(bias)
    if _can_join(taps, spans, lanes):
        all_taps = joined_taps()
        lanes, together = 9, 3
        for k in range(taps.size // 3):
            table_set(all_taps, k, taps[3 * k])
    fetches, count = test.mode != STORE, min(CHUNK, pixels.shape[0])
    fill_addresses(m, source, stride_y, stride_x, 0, count, bases)
    fill_addresses(m, target, 1, 1, 0, count, outs)
    if fetches and lanes in (LANES, HALF) and count > 0 and spans[0, 3] <= FETCHED_TAPS:
        for slot in range(0, count, PIXELS):
            for k in range(spans[0, 3]):
                fetch_lines(bases, slot, PIXELS, 1, table_get(all_taps, k))
    for start in range(0, pixels.shape[0], CHUNK):
        following = min(CHUNK, pixels.shape[0] - start - count)
        fill_addresses(m, source, stride_y, stride_x, start + count, following, next_bases)
        fill_addresses(m, target, 1, 1, start + count, following, next_outs)
        ahead = (0, 0)
        if fetches and following > 0:  # a listed pixel is seldom in a cache, and no CPU guesses where the next one lies
            ahead = (next_bases if lanes != 1 else 0, next_outs)
        reset_metrics(m, test)
        dense_pixels(
            m, target, test, start, count, bases, outs, ahead, step, False, lanes, together, all_taps, spans,
            all_weights, all_bias, act, slopes,
        )  # fmt: skip
        total += commit_pixels(m, target, start, count, test, outs)
        bases, outs, next_bases, next_outs, count = next_bases, next_outs, bases, outs, following
    return total


@jit
def regular_width(taps: np.ndarray) -> int:
    """Taps per row of a window whose rows are runs of neighbouring pixels, all of one length."""
    width = 1
    while width < taps.size and taps[width] == taps[width - 1] + VECTOR_BYTES:
        width += 1
    for k in range(taps.size):
        if k % width != 0 and taps[k] != taps[k - 1] + VECTOR_BYTES:
            return 1
    return width if taps.size % width == 0 else 1


@jit_inlined
def _quads(
    kernel_x: int, stride_x: int, bases: int, shift: int, taps: int, rows: int, w: int, bias: int, act: Finish,
    to: _Exits,
) -> None:  # fmt: skip
    """Call the micro-kernel made for this width and stride."""
    if kernel_x == 3:
        if stride_x == 1:
            quads_3x1(bases, shift, taps, rows, w, bias, act, to)
        else:
            quads_3x2(bases, shift, taps, rows, w, bias, act, to)
    elif stride_x == 1:
        quads_5x1(bases, shift, taps, rows, w, bias, act, to)
    else:
        quads_5x2(bases, shift, taps, rows, w, bias, act, to)


@jit
def depthwise_pixels(
    m: Memory, target: Map, test: Test, start: int, count: int, bases: int, outs: int, ahead: tuple[int, int],
    source: Map, stride_x: int, width: int, planes: np.ndarray, taps: int, tap_count: int, weights: int, bias: int,
    act: Act, slopes: int,
) -> None:  # fmt: skip
    """Convolve the listed pixels from `start` on channel by channel; tables and addresses as in `dense_pixels`.

    width : of the window, as `regular_width` tells it.
    """
    regular = QUADS != 0 and source.pixel == LANES and stride_x <= 2 and (width == 3 or width == 5)
    for b in range(planes.size):
        w, shift = weights + b * tap_count * VECTOR_BYTES, bias + b * VECTOR_BYTES
        finish, at, slot = activation(act, slopes, b), planes[b] * 4, 0
        while slot < count:
            base, to = bases + slot * 8, exits(m, target, test, outs, slot, b)
            if regular and slot + 4 * QUADS <= count and are_runs(m, start + slot, 4 * QUADS):
                _quads(width, stride_x, base, at, taps, tap_count // width, w, shift, finish, to)
                slot += 4 * QUADS
            else:
                if ahead[0] != 0:
                    for k in range(width // 2, tap_count, width):  # the middle of each row; neighbours fetch the rest
                        fetch_lines(ahead[0], slot, PIXELS, 1, at + table_get(taps, k))
                if ahead[1] != 0:
                    fetch_lines(ahead[1], slot, PIXELS, 1, b * target.plane * 4)
                depthwise_block(base, at, taps, tap_count, w, shift, finish, to)
                slot += PIXELS


@jit
def convolve_depthwise(
    arena: np.ndarray, source: Map, planes: np.ndarray, taps: np.ndarray, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int,
    act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Depthwise convolution at the listed output pixels; arguments as in `convolve`, but for

    planes : int64[blocks], element offset of each input block from the source's origin.
    taps : int64[k], byte offsets. weights : float32[blocks, k, 16].
    """
    blocks, total = planes.size, 0
    bases, outs, next_bases, next_outs = address_table(), address_table(), address_table(), address_table()
    width = regular_width(taps)
    m, slopes = memory(arena, pixels, scratch, blocks, written), address_of(slope)
    all_taps, all_weights, all_bias = address_of(taps), address_of(weights), address_of(bias)
    chunk = chunk_pixels(test)
    fetches, count = test.mode != STORE, min(chunk, pixels.shape[0])
    fill_addresses(m, source, stride_y, stride_x, 0, count, bases)
    fill_addresses(m, target, 1, 1, 0, count, outs)
    for start in range(0, pixels.shape[0], chunk):
        following = min(chunk, pixels.shape[0] - start - count)
        fill_addresses(m, source, stride_y, stride_x, start + count, following, next_bases)
        fill_addresses(m, target, 1, 1, start + count, following, next_outs)
        ahead = (next_bases, next_outs) if fetches and following > 0 else (0, 0)
        reset_metrics(m, test)
        depthwise_pixels(
            m, target, test, start, count, bases, outs, ahead, source, stride_x, width, planes, all_taps, taps.size,
            all_weights, all_bias, act, slopes,
        )  # fmt: skip
        total += commit_pixels(m, target, start, count, test, outs)
        bases, outs, next_bases, next_outs, count = next_bases, next_outs, bases, outs, following
    return total
