"""What tensors a model has, and what a request means by them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from service_fakes import SIZE, FakeEngine, image

from service.codec import Limits
from service.open_inference.messages import MessageError, Request, decode
from service.open_inference.signature import Signature
from service.open_inference.tensors import Tensor, TensorError
from service.pipeline import FramePipeline
from service.registry import Model, ModelFailed

PIXELS = np.full((96, 128, 3), 120, np.uint8)


def warm(engine: FakeEngine, kind: str = "boxes", **fields) -> Model:
    model = engine.model(kind=kind)
    for name, value in fields.items():
        setattr(model, name, value)
    model.warm()
    return model


def ask(model: Model, tensor: Tensor, *outputs: str, **parameters: object) -> dict[str, Tensor]:
    request = Request({tensor.name: tensor}, dict.fromkeys(outputs, False), parameters=parameters)
    call = Signature.of(model).call(request, Limits())
    return dict(call(FramePipeline(model, model.open_session(), Limits())))


def test_metadata(engine: FakeEngine) -> None:
    told = Signature.of(warm(engine)).metadata()
    assert (told["name"], told["versions"]) == ("fake", ["1"])
    assert told["inputs"] == [
        {"name": "images", "datatype": "FP32", "shape": [1, 3, SIZE[1], SIZE[0]]},
        {"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]},
        {"name": "encoded_image", "datatype": "BYTES", "shape": [1]},
    ]
    assert [output["name"] for output in told["outputs"]] == ["grey", "boxes", "scores", "class_ids", "labels"]
    assert told["outputs"][0] == {"name": "grey", "datatype": "FP64", "shape": [1, 1, 1]}


def test_a_model_that_nobody_can_read_has_only_its_own_tensors(engine: FakeEngine) -> None:
    told = Signature.of(warm(engine, "raw")).metadata()
    assert [item["name"] for item in told["inputs"]] == ["images"]
    assert [item["name"] for item in told["outputs"]] == ["grey"]


@pytest.mark.parametrize("name", ["image", "encoded_image"])
def test_the_networks_own_name_comes_first(engine: FakeEngine, name: str) -> None:
    names = [item["name"] for item in Signature.of(warm(engine, input_name=name)).metadata()["inputs"]]
    assert names[0] == name
    assert f"decoded_{name}" in names
    assert len(set(names)) == 3


def test_pixels_and_encoded_images_find_the_same(engine: FakeEngine) -> None:
    model = warm(engine)
    for tensor in (
        Tensor.of("image", PIXELS),
        Tensor.of("image", PIXELS[None]),
        Tensor("encoded_image", "BYTES", (1,), (image(120),)),
    ):
        found = ask(model, tensor)
        assert list(found) == ["boxes", "scores", "class_ids", "labels"]
        assert found["boxes"].array.tolist() == [[0, 0, 64, 96]]
        assert found["scores"].array.tolist() == [0.75]
        assert (found["class_ids"].array.tolist(), found["labels"].elements) == ([12], (b"grey12",))


def test_pixels_are_rgb(engine: FakeEngine) -> None:
    seen = []
    model = warm(engine)
    pipeline = FramePipeline(model, model.open_session(), Limits())
    push = pipeline._session.push
    pipeline._session.push = lambda frame, **about: (seen.append(frame.copy()), push(frame, **about))[1]
    red = np.zeros((96, 128, 3), np.uint8)
    red[..., 0] = 255
    request = Request({"image": Tensor.of("image", red)}, {})
    Signature.of(model).call(request, Limits())(pipeline)
    assert seen[0][10, 10].tolist() == [0, 0, 255], "the fake network is fed BGR"


def test_nothing_found_is_empty_tensors(engine: FakeEngine) -> None:
    found = ask(warm(engine), Tensor.of("image", PIXELS), min_confidence=0.9)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        "boxes": (0, 4), "scores": (0,), "class_ids": (0,), "labels": (0,),
    }  # fmt: skip


def test_classes_stand_for_the_whole_image(engine: FakeEngine) -> None:
    found = ask(warm(engine, "classes"), Tensor.of("image", PIXELS))
    assert found["class_ids"].array.tolist() == [12, 0]
    assert found["boxes"].array.tolist() == [[0, 0, 128, 96]] * 2


def test_the_networks_own_input_gives_its_outputs(engine: FakeEngine) -> None:
    x = np.full((1, 3, SIZE[1], SIZE[0]), 50, np.float32)
    found = ask(warm(engine), Tensor.of("images", x))
    assert {name: tensor.array.tolist() for name, tensor in found.items()} == {"grey": [[[50.0]]]}


def test_outputs_come_as_asked_for(engine: FakeEngine) -> None:
    found = ask(warm(engine), Tensor.of("image", PIXELS), "scores", "boxes")
    assert list(found) == ["scores", "boxes"]


NETWORK = np.zeros((1, 3, SIZE[1], SIZE[0]), np.float32)


@pytest.mark.parametrize(
    ("tensor", "outputs", "parameters", "says"),
    [
        (Tensor.of("frame", PIXELS), (), {}, "expected one input, 'images' or 'image' or 'encoded_image', got 'frame'"),
        (Tensor.of("image", PIXELS), ("grey",), {}, "expected outputs of boxes, scores"),
        (Tensor.of("images", NETWORK), ("boxes",), {}, "expected outputs of grey for 'images'"),
        (Tensor.of("images", NETWORK[:, :, 1:]), (), {}, r"expected FP32\[1, 3, 48, 64\], got FP32\[1, 3, 47, 64\]"),
        (Tensor.of("images", NETWORK.astype(np.float64)), (), {}, "got FP64"),
        (Tensor.of("images", NETWORK + np.nan), (), {}, "expected finite numbers"),
        (Tensor.of("images", NETWORK + np.inf), (), {}, "expected finite numbers"),
        (Tensor.of("image", PIXELS[..., :2]), (), {}, "expected RGB pixels"),
        (Tensor.of("image", PIXELS[:0]), (), {}, "expected RGB pixels"),
        (Tensor.of("image", PIXELS.astype(np.float32)), (), {}, "expected RGB pixels"),
        (Tensor.of("image", np.zeros((4097, 4097, 3), np.uint8)), (), {}, "expected at most 16777216 pixels"),
        (Tensor("encoded_image", "BYTES", (2,), (b"a", b"b")), (), {}, "expected one JPEG"),
        (Tensor.of("encoded_image", PIXELS), (), {}, "expected one JPEG"),
        (Tensor.of("image", PIXELS), (), {"min_confidence": 1.5}, "expected a number from 0 to 1"),
        (Tensor.of("image", PIXELS), (), {"min_confidence": True}, "expected a number from 0 to 1"),
    ],
)
def test_what_a_model_does_not_take(engine: FakeEngine, tensor, outputs, parameters, says: str) -> None:
    with pytest.raises((MessageError, TensorError), match=says):
        ask(warm(engine), tensor, *outputs, **parameters)
    assert len(engine.sessions) == 1, "nothing was computed for it but the warming frames"


def test_two_inputs_are_one_too_many(engine: FakeEngine) -> None:
    inputs = [{"name": name, "shape": [1], "datatype": "FP32", "data": [1]} for name in ("image", "images")]
    with pytest.raises(MessageError, match="expected one input"):
        Signature.of(warm(engine)).call(decode(json.dumps({"inputs": inputs}).encode()), Limits())


def test_a_reload_in_between_is_told(engine: FakeEngine) -> None:
    model, fresh = warm(engine), warm(engine)
    call = Signature.of(model).call(Request({"image": Tensor.of("image", PIXELS)}, {}), Limits())
    pipeline = FramePipeline(model, model.open_session(), Limits())
    model.successor = fresh
    with pytest.raises(ModelFailed, match="reloaded meanwhile"):
        call(pipeline)
