"""Checks the engine's invariant on a live session: no stored value strays from its step by more than the threshold."""

from __future__ import annotations

import numpy as np

from cache.session import Session
from cache.steps import State
from kernels.layout import Test
from kernels.masks import list_pixels
from kernels.simd import STORE


def largest_excess(session: Session) -> float:
    """How far the worst pixel of any step lies above its threshold (root mean square; 0 or less is inside).

    Each step is recomputed whole from the stored inputs on a copy of the arena. In units of the step's spread.
    """
    plan, state, worst = session.plan, session._state, -np.inf
    copy = State(
        state.arena.copy(), [np.ones_like(m) for m in state.written], list(state.touched), state.scratch, state.work
    )
    for index, planned in enumerate(plan.steps):
        step, info = planned.step, plan.maps[planned.step.target]
        stale = np.ones((info.height, info.width), np.uint8)
        pixels = np.empty((stale.size + 16 * (stale.shape[0] + stale.shape[1] + 16), 2), np.int32)
        listed, _ = list_pixels(stale, step.grain, pixels)
        for read in step.reads:
            copy.written[read.map][:] = 1
        step.compute(copy, pixels[:listed], Test(STORE, 0.0, step.grain))
        stored, found = info.view(state.arena), info.view(copy.arena)
        rms = np.sqrt(((found.astype(np.float64) - stored) ** 2).sum(axis=(0, 3)) / step.channels)
        found[...] = stored  # the next step reads what is stored
        limit = 0.0 if session.exact else planned.epsilon * session._spread[index]
        worst = max(worst, float((rms - limit).max() / max(session._spread[index], 1e-6)))
    return worst
