"""Triton's own HTTP client against a real server and the real engine: what it asks, and that it likes the answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton
from own_model import SIZE, write_model
from service_fakes import RunningServer, image, make_settings, running_server
from tritonclient.utils import InferenceServerException

from service.registry import ModelRegistry
from service.settings import ModelSource

SHAPE = (1, 3, SIZE[1], SIZE[0])
HEADS = ["head8", "head16", "head32"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of our own family, and another one below a folder of models."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "more").mkdir()
    write_model(folder / "more/yard.onnx", seed=1)
    return write_model(folder / "door.onnx")


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[RunningServer]:
    settings = make_settings(models={"door": ModelSource(path=file)}, model_folder=file.parent / "more")
    with running_server(ModelRegistry.from_settings(settings), settings) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=60, connection_timeout=10) as made:
        yield made


def tensor(name: str, values: np.ndarray, datatype: str, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def x(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, SHAPE).astype(np.float32)


def test_health(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("door")
    assert client.is_model_ready("door", "1")
    assert not client.is_model_ready("door", "2")
    assert not client.is_model_ready("none")


def test_metadata(client) -> None:
    assert client.get_server_metadata()["name"] == "afterimage"
    told = client.get_model_metadata("door")
    assert told["inputs"][0] == {"name": "images", "datatype": "FP32", "shape": list(SHAPE)}
    shapes = {output["name"]: output["shape"] for output in told["outputs"]}
    assert [shapes[name] for name in HEADS] == [[1, 15, 8, 12], [1, 15, 4, 6], [1, 15, 2, 3]]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_the_networks_outputs_are_those_of_onnx_runtime(client, file: Path, binary: bool, compression) -> None:
    values = x()
    asked = [triton.InferRequestedOutput(name, binary_data=binary) for name in HEADS]
    result = client.infer(
        "door", [tensor("images", values, "FP32", binary)], outputs=asked, request_id="7",
        request_compression_algorithm=compression, response_compression_algorithm=compression,
    )  # fmt: skip
    expected = onnxruntime.InferenceSession(file).run(HEADS, {"images": values})
    for name, wanted in zip(HEADS, expected, strict=True):
        np.testing.assert_allclose(result.as_numpy(name), wanted, rtol=1e-3, atol=1e-3)
    assert (result.get_response()["id"], result.get_response()["model_version"]) == ("7", "1")


def test_all_outputs_come_in_binary_form_by_default(client) -> None:
    result = client.infer("door", [tensor("images", x(), "FP32")])
    assert all("binary_data_size" in result.get_output(name)["parameters"] for name in HEADS)
    assert result.as_numpy("head8").dtype == np.float32


def test_images_as_pixels_and_as_files(client) -> None:
    pixels = np.full((96, 128, 3), 90, np.uint8)
    file = np.asarray([image(90, kind=".png")], dtype=np.object_)
    parameters = {"min_confidence": 0.05}
    results = [
        client.infer("door", [asked], parameters=parameters)
        for asked in (tensor("image", pixels, "UINT8"), tensor("encoded_image", file, "BYTES"))
    ]
    boxes = [result.as_numpy("boxes") for result in results]
    assert boxes[0].shape[0] > 0
    assert np.array_equal(boxes[0], boxes[1])
    assert set(results[0].as_numpy("labels").tolist()) <= {b"person", b"face", b"vehicle"}
    scores = results[0].as_numpy("scores")
    assert (np.diff(scores) <= 0).all()
    nothing = client.infer("door", [tensor("image", pixels, "UINT8")], parameters={"min_confidence": 1.0})
    assert nothing.as_numpy("boxes").shape == (0, 4)


def test_requests_under_way_at_the_same_time(server: RunningServer) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        alone = [client.infer("door", [tensor("images", x(seed), "FP32")]).as_numpy("head8") for seed in range(4)]
        waiting = [client.async_infer("door", [tensor("images", x(seed), "FP32")]) for seed in range(4)]
        for one, request in zip(alone, waiting, strict=True):
            assert np.array_equal(request.get_result().as_numpy("head8"), one)


@pytest.mark.parametrize(
    ("model", "asked", "status", "says"),
    [
        ("none", tensor("images", x(), "FP32"), "404", "unknown model 'none'"),
        ("door", tensor("frame", x(), "FP32"), "400", "expected one input, 'images' or 'image'"),
        ("door", tensor("images", x()[:, :1], "FP32"), "400", r"expected FP32\[1, 3, 64, 96\]"),
        ("door", tensor("image", np.zeros((2, 2), np.uint8), "UINT8"), "400", "expected RGB pixels"),
        ("door", tensor("encoded_image", np.asarray([b"x"], np.object_), "BYTES"), "400", "expected a JPEG"),
    ],
)
def test_errors(client, model: str, asked: triton.InferInput, status: str, says: str) -> None:
    with pytest.raises(InferenceServerException, match=says) as caught:
        client.infer(model, [asked])
    assert caught.value.status() == status


def test_the_repository(client, file: Path) -> None:
    def states() -> dict[str, str]:
        return {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}

    assert (states()["door"], states()["yard"]) == ("READY", "UNAVAILABLE")
    client.load_model("yard")
    assert states()["yard"] == "READY"
    assert client.is_model_ready("yard")
    before = client.infer("yard", [tensor("images", x(), "FP32")])
    shutil.copy(file, file.parent / "more/yard.onnx")
    client.load_model("yard")
    after = client.infer("yard", [tensor("images", x(), "FP32")])
    assert after.get_response()["model_version"] == "2"
    assert not np.array_equal(before.as_numpy("head8"), after.as_numpy("head8"))
    door = client.infer("door", [tensor("images", x(), "FP32")])
    assert np.array_equal(after.as_numpy("head8"), door.as_numpy("head8"))
    client.unload_model("yard")
    assert not client.is_model_ready("yard")
    with pytest.raises(InferenceServerException, match="no model 'other' can be loaded"):
        client.load_model("other")
    with pytest.raises(InferenceServerException, match="default model"):
        client.unload_model("door")
