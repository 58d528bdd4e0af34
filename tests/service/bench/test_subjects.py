"""What each row turns on, and why a row is left out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from cache import fft
from cache.policy import Policy
from service import opened as opened_module
from service.bench import subjects
from service.bench.errors import BenchError
from service.bench.subjects import KEYS, LABELS, NEVER, Maker
from service.opened import OpenedModel, open_model
from service.profile import Profile
from tests.cache.onnx_models import build, node, weights


@pytest.fixture
def maker(opened, model_file, clip):
    return Maker(opened, str(model_file), clip)


def compression(monkeypatch):
    """A compression that hands the model back as it was; returns what it was asked."""
    asked = []
    module = ModuleType("service.compression.compress")

    def compress(source, frames, **options):
        asked.append((source, len(frames), options))
        report = SimpleNamespace(macs_before=100, macs_after=40, output_error=0.031)
        return SimpleNamespace(data=Path(source).read_bytes(), report=report)

    module.compress = compress
    monkeypatch.setitem(sys.modules, "service.compression", ModuleType("service.compression"))
    monkeypatch.setitem(sys.modules, "service.compression.compress", module)
    return asked


def test_every_row_has_a_label():
    assert set(LABELS) == set(KEYS)
    assert len(set(LABELS.values())) == len(KEYS)


def test_what_each_plan_turns_on(maker):
    assert maker.plan("direct").policy.precision == "strict"
    assert maker.plan("winograd").policy.precision == "fast"
    assert maker.plan("float16").policy.cache_dtype == "float16"
    assert maker.plan("deepmon").policy.tile_difference == 0
    assert maker.plan("direct") is maker.plan("direct")
    assert subjects.methods_named(maker.plan("direct"), "winograd") == 0
    assert subjects.methods_named(maker.plan("direct"), "conv") == 7
    assert maker.make("winograd").note == "0 layers"


@pytest.mark.parametrize("key", ["im2col", "direct", "winograd", "float16", "exact", "caching", "deepmon"])
def test_a_row_runs_and_counts_its_memory(maker, clip, key):
    subject = maker.make(key)
    outputs, fraction = subject.network(clip[0])
    assert fraction == 1
    assert set(outputs) == {"head8", "head16", "head32"}
    assert subject.joules() > 0
    assert min(subject.footprint.model, subject.footprint.workspace) > 0
    assert subject.scale == 1
    subject.network(clip[1])
    subject.reset()
    assert subject.network(clip[1])[1] == 1


def test_caching_in_halves_takes_less_for_a_stream(maker):
    assert maker.make("float16").footprint.stream < maker.make("winograd").footprint.stream
    assert maker.make("im2col").footprint.stream > 0
    assert maker.make("im2col").footprint.matrix > 0


def test_rows_that_are_for_nothing_in_this_model_say_so(maker, monkeypatch):
    monkeypatch.setattr(subjects, "HAS_BFLOAT16", False)
    with pytest.raises(BenchError, match="no bfloat16 arithmetic"):
        maker.make("bfloat16")
    monkeypatch.setattr(subjects, "HAS_BFLOAT16", True)
    if not maker.plan("bfloat16").bfloat16_nodes:
        with pytest.raises(BenchError, match="no layer of this model gains"):
            maker.make("bfloat16")


def test_a_model_without_pairs_that_are_one_step_says_so(maker):
    with pytest.raises(BenchError, match="no depthwise convolution"):
        maker.make("fused")


def made_of(folder, *nodes, **constants):
    """A maker of a model of these nodes, 16 channels from a picture of 40 px."""
    path = folder / "hand-made.onnx"
    first = node("Conv", "x first", "a", "first")
    path.write_bytes(build([first, *nodes], {"first": weights(16, 3, 1, 1), **constants}, shape=(1, 3, 40, 40)))
    return Maker(open_model(path), str(path), [])


def large(folder, taps, group=16, **attrs):
    """With one convolution of large filters."""
    made = node("Conv", "a w", "y", "large", group=group, pads=[taps // 2] * 4, **attrs)
    return made_of(folder, made, w=weights(16, 16 // group, taps, taps))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"taps": 5}, "no kernel of 7x7 or more in this model"),
        ({"taps": 9, "strides": [2, 2]}, "of 1 large kernels none can be computed so: strides, dilations or groups"),
        ({"taps": 9, "group": 2}, "of 1 large kernels none can be computed so: strides, dilations or groups"),
        ({"taps": 9}, r"rocket_fft \(the extra `fft`\) is not there: 1 large kernels may gain by it"),
    ],
    ids=str,
)
def test_why_there_is_no_row_with_transforms(tmp_path, monkeypatch, of, said):
    """Without the library, which is the reason only where it would be used."""
    for module in (fft, subjects):
        monkeypatch.setattr(module, "is_there", lambda: False)
    with pytest.raises(BenchError, match=said):
        large(tmp_path, **of).make("fft")


def test_large_kernels_that_gain_nothing_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(fft, "direct_ns", lambda made: 0.0)
    for module in (fft, subjects):
        monkeypatch.setattr(module, "is_there", lambda: True)
    with pytest.raises(BenchError, match="of 1 large kernels that it can compute none gains by it here"):
        large(tmp_path, 9).make("fft")


def test_large_kernels_by_transforms(tmp_path, monkeypatch):
    pytest.importorskip("rocket_fft", reason="needs the extra `fft`")
    monkeypatch.setattr(opened_module, "tuned", lambda plan, key: plan)
    maker, image = large(tmp_path, 31), np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    subject, direct = maker.make("fft"), maker.make("direct")
    assert subject.note == "1 of 1 large kernels by transforms"
    found, fraction = subject.network(image)
    expected, _ = direct.network(image)
    assert fraction == 1
    assert 0 < np.abs(found["y"] - expected["y"]).max() < 1e-4 * np.abs(expected["y"]).max()
    assert 0 < subject.joules() < direct.joules(), "961 taps"
    assert subject.footprint.model > direct.footprint.model
    maps = large(tmp_path, 31).make("caching")
    assert maps.network(image)[1] == 1
    assert maps.joules() > 0


def test_pairs_that_are_one_step(tmp_path, monkeypatch):
    monkeypatch.setattr(OpenedModel, "policy", Policy(separable_bytes=0))
    depthwise = node("Conv", "a w", "b", "depthwise", group=16, pads=[1] * 4)
    constants = {"w": weights(16, 1, 3, 3), "v": weights(8, 16, 1, 1)}
    maker = made_of(tmp_path, depthwise, node("Conv", "b v", "y", "last"), **constants)
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    subject, apart = maker.make("fused"), maker.make("winograd")
    assert subject.note == "1 pairs"
    found, fraction = subject.network(image)
    expected, _ = apart.network(image)
    assert fraction == 1
    assert np.abs(found["y"] - expected["y"]).max() < 1e-4 * np.abs(expected["y"]).max()
    assert 0 < subject.joules() < apart.joules(), "a map less"
    assert subject.scale == 1


def test_without_the_compression_its_row_is_left_out_and_all_goes_on(maker, clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "service.compression.compress", None)
    with pytest.raises(BenchError, match="not installed"):
        maker.make("compressed")
    whole = maker.make("all")
    assert whole.note.startswith("without decomposition: not installed")
    assert whole.network(clip[0])[1] == 1


def test_a_compressed_model_is_made_once(maker, model_file, opened, clip, monkeypatch):
    asked = compression(monkeypatch)
    dense, whole = maker.make("compressed"), maker.make("all")
    kept: dict = {}
    for _ in range(2):
        Maker(opened, str(model_file), clip, spec=Path("a.toml"), error=0.1, smaller=kept).make("compressed")
    wanted = {"method": "tucker2", "size": (96, 64)}
    assert asked == [
        (str(model_file), len(clip), {**wanted, "budget": 0.05}),
        (str(model_file), len(clip), {**wanted, "budget": 0.1, "spec": Path("a.toml")}),
    ]
    assert dense.note == "Tucker-2: 40% of the multiply-accumulates, output error 0.031"
    assert whole.note is None
    assert dense.scale == 1  # this one's layers are the original's
    assert np.array_equal(dense.network(clip[0])[0]["head8"], maker.make("winograd").network(clip[0])[0]["head8"])


def test_a_file_that_was_compressed_before_is_taken(opened, model_file, clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "service.compression.compress", None)
    maker = Maker(opened, str(model_file), clip, compressed=model_file)
    subject = maker.make("compressed")
    assert subject.note == "as tiny.onnx has them"
    assert subject.network(clip[0])[1] == 1
    assert maker.make("all").note is None


def test_a_compressed_model_is_not_run_under_the_originals_profile(opened, model_file, clip):
    profile = Profile(model="0" * 64, size=(96, 64), budget="noise", factors={"no such step": 2.0})
    maker = Maker(replace(opened, profile=profile), str(model_file), clip, compressed=model_file)
    dense, whole = maker.make("compressed"), maker.make("all")
    assert dense.opened.profile is whole.opened.profile is None
    assert dense.note == "as tiny.onnx has them; not calibrated: the original's profile is of other steps"
    assert whole.note == "not calibrated: the original's profile is of other steps"


def test_never_is_more_than_any_map():
    assert NEVER > 1 << 50
