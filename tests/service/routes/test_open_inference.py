"""The Open Inference Protocol's routes over the fake engine: statuses, error bodies, limits."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest
from service_fakes import SIZE, FakeEngine, image

PIXELS = {"name": "image", "shape": [3, 4, 3], "datatype": "UINT8", "data": [120] * 36}
INFER = "/v2/models/fake/infer"


def refused(response, status: int, says: str) -> None:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert says in response.json()["error"]


def infer(client, *inputs: dict, url: str = INFER, **fields: object):
    return client.post(url, json={"inputs": list(inputs), **fields})


def test_server_and_health(make_client) -> None:
    client = make_client()
    server = client.get("/v2").json()
    assert server["name"] == "afterimage"
    assert server["extensions"] == ["binary_tensor_data", "model_repository"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    client.app.state.service.warm = False
    response = client.get("/v2/health/ready")
    assert (response.status_code, response.json()["ready"]) == (400, False)
    assert "compiled" in response.json()["error"]


def test_a_models_metadata_and_readiness(make_client, engine: FakeEngine) -> None:
    client = make_client(engine.model("a"), engine.model("b"))
    assert client.get("/v2/models/a/ready").json() == {"name": "a", "ready": True}
    response = client.get("/v2/models/b/ready")
    assert (response.status_code, response.json()["error"]) == (400, "b is registered")
    assert engine.compiles == 1, "asking loads nothing"
    told = client.get("/v2/models/b").json()
    assert (told["name"], told["platform"], told["versions"]) == ("b", "afterimage_onnx", ["1"])
    assert client.get("/v2/models/b/ready").status_code == 200, "its tensors cannot be told without"
    assert client.get("/v2/models/b/versions/1").json() == told
    assert client.get("/v2/models/b/versions/1/ready").status_code == 200
    for path in ("/v2/models/b/versions/2", "/v2/models/b/versions/2/ready"):
        refused(client.get(path), 404, "expected version 1, got '2'")
    refused(client.get("/v2/models/c"), 404, "unknown model 'c'")
    refused(client.get("/v2/models/c/ready"), 404, "unknown model 'c'")
    refused(client.get("/v2/nowhere"), 404, "Not Found")


def test_inference_in_json(make_client) -> None:
    response = infer(make_client(), PIXELS, id="seven", outputs=[{"name": "labels"}, {"name": "boxes"}])
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "model_name": "fake",
        "model_version": "1",
        "id": "seven",
        "outputs": [
            {"name": "labels", "datatype": "BYTES", "shape": [1], "data": ["grey12"]},
            {"name": "boxes", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 2, 3]},
        ],
    }


def test_inference_in_binary_form(make_client) -> None:
    data = image(50)
    blob = len(data).to_bytes(4, "little") + data
    asked = {"name": "encoded_image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
    header = json.dumps({"inputs": [asked], "parameters": {"binary_data_output": True}}).encode()
    response = make_client().post(
        INFER, content=header + blob, headers={"Inference-Header-Content-Length": str(len(header))}
    )
    length = int(response.headers["inference-header-content-length"])
    outputs = json.loads(response.content[:length])["outputs"]
    assert [output["parameters"]["binary_data_size"] for output in outputs] == [16, 4, 4, 9]
    assert np.frombuffer(response.content[length : length + 16], "<f4").tolist() == [0, 0, 64, 96]
    assert response.content[-9:] == b"\x05\x00\x00\x00grey5"


def test_the_networks_own_input(make_client) -> None:
    x = {"name": "images", "shape": [1, 3, SIZE[1], SIZE[0]], "datatype": "FP32", "data": [7] * 3 * SIZE[0] * SIZE[1]}
    (output,) = infer(make_client(), x).json()["outputs"]
    assert (output["name"], output["data"]) == ("grey", [7.0])


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies(make_client, encoding: str, pack) -> None:
    client = make_client(max_message_bytes=10_000)
    body = json.dumps({"inputs": [PIXELS]}).encode()
    headers = {"content-encoding": encoding}
    assert client.post(INFER, content=pack(body), headers=headers).status_code == 200
    refused(client.post(INFER, content=pack(bytes(1_000_000)), headers=headers), 413, "at most 10000 bytes")
    refused(client.post(INFER, content=body, headers=headers), 400, f"expected a body in {encoding}")
    refused(client.post(INFER, content=body, headers={"content-encoding": "br"}), 415, "expected gzip, deflate or none")


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"{", {}, 400, "not an inference request"),
        (b'{"inputs": []}', {}, 400, "expected 1 to 64 inputs"),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, 400, "expected a number of bytes"),
        (b"{}", {"Inference-Header-Content-Length": "9999"}, 400, "expected 1 to 2, got 9999"),
        (bytes(20_000), {}, 413, "at most 16384 bytes"),
        (json.dumps({"inputs": [{**PIXELS, "name": "x"}]}).encode(), {}, 400, "expected one input"),
        (json.dumps({"inputs": [PIXELS], "parameters": {"timeout": -1}}).encode(), {}, 400, "microseconds"),
    ],
)
def test_refusals(make_client, engine: FakeEngine, body: bytes, headers: dict, status: int, says: str) -> None:
    client = make_client(max_message_bytes=16_384)
    refused(client.post(INFER, content=body, headers=headers), status, says)
    assert infer(client, PIXELS).status_code == 200


def test_unknown_names_and_versions(make_client) -> None:
    client = make_client()
    refused(infer(client, PIXELS, url="/v2/models/none/infer"), 404, "unknown model 'none'")
    refused(infer(client, PIXELS, url="/v2/models/fake/versions/2/infer"), 404, "expected version 1")
    assert infer(client, PIXELS, url="/v2/models/fake/versions/1/infer").status_code == 200


def test_a_broken_image_and_a_broken_engine(make_client, engine: FakeEngine, caplog) -> None:
    client = make_client()
    asked = {"name": "encoded_image", "shape": [1], "datatype": "BYTES", "data": ["aGVsbG8="]}
    refused(infer(client, asked), 400, "expected a JPEG, PNG or WebP image")
    engine.failures.append(ZeroDivisionError("secret"))
    refused(infer(client, PIXELS), 500, "the log has it as")


def test_a_timeout_of_the_requests_own(make_client, engine: FakeEngine) -> None:
    client = make_client()
    engine.gate.clear()
    refused(infer(client, PIXELS, parameters={"timeout": 50_000}), 503, "not computed in time")
    engine.gate.set()
    assert infer(client, PIXELS, parameters={"timeout": 0}).status_code == 200


def test_the_repository(make_client, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.library.Library.names", lambda self: ("a", "c"))
    client = make_client(engine.model("a"), engine.model("b"))
    assert client.post("/v2/repository/index").json() == [
        {"name": "a", "version": "1", "state": "READY", "reason": ""},
        {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "registered"},
        {"name": "c", "version": "", "state": "UNAVAILABLE", "reason": "not loaded"},
    ]
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert [entry["name"] for entry in ready] == ["a"]
    refused(client.post("/v2/repository/index", content=b"[]"), 400, "not a command")
    refused(client.post("/v2/repository/models/none/load"), 404, "no model 'none' can be loaded")
    refused(client.post("/v2/repository/models/none/unload"), 404, "unknown model 'none'")
    refused(client.post("/v2/repository/models/a/unload"), 409, "default model")
    given = {"parameters": {"config": "{}"}}
    refused(client.post("/v2/repository/models/a/load", json=given), 400, "models come from the server's disk")
    assert client.post("/v2/repository/models/b/unload", json={"parameters": {"unload_dependents": False}}).json() == {}
    refused(infer(client, PIXELS, url="/v2/models/b/infer"), 404, "unknown model 'b'")


def test_draining(make_client) -> None:
    client = make_client()
    client.app.state.service.draining = True
    refused(infer(client, PIXELS), 503, "shutting down")
    refused(client.post("/v2/repository/models/fake/load"), 503, "shutting down")
    client.app.state.service.draining = False
