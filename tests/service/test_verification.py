"""Verifying at less than float32: compared with float32, and each option says what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.opened import OpenedModel, open_model
from service.verification import kind_of, verify
from tests.cache.random_models import ModelMaker


@pytest.fixture
def opened(tmp_path: Path) -> OpenedModel:
    m = ModelMaker(3, 3, 32, 48)
    x = m.activate(m.conv("image", 3, 40, 3, strides=[2, 2], pads=[1] * 4), 40, "Relu")
    path = tmp_path / "small.onnx"
    path.write_bytes(m.finish([m.activate(m.conv(x, 40, 24, 1), 24, "Silu")]))
    return open_model(path)


def frames() -> list[np.ndarray]:
    scene = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    found = []
    for n in range(3):
        frame = scene.copy()
        frame[8:16, 4 * n : 4 * n + 8] = 255
        found.append(frame)
    return found


def test_one_float16_map_costs_eleven_bits(tmp_path: Path) -> None:
    """One convolution of an image, which is not stored: its output is rounded to a part in 2^11, once."""
    m = ModelMaker(3, 3, 32, 48)
    path = tmp_path / "one.onnx"
    path.write_bytes(m.finish([m.conv("image", 3, 24, 3)]))
    opened = open_model(path)
    full, half = (
        verify(opened, frames(), policy=replace(opened.policy, cache_dtype=dtype)) for dtype in ("float32", "float16")
    )
    assert full["onnxruntime_error"] < 1e-5
    assert 1e-4 < half["onnxruntime_error"] <= 2.0**-11 + full["onnxruntime_error"]
    assert full["frames"] == half["frames"] == 3
    assert half["max_abs_error"] > 0, "frames are compared with float32"


def test_exact_compares_like_with_like(opened: OpenedModel) -> None:
    policy = replace(opened.policy, cache_dtype="float16", compute_dtype="bfloat16")
    report = verify(opened, frames(), exact=True, policy=policy)
    assert report["bit_identical"] is True
    assert report["max_abs_error"] == 0


def test_strict_and_fast_are_full_precision(opened: OpenedModel) -> None:
    report = verify(opened, frames(), policy=replace(opened.policy, precision="strict"))
    assert report["onnxruntime_error"] < 1e-5
    assert report["bfloat16_nodes"] == 0
    assert (report["fft_nodes"], report["fft_lacking"]) == (0, 0)


def test_a_second_stream_is_audited_and_the_first_is_left_alone(opened: OpenedModel) -> None:
    clip = frames() * 8
    report, again = verify(opened, clip), verify(opened, clip)
    assert report == again, "what is drawn is drawn alike"
    audit = report["audit"]
    assert 0 < audit["audits"] < len(clip)
    assert audit["budget"] == "noise"
    assert audit["mean_allowed"] == 1.0, "this network gives no boxes: its error is in units of what is allowed"
    assert 0 <= audit["violations"] <= audit["audits"]
    assert 0 <= audit["factor"] <= 1
    loose = verify(opened, clip, policy=opened.policy.scaled(50.0))
    assert loose["audit"]["violations"] > audit["violations"]
    assert loose["audit"]["factor"] < audit["factor"]
    assert loose["audit"]["compute_fraction"] > loose["compute_fraction"]["mean"]


def test_without_thresholds_there_is_nothing_to_audit(opened: OpenedModel) -> None:
    assert verify(opened, frames(), exact=True)["audit"] is None


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("no stored frame", "no stored frame"),
        ("12 of 3840 tiles changed", "tiles changed"),
        ("2728 of 3840 tiles changed: cheaper whole", "tiles changed: cheaper whole"),
        ("picture moved by (-32, 0) px, 12 of 3840 tiles changed", "picture moved by, tiles changed"),
        ("5 of 48 tiles changed, exposure brought back", "tiles changed, exposure brought back"),
    ],
)
def test_reasons_are_counted_by_kind(reason, kind):
    assert kind_of(reason) == kind


def test_reasons_and_decisions_are_counted(opened: OpenedModel) -> None:
    report = verify(opened, [*frames(), frames()[-1]])
    assert report["decisions"] == {"keyframe": 1, "partial": 2, "reuse": 1}
    assert report["reasons"] == {"no stored frame": 1, "tiles changed": 2, "nothing changed": 1}
