"""What a session with float16 maps must hold: every stored map beside its step recomputed whole from the stored inputs.

Knows nothing of windows, segments or threads: whole maps are expanded by NumPy into a float32 arena, the step's kernel
runs once over all of its pixels, NumPy rounds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cache.arena import aligned_zeros
from cache.half import HalfLayout, HalfState, to_half
from cache.plan import PlannedStep, every_pixel
from cache.session import Session
from cache.state import State, Workspace
from cache.steps import Method
from kernels.layout import Test
from kernels.simd import STORE

Array = np.ndarray


def stored_bits(session: Session, index: int) -> Array:
    """uint16[blocks, H, W, 16], what a session's store holds of a map; [H, W, C] of an interleaved one."""
    state = session._state
    assert isinstance(state, HalfState)
    return np.array(state.layout.stored[index].view(state.store))


def recomputed(session: Session, planned: PlannedStep, method: Method, image: Array) -> Array:
    """uint16[blocks, H, W, 16], a step of all pixels of the stored inputs. image : the one outside the arena."""
    plan, layout = session.plan, session.plan.half
    assert isinstance(layout, HalfLayout)
    copy, step = State(plan.maps, aligned_zeros(plan.arena_elements)), planned.step
    copy.borrow(Workspace(), plan.needs)
    copy.look_at(image)
    for read in step.reads:
        copy.written[read.map][:] = 1
        if layout.is_stored[read.map]:
            plan.maps[read.map].view(copy.arena)[...] = stored_bits(session, read.map).view(np.float16)
    info = plan.maps[step.target]
    copy.compute(method, every_pixel(info.height, info.width, method.grain), Test(STORE, 0.0, method.grain))
    return to_half(info.view(copy.arena))


def compared(session: Session, image: Array) -> Iterator[tuple[PlannedStep, Array, list[Array]]]:
    """Each step, what is stored of it, and what each of its methods gives; all float16."""
    for planned in session.plan.steps:
        step = planned.step
        ways = [way for way in (step.method, step.few) if way is not None]
        found = [recomputed(session, planned, way, image).view(np.float16) for way in ways]
        yield planned, stored_bits(session, step.target).view(np.float16), found


def largest_excess(session: Session, image: Array) -> float:
    """How far the worst pixel of any step lies above its threshold, as `closed_loop.largest_excess` has it."""
    worst = -np.inf
    for index, (planned, stored, ways) in enumerate(compared(session, image)):
        squares = [((way.astype(np.float64) - stored) ** 2).sum(axis=(0, 3)) / planned.step.channels for way in ways]
        rms = np.sqrt(np.min(squares, axis=0))
        limit = 0.0 if session.exact else planned.epsilon * session._spread[index]
        spread = float(stored.astype(np.float64).std()) if planned.step.few is not None else 0.0
        worst = max(worst, float((rms - limit).max() / max(session._spread[index], spread, 1e-6)))
    return worst
