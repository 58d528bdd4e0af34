"""The product's own family: its decode against a plain one, on a small model as the product's files are made."""

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper
from own_model import LABELS, SIZE, write_model

from cache.onnx_import import extract, import_graph, load_model
from cache.session import Session
from service import families
from service.families.afterimage import Afterimage
from service.families.base import FamilyError
from service.model_spec import ModelSpec, load_spec
from service.opened import open_model


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="module")
def heads(path):
    """What ONNX Runtime gives for a random image."""
    image = np.random.default_rng(1).uniform(0, 255, (1, 3, SIZE[1], SIZE[0])).astype(np.float32)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [out.name for out in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": image}), strict=True))


def decode_plainly(heads, classes, threshold):
    """The definition, cell by cell: (class, score, x1, y1, x2, y2)."""
    rows = []
    for stride in (8, 16, 32):
        head = heads[f"head{stride}"][0].astype(np.float64)
        for y in range(head.shape[1]):
            for x in range(head.shape[2]):
                for c in range(classes):
                    score = 1 / (1 + np.exp(-head[c, y, x]))
                    if score > threshold:
                        left, top, right, bottom = np.maximum(head[classes + 4 * c : classes + 4 * c + 4, y, x], 0)
                        centre_x, centre_y = (x + 0.5) * stride, (y + 0.5) * stride
                        box = (centre_x - left * stride, centre_y - top * stride)
                        rows.append((c, score, *box, centre_x + right * stride, centre_y + bottom * stride))
    return np.array(sorted(rows))


def test_equals_the_definition_cell_by_cell(heads):
    spec = ModelSpec(family="afterimage", labels=LABELS, min_confidence=0.3)
    found = Afterimage().candidates(heads, spec, SIZE)
    expected = decode_plainly(heads, len(LABELS), 0.3)
    got = np.column_stack([found.class_id, found.score, found.xyxy]).astype(np.float64)
    assert len(expected) > 20
    order = np.lexsort(np.round(got, 4)[:, ::-1].T)
    np.testing.assert_allclose(got[order], expected[np.lexsort(np.round(expected, 4)[:, ::-1].T)], rtol=1e-4, atol=1e-3)
    assert found.xyxy.dtype == found.score.dtype == np.float32
    assert found.class_id.dtype == np.int32


def test_two_classes_fire_in_one_cell_each_with_its_own_box():
    head = np.full((1, 10, 2, 3), -9.0, np.float32)
    head[0, :, 1, 2] = [2, 1, 1, 0.5, 1.5, 0.5, -3, 0, 0.25, 0.25]
    spec = ModelSpec(family="afterimage", labels=("person", "face"))
    found = Afterimage().decode({"head": head}, spec, (48, 32))
    assert found.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(found.score, 1 / (1 + np.exp([-2, -1])), rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, [[24, 16, 64, 32], [40, 24, 44, 28]])


def test_boxes_of_one_class_suppress_each_other_and_no_others():
    head = np.full((1, 10, 1, 2), 0.0, np.float32)
    head[0, 0] = [[3, 2]]
    head[0, 1] = [[1, -9]]
    head[0, 2:] = 1
    head[0, 2::4, 0, 1] = 2  # the right cell's boxes are those of the left one
    head[0, 4::4, 0, 1] = 0
    found = Afterimage().decode({"head": head}, ModelSpec(family="afterimage", labels=("a", "b")), (64, 32))
    assert found.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(found.xyxy, [[-16, -16, 48, 48]] * 2)


def test_nothing_found_is_no_boxes(heads):
    spec = ModelSpec(family="afterimage", labels=LABELS, min_confidence=1.0)
    assert len(Afterimage().decode(heads, spec, SIZE)) == 0


def test_is_recognised_by_its_metadata_with_labels_and_preprocessing(path):
    spec = load_spec(None, load_model(path))
    assert (spec.family, spec.labels, spec.colour) == ("afterimage", LABELS, "BGR")
    assert (spec.mean, spec.std, spec.fit, spec.pad_value) == ((0.0,), (1.0,), "letterbox", 114)


def test_weights_kept_in_float16_are_folded_and_every_convolution_is_cached(path):
    model = load_model(path)
    graph = import_graph(model, (1, 3, SIZE[1], SIZE[0]))
    assert {node.op for node in graph.nodes} == {"conv"}
    weights = [graph.constants[node.inputs[1]] for node in graph.nodes]
    assert {w.dtype for w in weights} == {np.dtype(np.float32)}
    halves = {item.name: numpy_helper.to_array(item) for item in model.proto.graph.initializer}
    np.testing.assert_array_equal(weights[0], halves["a_weight_half"].astype(np.float32))
    plan = open_model(path).compile()
    assert not plan.partition.tails


@pytest.mark.parametrize("size", [SIZE, (160, 96)])
def test_the_engine_finds_what_onnxruntime_finds_at_any_size(path, size, ort_session):
    opened = open_model(path, size)
    assert list(opened.outputs) == ["head8", "head16", "head32"]
    image = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    ours = Session(opened.compile(), exact=True).push(image).outputs
    reference = ort_session(extract(opened.model, {"images": (1, 3, size[1], size[0])}, list(opened.outputs)))
    values = reference.run(None, {"images": image.astype(np.float32).transpose(2, 0, 1)[None]})
    theirs = dict(zip(opened.outputs, values, strict=True))
    for name in opened.outputs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
    spec = opened.spec.model_copy(update={"min_confidence": 0.3})
    got, wanted = opened.family.decode(ours, spec, size), opened.family.decode(theirs, spec, size)
    assert len(got) == len(wanted) > 5
    np.testing.assert_array_equal(got.class_id, wanted.class_id)
    np.testing.assert_allclose(got.xyxy, wanted.xyxy, atol=0.02)


def test_refuses_other_heads_and_sizes(path):
    spec = ModelSpec(family="afterimage", labels=LABELS)
    with pytest.raises(FamilyError, match=r"expected one head of 15 channels per stride, got \[10\]"):
        Afterimage().decode({"a": np.zeros((1, 10, 8, 8), np.float32)}, spec, (64, 64))
    with pytest.raises(FamilyError, match=r"expected one head of 5C channels per stride, got \[4\]"):
        Afterimage().decode({"a": np.zeros((1, 4, 8, 8), np.float32)}, ModelSpec(family="afterimage"), (64, 64))
    with pytest.raises(FamilyError, match="expected a width that is a multiple of 32, got 100"):
        families.check_size(load_model(path), spec, (100, 64))
