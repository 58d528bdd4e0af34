"""What a plan says that it takes is what a session takes, and what the operating system gives."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from cache.memory import Memory, memory_of
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.session import Session
from tests.cache.onnx_models import build, model_path, node, weights

HEIGHT, WIDTH = 64, 96


def compiled(*nodes: object, outputs: tuple[str, ...] = ("y",), **constants: np.ndarray) -> Plan:
    return Plan.compile(load_model(build(nodes, constants, shape=(1, 3, HEIGHT, WIDTH), outputs=outputs)))


def network() -> Plan:
    """Two convolutions and their concatenation, split again, and a tail."""
    return compiled(
        node("Conv", "x w", "a", "first", pads=[1, 1, 1, 1]),
        node("Conv", "a v", "b", "second", pads=[1, 1, 1, 1]),
        node("Concat", "a b", "c", axis=1),
        node("Conv", "c u", "d", "third", strides=[2, 2]),
        node("Flatten", "d", "f"),
        node("Softmax", "f", "y", axis=1),
        outputs=("y", "d"), w=weights(32, 3, 3, 3), v=weights(16, 32, 3, 3), u=weights(16, 48, 1, 1),
    )  # fmt: skip


def test_a_set_of_activations_is_what_must_be_stored():
    found = memory_of(network())
    pixels = HEIGHT * WIDTH
    assert found.activations == 4 * (3 * pixels + 32 * pixels + 16 * pixels + 16 * pixels // 4)
    assert 0.9 * found.activations < found.feature_maps < 1.07 * found.activations
    assert found.ratio == (found.stream - found.reference_frame) / found.activations
    assert found.reference_frame == 2 * 3 * pixels, "and room for one of another exposure"
    assert found.outputs == 4 * 2 * 16 * pixels // 4, "the tail's input, which is an output too, and its output"


def test_weights_are_those_of_the_plan():
    plan = compiled(node("Conv", "x w", "y", "only"), w=weights(32, 3, 1, 1))
    packed = 4 * 3 * 32
    assert packed + 2 * 4 * 32 <= memory_of(plan).weights <= packed + 2 * 4 * 32 + 256, "with bias, slopes and tables"


def test_sums():
    found = Memory(1, 2, 30, 40, 50, 60, 700, 35)
    assert (found.shared, found.stream, found.ratio) == (3, 180, 4.0)
    assert found.as_dict()["stream"] == 180
    assert found.as_dict()["weights"] == 1


def test_a_session_takes_what_its_plan_says():
    plan = network()
    session = Session(plan)
    session.push(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert session.nbytes == memory_of(plan).stream


def test_what_is_counted_is_what_is_allocated():
    plan = network()
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Session(plan).push(frame)  # the thread's work space, which every stream shares, and compiled kernels
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        sessions = [Session(plan) for _ in range(4)]
        for session in sessions:
            session.push(frame)
        each = (tracemalloc.get_traced_memory()[0] - before) / len(sessions)
    finally:
        tracemalloc.stop()
    said = memory_of(plan).stream - 4 * 16 * HEIGHT * WIDTH // 4  # the tail's output: ONNX Runtime's own
    assert said <= each <= 1.02 * said + 16384


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "shape", "share"),
    [("yolox_nano.onnx", (1, 3, 384, 640), 1.03), ("nanodet_m_320.onnx", (1, 3, 320, 320), 1.14),
     ("FastestDet.onnx", (1, 3, 352, 352), 1.24), ("ultraface_version-RFB-640.onnx", (1, 3, 480, 640), 1.04),
     ("yunet_n_640_640.onnx", (1, 3, 640, 640), 1.05), ("ppocrv3_det.onnx", (1, 3, 384, 640), 1.32)],
)  # fmt: skip
def test_feature_maps_of_real_models(file, shape, share):
    found = memory_of(Plan.compile(load_model(model_path(file)), shape))
    assert found.feature_maps < share * found.activations


def test_frames_that_go_together_take_masks_of_their_own():
    plan = network()
    alone, four = memory_of(plan).thread, memory_of(replace(plan, together=4)).thread
    assert four - alone == 4 * 8 * plan.needs.mask_words
