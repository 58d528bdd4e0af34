"""Feature maps kept as float16: places, bits, thresholds, overflow, memory."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from cache import winograd
from cache.geometry import everything, gather, identity, window
from cache.half import MANY, HalfState, shared, staging, to_half
from cache.memory import memory_of
from cache.onnx_import import ModelError, load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from kernels.emit_half import HAS_HALF
from kernels.jit import jit
from kernels.simd_half import half_beyond, half_expand, half_expand_by_integers, half_round, half_round_by_integers
from tests.cache.closed_loop import image_of
from tests.cache.half_loop import compared, largest_excess, stored_bits
from tests.cache.onnx_models import build, node, weights
from tests.cache.quantised_models import Model
from tests.cache.random_models import models
from tests.cache.test_exact import SLOW, StreamMachine

HALF = Policy(cache_dtype="float16")


@jit
def _expand(to: np.ndarray, source: np.ndarray) -> None:
    half_expand(to.ctypes.data, source.ctypes.data, to.size // 16)


@jit
def _round(to: np.ndarray, source: np.ndarray) -> None:
    half_round(to.ctypes.data, source.ctypes.data, to.size // 16)


@jit
def _expand_by_integers(to: np.ndarray, source: np.ndarray) -> None:
    half_expand_by_integers(to.ctypes.data, source.ctypes.data, to.size // 16)


@jit
def _round_by_integers(to: np.ndarray, source: np.ndarray) -> None:
    half_round_by_integers(to.ctypes.data, source.ctypes.data, to.size // 16)


@jit
def _beyond(new: np.ndarray, stored: np.ndarray, blocks: int, count: int, limit: float) -> int:
    ours, theirs = new.strides[0], stored.strides[0]
    return half_beyond(new.ctypes.data, ours, stored.ctypes.data, theirs, blocks, count, np.float32(limit))


convert_by_instructions, convert_by_integers = (_expand, _round), (_expand_by_integers, _round_by_integers)
Made = tuple[bytes, tuple[int, int, int]]


def compile_half(model: bytes, everywhere: bool = False, policy: Policy = HALF) -> Plan:
    """The model's plan; with Winograd's method wherever it is possible, also where it does not pay."""
    with pytest.MonkeyPatch.context() as patch:
        if everywhere:
            patch.setattr(winograd, "NARROWEST", 1)
        return Plan.compile(load_model(model), policy=policy)


def moving(rng: np.random.Generator, shape: tuple[int, int, int], frames: int) -> list[np.ndarray]:
    """Frames uint8[C-last] of which a rectangle changes each time."""
    channels, height, width = shape
    found = [rng.integers(0, 256, (height, width, channels), dtype=np.uint8)]
    for _ in range(frames - 1):
        frame = found[-1].copy()
        top, left = rng.integers(0, height), rng.integers(0, width)
        part = frame[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)]
        part[:] = rng.integers(0, 256, part.shape)
        found.append(frame)
    return found


class HalfStreamMachine(StreamMachine):
    """The machine of `test_exact` on float16 maps, with helpers that may take parts."""

    @initialize(made=models(max_layers=8), seed=st.integers(0, 2**31), everywhere=st.booleans())
    def open(self, made: Made, seed: int, everywhere: bool) -> None:
        super().open(made, seed, False)
        self.plan = compile_half(made[0], everywhere)
        self.session, self.dense = Session(self.plan, exact=True, threads=2), Session(self.plan, exact=True)


TestHalfStream = HalfStreamMachine.TestCase
TestHalfStream.settings = settings(max_examples=60, stateful_step_count=10, deadline=None, suppress_health_check=SLOW)


@given(models(), st.integers(0, 2**31), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
def test_what_is_stored_is_each_step_of_what_is_stored_rounded(made: Made, seed: int, everywhere: bool):
    """Exact: bit for bit, after a keyframe and after partial frames. Within a budget: up to the threshold."""
    model, shape = made
    plan = compile_half(model, everywhere)
    exact, budget = Session(plan, exact=True), Session(plan)
    for frame in moving(np.random.default_rng(seed), shape, 4):
        exact.push(frame)
        budget.push(frame)
        for planned, stored, (first, *_) in compared(exact, image_of(exact)):
            assert stored.tobytes() == first.tobytes(), planned.step.name
        assert largest_excess(budget, image_of(budget)) < 1e-4


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_rounding_is_to_the_nearest_and_saturates(values: list[float]):
    x = np.array(values, np.float32)
    found = to_half(x).view(np.float16).astype(np.float64)
    inside = np.abs(x) <= 65504
    assert (np.abs(found - x)[inside] <= np.maximum(np.abs(x[inside]) * 2.0**-11, 2.0**-25)).all()
    assert (found[~inside] == np.sign(x[~inside]) * 65504.0).all()


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("count", [1, 3, 4, 6, 64])
def test_four_pixels_at_a_time_are_summed_as_one_by_itself(blocks: int, count: int):
    rng = np.random.default_rng(count)
    new = rng.standard_normal((blocks, count, 16)).astype(np.float16).astype(np.float32)
    stored = rng.standard_normal((blocks, count, 16)).astype(np.float16)
    one = [np.ascontiguousarray(new[:, [i]]) for i in range(count)]
    other = [np.ascontiguousarray(stored[:, [i]]).view(np.uint16) for i in range(count)]
    exact = np.square(new.astype(np.float64) - stored.astype(np.float64)).sum(axis=(0, 2))
    for limit in (*exact.astype(np.float32)[:8], 0.0, np.inf):
        bits = _beyond(new, stored.view(np.uint16), blocks, count, float(limit))
        found = [bool(int(bits) >> i & 1) for i in range(64)]
        alone = [bool(_beyond(a, b, blocks, 1, float(limit))) for a, b in zip(one, other, strict=True)]
        assert found == alone + [False] * (64 - count)
        clear = np.abs(exact - limit) > 1e-5 * exact
        assert [far for far, known in zip(alone, clear, strict=True) if known] == list((exact > limit)[clear])
    new[0, count - 1, 5] = np.nan
    assert int(_beyond(new, stored.view(np.uint16), blocks, count, 1e30)) == 1 << (count - 1)


def test_rows_that_neighbours_share():
    spans = [identity(9), window(8, 4, 2, 2, 1, 0), window(9, 5, 3, 2, 1, 1), window(9, 9, 3, 1, 1, 1), identity(1)]
    spans += [gather(np.arange(18, dtype=np.int32) // 2), window(9, 9, 5, 1, 1, 2), everything(9, 4)]
    assert [shared(rows, identity(9)) for rows in spans] == [0, 0, 1, 2, 0, 1, 4, 9]
    wide, gaps = window(40, 40, 7, 1, 1, 3), window(2, 2, 3, 1, 2, 2)
    assert shared(identity(9), window(40, 40, 5, 1, 1, 2)) == 0
    assert shared(identity(9), wide) == shared(gaps, identity(9)) == MANY, "they are remembered"


@given(models())
@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
def test_maps_that_meet_lie_apart_and_no_map_lies_in_a_border(made: Made):
    plan = compile_half(made[0])
    assert plan.half is not None
    inside = np.zeros(plan.arena_elements, np.int64)
    for index, keep in enumerate(plan.half.is_stored):
        if keep:
            np.add.at(inside, elements(plan, index, border=False).reshape(-1), 1)
    for index, keep in enumerate(plan.half.is_stored):
        if keep:
            border = np.setdiff1d(elements(plan, index, border=True), elements(plan, index, border=False))
            assert (inside[border] == 0).all()
    for planned in plan.steps:
        step = planned.step
        together = {step.target, *(r.map for r in step.reads if plan.half.is_stored[r.map])}
        everything = np.concatenate([elements(plan, m, border=False).reshape(-1) for m in together])
        assert np.unique(everything).size == everything.size


def elements(plan: Plan, index: int, border: bool) -> np.ndarray:
    """The places of a staged map, with its border or without it."""
    m = plan.maps[index]
    top, left, bottom, right = m.border if border else (0, 0, 0, 0)
    blocks = np.arange(max(m.blocks, 1))[:, None, None, None] * m.plane
    rows = np.arange(-top, m.height + bottom)[:, None, None] * m.row
    columns = np.arange(-left, m.width + right)[:, None] * m.pixel
    return np.asarray(m.origin + blocks + rows + columns + np.arange(m.pixel))


def network(scale: float = 1.0) -> Plan:
    nodes = [
        node("Conv", "x a", "m", "first", pads=[1] * 4), node("Relu", "m", "r"),
        node("Conv", "r b", "y", "second", pads=[1] * 4, strides=[2, 2]),
    ]  # fmt: skip
    constants = {"a": scale * weights(32, 3, 3, 3), "b": weights(48, 32, 3, 3)}
    return compile_half(build(nodes, constants, shape=(1, 3, 64, 96)))


def test_values_too_large_become_the_largest():
    session = Session(network(1e9), exact=True)
    frame = np.random.default_rng(0).integers(1, 256, (64, 96, 3), dtype=np.uint8)
    outputs = session.push(frame).outputs
    assert all(np.isfinite(value).all() for value in outputs.values())
    first = next(p.step.target for p in session.plan.steps)
    found = stored_bits(session, first).view(np.float16)
    assert set(np.unique(found[:, :, :, :16])) <= {0.0, np.float16(65504)}
    assert (found == 65504).any()


def test_half_the_memory():
    nodes, shape = network(), (64, 96, 3)
    found = memory_of(nodes)
    pixels = 64 * 96
    assert 2 * (32 * pixels + 48 * pixels // 4) <= found.feature_maps < 1.01 * 2 * (32 * pixels + 48 * pixels // 4)
    session = Session(nodes)
    session.push(np.zeros(shape, np.uint8))
    assert session.nbytes == found.stream
    assert nodes.half is not None
    assert found.thread - nodes.needs.nbytes >= 4 * nodes.half.elements


def test_streams_of_several_plans_and_threads_share_stagings():
    plans = [network(), network(0.5)]
    rng = np.random.default_rng(3)
    frames = moving(rng, (3, 64, 96), 6)
    expected = {}
    for p, plan in enumerate(plans):
        for f, frame in enumerate(frames):
            expected[p, f] = Session(plan, exact=True).push(frame).outputs["y"].copy()
    sessions = [Session(plan, exact=True) for plan in plans for _ in range(2)]
    failures: list[Any] = []

    def work(first: int) -> None:
        for f in range(first, len(frames), 2):
            for s, session in enumerate(sessions):
                with locks[s]:
                    if session.push(frames[f]).outputs["y"].tobytes() != expected[s // 2, f].tobytes():
                        failures.append((s, f))

    locks = [threading.Lock() for _ in sessions]
    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(isinstance(s._state, HalfState) for s in sessions)


def test_tensors_are_rounded_once_and_compared_rounded():
    data = build(
        [node("Conv", "x w", "y", "only", pads=[1] * 4, group=5)], {"w": weights(5, 1, 3, 3)}, shape=(1, 5, 12, 9)
    )
    plan = compile_half(data)
    x = np.random.default_rng(0).standard_normal((1, 5, 12, 9)).astype(np.float32)
    session = Session(plan, exact=True)
    first = session.push_tensor(x).outputs["y"].copy()
    x += np.float32(1e-6) * x
    assert session.push_tensor(x).decision in ("reuse", "partial")
    x[0, 3, 4, 5] += 1
    moved = session.push_tensor(x)
    assert moved.decision == "partial"
    assert not np.array_equal(first, moved.outputs["y"])
    assert np.array_equal(moved.outputs["y"], Session(plan, exact=True).push_tensor(x).outputs["y"])
    frame = np.random.default_rng(1).integers(0, 256, (12, 9, 5), dtype=np.uint8)
    assert session.push(frame).decision == "keyframe"
    assert np.array_equal(session._outputs()["y"], Session(plan, exact=True).push(frame).outputs["y"])


def test_quantised_models_are_refused():
    m = Model()
    params = m.params(0.02, 110)
    m.add("QuantizeLinear", f"x {params}", "q")
    m.add("DequantizeLinear", f"q {params}", "y")
    data = m.build((1, 21, 12, 14), {"y": np.float32})
    with pytest.raises(ModelError, match='expected a cache_dtype of "float32" for a quantised model, got "float16"'):
        Plan.compile(load_model(data), policy=HALF)


def test_the_staging_of_a_plan_goes_with_it():
    plan = network()
    Session(plan).push(np.zeros((64, 96, 3), np.uint8))
    assert plan.half is not None
    kept = weakref.ref(staging(plan.half))
    del plan
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("has_half", [HAS_HALF, False])
def test_every_float16_survives_and_every_rounding_is_that_of_numpy(has_half: bool):
    """Both ways to convert: by instructions for it, and by integers."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    number = ~np.isnan(bits.view(np.float16))
    wide = np.empty(bits.size, np.float32)
    expand, back = convert_by_instructions if has_half else convert_by_integers
    expand(wide, bits)
    assert np.array_equal(wide[number], bits.view(np.float16).astype(np.float32)[number])
    assert np.isnan(wide[~number]).all()
    values = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, dtype=np.uint32).view(np.float32)
    finite = wide[np.isfinite(wide)]
    ties = np.sort(finite)[: finite.size // 16 * 16]
    ties[:-1] = (ties[:-1] + ties[1:]) / 2
    special = np.array([65519.99, 65520, 1e30, np.inf, -np.inf, 5.96e-8, 2.98e-8, 2.99e-8, 1e-40] * 16, np.float32)
    for x in (values, ties, special):
        found = np.empty(x.size, np.uint16)
        back(found, x)
        number = ~np.isnan(x)
        assert np.array_equal(found[number], to_half(x)[number])
        assert np.isnan(found.view(np.float16)[~number]).all()
