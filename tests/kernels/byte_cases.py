"""Drawn arguments for the kernels on byte maps; see `kernel_cases`."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from kernel_cases import Array, Case, Memory, case, finishing, memory, output_size, some_rows

from kernels import constants as codes
from kernels.byte_maps import Exit, Terms
from kernels.constants import LANES, VECTOR_BYTES
from kernels.emit_int8 import BYTE_VECTORS, QUADS
from kernels.layout import Map, Test, Window


def byte_arena(m: Memory) -> Array:
    """Random bytes, small ones half the time so that squares stay near the limits; every float in it is finite."""
    high = 256 if m.draw(st.booleans()) else 4
    data = m.rng.integers(0, high, m.size * 4).astype(np.uint8)
    data[3::4] &= 0x3F  # the exponent of what kernels of float maps would read
    return data.view(np.float32)


def _table(m: Memory, *, always: bool = False) -> Array:
    size = 256 if always or m.draw(st.booleans()) else 0
    return m.rng.integers(0, 256, size).astype(np.uint8)


def _exit(m: Memory) -> Exit:
    zero = m.draw(st.sampled_from([0, 128, 255, 17]))
    low = float(m.some(0, 20) - zero) if m.draw(st.booleans()) else float(-zero)
    return Exit(low, float(255 - zero), zero)


def _finishing(m: Memory, slots: int, height: int, width: int) -> Case:
    ending = finishing(m, slots, height, width, act=False)
    test: Test = ending["test"]
    limit = float(m.draw(st.sampled_from([0.0, 3.0, 40.0, 9000.0])))
    return ending | {"test": test._replace(limit=limit)}


def _slots(vectors: int) -> int:
    return (vectors + 3) // 4


def _vectors(planes: Array, count: int, m: Memory) -> Array:
    """Byte offsets of the 16-channel quarters of slots, in any order: the first `count`."""
    quarters = np.add.outer(planes * 4, np.arange(4) * LANES).reshape(-1)
    return m.rng.permutation(quarters)[:count].astype(np.int64)


def _biases(m: Memory, height: int, width: int, lanes: int, high: int) -> Case:
    """A few classes of pixels by row and column."""
    return {
        "bias": m.rng.integers(-high, high, (6, lanes)).astype(np.int32),
        "rows": m.rng.integers(0, 2, height).astype(np.int32) * 3,
        "columns": m.rng.integers(0, 3, width).astype(np.int32),
    }


def _geometry(draw: Any) -> tuple[int, ...]:
    return tuple(draw(st.integers(1, n)) for n in (5, 5, 3, 3, 2, 2))


def _window_bytes(source: Map, ky: int, kx: int, dy: int, dx: int) -> Array:
    return np.add.outer(np.arange(ky) * dy * source.row, np.arange(kx) * dx * source.pixel).reshape(-1) * 4


@case
def convolve_bytes(draw: Any) -> Case:
    """Groups of output vectors that see different inputs, slots of 64 or 4 bytes, any geometry."""
    m = memory(draw)
    (height, width), narrow = output_size(draw), draw(st.booleans())
    ky, kx, sy, sx, dy, dx = _geometry(draw)
    size = (height - 1) * sy + ky * dy, (width - 1) * sx + kx * dx
    slots = draw(st.integers(1, 2))
    source, planes = m.place(slots, *size)
    if narrow:
        source = source._replace(pixel=1)
    seen = _vectors(planes, 4 * slots, m)
    window = _window_bytes(source, ky, kx, dy, dx)
    total, taps, spans, weight, first = draw(st.integers(1, 9)), [], [], 0, 0
    while first < total:
        count = m.some(1, min(BYTE_VECTORS, total - first))
        some = m.rng.permutation(seen)[: m.some(1, seen.size)]
        group = np.add.outer(some, window).reshape(-1).astype(np.int64)
        spans.append([first, count, sum(map(len, taps)), group.size, weight])
        taps.append(group)
        weight += group.size * QUADS * count * LANES * 4
        first += count
    scale = (m.rng.random(total * LANES) * draw(st.sampled_from([1e-5, 1e-3]))).astype(np.float32)
    return _finishing(m, _slots(total), height, width) | {
        "arena": byte_arena(m), "source": source, "taps": np.concatenate(taps), "spans": np.array(spans, np.int64),
        "weights": m.rng.integers(-128, 128, weight).astype(np.int8),
        "scale": scale, "ending": _exit(m), "table": _table(m), "stride_y": sy, "stride_x": sx,
    } | _biases(m, height, width, total * LANES, 2**20)  # fmt: skip


@case
def convolve_bytes_depthwise(draw: Any) -> Case:
    """Quarters of slots in any order."""
    m = memory(draw)
    (height, width), slots = output_size(draw), draw(st.integers(1, 2))
    ky, kx, sy, sx, dy, dx = _geometry(draw)
    source, planes = m.place(slots, (height - 1) * sy + ky * dy, (width - 1) * sx + kx * dx)
    vectors = _vectors(planes, draw(st.integers(1, 4 * slots)), m)
    taps = _window_bytes(source, ky, kx, dy, dx).astype(np.int64)
    lanes = vectors.size * LANES
    return _finishing(m, _slots(vectors.size), height, width) | {
        "arena": byte_arena(m), "source": source, "planes": vectors, "taps": taps,
        "weights": m.rng.integers(-128, 128, (vectors.size, taps.size, LANES)).astype(np.int16),
        "scale": (m.rng.random(lanes) * 1e-2).astype(np.float32), "ending": _exit(m), "table": _table(m),
        "stride_y": sy, "stride_x": sx,
    } | _biases(m, height, width, lanes, 2**12)  # fmt: skip


@case
def quantise(draw: Any) -> Case:
    """Small integers and halves: ties, and values beyond the limits."""
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 6))
    source, planes = m.place(blocks, height, width)
    return _finishing(m, _slots(blocks), height, width) | {
        "arena": m.integers(m.size, high=300), "source": source, "planes": planes, "scale":
        float(draw(st.sampled_from([2.0, 0.7, 1.0]))), "ending": _exit(m), "table": _table(m),
    }  # fmt: skip


@case
def quantise_image(draw: Any) -> Case:
    """One to four channels."""
    m = memory(draw)
    (height, width), channels = output_size(draw), draw(st.integers(1, 4))
    source, _ = m.place(1, height, width, LANES)
    if draw(st.booleans()):
        source = source._replace(pixel=channels)
    ending = _finishing(m, 1, height, width)
    mode = draw(st.sampled_from([codes.STORE, codes.TEST_BITS]))
    target = ending["target"]._replace(pixel=1)
    return ending | {
        "arena": m.integers(m.size, high=300), "source": source, "channels": channels, "scale": 0.7, "ending": _exit(m),
        "test": ending["test"]._replace(mode=mode), "target": target,
    }  # fmt: skip


@case
def dequantise(draw: Any) -> Case:
    """Scales of powers of two, so that decisions on sums of squares are exact."""
    m = memory(draw)
    (height, width), slots = output_size(draw), draw(st.integers(1, 2))
    source, planes = m.place(slots, height, width)
    vectors = _vectors(planes, draw(st.integers(1, 4 * slots)), m)
    return finishing(m, vectors.size, height, width) | {
        "arena": byte_arena(m), "source": source, "planes": vectors, "scale": np.array([0.25], np.float32),
        "zero": draw(st.integers(0, 255)),
    }  # fmt: skip


def _two_maps(draw: Any) -> tuple[Memory, Case]:
    m = memory(draw)
    (height, width), slots = output_size(draw), draw(st.integers(1, 3))
    source, planes = m.place(slots, height, width)
    second, second_planes = m.place(slots, height, width)
    if draw(st.booleans()):
        second = second._replace(row=0, pixel=0)
    return m, _finishing(m, slots, height, width) | {
        "vectors": 4 * slots - m.some(0, 3), "first": source, "first_planes": planes, "second": second,
        "second_planes": second_planes,
    }  # fmt: skip


@case
def combine_bytes(draw: Any) -> Case:
    """Ties, offsets of signed and unsigned bytes, the second operand possibly one pixel for all."""
    m, found = _two_maps(draw)
    offsets = [float(draw(st.sampled_from([0, 128, 7]))) for _ in range(2)]
    factors = [float(draw(st.sampled_from([0.5, 0.0123, 1.0]))) for _ in range(2)]
    return found | {
        "op": draw(st.sampled_from([codes.ADD, codes.MUL])), "arena": byte_arena(m),
        "terms": Terms(*offsets, *factors, float(m.some(-40, 40)) / 2), "ending": _exit(m), "table": _table(m),
    }  # fmt: skip


@case
def look_up(draw: Any) -> Case:
    """Any table."""
    m = memory(draw)
    (height, width), slots = output_size(draw), draw(st.integers(1, 3))
    source, planes = m.place(slots, height, width)
    return _finishing(m, slots, height, width) | {
        "arena": byte_arena(m), "source": source, "planes": planes, "table": _table(m, always=True),
    }  # fmt: skip


@case
def pool_max_bytes(draw: Any) -> Case:
    """Windows that reach past every edge."""
    m = memory(draw)
    (height, width), slots = output_size(draw), draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 5)) for _ in range(2)]
    strides, dilations = ([draw(st.integers(1, n)) for _ in range(2)] for n in (3, 2))
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    size = [max(1, (n - 1) * strides[i] + kernel[i] - pads[i]) for i, n in enumerate((height, width))]
    source, planes = m.place(slots, *size)
    return _finishing(m, slots, height, width) | {
        "arena": byte_arena(m), "source": source, "planes": planes, "height": size[0], "width": size[1],
        "window": Window(*kernel, *strides, *dilations, *pads),
    }  # fmt: skip


@case
def pack_bytes(draw: Any) -> Case:
    """Channels of any byte of any slot, some of them zeros."""
    m = memory(draw)
    (height, width), slots = output_size(draw), draw(st.integers(1, 2))
    source, planes = m.place(draw(st.integers(1, 2)), height, width)
    lanes = np.append(np.add.outer(planes * 4, np.arange(VECTOR_BYTES)).reshape(-1), -1)
    return _finishing(m, slots, height, width) | {
        "arena": byte_arena(m), "source": source, "channels": m.rng.choice(lanes, slots * VECTOR_BYTES),
    }  # fmt: skip


@case
def spread_bytes(draw: Any) -> Case:
    """Some channels of a map."""
    m = memory(draw)
    (height, width), slots = output_size(draw), draw(st.integers(1, 2))
    source, _ = m.place(slots, height, width)
    lanes = np.flatnonzero(m.rng.random(slots * VECTOR_BYTES) < 0.5).astype(np.int64)
    return {"arena": byte_arena(m), "source": source, "height": height, "width": width, "lanes": lanes}


@case
def unpack_bytes(draw: Any) -> Case:
    """Any channels of a byte map, signed or not; all of its rows, some, or none."""
    m = memory(draw)
    (height, width), channels = output_size(draw), draw(st.integers(1, 20))
    source, planes = m.place(2, height, width)
    every = source.origin * 4 + np.add.outer(planes * 4, np.arange(VECTOR_BYTES)).reshape(-1)
    first, end = some_rows(draw, height)
    return {
        "arena": byte_arena(m), "channels": m.rng.choice(every, channels), "row": source.row, "pixel": source.pixel,
        "flip": draw(st.sampled_from([0, 128])), "first": first, "end": end,
        "out": np.zeros((channels, height, width), np.uint8),
    }  # fmt: skip
