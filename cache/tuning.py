"""Which way to compute each node, by measurement on this machine; kept on disk, so that the choice is made once.

Of nodes with two methods (a 3x3 convolution directly and by Winograd's method, a large one directly and by Fourier
transforms, a wide one in float32 and in bfloat16) whichever is faster on the whole map becomes the step's method: the
one of keyframes, and the only one in exact mode. The other stays where it is faster on short lists. And all steps
together tell from which share of the work on a frame is cheaper computed whole, row by row and without a comparison,
than in blocks that are compared; and what a frame gains where another stream's has fetched the weights just before.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cache.arena import aligned_zeros
from cache.plan import Plan, PlannedStep, every_pixel, list_capacity, plan_step
from cache.program import assemble
from cache.state import State, workspace
from cache.steps import Cost, Method, Pixels, Step
from kernels import FOLDER
from kernels.constants import STORE, TEST_BITS, TEST_RMS
from kernels.layout import Test

ROUNDS = 5
SHORT_PX = 16
ENOUGH_NS = 250_000_000
"""Nanoseconds after which no further round of measurements is begun."""

Costs = Mapping[str, Mapping[str, Cost]]
"""By step, by entry; and of all steps together (`ALL_STEPS`) by `ROWS` and `BLOCKS`, `FIRST` and `NEXT`."""
ALL_STEPS, ROWS, BLOCKS, FIRST, NEXT = "", "rows", "blocks", "first", "next"
WHOLES = {ROWS, BLOCKS, FIRST, NEXT}
LEAST_SHARE = 0.5
"""Of the work, below which no frame is taken to be cheaper computed whole, whatever was measured."""
FEW_PIXELS = 0.1
"""Of each map, what a partial frame is taken to recompute."""
MOST_TOGETHER = 4
"""Frames that go through the steps together, where it is worth it: with more each gains little, and waits longer."""
WORTH = 0.85
"""Of what they take one after the other, from which it is: all are done at the end, of four 1.6 times as late."""


def tuned(plan: Plan, model_key: str, folder: Path | None = None) -> Plan:
    """The same plan with each node's methods chosen by their costs on this machine.

    model_key : names the model's bytes (its SHA-256). folder : where costs are kept, by default in the folder of
    compiled kernels, which is named after this CPU and the kernels' sources. The choice is the same as long as the
    file is there; what cannot be read is measured again, what cannot be written only warned of.
    """
    open_steps = [planned for planned in plan.steps if planned.step.few is not None]
    parts = ["x".join(map(str, plan.input_shape)), *(planned.step.name for planned in open_steps)]
    parts += [f"{planned.step.name}/{planned.block}" for planned in plan.steps]
    if plan.policy.compute_dtype != "float32":
        parts.append(plan.policy.compute_dtype)
    name = f"{model_key[:16]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.json"
    file = (folder or FOLDER / "costs") / name
    costs = _read(file, open_steps)
    if costs is None:
        costs = measure(plan)
        _write(file, costs)
    return choose(plan, costs)


def measure(plan: Plan) -> Costs:
    """Costs of the methods of steps that have two, from a list of a few pixels and of the whole map; and of all."""
    state = State(plan.maps, aligned_zeros(plan.arena_elements))
    state.borrow(workspace(), plan.needs)
    if plan.maps[0].outside:
        state.look_at(workspace().image(plan.maps[0]))
    times: dict[tuple[str, str, bool], list[int]] = {}
    sizes: dict[tuple[str, str, bool], int] = {}
    begun = time.perf_counter_ns()
    for turn in range(1 + ROUNDS):  # the first one warms up
        for planned in plan.steps:
            for way in _methods(planned.step):
                target = plan.maps[planned.step.target]
                everything, block = every_pixel(target.height, target.width, way.grain), way.grain
                for whole in (False, True):
                    pixels = everything if whole else everything[: max(SHORT_PX, block * block)]
                    start = time.perf_counter_ns()
                    state.compute(way, pixels, Test(STORE, 0.0, block))
                    key = planned.step.name, way.entry.name, whole
                    sizes[key] = len(pixels)
                    if turn:
                        times.setdefault(key, []).append(time.perf_counter_ns() - start)
        if turn and time.perf_counter_ns() - begun > ENOUGH_NS:
            break
    costs: dict[str, dict[str, Cost]] = {}
    for step, entry, whole in times:
        if whole:
            short, long = ((min(times[step, entry, w]), sizes[step, entry, w]) for w in (False, True))
            costs.setdefault(step, {})[entry] = _line(short, long)
    return {**costs, ALL_STEPS: {**_all_steps(plan, state), **_streams(plan, state)}}


def _all_steps(plan: Plan, state: State) -> dict[str, Cost]:
    """Every step's whole map: row by row and stored, and in the blocks of partial frames and compared."""
    rows, blocks, begun = 0, 0, time.perf_counter_ns()
    for planned in plan.steps:
        target, way, test = plan.maps[planned.step.target], planned.step.method, TEST_BITS
        if planned.epsilon > 0:
            test = TEST_RMS
        in_blocks = every_pixel(target.height, target.width, planned.block)
        lists = ((planned.everything, Test(STORE, 0.0, way.grain)), (in_blocks, Test(test, np.inf, planned.block)))
        times: tuple[list[int], list[int]] = [], []
        for _ in range(ROUNDS if time.perf_counter_ns() - begun < ENOUGH_NS else 1):
            for (pixels, rule), found in zip(lists, times, strict=True):
                start = time.perf_counter_ns()
                state.compute(way, pixels, rule)
                found.append(time.perf_counter_ns() - start)
        rows, blocks = rows + min(times[0]), blocks + min(times[1])
    return {ROWS: Cost(0.0, rows), BLOCKS: Cost(0.0, blocks)}


def _streams(plan: Plan, state: State) -> dict[str, Cost]:
    """A tenth of every map, stretch by stretch: as the first frame finds its weights, and as the next one does.

    The next one is another tenth, since another stream's frame finds nothing but weights in the cache.
    """
    calls: list[tuple[Method, int, tuple[Pixels, Pixels]]] = []
    for planned in plan.steps:
        target, few = plan.maps[planned.step.target], planned.step.few
        way, block = (planned.step.method, planned.block) if few is None else (few, planned.few_block)
        blocks = every_pixel(target.height, target.width, block).reshape(-1, block * block, 2)
        count = max(int(len(blocks) * FEW_PIXELS), 1)
        calls.append((way, block, (blocks[:count].reshape(-1, 2), blocks[-count:].reshape(-1, 2))))
    ends, times, begun = plan.stretches.tolist(), list[list[int]](), time.perf_counter_ns()
    for turn in range(1 + 2 * ROUNDS):
        took = [0, 0]
        for first, end in pairwise(ends):
            for which in (0, 1):
                start = time.thread_time_ns()
                for way, block, lists in calls[first:end]:
                    state.compute(way, lists[which], Test(TEST_RMS, np.inf, block))
                took[which] += time.thread_time_ns() - start
        if turn:
            times.append(took)
            if time.perf_counter_ns() - begun > ENOUGH_NS:
                break
    fetching, following = np.min(times, axis=0).tolist()
    return {FIRST: Cost(0.0, float(fetching)), NEXT: Cost(0.0, float(following))}


def choose(plan: Plan, costs: Costs) -> Plan:
    """The plan with the faster method of each step first, and the other one only where it can be of use."""
    steps = tuple(_chosen(plan, planned, costs.get(planned.step.name, {})) for planned in plan.steps)
    whole_from, together = plan.whole_from, plan.together
    if ALL_STEPS in costs:
        rows, blocks = costs[ALL_STEPS][ROWS], costs[ALL_STEPS][BLOCKS]
        whole_from = round(min(max(rows.pixel_ns / max(blocks.pixel_ns, 1.0), LEAST_SHARE), 1.0), 2)
        first, following = costs[ALL_STEPS][FIRST].pixel_ns, costs[ALL_STEPS][NEXT].pixel_ns
        most = first + (MOST_TOGETHER - 1) * following
        together = MOST_TOGETHER if most <= WORTH * MOST_TOGETHER * first and first > 0 else 1
    program = assemble(steps, plan.maps, plan.half)
    return replace(plan, steps=steps, program=program, whole_from=whole_from, together=together)


def _methods(step: Step) -> tuple[Method, ...]:
    return (step.method, step.few) if step.few is not None else ()


def _line(short: tuple[int, int], long: tuple[int, int]) -> Cost:
    """The line through two (nanoseconds, pixels)."""
    if long[1] <= short[1]:
        return Cost(0.0, long[0] / long[1])
    pixel_ns = max((long[0] - short[0]) / (long[1] - short[1]), 0.0)
    return Cost(max(short[0] - pixel_ns * short[1], 0.0), pixel_ns)


def _chosen(plan: Plan, planned: PlannedStep, costs: Mapping[str, Cost]) -> PlannedStep:
    step = planned.step
    if step.few is None or {step.method.entry.name, step.few.entry.name} != set(costs):
        return planned
    target = plan.maps[step.target]
    ways = [replace(way, cost=costs[way.entry.name]) for way in _methods(step)]
    best, other = sorted(ways, key=lambda way: way.cost.of(list_capacity(target.height, target.width, way.grain)))
    least, of_best = (way.cost.of(max(16, way.grain**2)) for way in (other, best))
    few = other if other.grain < best.grain or least < of_best else None
    made = plan_step(replace(step, method=best, few=few), plan.maps, plan.policy, {step.target: planned.lanes})
    return replace(made, epsilon=planned.epsilon)


def _read(file: Path, steps: list[PlannedStep]) -> Costs | None:
    """Costs kept in a file; None where it is missing, or not of these steps."""
    try:
        found: Any = json.loads(file.read_text())
        costs = {
            step: {entry: Cost(float(call), float(each)) for entry, (call, each) in ways.items()}
            for step, ways in found.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    wanted = {p.step.name: {way.entry.name for way in _methods(p.step)} for p in steps} | {ALL_STEPS: WHOLES}
    finite = all(np.isfinite([*cost]).all() and min(cost) >= 0 for ways in costs.values() for cost in ways.values())
    return costs if finite and {step: set(ways) for step, ways in costs.items()} == wanted else None


def _write(file: Path, costs: Costs) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".tmp", delete=False) as draft:
            json.dump(costs, draft)
        os.replace(draft.name, file)
    except OSError as error:
        warnings.warn(f"{file} cannot be written ({error.strerror}): measured at every start", RuntimeWarning, 2)
