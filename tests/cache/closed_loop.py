"""Checks the engine's invariant on a live session: no stored value strays from its step by more than the threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cache.arena import MapInfo, aligned_zeros
from cache.graph import QUANTISED_OPS
from cache.plan import every_pixel
from cache.session import Session
from cache.state import State, Workspace
from kernels.layout import Test
from kernels.program import ORIGIN
from kernels.simd import STORE


def image_of(session: Session) -> np.ndarray:
    """The whole image that a session's maps were computed from, where it lies outside the arena."""
    layout = session.plan.maps[0]
    if not session._reference_valid or not layout.outside:
        return session._tensor
    image = aligned_zeros(layout.room)
    session._opening.show(image)
    return image


def arena_of(session: Session) -> np.ndarray:
    """A copy of a session's maps, each at the place that the plan gives it."""
    plan, state = session.plan, session._state
    arena = aligned_zeros(state.arena.size)
    if state.slider is None:
        arena[:] = state.arena
        return arena
    for info, origin in zip(plan.maps, state.slider.maps[:, ORIGIN].tolist(), strict=True):
        if not info.outside:
            info.view(arena)[...] = replace(info, origin=origin).view(state.arena)
    return arena


def values(info: MapInfo, op: str, arena: np.ndarray) -> np.ndarray:
    """A map as its step sees it, [blocks, H, W, channels of a block]: float32, or bytes."""
    found = info.view(arena)
    found = found[None] if info.is_interleaved else found
    is_bytes = op in QUANTISED_OPS and op != "dequantise"
    return found.view(np.uint8) if is_bytes else found


def channels_of(blocks: np.ndarray, lanes: np.ndarray) -> np.ndarray:
    """The lanes of [blocks, H, W, lanes of a block] that hold a channel: [H, W, C]."""
    every = np.moveaxis(blocks, 0, 2)
    return every.reshape(*every.shape[:2], -1)[..., lanes]


def largest_excess(session: Session) -> float:
    """How far the worst pixel of any step lies above its threshold (root mean square; 0 or less is inside).

    Each step is recomputed whole from the stored inputs on a copy of the arena. In units of the step's spread. What
    lies in lanes that hold no channel counts for nothing.
    """
    plan, worst = session.plan, -np.inf
    held = arena_of(session)
    copy, space = State(plan.maps, held.copy()), Workspace()
    copy.borrow(space, plan.needs)
    copy.look_at(image_of(session))
    for index, planned in enumerate(plan.steps):
        step, info = planned.step, plan.maps[planned.step.target]
        for read in step.reads:
            copy.written[read.map][:] = 1
        stored, found = (values(info, step.op, arena) for arena in (held, copy.arena))
        distances = []
        for method in (step.method, step.few):  # what is stored was computed by one of them
            if method is not None:
                pixels = every_pixel(info.height, info.width, method.grain)
                copy.compute(method, pixels, Test(STORE, 0.0, method.grain))
                difference = channels_of(found.astype(np.float64) - stored, planned.lanes)
                distances.append(np.sqrt((difference**2).sum(axis=2) / step.channels))
        found[...] = stored  # the next step reads what is stored
        rms = np.min(distances, axis=0)
        limit = 0.0 if session.exact else planned.epsilon * session._spread[index]
        # A pixel outside a short list keeps what a whole tile gave it: the two methods round differently.
        unit = max(session._spread[index], float(stored.std()) if step.few is not None else 0.0, 1e-6)
        worst = max(worst, float((rms - limit).max() / unit))
    return worst
