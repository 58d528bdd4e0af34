"""Requests of DeepStack's clients byte for byte over a socket, and the replies read as those clients read them.

Frigate's detector and Home Assistant's client send what `requests` makes of a form; AI Tool and SynoAI what .NET makes
of it; CodeProject.AI's own examples are a browser's form with the confidence after the image. Blue Iris is closed
software: servers that were written for it read `image` and `min_confidence` in any order, and so both are sent here.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from service_fakes import FakeEngine, RunningServer, image, make_registry, make_settings, running_server

from service.families.base import Detections

ROWS = [(0.95, 0), (0.9, 1), (0.8, 2), (0.6, 0), (0.45, 3), (0.3, 0)]
LABELS = ("person", "face", "vehicle", "dog")
COCO = {0: "person", 1: "bicycle", 2: "car", 16: "dog"}
"""Part of the label map that Frigate comes with."""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    model = FakeEngine().model("people", labels=LABELS)
    boxes = np.asarray([[n, n, n + 20, n + 20] for n in range(len(ROWS))], np.float32)
    scores, classes = (np.asarray(column) for column in zip(*ROWS, strict=True))
    found = Detections(boxes, scores.astype(np.float32), classes.astype(np.int32))
    model.family.decode = lambda outputs, spec, size: found.select(found.score > spec.min_confidence)
    with running_server(make_registry(model), make_settings()) as running:
        yield running


def part(disposition: str, content: bytes, media_type: str = "", first: str = "") -> bytes:
    lines = [line for line in (first, f"Content-Disposition: form-data; {disposition}", media_type) if line]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def body(boundary: str, *parts: bytes) -> bytes:
    return b"".join(b"--" + boundary.encode() + b"\r\n" + one for one in parts) + f"--{boundary}--\r\n".encode()


def exchange(port: int, head: str, content: bytes, path: str = "/v1/vision/detection") -> tuple[int, dict]:
    """One request over a socket of its own, head and body in two segments as http.client sends them."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(head.format(path=path, port=port, length=len(content)).replace("\n", "\r\n").encode())
        raw.sendall(content)
        stream = raw.makefile("rb")
        status = int(stream.readline().split()[1])
        headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(stream.readline, b"\r\n"))
        return status, json.loads(stream.read(int(headers["content-length"])))


HEX = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
REQUESTS_HEAD = f"""POST {{path}} HTTP/1.1
Host: localhost:{{port}}
User-Agent: python-requests/2.32.3
Accept-Encoding: gzip, deflate
Accept: */*
Connection: keep-alive
Content-Length: {{length}}
Content-Type: multipart/form-data; boundary={HEX}

"""


def as_frigate(answer: dict, labels: dict[int, str], size: tuple[int, int]) -> np.ndarray:
    """float32[20, 6] as Frigate's object detectors give it: class, score, then y and x of the corners from 0 to 1.

    Its rules: stop at the first prediction below 0.4, and at the first label that is not in its map; trucks are cars;
    a 21st prediction would be an error.
    """
    rows = np.zeros((20, 6), np.float32)
    for number, one in enumerate(answer["predictions"]):
        label = "car" if one["label"].lower() == "truck" else one["label"].lower()
        known = next((index for index, name in labels.items() if name == label), None)
        if one["confidence"] < 0.4 or known is None:
            break
        width, height = size
        corners = (one["y_min"] / height, one["x_min"] / width, one["y_max"] / height, one["x_max"] / width)
        rows[number] = (known, one["confidence"], *corners)
    return rows


def test_frigate(server: RunningServer) -> None:
    content = body(
        HEX, part('name="api_key"', b""), part('name="image"; filename="image"', image(100, size=(320, 320)))
    )
    status, answer = exchange(server.port, REQUESTS_HEAD, content)
    rows = as_frigate(answer, COCO, (320, 320))
    assert status == 200
    assert [COCO[int(row[0])] for row in rows if row[1]] == ["person", "car", "person", "dog"], "no face in between"
    assert rows[:4, 1].tolist() == pytest.approx([0.95, 0.8, 0.6, 0.45])
    assert (rows[:4, 2:] >= 0).all()
    assert (rows[:4, 2:] <= 1).all()


def test_home_assistant(server: RunningServer) -> None:
    """Its client wants status 200 and `predictions`, and counts labels of a confidence."""
    content = body(HEX, part('name="api_key"', b"key"), part('name="image"; filename="image"', image()))
    status, answer = exchange(server.port, REQUESTS_HEAD, content)
    assert status == 200
    assert [one["label"] for one in answer["predictions"] if one["confidence"] >= 0.5] == ["person", "car", "person"]
    status, answer = exchange(server.port, REQUESTS_HEAD, content, "/v1/vision/custom/people")
    assert (status, answer["predictions"][1]["label"]) == (200, "face")


DOTNET_HEAD = """POST {path} HTTP/1.1
Host: 127.0.0.1:{port}
Content-Type: multipart/form-data; boundary="4c1d5f3e-2f9c-4b0e-9d52-2f5cf6d2a7b1"
Content-Length: {length}

"""
DOTNET_BOUNDARY = "4c1d5f3e-2f9c-4b0e-9d52-2f5cf6d2a7b1"


def test_clients_on_dotnet(server: RunningServer) -> None:
    """Names without quotes, a quoted boundary, a type before the disposition."""
    content = body(
        DOTNET_BOUNDARY,
        part("name=image; filename=door.jpg; filename*=utf-8''door.jpg", image()),
        part("name=min_confidence", b"0.5", first="Content-Type: text/plain; charset=utf-8"),
    )
    status, answer = exchange(server.port, DOTNET_HEAD, content)
    assert (status, answer["success"]) == (200, True)
    assert [one["confidence"] for one in answer["predictions"]] == pytest.approx([0.95, 0.8, 0.6])


PLAIN_HEAD = """POST {path} HTTP/1.1
Host: 127.0.0.1:{port}
Accept: */*
Content-Length: {length}
Content-Type: multipart/form-data; boundary=----Boundary7MA4YWxk

"""
CONFIDENCE = part('name="min_confidence"', b"0.40")
PICTURE = part('name="image"; filename="camera.20261128_120000.jpg"', image(), "Content-Type: image/jpeg")


@pytest.mark.parametrize("parts", [(PICTURE, CONFIDENCE), (CONFIDENCE, PICTURE)], ids=["image first", "image last"])
@pytest.mark.parametrize("path", ["/v1/vision/detection", "/v1/vision/custom/people"])
def test_blue_iris(server: RunningServer, parts: tuple[bytes, bytes], path: str) -> None:
    status, answer = exchange(server.port, PLAIN_HEAD, body("----Boundary7MA4YWxk", *parts), path)
    assert (status, answer["success"], answer["code"]) == (200, True, 200)
    scores = [one["confidence"] for one in answer["predictions"]]
    assert scores == sorted(scores, reverse=True)
    assert {"count", "inferenceMs", "processMs", "analysisRoundTripMs", "command", "moduleId"} <= set(answer)
    assert answer["count"] == len(scores) <= 20
    for one in answer["predictions"]:
        assert {type(one[name]) for name in ("x_min", "y_min", "x_max", "y_max")} == {int}


def test_blue_iris_asks_for_models_and_updates(server: RunningServer) -> None:
    head = "POST {path} HTTP/1.1\nHost: 127.0.0.1:{port}\nContent-Length: {length}\n\n"
    status, answer = exchange(server.port, head, b"", "/v1/vision/custom/list")
    assert (status, answer["success"], answer["models"]) == (200, True, ["people"])
    status, answer = exchange(server.port, head.replace("POST", "GET"), b"", "/v1/status/updateavailable")
    assert (status, answer["success"], answer["updateAvailable"]) == (200, True, False)


def test_what_is_not_served_says_so_in_the_same_shape(server: RunningServer) -> None:
    content = body("----Boundary7MA4YWxk", PICTURE)
    status, answer = exchange(server.port, PLAIN_HEAD, content, "/v1/vision/alpr")
    assert (status, answer["success"], "not served" in answer["error"]) == (404, False, True)
