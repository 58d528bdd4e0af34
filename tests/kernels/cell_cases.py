"""Drawn arguments for the kernels of transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from kernel_cases import Case, case, finishing, memory

from kernels.constants import HALF, LANES
from kernels.reference.masks import list_pixels as list_all
from kernels.target import HALF_PIXELS


@case
def list_cells(draw: Any) -> Case:
    """Maps of whole cells; blocks that are cells, and larger ones, clamped at the map's end."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stride = draw(st.sampled_from([2, 4]))
    block, height, width = draw(st.sampled_from([stride, 4, 8])), draw(st.integers(1, 9)), draw(st.integers(1, 30))
    stale = (rng.random((height * stride, width * stride)) < draw(st.sampled_from([0.005, 0.1, 1.0]))).astype(np.uint8)
    pixels = np.zeros((-(-stale.shape[0] // block) * -(-stale.shape[1] // block) * block * block, 2), np.int32)
    count, _ = list_all(stale, block, pixels)
    cells = np.zeros((count // stride**2, 2), np.int32)
    return {
        "listed": pixels[:count], "block": block, "stride": stride, "height": height, "width": width, "cells": cells,
    }  # fmt: skip


@case
def sort_by_phase(draw: Any) -> Case:
    """Any pixels, repeated ones among them, of maps that may be smaller than a cell."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stride_y, stride_x, height, width = (draw(st.integers(1, n)) for n in (5, 5, 9, 30))
    pixels = rng.integers(0, [height, width], (draw(st.integers(0, 200)), 2)).astype(np.int32)
    return {
        "listed": pixels, "rows": (np.arange(height) // stride_y).astype(np.int32),
        "columns": (np.arange(width) // stride_x).astype(np.int32), "stride_y": stride_y, "stride_x": stride_x,
        "ends": np.zeros(min(stride_y, height) * min(stride_x, width), np.int64), "cells": np.zeros_like(pixels),
    }  # fmt: skip


@case
def convolve_cells(draw: Any) -> Case:
    """Channels that fill the lanes and that do not; dense, scattered and repeated cells."""
    m = memory(draw)
    stride = draw(st.sampled_from([2, 4]))
    channels = draw(st.integers(1, LANES // stride**2))
    height, width, blocks = draw(st.integers(1, 7)), draw(st.integers(1, 30)), draw(st.integers(1, 3))
    lanes, vectors = draw(st.sampled_from([LANES, HALF])), 1
    if HALF_PIXELS and channels * stride**2 <= HALF:
        vectors = draw(st.sampled_from([0, 1]))
    source, planes = m.place(blocks, height + 1, width + 1)
    taps = np.add.outer(planes, m.rng.choice([0, source.row, source.pixel], draw(st.integers(1, 3)), replace=False))
    cells = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 2).astype(np.int32)
    if draw(st.booleans()):
        cells = m.rng.choice(cells, draw(st.integers(1, len(cells))))
    ending = finishing(m, 1, height * stride, width * stride, listed=False)
    taps = taps + m.rng.integers(0, LANES // lanes, taps.shape) * lanes
    return ending | {
        "arena": m.arena(), "source": source, "taps": taps.reshape(-1).astype(np.int64) * 4,
        "lanes": lanes, "vectors": vectors,
        "weights": m.integers(taps.size * lanes * (vectors * LANES or HALF)),
        "bias": m.integers(LANES), "cells": cells, "stride": stride, "channels": channels,
        "act": ending["act"]._replace(before=0, after=0),
    }  # fmt: skip
