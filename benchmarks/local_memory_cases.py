"""What `benchmarks.local_memory` counts: the same work done in several ways, in a process of its own.

`python -m benchmarks.local_memory_cases ROUNDS CASES` runs every way of each case (a JSON list of lists) in turn, sees
that they give the same, and prints their times as JSON, a line for each case. With 0 rounds it has callgrind, which
must run the process, count one way after the other.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.client_requests import Request, Requests
from benchmarks.rows import Calls, in_bands, map_by_map
from cache.onnx_import import load_model
from cache.plan import Plan, PlannedStep
from cache.policy import Policy
from cache.session import FrameResult, Session
from cache.state import workspace
from cache.together import push_together
from kernels.layout import Test
from kernels.simd import STORE

Ways = dict[str, Callable[[], NDArray[np.float32]]]
COUNTED = 2
"""Calls of each way that are counted, after one that fills the caches."""
STREAMS = 4
PATCH_PX = 32


def plan_of(file: str, size: str, policy: Policy) -> Plan:
    """A model's plan, ending at its cached tensors: what ONNX Runtime would do is not counted."""
    width, height = map(int, size.split("x"))
    model = load_model(Path(file))
    plan = Plan.compile(model, (1, 3, height, width), policy=policy)
    return Plan.compile(model, plan.input_shape, tuple(plan.taps), policy=policy) if plan.tails else plan


def picture(plan: Plan, seed: int = 0) -> NDArray[np.uint8]:
    """Grain."""
    return np.random.default_rng(seed).integers(0, 256, (plan.height, plan.width, plan.channels)).astype(np.uint8)


def outputs(results: Sequence[FrameResult]) -> NDArray[np.float32]:
    """All numbers that frames gave, in one row."""
    return np.concatenate([v.ravel() for r in results for v in r.outputs.values()])


def separable(file: str, size: str) -> Ways:
    """Whole frames, depthwise and 1x1 convolutions apart, fused where maps are large, and fused everywhere."""
    ways: Ways = {}
    for name, smallest in (("apart", 1 << 40), ("fused from 2 MiB", 1 << 21), ("fused everywhere", 0)):
        plan = plan_of(file, size, Policy(separable_bytes=smallest))
        session, frame = Session(plan, exact=True), picture(plan)

        def run(session: Session = session, frame: NDArray[np.uint8] = frame) -> NDArray[np.float32]:
            session.reset()
            return outputs([session.push(frame)])

        ways[name] = run
    return ways


def streams(file: str, size: str) -> Ways:
    """Partial frames of four streams, in each of which another patch changed: one after the other, and together."""
    plan = replace(plan_of(file, size, Policy(refresh_frames=0, motion=False)), together=STREAMS)
    first = [picture(plan, seed) // 4 + 96 for seed in range(STREAMS)]
    second = [frame.copy() for frame in first]
    for number, frame in enumerate(second):
        top, left = plan.height // 3, plan.width // 5 + number * plan.width // 8
        frame[top : top + PATCH_PX, left : left + PATCH_PX] ^= 127
    ways: Ways = {}
    for name in ("one after the other", "together"):
        sessions, turn = [Session(plan) for _ in first], [0]
        for session, frame in zip(sessions, first, strict=True):
            session.push(frame)

        def run(name: str = name, sessions: list[Session] = sessions, turn: list[int] = turn) -> NDArray[np.float32]:
            turn[0] += 1
            frames = second if turn[0] % 2 else first
            if name == "together":
                results = push_together(sessions, frames)
            else:
                results = [session.push(frame) for session, frame in zip(sessions, frames, strict=True)]
            assert all(r.decision == "partial" for r in results)
            return outputs(results)

        ways[name] = run
    return ways


def layer(shape: str) -> Ways:
    """One convolution: a matrix of patches and BLAS, directly on the input with packed weights, by Winograd."""
    from benchmarks.int8 import models

    height, width, inputs, count, kernel = map(int, shape.split("x"))
    data = models(height, width, inputs, count, kernel)[0]
    model = load_model(data)
    x = np.random.default_rng(1).standard_normal((1, inputs, height, width)).astype(np.float32)
    conv = next(node for node in model.source.nodes if node.op == "onnx.Conv")
    weight = np.ascontiguousarray(model.source.constants[conv.inputs[1]].reshape(count, -1))
    around = kernel // 2
    padded = np.zeros((inputs, height + 2 * around, width + 2 * around), np.float32)
    padded[:, around : around + height, around : around + width] = x[0]

    def matrix() -> NDArray[np.float32]:
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (1, 2))
        return weight @ np.ascontiguousarray(windows).reshape(-1, height * width)

    ways: Ways = {"im2col and BLAS": matrix}
    for name, precision in (("direct", "strict"), ("Winograd", "fast")):
        plan = Plan.compile(model, policy=Policy(precision=precision))
        session = Session(plan, exact=True)
        session.push_tensor(x)
        step = next(s for s in plan.steps if s.step.op == "conv")
        if name == "Winograd" and step.step.few is None:
            continue

        def run(session: Session = session, step: PlannedStep = step) -> NDArray[np.float32]:
            way = step.step.method
            session._state.compute(way, step.everything, Test(STORE, 0.0, way.grain))
            view = session.plan.maps[step.step.target].view(session._state.arena)
            return view[:1, :4]

        ways[name] = run
    return ways


def bands(file: str, size: str) -> Ways:
    """Whole frames, map by map, and in bands of rows that go down the chain of steps."""
    plan = plan_of(file, size, Policy())
    session = Session(plan, exact=True)
    session.push_tensor(plan.tensor(picture(plan)))
    session._state.borrow(workspace(), plan.needs)
    ways: Ways = {}
    for name, calls in {
        "map by map": map_by_map(plan),
        **{f"{n} bands": in_bands(plan, n) for n in (4, 8, 16)},
    }.items():

        def run(calls: Calls = calls) -> NDArray[np.float32]:
            for way, pixels in calls:
                session._state.compute(way, pixels, Test(STORE, 0.0, way.grain))
            return session._state.arena

        ways[name] = run
    return ways


CASES: dict[str, Callable[..., Ways]] = {"separable": separable, "streams": streams, "layer": layer, "bands": bands}


def checked(case: str, *arguments: str) -> Ways:
    """The ways of a case, each run once; those that round alike give the same bits."""
    ways = CASES[case](*arguments)
    first = {name: way().copy() for name, way in ways.items()}
    if case in ("streams", "bands"):
        assert len({values.tobytes() for values in first.values()}) == 1, f"{case}: ways differ"
    return ways


def timed(ways: Ways, rounds: int) -> dict[str, float]:
    """Milliseconds of a core for each way, called in turn: medians."""
    times = np.empty((rounds, len(ways)))
    for turn in range(rounds):
        for index, way in enumerate(ways.values()):
            start = time.thread_time_ns()
            way()
            times[turn, index] = (time.thread_time_ns() - start) * 1e-6
    return dict(zip(ways, np.median(times, axis=0).tolist(), strict=True))


def counted(ways: Ways, requests: Requests) -> dict[str, float]:
    """Have callgrind dump two parts for each way: a call that fills the caches, and COUNTED calls."""
    for way in ways.values():
        requests.send(Request.START)
        way()
        requests.send(Request.DUMP)
        for _ in range(COUNTED):
            way()
        requests.send(Request.DUMP)
        requests.send(Request.STOP)
    return dict.fromkeys(ways, 0.0)


def main(rounds: int, cases: Sequence[Sequence[str]]) -> None:
    """Run every case; prints a line of what `timed` or, with 0 rounds, `counted` gave after each."""
    requests = Requests()
    for case in cases:
        ways = checked(*case)
        print(json.dumps(timed(ways, rounds) if rounds else counted(ways, requests)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
