"""Maps that move without being copied have room, and everything that names a place follows."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from cache.sliding import copy_within
from tests.cache.onnx_models import build, node, weights


def plan_of(room_px: int, outputs: tuple[str, ...] = ("y",)) -> Plan:
    constants = {"w0": weights(16, 3, 3, 3) / 64, "w1": weights(32, 16, 3, 3) / 12, "w2": weights(16, 3, 1, 1) / 64}
    nodes = [
        node("Conv", "x w0", "a", pads=[1] * 4, strides=[2, 2]), node("Conv", "a w1", "y", pads=[1] * 4),
        node("Conv", "x w2", "b"), node("Concat", "x b", "z", axis=1),
    ]  # fmt: skip
    data = build(nodes, constants, shape=(1, 3, 64, 96), outputs=outputs)
    return Plan.compile(load_model(data), policy=Policy(motion_room_px=room_px))


def test_maps_have_room_around_them():
    plan, without = plan_of(32), plan_of(0)
    assert without.room is None
    assert plan.room is not None
    assert plan.records is not None
    room, end = plan.room, 0
    for start, stop, slack in sorted(zip(room.start.tolist(), room.end.tolist(), room.slack.tolist(), strict=True)):
        assert start - slack >= end
        end = stop + slack
    assert end <= plan.arena_elements
    for info in plan.maps[1:]:
        group = room.of[info.index]
        assert room.slack[group] == 32 / plan.pitches.pitches[info.index][0] * info.row
        assert room.start[group] + info.zeros[0] <= info.origin
        assert info.origin + info.extent + info.zeros[1] <= room.end[group]
    assert plan.arena_bytes > without.arena_bytes


def test_what_is_handed_out_with_the_image_is_copied():
    assert plan_of(32, ("y", "z")).room is None


def test_two_streams_of_a_plan_go_their_own_ways():
    plan, rng = plan_of(64), np.random.default_rng(0)
    big = np.kron(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8), np.ones((4, 4, 1), np.uint8))
    first, second = Session(plan, exact=True), Session(plan, exact=True)
    for n in range(8):
        frame = np.ascontiguousarray(big[8 * n : 8 * n + 64, 64:160])
        other = np.ascontiguousarray(big[64:128, 128 - 8 * n : 224 - 8 * n])
        for stream, image, by in ((first, frame, (-8, 0)), (second, other, (0, 8))):
            found = stream.push(image)
            assert n == 0 or found.reason.startswith(f"picture moved by {by} px")
            whole = Session(plan, exact=True).push(image)
            assert found.outputs["y"].tobytes() == whole.outputs["y"].tobytes()


@pytest.mark.parametrize(("to", "source", "size"), [(4, 6, 8), (6, 4, 8), (4, -3, 8), (4, 15, 8), (4, 30, 8)])
def test_copies_stay_inside(to, source, size):
    values = np.arange(20, dtype=np.float32)
    expected = values.copy()
    for i in range(size):
        if 0 <= source + i < 20:
            expected[to + i] = values[source + i]
    copy_within(values, to, source, size)
    assert np.array_equal(values, expected)


def test_a_negative_room_is_refused():
    with pytest.raises(ValueError, match="expected motion_room_px of 0 or more, got -1"):
        Policy(motion_room_px=-1)
