"""Masks of stale pixels: packed to bits, projected from a step's input to its output, turned into lists of pixels.

A mask is uint8[H, W], C-contiguous, 0 or 1. Packed, it is uint64[H, ceil(W / 64)]: bit x % 64 of word x // 64 is column
x, bits past the width are 0. Knows neither feature maps nor kernels.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import jit
from kernels.simd import address_of, run_set
from kernels.simd_bits import first_bit, set_bytes

__all__ = ["list_packed", "list_part", "list_pixels", "marked_rows", "pack_mask", "project_packed"]

BITS = 64
EVEN = np.uint64(0x5555555555555555)
EVERY_FOURTH = np.uint64(0x1111111111111111)
EVERY_EIGHTH = np.uint64(0x0101010101010101)
EVERY_16TH = np.uint64(0x0001000100010001)
EVERY_32ND = np.uint64(0x0000000100000001)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
ZERO, ONE = np.uint64(0), np.uint64(1)


@jit
def any_in_row(mask: np.ndarray, y: int) -> bool:
    """Whether a row of a mask uint8[H, W] holds a mark."""
    width = mask.shape[1]
    address = address_of(mask) + y * width
    for word in range(width // BITS):
        if set_bytes(address + word * BITS) != ZERO:
            return True
    rest = np.uint8(0)
    for x in range(width // BITS * BITS, width):
        rest |= mask[y, x]
    return bool(rest != 0)


@jit
def marked_rows(mask: np.ndarray) -> tuple[int, int]:
    """First row of a mask uint8[H, W] that holds a mark, and the row after the last one; (0, 0) where none does."""
    first, end = 0, mask.shape[0]
    while first < end and not any_in_row(mask, first):
        first += 1
    if first == end:
        return 0, 0
    while not any_in_row(mask, end - 1):
        end -= 1
    return first, end


@jit
def pack_mask(mask: np.ndarray, packed: np.ndarray) -> int:
    """packed = the mask uint8[H, W] in bits; returns the rows that hold a mark."""
    height, width = mask.shape
    whole, rows = width // BITS, 0
    for y in range(height):
        address, seen = address_of(mask) + y * width, ZERO
        for word in range(whole):
            bits = set_bytes(address + word * BITS)
            packed[y, word] = bits
            seen |= bits
        if width > whole * BITS:
            rest = ZERO
            for x in range(whole * BITS, width):
                rest |= np.uint64(mask[y, x] != 0) << np.uint64(x - whole * BITS)
            packed[y, whole] = rest
            seen |= rest
        rows += seen != ZERO
    return rows


@jit
def _or_shifted(row: np.ndarray, by: int, out: np.ndarray) -> None:
    """Bit x of out |= bit x + by of row; bits outside the row are 0."""
    words, bits = by // BITS, np.uint64(by % BITS)  # floored: bits is never negative
    count = row.size
    for i in range(out.size):
        at = i + words
        low = row[at] if 0 <= at < count else ZERO
        if bits == ZERO:
            out[i] |= low
        else:
            high = row[at + 1] if 0 <= at + 1 < count else ZERO
            out[i] |= (low >> bits) | (high << (np.uint64(BITS) - bits))


@jit
def _even_bits(word: np.uint64) -> np.uint64:
    """Bits 0, 2, 4, ... of a word, side by side."""
    word &= EVEN
    word = (word | (word >> np.uint64(1))) & np.uint64(0x3333333333333333)
    word = (word | (word >> np.uint64(2))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    word = (word | (word >> np.uint64(4))) & np.uint64(0x00FF00FF00FF00FF)
    word = (word | (word >> np.uint64(8))) & np.uint64(0x0000FFFF0000FFFF)
    return (word | (word >> np.uint64(16))) & np.uint64(0x00000000FFFFFFFF)


@jit
def _any_between(row: np.ndarray, low: int, high: int, step: int) -> bool:
    """Whether any bit low, low + step, ... up to high is set."""
    seen = ZERO
    for x in range(low, high + 1, step):
        seen |= row[x // BITS] >> np.uint64(x % BITS)
    return bool(seen & ONE != ZERO)


@jit
def _project_row(
    row: np.ndarray, stride: int, taps: int, offset: int, low: np.ndarray, high: np.ndarray, step: int,
    wide: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """out = the columns that see a bit of the row; `wide` is room for the row, and for the outputs times `stride`."""
    width = low.size
    out[:] = ZERO
    if stride == 1:
        for t in range(taps):
            _or_shifted(row, offset + t * step, out)
    elif stride > 1 and stride & (stride - 1) == 0:
        wide[:] = ZERO
        for t in range(taps):
            _or_shifted(row, offset + t * step, wide)
        count = wide.size
        while stride > 1:  # every other bit, until one of `stride` is left
            for i in range((count + 1) // 2):
                right = _even_bits(wide[2 * i + 1]) if 2 * i + 1 < count else ZERO
                wide[i] = _even_bits(wide[2 * i]) | (right << np.uint64(32))
            count, stride = (count + 1) // 2, stride // 2
        out[:] = wide[: out.size]
    else:
        for x in range(width):
            if _any_between(row, low[x], high[x], step):
                out[x // BITS] |= ONE << np.uint64(x % BITS)
    if width % BITS:
        out[width // BITS] &= ALL >> np.uint64(BITS - width % BITS)


@jit
def project_packed(
    packed: np.ndarray, row_low: np.ndarray, row_high: np.ndarray, row_step: int, col_low: np.ndarray,
    col_high: np.ndarray, col_step: int, stride: int, taps: int, offset: int, stale: np.ndarray,
) -> None:  # fmt: skip
    """Mark the outputs that see a marked input: stale[y, x] |= any(mask[rows of y, columns of x]).

    packed : uint64[Hin, words], the input's mask. stale : uint64[Hout, words], packed too.
    row_low, row_high : int32[Hout], first and last input row that each output row reads; empty where low > high.
    row_step : distance between the rows read (the dilation). col_low, col_high, col_step : the same for columns,
    int32[Wout]. stride, taps, offset : where stride is not 0, the columns are x * stride + offset + t * col_step for t
    below `taps`, those outside the input left out; 0 says that only the tables know. Powers of two are fast.
    """
    words = stale.shape[1]
    projected = np.empty((packed.shape[0], words), np.uint64)
    state = np.zeros(packed.shape[0], np.int8)  # 0: not seen yet, 1: projected, 2: nothing in it
    # A bit past the input's end that is still below `wide` is needed where the last output's first taps lie there.
    wide = np.empty(max(packed.shape[1], max(stride, 1) * words), np.uint64)
    for y in range(stale.shape[0]):
        for r in range(row_low[y], row_high[y] + 1, row_step):
            if state[r] == 0:
                seen, other = ZERO, ZERO
                above = max(r - 1, 0)
                for word in range(packed.shape[1]):
                    seen |= packed[r, word]
                    other |= packed[r, word] ^ packed[above, word]
                state[r] = 2
                if seen != ZERO and state[above] == 1 and other == ZERO:  # as in tiles and blocks
                    projected[r] = projected[above]
                    state[r] = 1
                elif seen != ZERO:
                    _project_row(packed[r], stride, taps, offset, col_low, col_high, col_step, wide, projected[r])
                    state[r] = 1
            if state[r] == 1:
                for word in range(words):
                    stale[y, word] |= projected[r, word]


@jit
def _blocks_of(word: np.uint64, block: int) -> np.uint64:
    """The first bit of every aligned group of `block` bits that holds one."""
    if block > 1:
        word |= word >> ONE
    if block > 2:
        word |= word >> np.uint64(2)
    if block > 4:
        word |= word >> np.uint64(4)
    if block > 8:
        word |= word >> np.uint64(8)
    if block > 16:
        word |= word >> np.uint64(16)
    if block > 32:
        word |= word >> np.uint64(32)
    if block == 2:
        word &= EVEN
    elif block == 4:
        word &= EVERY_FOURTH
    elif block == 8:
        word &= EVERY_EIGHTH
    elif block == 16:
        word &= EVERY_16TH
    elif block == 32:
        word &= EVERY_32ND
    elif block >= 64:
        word &= ONE
    return word


@jit
def _list_block(pixels: np.ndarray, at: int, top: int, left: int, block: int, height: int, width: int) -> None:
    """The pixels of one block, clamped to the map."""
    p = np.uint64(at)
    if block >= 4 and left + block <= width:
        entry = address_of(pixels) + at * 8
        for y in range(top, top + block):
            for x in range(left, left + block, 4):
                run_set(entry, min(y, height - 1), x)
                entry += 32
        return
    for y in range(top, top + block):
        row = np.int32(min(y, height - 1))
        for x in range(left, left + block):
            pixels[p, 0] = row
            pixels[p, 1] = np.int32(min(x, width - 1))
            p += ONE


@jit
def list_packed(stale: np.ndarray, height: int, width: int, block: int, pixels: np.ndarray) -> tuple[int, int]:
    """List the pixels of every aligned `block` x `block` block that holds a stale pixel, block after block.

    stale : uint64[H, words], packed. height, width : of the map in pixels. block : a power of two up to 128. pixels :
        int32[capacity, 2], filled with (y, x) in row-major order within a block; coordinates past the map's end are
        clamped to it, so that every block has block * block entries.

    Returns the entries listed and the distinct pixels of the map among them.
    Raises ValueError for another block, or when `pixels` could not hold a map that is stale everywhere.
    """
    if block not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise ValueError("expected a block of 1, 2, 4, 8, 16, 32, 64 or 128 pixels")
    rows, columns = (height + block - 1) // block, (width + block - 1) // block
    if pixels.shape[0] < rows * columns * block * block:
        raise ValueError("expected room for every block of the map in pixels")
    listed, distinct = 0, 0
    for top in range(0, height, block):
        bottom = min(top + block, height)
        for word in range(stale.shape[1]):
            bits = ZERO
            for y in range(top, bottom):
                bits |= stale[y, word]
                if block > BITS and word % 2 == 0 and word + 1 < stale.shape[1]:
                    bits |= stale[y, word + 1]
            if block > BITS and word % 2 == 1:  # listed with the word before
                continue
            bits = _blocks_of(bits, block)
            while bits != ZERO:
                left = word * BITS + first_bit(bits)
                bits &= bits - ONE
                _list_block(pixels, listed, top, left, block, height, width)
                listed += block * block
                distinct += (bottom - top) * (min(left + block, width) - left)
    return listed, distinct


@jit
def list_part(height: int, width: int, block: int, first: int, end: int, pixels: np.ndarray) -> tuple[int, int]:
    """List blocks `first` to `end` - 1 of a map, counted row by row.

    Other arguments and the result as in `list_packed`.
    """
    columns = (width + block - 1) // block
    if pixels.shape[0] < (end - first) * block * block:
        raise ValueError("expected room for every block of the part in pixels")
    listed, distinct = 0, 0
    for number in range(first, end):
        top, left = number // columns * block, number % columns * block
        _list_block(pixels, listed, top, left, block, height, width)
        listed += block * block
        distinct += (min(top + block, height) - top) * (min(left + block, width) - left)
    return listed, distinct


@jit
def list_pixels(stale: np.ndarray, block: int, pixels: np.ndarray) -> tuple[int, int]:
    """`list_packed` of a mask uint8[H, W]."""
    height, width = stale.shape
    packed = np.zeros((height, (width + BITS - 1) // BITS), np.uint64)
    pack_mask(stale, packed)
    return list_packed(packed, height, width, block, pixels)
