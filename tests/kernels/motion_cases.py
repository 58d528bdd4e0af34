"""Drawn arguments for the kernels of `kernels.motion`."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from kernel_cases import Case, case, memory, ranges

from kernels.reference.masks import bits_of


@case
def explained_tiles(draw: Any) -> Case:
    """A picture moved by one of the shifts, but for some bytes; tiles cut off; limits that tiles meet exactly."""
    m = memory(draw)
    height, width, channels = draw(st.integers(1, 40)), draw(st.integers(1, 60)), draw(st.integers(1, 4))
    reference = m.rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    shifts = m.rng.integers(-12, 13, (draw(st.integers(0, 6)), 2)).astype(np.int32)
    frame = np.roll(reference, shifts[-1], (0, 1)) if len(shifts) else reference.copy()
    frame ^= (m.rng.random(frame.shape) < 0.02).astype(np.uint8)
    tile = draw(st.sampled_from([4, 8, 16]))
    corners = np.stack(np.mgrid[:height:tile, :width:tile], -1).reshape(-1, 2).astype(np.int32)
    corners = corners[m.rng.random(len(corners)) < 0.8]
    limits = m.rng.choice([0, 1, 3, 80 * tile * tile], len(corners)).astype(np.int32)
    return {
        "frame": frame, "reference": reference, "corners": corners, "shifts": shifts, "tile": tile, "limits": limits,
        "misses": draw(st.integers(1, 8)), "counts": np.zeros(len(shifts), np.int64),
    }  # fmt: skip


@case
def mark_moved(draw: Any) -> Case:
    """Windows, repeated pixels, and ranges that only the tables know; moves that fit them and others."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = (ranges(draw, rng, draw(st.integers(1, 70))) for _ in range(2))
    down, right, by = draw(st.integers(-5, 5)), draw(st.integers(-5, 5)), draw(st.integers(0, 3))
    stale = (rng.random((rows[0].size, columns[0].size)) < 0.01).astype(np.uint8)
    return {
        "row_low": rows[0], "row_high": rows[1], "col_low": columns[0], "col_high": columns[1],
        "source_down": down * by, "source_right": right * by, "down": down, "right": right, "stale": bits_of(stale),
    }  # fmt: skip


@case
def clear_borders(draw: Any) -> Case:
    """Rows and blocks with and without anything between and around them, moved by some px or out of their place."""
    m, places, moves = memory(draw), [], []
    for _ in range(draw(st.integers(0, 3))):
        blocks, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
        target, _ = m.place(blocks, height, width, draw(st.sampled_from([1, 3, 16])))
        before = draw(st.integers(0, min(40, target.origin)))
        places.append([*target, blocks, height, width, before, draw(st.integers(0, 16))])
        moves.append([draw(st.integers(-6, 6)), draw(st.integers(-6, 6)), draw(st.integers(0, 1))])
    tables = {"places": np.array(places, np.int64).reshape(-1, 9), "moves": np.array(moves, np.int64).reshape(-1, 3)}
    return {"arena": m.arena(), **tables}
