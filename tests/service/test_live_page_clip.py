"""The live page with the built-in model and a real clip as camera: boxes in the right place, heat over what moved."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import CAMERA, CHROMIUM, launched, until
from service_fakes import RunningServer, make_settings, running_server
from typer.testing import CliRunner

from service.cli import make_app

ROOT = Path(__file__).parents[2]
CLIP = ROOT.parent / "shared/data/videos/intel_one-by-one-person-detection.mp4"
SHOTS = ROOT / "build/screenshots"
FIRST, FRAMES = 270, 70
SIZE = (640, 360)
MOST_SHOTS, ENOUGH = 120, 1000  # pictures looked at, if need be; pixels of the canvas that moved
AMBER = np.asarray([255.0, 176.0, 0.0])

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not CLIP.exists(), reason="the real clips are not beside the checkout"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

# Keeps the last two frames that were drawn, before anything was drawn on them, and results. `shoot` gives the
# next picture with its frame, the frame before, and its result.
RECORD = """
  window.results = new Map(); window.frames = [];
  const parse = JSON.parse, drawImage = CanvasRenderingContext2D.prototype.drawImage;
  JSON.parse = text => {
    const message = parse(text);
    if (message?.type === "result") results.set(message.seq, message);
    return message;
  };
  CanvasRenderingContext2D.prototype.drawImage = function (frame, ...rest) {
    if (this.canvas.id === "overlay") {
      const copy = new OffscreenCanvas(frame.width, frame.height);
      copy.getContext("2d").putImageData(frame.getContext("2d").getImageData(0, 0, frame.width, frame.height), 0, 0);
      frames = [...frames.slice(-1), copy];
    }
    return drawImage.call(this, frame, ...rest);
  };
  const text = async blob => btoa(Array.from(new Uint8Array(await blob.arrayBuffer()),
    byte => String.fromCharCode(byte)).join(""));
  window.shoot = () => new Promise(resolve => {
    const picture = document.getElementById("picture");
    const observer = new MutationObserver(async () => {
      observer.disconnect();
      const drawn = document.getElementById("overlay").toDataURL("image/png").split(",")[1];
      const [before, frame] = frames, result = results.get(Number(picture.dataset.seq));
      const pngs = [before, frame].map(async one => text(await one.convertToBlob({ type: "image/png" })));
      resolve([drawn, ...await Promise.all(pngs), result]);
    });
    observer.observe(picture, { attributeFilter: ["data-seq"] });
  });
"""


@dataclass
class Shot:
    """drawn, frame, before : uint8[H, W, 3] RGB of the canvas's size; `png` is the frame's own."""

    drawn: np.ndarray
    frame: np.ndarray
    before: np.ndarray
    png: bytes
    result: dict[str, Any]

    @property
    def tiles(self) -> int:
        rows, columns = self.result["changes"]["size"]
        return rows * columns


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as one JPEG after another, which is what Chromium takes for a camera."""
    path = tmp_path_factory.mktemp("clip") / "clip.mjpeg"
    video = cv2.VideoCapture(str(CLIP))
    video.set(cv2.CAP_PROP_POS_FRAMES, FIRST)
    with path.open("wb") as file:
        for _ in range(FRAMES):
            ok, image = video.read()
            assert ok
            small = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)
            # The clip has 10 frames a second, and Chromium plays 30.
            file.write(3 * cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    video.release()
    return path


@pytest.fixture(scope="module")
def playwright(clip: Path) -> Iterator[Any]:
    with launched(*CAMERA, f"--use-file-for-fake-video-capture={clip}") as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    # Of what moves visibly the page leaves a tenth unsent at 5 levels, and hardly anything at 3.
    with running_server(None, make_settings(audit_share=0.0, tile_difference_levels=3.0), ready_s=240.0) as running:
        yield running


def shoot(page: Any) -> Shot:
    drawn, before, frame, result = page.evaluate("shoot()")
    png = base64.b64decode(frame)
    picture = decode(base64.b64decode(drawn))
    sent_px, result["width"] = result["width"], decode(png).shape[1]  # boxes are in pixels of the frame as sent
    for box in result["detections"]:
        box["xyxy"] = [side * result["width"] / sent_px for side in box["xyxy"]]
    size = picture.shape[1], picture.shape[0]
    frames = [cv2.resize(decode(data), size) for data in (png, base64.b64decode(before))]
    return Shot(picture, *frames, png, result)


def decode(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def detect(png: bytes, folder: Path) -> list[dict[str, Any]]:
    """What `afterimage detect` finds in this image."""
    (folder / "frame.png").write_bytes(png)
    said = CliRunner().invoke(make_app(), ["detect", str(folder / "frame.png"), "--json", "--min-confidence", "0.3"])
    assert said.exit_code == 0, said.output
    found: list[dict[str, Any]] = json.loads(said.output)["detections"]
    return found


def iou(one: list[float], other: list[float]) -> float:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    both = max(0.0, right - left) * max(0.0, bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


def alike(box: dict[str, Any], boxes: list[dict[str, Any]]) -> float:
    return max([iou(box["xyxy"], other["xyxy"]) for other in boxes if other["label"] == box["label"]], default=0.0)


def edge_drawn(shot: Shot, box: dict[str, Any]) -> float:
    """How much of a box's outline, to within 4 pixels of the page, is no longer the frame's own picture."""
    scale = shot.drawn.shape[1] / shot.result["width"]
    differs = (np.abs(shot.drawn.astype(int) - shot.frame).max(axis=2) > 50).astype(np.uint8)
    left, top, right, bottom = (round(side * scale) for side in box["xyxy"])
    outline = np.zeros(differs.shape, np.uint8)
    cv2.rectangle(outline, (left, top), (right, bottom), 1, 1)
    near = cv2.dilate(differs, np.ones((9, 9), np.uint8))
    return float(near[outline > 0].mean())


def tinted(shot: Shot) -> np.ndarray:
    """Where the picture was mixed with amber: bool[H, W]."""
    frame = shot.frame.astype(float)
    way = AMBER - frame
    share = ((shot.drawn - frame) * way).sum(axis=2) / np.maximum((way**2).sum(axis=2), 1)
    return cv2.blur(share, (5, 5)) > 0.04


def grey(image: np.ndarray) -> np.ndarray:
    return cv2.blur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5)).astype(int)


@pytest.mark.parametrize("device", ["desktop", "Pixel 5"])
def test_boxes_and_heat_on_a_real_clip(server: RunningServer, playwright, tmp_path: Path, device: str) -> None:
    screen = {"viewport": {"width": 1280, "height": 800}} if device == "desktop" else playwright.devices[device]
    context = playwright.browser.new_context(**screen, reduced_motion="reduce")  # heat that does not fade
    try:
        page = context.new_page()
        page.add_init_script(RECORD)
        page.goto(server.url)
        until(page, "document.getElementById('status').textContent.includes('Ready')")
        page.get_by_role("button", name="Start").click()
        until(page, "results.size >= 10", timeout_s=60)
        boxes = shoot(page)
        page.get_by_label("Show what was recomputed").check()
        until(page, "results.size >= 20", timeout_s=60)
        moved = under = still = hot_still = 0
        for _ in range(MOST_SHOTS):
            seen = shoot(page)
            if seen.result["changed_tiles"] > seen.tiles / 2:
                continue  # the clip's own keyframes change the whole picture, once a second
            # By neighbourhoods of a tile's size: what differs in a corner of a tile alone may wait.
            apart = np.abs(grey(seen.frame) - grey(seen.before))
            hot, around = tinted(seen), cv2.blur(apart.astype(np.float32), (17, 17))
            moved, under = moved + (around > 12).sum(), under + (hot & (around > 12)).sum()
            still, hot_still = still + (apart < 4).sum(), hot_still + (hot & (apart < 4)).sum()
            if moved >= ENOUGH:
                break
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"clip-{device.replace(' ', '-')}.png", full_page=True)
    finally:
        context.close()

    drawn = [box for box in boxes.result["detections"] if box["score"] >= 0.5]
    found = detect(boxes.png, tmp_path)
    assert [box["label"] for box in drawn].count("person") >= 1
    for box in drawn:
        assert alike(box, found) > 0.5, box
        assert edge_drawn(boxes, box) > 0.8, box
    for box in found:
        if box["score"] >= 0.6:
            assert alike(box, drawn) > 0.5, box

    assert moved >= ENOUGH
    assert under >= 0.9 * moved, "what moved is under the heat"
    assert hot_still <= 0.3 * still, "what did not is not"
