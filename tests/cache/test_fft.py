"""Convolutions by Fourier transforms in a plan: taken where they should, right at every size, the same in any list."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rocket_fft", reason="needs the extra `fft`")

from cache import fft
from cache.fft_entries import fft_convolution, fft_depthwise_convolution
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from cache.steps import Cost, Step
from cache.tuning import choose, tuned
from tests.cache.closed_loop import largest_excess
from tests.cache.engine_check import check_engine
from tests.cache.onnx_models import build, node, weights

FAST = {fft_convolution, fft_depthwise_convolution}


def model(inputs: int, outputs: int, kernel: tuple[int, int], size: tuple[int, int], group: int = 1, **attrs) -> bytes:
    """A convolution with a bias, then ReLU."""
    filters = weights(outputs, inputs // group, *kernel) / np.sqrt(np.prod(kernel) * inputs / group, dtype=np.float32)
    attrs.setdefault("pads", [kernel[0] // 2, kernel[1] // 2] * 2)
    nodes = [node("Conv", "x w b", "m", "conv", group=group, **attrs), node("Relu", "m", "y")]
    return build(nodes, {"w": filters, "b": weights(outputs)}, shape=(1, inputs, *size))


def conv_step(plan: Plan) -> Step:
    """The convolution with the largest filters, in the place of which this method is taken."""
    return max((s.step for s in plan.steps if s.step.op == "conv"), key=lambda step: step.reads[0].rows.taps)


def is_fast(plan: Plan) -> bool:
    return conv_step(plan).method.entry in FAST


@pytest.fixture
def everywhere(monkeypatch):
    """The method wherever it is possible, also where it does not pay."""
    monkeypatch.setattr(fft, "direct_ns", lambda made: float("inf"))


@pytest.fixture(params=[8, 16, 32])
def tile(request, monkeypatch, everywhere):
    monkeypatch.setattr(fft, "TILES", (request.param,))
    return request.param


@pytest.mark.parametrize(
    ("channels", "group", "kernel", "size"),
    [
        (20, 20, (7, 7), (13, 21)),
        (20, 1, (7, 9), (19, 10)),
        (16, 16, (15, 15), (11, 34)),
        (20, 20, (31, 31), (17, 23)),
        (20, 1, (15, 15), (9, 9)),
        (16, 16, (31, 31), (3, 5)),
        (40, 1, (9, 9), (1, 2)),
    ],
    ids=str,
)
def test_it_agrees_with_onnxruntime_and_with_itself(channels, group, kernel, size, tile):
    data = model(channels, channels, kernel, size, group)
    plan = check_engine(data, (1, channels, *size), "conv", tolerance=1e-4)
    assert is_fast(plan)
    assert [s.block for s in plan.steps if s.step.op == "conv"] == [tile]


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (3, 0, 1, 5), (9, 8, 7, 10)], ids=str)
@pytest.mark.parametrize("group", [1, 16])
def test_any_padding_is_right(pads, group, tile):
    assert is_fast(check_engine(model(16, 16, (8, 7), (18, 12), group, pads=list(pads)), (1, 16, 18, 12), "conv"))


def test_it_reads_several_maps_as_one(everywhere):
    nodes = [
        node("Relu", "x", "a"),
        node("Sigmoid", "x", "s"),
        node("Concat", "a s", "c", axis=1),
        node("Conv", "c w b", "y", "conv", pads=[3, 3, 3, 3]),
    ]
    data = build(nodes, {"w": weights(33, 48, 7, 7) / 50, "b": weights(33)}, shape=(1, 24, 11, 14))
    assert is_fast(check_engine(data, (1, 24, 11, 14), "conv", tolerance=1e-4))


def test_a_sum_is_added_at_its_end(everywhere):
    nodes = [node("Relu", "x", "r"), node("Conv", "r w", "c", "conv", pads=[3, 3, 3, 3]), node("Add", "c r", "y")]
    data = build(nodes, {"w": weights(16, 16, 7, 7) / 30}, shape=(1, 16, 20, 9))
    assert is_fast(check_engine(data, (1, 16, 20, 9), "conv", tolerance=1e-4))


@pytest.mark.parametrize(
    "attrs", [{"strides": [2, 2]}, {"dilations": [2, 2], "pads": [6, 6, 6, 6]}, {"group": 2}], ids=str
)
def test_other_convolutions_stay_direct(attrs, everywhere):
    assert not is_fast(Plan.compile(load_model(model(32, 32, (7, 7), (20, 20), **attrs))))


def test_small_filters_and_strict_precision_and_half_maps_stay_direct(everywhere):
    assert not is_fast(Plan.compile(load_model(model(16, 16, (5, 5), (20, 20), 16))))
    data = load_model(model(16, 16, (9, 9), (20, 20), 16))
    assert is_fast(Plan.compile(data))
    for policy in (Policy(precision="strict"), Policy(fft_kept=0.0)):
        plan = Plan.compile(data, policy=policy)
        assert conv_step(plan).few is None
        assert plan.needs.work == 0
        assert not is_fast(plan)
    assert conv_step(Plan.compile(data, policy=Policy(cache_dtype="float16"))).few is None


def test_a_plan_without_large_filters_does_not_import_the_library():
    code = """
import sys
from cache.onnx_import import load_model
from cache.plan import Plan
plan = Plan.compile(load_model(sys.stdin.buffer.read()))
assert plan.fft_nodes == 0
assert not {"kernels.fft", "cache.fft_entries"} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", code], input=model(16, 16, (5, 5), (12, 12), 16), check=True)


def test_it_is_taken_by_itself_where_filters_are_large_and_not_where_they_are_small():
    taken = {k: conv_step(Plan.compile(load_model(model(16, 16, (k, k), (40, 40), 16)))) for k in (7, 31)}
    assert taken[31].method.entry is fft_depthwise_convolution
    assert taken[31].few is not None
    assert taken[7].few is None
    assert taken[7].method.entry not in FAST


@pytest.mark.parametrize("whole_ns", [8e5, 3e6])
def test_costs_of_whole_maps_choose_between_both(whole_ns, monkeypatch):
    """A single tile of 128 px over a map of 72 px: what it takes is not spread over the map's pixels."""
    monkeypatch.setattr(fft, "TILES", (128,))
    plan = Plan.compile(load_model(model(16, 16, (13, 13), (72, 72), 16)))
    step = conv_step(plan)
    (direct,) = (way for way in (step.method, step.few) if way is not None and way.entry not in FAST)
    (fast,) = (way for way in (step.method, step.few) if way is not None and way.entry in FAST)
    costs = {direct.entry.name: Cost(0.0, 2e6 / 72**2), fast.entry.name: Cost(0.0, whole_ns / 128**2)}
    made = choose(plan, {step.name: costs})
    assert (conv_step(made).method.entry in FAST) == (whole_ns < 2e6)
    assert conv_step(made).few is None or conv_step(made).few.grain < conv_step(made).method.grain


def test_a_short_list_is_computed_directly_beside_large_tiles(monkeypatch):
    """Where the direct method is the first one, too."""
    monkeypatch.setattr(fft, "TILES", (64,))
    monkeypatch.setattr(fft, "direct_ns", lambda made: made.whole_ns / 1.5)
    plan = Plan.compile(load_model(model(16, 16, (13, 13), (70, 90), 16)))
    step = conv_step(plan)
    assert step.method.entry not in FAST
    assert step.few is not None
    x = np.zeros(plan.input_shape, np.float32)
    session = Session(plan)
    session.push_tensor(x)
    x[0, :, 40, 40] = 9
    found = session.push_tensor(x)
    assert found.compute_fraction < 0.2
    assert largest_excess(session) < 1e-4


@pytest.mark.parametrize(("tile", "size"), [(128, (72, 72)), (64, (70, 90))])
def test_large_tiles_are_exact_in_lists(tile, size, everywhere, monkeypatch):
    monkeypatch.setattr(fft, "TILES", (tile,))
    plan = Plan.compile(load_model(model(16, 16, (9, 9), size, 16)))
    assert conv_step(plan).method.grain == tile
    x = np.random.default_rng(0).standard_normal(plan.input_shape).astype(np.float32)
    session = Session(plan, exact=True)
    session.push_tensor(x)
    x[0, :, 3, 5] += 1
    found = session.push_tensor(x).outputs["y"]
    assert found.tobytes() == Session(plan, exact=True).push_tensor(x).outputs["y"].tobytes()


def test_measured_costs_are_kept(tmp_path):
    plan, fresh = (
        tuned(Plan.compile(load_model(model(16, 16, (31, 31), (40, 40), 16))), "a" * 64, tmp_path) for _ in range(2)
    )
    assert conv_step(fresh).method.entry is conv_step(plan).method.entry
    assert conv_step(fresh).method.cost == conv_step(plan).method.cost


@pytest.mark.parametrize("group", [1, 32])
def test_error_is_a_few_millionths_of_the_largest_output(group, everywhere):
    data = model(32, 32, (31, 31) if group > 1 else (9, 9), (40, 52), group)
    fast, strict = (Plan.compile(load_model(data), policy=Policy(precision=p)) for p in ("fast", "strict"))
    assert is_fast(fast)
    x = np.random.default_rng(0).standard_normal(fast.input_shape).astype(np.float32)
    a, b = (Session(plan).push_tensor(x).outputs["y"] for plan in (fast, strict))
    assert 0 < np.abs(a - b).max() < 1e-5 * np.abs(b).max()


def test_a_stream_keeps_its_bound_and_takes_both_methods(everywhere):
    nodes = [
        node("Conv", "x w", "a", "first", pads=[1, 1, 1, 1]),
        node("Conv", "a v", "b", "conv", pads=[7, 7, 7, 7], group=16),
        node("Conv", "b u", "y", "last"),
    ]
    constants = {"w": weights(16, 3, 3, 3) / 5, "v": weights(16, 1, 15, 15) / 15, "u": weights(4, 16, 1, 1) / 4}
    plan = Plan.compile(load_model(build(nodes, constants, shape=(1, 3, 70, 90))))
    assert conv_step(plan).few is not None
    session, exact, rng = Session(plan), Session(plan, exact=True), np.random.default_rng(0)
    frame = rng.integers(0, 255, (70, 90, 3), dtype=np.uint8)
    for step in range(5):
        for following in (session, exact):
            following.push(frame)
            assert largest_excess(following) <= (0 if following.exact else 1e-4)
        dense = Session(plan, exact=True).push(frame).outputs["y"]
        assert exact.push(frame).outputs["y"].tobytes() == dense.tobytes()
        top, left = rng.integers(0, 40), rng.integers(0, 60)
        frame = frame.copy()
        frame[top : top + 6 + 10 * step, left : left + 7] += np.uint8(40)


@pytest.mark.parametrize("room_px", [0, 32])
def test_a_picture_that_moves_by_whole_tiles_stays_exact(room_px, everywhere, monkeypatch):
    monkeypatch.setattr(fft, "TILES", (8,))
    nodes = [node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("Conv", "a v", "y", "conv", pads=[3] * 4, group=16)]
    data = build(nodes, {"w": weights(16, 3, 3, 3), "v": weights(16, 1, 7, 7)}, shape=(1, 3, 96, 96))
    plan = Plan.compile(load_model(data), policy=Policy(motion_room_px=room_px))
    assert is_fast(plan)
    assert (plan.room is not None) == (room_px > 0)
    assert plan.pitches.step == (1, 1)
    assert plan.pitches.exact_step == (8, 8)
    scene = np.random.default_rng(0).integers(0, 255, (128, 96, 3), dtype=np.uint8)
    session = Session(plan, exact=True)
    for top in (0, 8, 24):
        frame = np.ascontiguousarray(scene[top : top + 96])
        found, fresh = session.push(frame), Session(plan, exact=True).push(frame)
        assert found.outputs["y"].tobytes() == fresh.outputs["y"].tobytes()


def moving(policy: Policy, pads: int, side: int) -> Plan:
    """A point by point convolution, then one of large filters."""
    nodes = [node("Conv", "x w", "a"), node("Conv", "a v", "y", "conv", pads=[pads] * 4, group=16)]
    data = build(nodes, {"w": weights(16, 3, 1, 1), "v": weights(16, 1, 7, 7)}, shape=(1, 3, side, side))
    return Plan.compile(load_model(data), policy=policy)


@pytest.mark.parametrize("move", [(8, 0), (0, 8), (-8, 16)])
def test_a_whole_tile_that_moves_to_where_tiles_are_cut_is_computed_again(move, everywhere, monkeypatch):
    monkeypatch.setattr(fft, "TILES", (8,))
    monkeypatch.setattr("cache.moving.COPIED_BYTES_NS", 1e9)
    plan = moving(Policy(), 0, 100)
    assert is_fast(plan)
    assert plan.maps[conv_step(plan).target].height % 8 == 6
    scene = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    session, top, left = Session(plan, exact=True), 50, 50
    for n in range(3):
        frame = np.ascontiguousarray(scene[top : top + 100, left : left + 100])
        found, fresh = session.push(frame), Session(plan, exact=True).push(frame)
        assert n == 0 or found.reason.startswith("picture moved")
        assert found.outputs["y"].tobytes() == fresh.outputs["y"].tobytes()
        top, left = top - move[0], left - move[1]


def test_an_approximation_does_not_move_with_the_picture(everywhere, monkeypatch):
    monkeypatch.setattr(fft, "TILES", (8,))
    monkeypatch.setattr("cache.moving.COPIED_BYTES_NS", 1e9)
    plan = moving(Policy(fft_kept=0.4), 3, 96)
    assert is_fast(plan)
    scene = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    session = Session(plan)
    for top in (0, 3, 6):
        found = session.push(np.ascontiguousarray(scene[top : top + 96, :96]))
        assert top == 0 or found.reason.startswith("picture moved")
        assert largest_excess(session) < 1e-4


@pytest.mark.parametrize("group", [1, 32])
def test_more_threads_give_the_same_bits(group, everywhere, monkeypatch):
    monkeypatch.setattr(fft, "TILES", (8,))
    plan = Plan.compile(load_model(model(32, 32, (9, 9), (90, 70), group)))
    assert is_fast(plan)
    x = np.random.default_rng(0).standard_normal(plan.input_shape).astype(np.float32)
    one, two = (Session(plan, exact=True, threads=threads).push_tensor(x).outputs["y"] for threads in (1, 2))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("group", [1, 16])
def test_fewer_frequencies_are_an_approximation_that_exact_mode_repeats(group, everywhere):
    data = load_model(model(16, 16, (15, 15), (30, 24), group))
    errors, bytes_of = [], []
    for kept in (1.0, 0.75, 0.4):
        plan = Plan.compile(data, policy=Policy(fft_kept=kept))
        step = conv_step(plan)
        assert is_fast(plan)
        assert (step.few is None) == (kept < 1)
        bytes_of.append(step.method.weight_bytes)
        rng = np.random.default_rng(0)
        x = rng.standard_normal(plan.input_shape).astype(np.float32)
        session = Session(plan, exact=True)
        session.push_tensor(x)
        x[:, :, 5:8, 9:12] += 1
        found = session.push_tensor(x).outputs["y"]
        assert found.tobytes() == Session(plan, exact=True).push_tensor(x).outputs["y"].tobytes()
        direct = Session(Plan.compile(data, policy=Policy(fft_kept=0.0))).push_tensor(x).outputs["y"]
        errors.append(float(np.sqrt(np.square(found - direct).mean() / np.square(direct).mean())))
    assert errors[0] < 1e-5 < errors[1] < errors[2] < 1
    assert bytes_of[0] > bytes_of[1] > bytes_of[2]


def test_a_smooth_filter_loses_next_to_nothing(everywhere):
    bell = np.exp(-(np.arange(-15, 16, dtype=np.float32) ** 2) / 40)
    filters = np.broadcast_to(np.outer(bell, bell) / bell.sum() ** 2, (16, 1, 31, 31)).astype(np.float32)
    nodes = [node("Conv", "x w", "y", "conv", group=16, pads=[15] * 4)]
    data = load_model(build(nodes, {"w": filters}, shape=(1, 16, 40, 40)))
    x = np.random.default_rng(0).standard_normal((1, 16, 40, 40)).astype(np.float32)
    plans = [Plan.compile(data, policy=Policy(fft_kept=kept)) for kept in (0.25, 0.0)]
    assert [is_fast(plan) for plan in plans] == [True, False]
    a, b = (Session(plan).push_tensor(x).outputs["y"] for plan in plans)
    assert np.abs(a - b).max() > 0
    assert np.abs(a - b).max() < 1e-3 * np.abs(b).max()


def test_a_kernel_may_be_as_large_as_the_image(everywhere):
    assert is_fast(check_engine(model(16, 16, (7, 7), (7, 7), 16, pads=[0] * 4), (1, 16, 7, 7), "conv"))


def test_all_layers_together_have_so_much_room_for_spectra(everywhere, monkeypatch):
    nodes = [node("Conv", f"{'xab'[n]} w", "aby"[n], f"conv{n}", pads=[4] * 4) for n in range(3)]
    data = load_model(build(nodes, {"w": weights(16, 16, 9, 9) / 30}, shape=(1, 16, 40, 40)))
    assert Plan.compile(data).fft_nodes == 3
    each = next(s.step.method.weight_bytes for s in Plan.compile(data).steps)
    monkeypatch.setattr(fft, "MOST_BYTES_OF_ALL", 2 * each)
    assert Plan.compile(data).fft_nodes == 2


def test_large_filters_are_fused_with_what_follows_unless_transforms_surely_gain():
    """A guess decides. At 15x15 it has both alike, and the direct method was measured to take less."""

    def steps(taps: int, policy: Policy) -> int:
        nodes = [node("Conv", "x w", "a", "conv", pads=[taps // 2] * 4, group=16), node("Conv", "a v", "y", "last")]
        constants = {"w": weights(16, 1, taps, taps), "v": weights(16, 16, 1, 1)}
        return len(Plan.compile(load_model(build(nodes, constants, shape=(1, 16, 56, 56))), policy=policy).steps)

    assert {k: steps(k, Policy(separable_bytes=0)) for k in (13, 15, 19, 31)} == {13: 1, 15: 1, 19: 2, 31: 2}
    for policy in (Policy(separable_bytes=0, fft_kept=0.0), Policy(separable_bytes=0, precision="strict")):
        assert steps(31, policy) == 1


@pytest.mark.parametrize(("group", "taps"), [(1, 9), (32, 31)])
def test_a_method_tells_its_effort(group, taps, everywhere):
    """Counted from its arrays: its spectra are those that it reads again."""
    plan = Plan.compile(load_model(model(32, 32, (taps, taps), (70, 90), group)))
    effort = conv_step(plan).method.effort
    assert effort is not None
    spectra = 32 * (32 if group == 1 else 1) * 2 * 4
    points = effort.arrays[-1][0] // spectra
    assert effort.arrays[-1][0] == points * spectra == max(a.nbytes for a in conv_step(plan).method.kept)
    assert effort.macs > 4 * points * spectra / 8
    assert conv_step(plan).few is not None
    assert conv_step(plan).few.effort is None
