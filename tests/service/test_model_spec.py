"""Specifications: guessed for real and made models, overridden by TOML, refused with a hint."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError

from cache.normalisation import line
from cache.onnx_import import load_model
from service.model_spec import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, SpecError, guess_spec, load_spec

MODELS = Path(__file__).parents[3] / "shared" / "data" / "models"
BGR_MEAN, BGR_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


def make(folder, shape, *outputs, op="Identity", **metadata):
    """A checked file whose outputs have the given shapes (their values do not matter here)."""
    nodes, values, weights = [], [], []
    for number, out in enumerate(outputs):
        name = f"out{number}"
        fixed = [d if isinstance(d, int) else 1 for d in out]
        zeros = np.zeros(fixed, np.float32)
        weights.append(onnx.numpy_helper.from_array(zeros, f"w{number}"))
        nodes.append(helper.make_node("ReduceSum", ["images"], [f"s{number}"], keepdims=0))
        nodes.append(helper.make_node("Add", [f"s{number}", f"w{number}"], [f"a{number}"]))
        nodes.append(helper.make_node(op, [f"a{number}"], [name]))
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, out))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    model = helper.make_model(
        helper.make_graph(nodes, "made", [image], values, weights),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    helper.set_model_props(model, metadata)
    path = folder / "made.onnx"
    onnx.save(model, path)
    return load_model(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yolox_nano", ("yolox", "BGR", (0.0,), (1.0,), "letterbox", 114, 80)),
        ("FastestDet", ("fastestdet", "BGR", (0.0,), (255.0,), "stretch", 0, 80)),
        ("nanodet_m_320", ("nanodet", "BGR", BGR_MEAN, BGR_STD, "stretch", 0, 80)),
        ("yunet_n_320_320", ("yunet", "BGR", (0.0,), (1.0,), "letterbox", 0, 1)),
        ("yunet_n_640_640", ("yunet", "BGR", (0.0,), (1.0,), "letterbox", 0, 1)),
        ("ultraface_version-RFB-640", ("ultraface", "RGB", (127.0,), (128.0,), "stretch", 0, 1)),
        ("ppocrv3_det", ("segmentation", "BGR", IMAGENET_MEAN, IMAGENET_STD, "letterbox", 0, 1)),
    ],
)
def test_real_models_are_guessed_right(name, expected):
    path = MODELS / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"no test data: {path}")
    s = guess_spec(load_model(path))
    assert (s.family, s.colour, s.mean, s.std, s.fit, s.pad_value, len(s.labels)) == expected


def test_ultralytics_metadata_says_all(tmp_path):
    names = str({0: "cat", 1: "dog"})
    common = {"names": names, "stride": "32", "imgsz": "[320, 640]"}
    s = guess_spec(make(tmp_path, (1, 3, "h", "w"), (1, 6, "n"), task="detect", **common))
    assert (s.family, s.layout, s.labels, s.size, s.stride) == (
        "ultralytics",
        "v8",
        ("cat", "dog"),
        (640, 320),
        32,
    )
    assert (s.colour, s.mean, s.std, s.fit, s.pad_value) == ("RGB", (0.0,), (255.0,), "letterbox_centre", 114)
    s = guess_spec(make(tmp_path, (1, 3, 64, 64), (1, 252, 7), names="['cat', 'dog']", stride="32"))
    assert (s.family, s.layout, s.size) == ("ultralytics", "v5", None)
    s = guess_spec(make(tmp_path, (1, 3, 64, 64), (1, 300, 6), **common, task="detect", end2end="True"))
    assert s.layout == "end2end"
    s = guess_spec(make(tmp_path, (1, 3, 64, 64), (1, 2), **common, task="classify"))
    assert (s.family, s.mean, s.std) == ("classification", (0.0,), (255.0,))
    pose = {"names": "{0: 'person'}", "stride": "32", "task": "pose", "kpt_shape": "[17, 3]"}
    s = guess_spec(make(tmp_path, (1, 3, 64, 64), (1, 56, 84), **pose))
    assert (s.layout, s.keypoint_shape) == ("v8", (17, 3))
    assert guess_spec(make(tmp_path, (1, 3, 64, 64), (1, 7, 84), **common, task="obb")).family == "raw"


@pytest.mark.parametrize(
    ("shape", "output", "family", "layout"),
    [
        ((1, 3, 64, 64), (1, 84, 9), "yolox", "auto"),
        ((1, 3, 64, 64), (1, 252, 85), "ultralytics", "v5"),
        ((1, 3, 64, 64), (1, 6, 84), "ultralytics", "v8"),
        ((1, 3, 64, 64), (1, 25, 4, 4), "fastestdet", "auto"),
        ((1, 3, 64, 64), (1, 21, 16, 16), "segmentation", "auto"),
        ((1, 3, 64, 64), (1, 10), "classification", "auto"),
        ((1, 3, 64, 64), (1, 10, 1, 1), "classification", "auto"),
        ((1, 3, 64, 32), (1, 10), "raw", "auto"),
        ((1, 3, 64, 64), (1, 77, 9), "raw", "auto"),
        ((1, 16), (1, 10), "raw", "auto"),
    ],
)
def test_shapes_tell_the_family(tmp_path, shape, output, family, layout):
    s = guess_spec(make(tmp_path, shape, output))
    assert (s.family, s.layout) == (family, layout)


def test_a_square_classifier_gets_imagenet_and_its_last_op_tells_the_scores(tmp_path):
    s = guess_spec(make(tmp_path, (1, 3, 224, 224), (1, 1000)))
    assert (s.mean, s.std, s.colour, s.fit, s.scores) == (
        IMAGENET_MEAN,
        IMAGENET_STD,
        "RGB",
        "crop_centre",
        "logits",
    )
    assert guess_spec(make(tmp_path, (1, 3, 224, 224), (1, 1000), op="Softmax")).scores == "probability"
    grey = guess_spec(make(tmp_path, (1, 1, 28, 28), (1, 10)))
    assert (grey.family, grey.colour, grey.normalisation().shape) == ("classification", "GRAY", (256, 1))


def test_normalisation_is_a_float32_table_per_channel():
    table = ModelSpec(mean=BGR_MEAN, std=BGR_STD).normalisation()
    assert table.shape == (256, 3)
    assert table.dtype == np.float32
    assert table[200, 1] == pytest.approx((200 - 116.28) / 57.12, rel=3e-7)
    assert line(table)[0].size == 48
    assert ModelSpec(mean=0, std=1).normalisation()[255].tolist() == [255, 255, 255]


def test_toml_beside_the_model_overrides_field_by_field(tmp_path):
    model = make(tmp_path, (1, 3, 224, 224), (1, 1000))
    assert load_spec(None, model) == guess_spec(model)
    (tmp_path / "made.toml").write_text('size = "96x64"\nlabels = "coco80"\nmean = 10\n')
    s = load_spec(None, model)
    assert (s.size, len(s.labels), s.mean, s.std) == ((96, 64), 80, (10.0,), IMAGENET_STD)
    other = tmp_path / "other.toml"
    other.write_text('size = [32, 32]\nlabels = ["x", "y"]')
    s = load_spec(other, model)
    assert (s.size, s.label(1), s.label(7)) == ((32, 32), "y", "class 7")


def test_another_family_brings_its_own_defaults(tmp_path):
    model = make(tmp_path, (1, 3, 224, 224), (1, 1000))
    (tmp_path / "made.toml").write_text('family = "yolox"\npad_value = 0\n')
    s = load_spec(None, model)
    assert (s.family, s.colour, s.std, s.pad_value) == ("yolox", "BGR", (1.0,), 0)


def test_grey_in_toml_needs_no_other_field(tmp_path):
    model = make(tmp_path, (1, 3, 224, 224), (1, 1000))
    (tmp_path / "made.toml").write_text('colour = "GRAY"\n')
    assert load_spec(None, model).normalisation().shape == (256, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_confidense = 0.3", "unknown field 'min_confidense'; did you mean 'min_confidence'"),
        ("zzz = 1", "unknown field 'zzz'; expected one of family, size"),
        ('family = "yolo"', "unknown family 'yolo'; did you mean 'yolox'"),
        ('size = "640"', 'size: expected a size such as "640x384"'),
        ("min_confidence = 3", "min_confidence: expected at most 1, got 3"),
        ('labels = "coco"', "labels: no label list 'coco'; there are"),
        ("tolerance = 0", "tolerance: expected more than 0, got 0"),
        ("std = 0", "std: expected values above 0, got 0"),
        ("mean = [1, 2]", "mean: expected 1 or 3 values for RGB, got 2"),
        ("mean = ", "not valid TOML"),
    ],
)
def test_wrong_toml_is_refused_with_a_hint(tmp_path, text, message):
    model = make(tmp_path, (1, 3, 224, 224), (1, 1000))
    (tmp_path / "made.toml").write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(None, model)
    assert "made.toml" in str(caught.value)


def test_a_missing_toml_is_named(tmp_path):
    model = make(tmp_path, (1, 3, 224, 224), (1, 1000))
    with pytest.raises(SpecError, match=r"nowhere\.toml: cannot be read"):
        load_spec(tmp_path / "nowhere.toml", model)


def test_a_specification_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        ModelSpec().family = "yolox"
