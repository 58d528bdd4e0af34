"""The real server as a process, the real engine, a real clip, the real client: boxes, order and reuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from service_fakes import wait_until
from websockets.sync.client import connect

from clients.python import FrameResult, StreamClient, StreamOptions
from clients.wire import Policy
from clients.wire.binary import Flags, FrameMessage, Op, encode_frame

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data"
YOLOX = DATA / "models/yolox_nano.onnx"
CLIP = DATA / "videos/intel_one-by-one-person-detection.mp4"
FRAMES = 24

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not (YOLOX.exists() and CLIP.exists()), reason="the real clips and models are not beside the checkout"
    ),
]

SERVE = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from service.serve import serve
from service.settings import Settings
serve(Settings())
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    models = {"yolox": {"path": str(YOLOX), "size": [640, 384]}}
    fixed = {"AFTERIMAGE_PORT": "0", "AFTERIMAGE_AUDIT_SHARE": "0"}  # no keyframes that an audit asks for
    environment = os.environ | fixed | {"AFTERIMAGE_MODELS": json.dumps(models)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next(line.split()[-1] for line in lines if "listening on" in line)
        wait_until(lambda: status(address + "/readyz") == 200, 90)
        yield address
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture(scope="module")
def clip() -> list[bytes]:
    video = cv2.VideoCapture(str(CLIP))
    video.set(cv2.CAP_PROP_POS_FRAMES, 250)
    frames = []
    for _ in range(FRAMES):
        ok, picture = video.read()
        assert ok
        frames.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    video.release()
    return frames


def overlap(a: tuple, b: tuple) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_a_real_clip(url: str, clip: list[bytes]) -> None:
    with StreamClient(url, "walk", StreamOptions(policy=Policy.ALL)) as client:
        events = list(client.stream(clip))
        # The last frame alone, in full, is what the stream's answer must agree with.
        client.send(clip[-1], reset=True)
        alone = client.receive(30.0)
    assert [type(event) for event in events] == [FrameResult] * FRAMES
    results = [event.result for event in events]
    assert [result.seq for result in results] == [result.ack for result in results] == list(range(1, FRAMES + 1))
    assert results[0].decision == "keyframe"
    assert {result.decision for result in results[1:]} <= {"partial", "reuse"}
    fractions = [result.compute_fraction for result in results[1:]]
    assert sum(fractions) / len(fractions) < 0.5, "most of each frame is reused"
    assert results[-1].dropped == 0
    people = [found for found in results[-1].detections if found.label == "person" and found.score > 0.4]
    assert people, "the clip shows a person"
    for person in people:
        left, top, right, bottom = person.xyxy
        assert 0 <= left < right <= results[-1].width
        assert 0 <= top < bottom <= results[-1].height
        assert max(overlap(person.xyxy, other.xyxy) for other in alone.result.detections) > 0.5
    assert alone.result.decision == "keyframe"


def test_a_single_image(url: str, clip: list[bytes]) -> None:
    request = urllib.request.Request(
        url + "/v1/detect", data=clip[0], headers={"content-type": "image/jpeg"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        reply = json.load(response)
    assert reply["model"] == "yolox"
    assert any(found["label"] == "person" for found in reply["detections"])


def hundred_megapixels() -> bytes:
    """A small JPEG whose header claims 10000 x 10000 pixels."""
    data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (10000).to_bytes(2, "big") * 2
    return bytes(data)


def test_bad_input_gets_a_clear_error_and_the_stream_lives_on(url: str, clip: list[bytes]) -> None:
    def message(seq: int, image: bytes) -> bytes:
        return encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, seq, 0, image))

    hello = {"type": "hello", "content_type": "image/jpeg", "policy": "all"}
    address = url.replace("http", "ws") + "/v1/streams/hostile/ws"
    with connect(address, subprotocols=["afterimage.v1"], proxy=None) as socket:  # type: ignore[list-item]
        socket.send(json.dumps(hello))
        assert json.loads(socket.recv(60))["type"] == "ready"
        corrupt = clip[0][:2000] + b"\xff\xd9"
        for sent, code in (
            (b"", "empty_message"),
            (message(1, clip[0][:5000]), "incomplete_image"),
            (message(2, b"just text, no image"), "bad_image"),
            (message(3, hundred_megapixels()), "image_too_large"),
            (message(4, corrupt), None),
            ("{not json", "bad_message"),
        ):
            socket.send(sent)
            reply = json.loads(socket.recv(30))
            assert reply["type"] == "error", reply
            assert reply["detail"]
            assert code is None or reply["code"] == code
        socket.send(message(5, clip[0]))
        first = json.loads(socket.recv(30))
        assert (first["type"], first["seq"], first["decision"]) == ("result", 5, "keyframe")
        socket.send(message(6, clip[0][:5000]))
        assert json.loads(socket.recv(30))["type"] == "error"
        socket.send(message(7, clip[0]))
        again = json.loads(socket.recv(30))
        assert again["seq"] == 7
        assert again["compute_fraction"] < 0.1, "a refused frame costs nothing that is cached"
    assert status(url + "/healthz") == 200
    assert status(url + "/readyz") == 200
