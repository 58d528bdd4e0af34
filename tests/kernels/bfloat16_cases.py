"""Drawn arguments for the bfloat16 convolution: small integers, exact in every type."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from kernel_cases import CASES, Case, finishing, memory, output_size

from kernels.bfloat16 import work_elements
from kernels.constants import LANES
from kernels.emit_bfloat16 import HAS_BFLOAT16


@st.composite
def convolve_bfloat16(draw: Any) -> Case:
    """1x1 to 3x3, any stride, several groups of outputs, blocks of the input in any order."""
    m = memory(draw)
    (height, width), in_blocks = output_size(draw), draw(st.integers(1, 3))
    ky, kx, sy, sx = (draw(st.integers(1, n)) for n in (3, 3, 2, 2))
    vectors = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    source, planes = m.place(in_blocks, (height - 1) * sy + ky, (width - 1) * sx + kx)
    window = np.add.outer(np.arange(ky) * source.row, np.arange(kx) * source.pixel).reshape(-1)
    taps = (np.add.outer(planes, window).reshape(-1) * 4).astype(np.int64)
    spans, weights, first, at = [], [], 0, 0
    for count in vectors:
        spans.append([first, count, at])
        values = m.integers(taps.size * LANES * count * LANES)
        weights.append((values.view(np.uint32) >> 16).astype(np.uint16).view(np.float32))
        at += weights[-1].size
        first += count
    return finishing(m, first, height, width) | {
        "arena": m.arena(), "source": source, "taps": taps, "spans": np.array(spans, np.int64), "weights":
        np.concatenate(weights), "bias": m.integers(first * LANES), "stride_y": sy, "stride_x": sx, "work":
        np.zeros(work_elements(taps.size), np.float32),
    }  # fmt: skip


if HAS_BFLOAT16:  # elsewhere no plan asks for it
    CASES["convolve_bfloat16"] = convolve_bfloat16()
