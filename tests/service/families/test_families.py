"""The registry, and which sizes a model takes."""

from types import SimpleNamespace
from typing import get_args

import pytest

from cache.onnx_import import import_graph
from service import families
from service.families.base import FamilyError
from service.model_spec import FamilyName, ModelSpec


def model(*shape):
    return SimpleNamespace(inputs=[SimpleNamespace(shape=shape)])


def test_every_family_that_a_specification_can_name_exists():
    assert set(families.FAMILIES) == set(get_args(FamilyName))
    for name in families.FAMILIES:
        family = families.create(ModelSpec(family=name))
        assert family.name == name
        assert family is not families.create(ModelSpec(family=name))


def test_size_is_the_specifications_then_the_files_then_a_usual_one():
    fixed, free = model(1, 3, 320, 416), model(1, 3, None, None)
    assert families.default_size(fixed, ModelSpec(size=(64, 32))) == (64, 32)
    assert families.default_size(fixed, ModelSpec()) == (416, 320)
    assert families.default_size(free, ModelSpec()) == (640, 384)


@pytest.mark.parametrize(
    ("family", "shape", "size"),
    [
        ("yolox", (1, 3, 416, 416), (640, 384)),
        ("yolox", (1, 3, 416, 416), (416, 416)),
        ("ultraface", (1, 3, 240, 320), (320, 240)),
        ("classification", (1, 3, 224, 224), (224, 224)),
        ("segmentation", (1, 3, None, None), (640, 384)),
    ],
)
def test_sizes_that_work(family, shape, size):
    assert families.check_size(model(*shape), ModelSpec(family=family), size) is None


@pytest.mark.parametrize(
    ("family", "shape", "size", "message"),
    [
        ("yolox", (1, 3, 416, 416), (640, 360), "expected a height that is a multiple of 32, got 360"),
        ("classification", (1, 3, 224, 224), (256, 224), "this file takes only width 224, got 256"),
        (
            "segmentation",
            (1, 3, None, None),
            (641, 384),
            "a width that is a multiple of 32, got 641",
        ),
        ("raw", (1, 3, None, None), (0, 32), "expected a size of at least 1x1, got 0x32"),
    ],
)
def test_sizes_that_do_not(family, shape, size, message):
    with pytest.raises(FamilyError, match=message):
        families.check_size(model(*shape), ModelSpec(family=family), size)


def test_heads_are_found_where_the_files_own_tail_cannot_run(real_model):
    net = real_model("ultraface_version-RFB-640")
    family, heads = families.bind(net.model, net.spec, (640, 384))
    assert family.name == "ultraface"
    graph = import_graph(net.model, (1, 3, 384, 640), heads)
    assert [graph.types[name].shape[1:] for name in heads][:2] == [(6, 48, 80), (4, 24, 40)]
    assert graph.outputs == tuple(heads)
