"""Models made smaller: targets, what cannot be done, and that the engine holds its promises on what comes out."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from service.compression.compress import Compressed, compress
from service.compression.errors import CompressionError
from service.evaluate import relative_error
from service.opened import open_model
from tests.cache import half_loop
from tests.cache.closed_loop import image_of, largest_excess
from tests.cache.interpreter import onnx_run
from tests.cache.onnx_models import build, node, weights
from tests.service.compression.small_models import frames, maps, network, spread


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(network())
    return path


def made(path: Path | str, **options: Any) -> Compressed:
    return compress(path, spread(8), **{"method": "tucker2", **options})


@pytest.mark.parametrize("method", ["tucker2", "cp", "svd"])
@pytest.mark.parametrize("correct", [True, False])
def test_work_is_halved(model, method, correct):
    found = made(model, method=method, macs=0.5, correct=correct)
    report = found.report
    assert report.macs_share <= 0.5
    assert report.macs_before - report.macs_after == sum(x.macs_before - x.macs_after for x in report.replaced)
    assert report.bytes_after == len(found.data) < report.bytes_before
    assert report.output_error < 0.6
    assert (report.method, report.corrected, report.frames) == (method, correct, (4, 4))
    forms = {"tucker2": "tucker2", "cp": "cp", "svd": "spatial"}
    for layer in report.replaced:
        assert layer.form == ("pointwise" if layer.shape[2:] == (1, 1) else forms[method])


def test_correction_pays(model):
    errors = [made(model, macs=0.35, correct=correct).report.output_error for correct in (True, False)]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("budget", [0.02, 0.1])
def test_a_budget_is_not_passed(model, budget):
    report = made(model, budget=budget).report
    assert 0 < report.output_error <= budget
    assert report.macs_share < 1
    assert report.target == f"budget {budget}"


def test_a_larger_budget_saves_more(model):
    shares = [made(model, budget=budget).report.macs_share for budget in (0.01, 0.2)]
    assert shares[1] < shares[0]


def test_energy_and_bayes_choose_ranks_layer_by_layer(model):
    much, little = (made(model, energy=energy).report for energy in (0.999, 0.7))
    assert little.macs_share < much.macs_share < 1
    assert little.output_error > much.output_error
    assert made(model, energy="vbmf").report.replaced


def test_the_same_frames_give_the_same_file(model):
    assert made(model, macs=0.5).data == made(model, macs=0.5).data


def test_one_frame_is_enough_and_is_said(model):
    report = compress(model, spread(1), method="svd", energy=0.9).report
    assert (report.frames, report.in_sample) == ((1, 1), True)
    report = compress(model, spread(2), method="svd", energy=0.9).report
    assert (report.frames, report.in_sample) == ((1, 1), False)


def test_frames_are_taken_one_at_a_time(model):
    """Large frames are never held together."""
    alive: list[weakref.ref[np.ndarray]] = []

    def seen():
        for frame in spread(4):
            large = np.tile(frame, (4, 4, 1))
            assert all(one() is None for one in alive[:-1])
            alive.append(weakref.ref(large))
            yield large

    assert compress(model, seen(), method="svd", energy=0.9).report.frames == (2, 2)
    assert len(alive) == 4


def test_weights_kept_as_float16(tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(network(dtype=np.float16))
    found = made(path, macs=0.5)
    assert found.report.bytes_after < found.report.bytes_before
    kinds = {item.data_type for item in onnx.load_model_from_string(found.data).graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_progress_is_told(model):
    seen: list[tuple[str, float]] = []
    made(model, macs=0.5, progress=lambda what, share: seen.append((what, share)))
    assert {"activations", "sensitivity of layers"} < {what for what, _ in seen}
    assert all(0 <= share <= 1 for _, share in seen)


@pytest.mark.parametrize(("options", "said"), [
    ({}, "expected one of energy, macs and budget, got none"),
    ({"macs": 0.5, "budget": 0.1}, "got macs and budget"),
    ({"macs": 1.0}, "macs: expected a share between 0 and 1, got 1.0"),
    ({"macs": float("nan")}, "macs: expected a share"),
    ({"budget": -0.1}, "budget: expected a share between 0 and 1, got -0.1"),
    ({"energy": 1.5}, "energy: expected a share above 0 up to 1, or vbmf, got 1.5"),
    ({"energy": 0.9, "method": "magic"}, "method: expected one of tucker2, cp, svd, got 'magic'"),
    ({"macs": 0.001}, "the least that tucker2 leaves is 0."),
    ({"budget": 1e-9}, "no layer can be replaced at an error of the outputs of 1e-09 or less; the least"),
], ids=str)  # fmt: skip
def test_what_cannot_be_done_is_said(model, options, said):
    with pytest.raises(CompressionError) as error:
        made(model, **options)
    assert said in str(error.value)


def test_without_frames_nothing_is_done(model):
    with pytest.raises(CompressionError, match="at least one frame"):
        compress(model, [], method="svd", energy=0.9)


@pytest.mark.parametrize(("nodes", "constants", "said"), [
    ([node("Relu", "x", "y")], {}, "found none"),
    ([node("Conv", "x w", "y", "c", group=3)], {"w": weights(3, 1, 3, 3)}, "1 x a depthwise convolution"),
    ([node("Conv", "x w", "y", "c")], {"w": weights(1, 3, 1, 1)}, "none has ranks that save {}"),
], ids=["none", "depthwise", "tiny"])  # fmt: skip
@pytest.mark.parametrize(
    ("target", "saved"), [({"energy": 1.0}, "work"), ({"macs": 0.5}, "work"), ({"budget": 0.05}, "time")], ids=str
)
def test_a_model_with_nothing_to_compress(tmp_path, nodes, constants, said, target, saved):
    path = tmp_path / "bare.onnx"
    path.write_bytes(build(nodes, constants, shape=(1, 3, 16, 16)))
    with pytest.raises(CompressionError, match="nothing to compress") as error:
        made(path, **target)
    assert said.format(saved) in str(error.value)


def test_under_a_budget_work_alone_is_nothing_saved(tmp_path):
    """Fewer than 16 channels between two layers are fewer products, and no fewer lanes."""
    path = tmp_path / "narrow.onnx"
    nodes = [node("Conv", "x w", "a", "first"), node("Conv", "a v", "y", "last")]
    path.write_bytes(build(nodes, {"w": weights(16, 3, 1, 1), "v": weights(16, 16, 1, 1)}, shape=(1, 3, 16, 16)))
    with pytest.raises(CompressionError, match="nothing to compress: of 2 layers none has ranks that save time"):
        made(path, budget=0.5)
    assert made(path, macs=0.9).report.macs_share <= 0.9


@pytest.fixture(scope="module")
def compressed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compressed")
    (folder / "large.onnx").write_bytes(maps())
    path = folder / "small.onnx"
    path.write_bytes(made(folder / "large.onnx", macs=0.5).data)
    return path


def test_the_engine_agrees_with_onnxruntime(compressed):
    opened = open_model(compressed)
    plan = opened.compile()
    for frame in spread(2):
        image = np.ascontiguousarray(frame[:, :, ::-1])
        (expected,) = onnx_run(compressed.read_bytes(), {"x": plan.tensor(image)})
        assert relative_error(Session(plan).push(image).outputs, {"y": expected}) < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exact_mode_is_a_full_recompute_bit_for_bit(compressed, dtype):
    opened = open_model(compressed)
    plan = opened.compile(replace(opened.policy, cache_dtype=dtype))
    assert (plan.half is not None) == (dtype == "float16")
    stream, whole = Session(plan, exact=True), Session(plan, exact=True)
    fractions = []
    for image in frames(5):
        result = stream.push(image)
        fractions.append(result.compute_fraction)
        whole.reset()
        assert result.outputs["y"].tobytes() == whole.push(image).outputs["y"].tobytes()
    assert 0 < min(fractions) < 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_closed_loop_holds_cached_and_in_half_precision(compressed, dtype):
    plan = Plan.compile(load_model(compressed), policy=Policy(cache_dtype=dtype))
    assert (plan.half is not None) == (dtype == "float16")
    session, decisions = Session(plan), set()
    for image in frames(6):
        decisions.add(session.push(image).decision)
        excess = largest_excess(session) if dtype == "float32" else half_loop.largest_excess(session, image_of(session))
        assert excess <= 1e-3
    assert "partial" in decisions
