"""Changed tiles from a real browser: what is sent when, and that what is pasted is what was drawn."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, launched, until
from service_fakes import FakeEngine, make_registry, make_settings, running_server
from tile_receiver import Taken, TileReceiver, receiving

from clients.wire import Flags, Op

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

JPEG_ERROR = 6.0  # mean distance of a decoded picture from its source, 0 to 255

# A canvas of soft bumps, on which a test draws; `push` sends what it shows.
SET_UP = """async ([url, width, height, options]) => {
  const { StreamClient } = await import("/clients/browser/index.js");
  window.canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  window.pen = canvas.getContext("2d", { willReadFrequently: true });
  window.fill = (colour, ...box) => { pen.fillStyle = colour; pen.fillRect(...box); };
  window.grain = (strength) => {
    const picture = pen.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < picture.data.length; at += 1)
      if (at % 4 < 3) picture.data[at] += strength * (Math.random() * 2 - 1);
    pen.putImageData(picture, 0, 0);
  };
  const ground = pen.createLinearGradient(0, 0, width, height);
  for (let stop = 0; stop <= 8; stop += 1) ground.addColorStop(stop / 8, `hsl(${stop * 40} 40% ${30 + stop * 5}%)`);
  fill(ground, 0, 0, width, height);
  window.sockets = [];
  const Real = window.RealSocket ??= WebSocket;
  window.WebSocket = class extends Real { constructor(...given) { super(...given); sockets.push(this); } };
  window.client = new StreamClient(url, { initialMs: 10, maximumMs: 50, tiles: true, ...options });
  window.refused = [];
  client.addEventListener("refused", ({ detail }) => refused.push(detail.code));
  window.push = (options) => client.sendFrame(canvas, 1, options);
  window.shown = () => {
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height), parts = [];
    for (let at = 0; at < data.length; at += 4096) parts.push(String.fromCharCode(...data.subarray(at, at + 4096)));
    return btoa(parts.join(""));
  };
  client.open();
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page of a server that has the modules."""
    with running_server(make_registry(FakeEngine().model()), make_settings()) as server, launched() as playwright:
        opened = playwright.browser.new_page()
        opened.goto(f"{server.url}/healthz")
        yield opened


@pytest.fixture(scope="module")
def shared() -> Iterator[TileReceiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(shared: TileReceiver) -> TileReceiver:
    """As new."""
    shared.__dict__.update(TileReceiver(url=shared.url).__dict__)
    return shared


class Camera:
    """The canvas and the client in the page."""

    def __init__(self, page: Any, receiver: TileReceiver) -> None:
        self.page = page
        self.receiver = receiver

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def push(self, draw: str = "0", options: str = "") -> Taken:
        """Draw, send; returns what the receiver got of it, once that is settled."""
        seq = self.run(f"({draw}, push({options}))")
        assert seq is not None
        until(self.page, "client.unacked === 0")
        taken = self.receiver.taken[-1]
        assert taken.seq == seq
        return taken

    def shown(self) -> np.ndarray:
        """What the canvas shows, BGR."""
        width, height = self.run("[canvas.width, canvas.height]")
        return np.frombuffer(base64.b64decode(self.run("shown()")), np.uint8).reshape(height, width, 4)[..., 2::-1]


@pytest.fixture
def camera(page, receiver: TileReceiver) -> Iterator[Any]:
    """A function that makes a canvas of a size and a client that is open."""

    def camera(size: tuple[int, int] = (320, 192), **options: Any) -> Camera:
        page.evaluate(SET_UP, [receiver.url, *size, options])
        until(page, "client.state === 'open'")
        return Camera(page, receiver)

    yield camera
    page.evaluate("client.close({ bye: false })")


def apart(picture: np.ndarray, source: np.ndarray) -> float:
    assert picture.shape == source.shape
    return float(np.abs(picture.astype(int) - source).mean())


def places(taken: Taken) -> list[tuple[int, int]]:
    """Row and column of each changed tile."""
    assert taken.tiles is not None
    return [(int(row), int(column)) for row, column in np.argwhere(taken.tiles)]


@pytest.mark.parametrize("worker", [True, False])
@pytest.mark.parametrize("size", [(320, 192), (101, 75)])
def test_only_what_changed_is_sent(camera, size: tuple[int, int], worker: bool) -> None:
    stream = camera(size, encoder={"worker": worker})
    first = stream.push()
    assert (first.op, first.picture.shape[:2]) == (Op.IMAGE, size[::-1])
    same = stream.push()
    assert (same.op, places(same), same.size_bytes) == (Op.TILES, [], 12 + -(-same.tiles.size // 8))
    width, height = size
    changed = stream.push(f"fill('white', {width} - 4, {height} - 8, 4, 8)")
    assert changed.op == Op.TILES
    assert places(changed) == [((height - 1) // 16, (width - 1) // 16)]
    assert changed.size_bytes < first.size_bytes
    assert changed.picture[-4:, -2:].mean() > 200
    assert apart(changed.picture, stream.shown()) < JPEG_ERROR
    assert [taken.refused for taken in stream.receiver.taken] == [None] * 3


def test_without_loss_what_is_pasted_is_what_was_drawn(camera, receiver: TileReceiver) -> None:
    """PNG, and any difference: the place of each tile, its edges and its order, to the pixel."""
    receiver.offer = {"tile_px": 16, "difference": 0}
    stream = camera((333, 207), hello={"content_type": "image/png"})
    stream.push()
    sent = [stream.push(f"fill('hsl({step * 50} 80% 50%)', {step * 41}, {step * 25}, 40, 30)") for step in range(9)]
    assert {taken.op for taken in sent} == {Op.TILES}
    assert all(len(places(taken)) > 0 for taken in sent)
    assert apart(sent[-1].picture, stream.shown()) == 0


def test_a_long_mosaic_has_several_rows(camera) -> None:
    stream = camera((640, 480), hello={"content_type": "image/png"})
    stream.push()
    taken = stream.push("fill('black', 0, 0, 640, 11 * 16)")  # 440 tiles, in rows of 220
    assert (taken.op, len(places(taken))) == (Op.TILES, 440)
    assert apart(taken.picture, stream.shown()) == 0


def test_jpeg_tiles_stay_near_the_source_and_take_fewer_bytes(camera) -> None:
    stream = camera((320, 192))
    whole = stream.push("grain(60)")
    sent = [stream.push(f"fill('hsl({step * 50} 80% 50%)', {step * 37}, {step * 19}, 40, 30)") for step in range(8)]
    assert {taken.op for taken in sent} == {Op.TILES}
    assert sum(taken.size_bytes for taken in sent) < 8 * whole.size_bytes / 4
    shown = stream.shown()
    ok, data = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert ok
    assert apart(sent[-1].picture, shown) < 1.3 * apart(cv2.imdecode(data, cv2.IMREAD_COLOR), shown)


def test_where_all_changes_frames_are_whole_and_no_dearer(camera) -> None:
    stream = camera()
    stream.push("grain(60)")
    sent = [stream.push("grain(60)") for _ in range(4)]
    assert {taken.op for taken in sent} == {Op.IMAGE}
    assert stream.push("fill('white', 0, 0, 320, 90)").op == Op.TILES, "a little less than half"
    assert stream.push("fill('grey', 0, 0, 320, 112)").op == Op.IMAGE, "a little more than half"


def test_tiles_that_take_more_bytes_than_a_whole_frame_are_not_sent(camera) -> None:
    stream = camera()
    plain = stream.push("fill('grey', 0, 0, 320, 192)")
    taken = stream.push("(grain(80), fill('grey', 0, 0, 320, 112))")  # two fifths of the tiles, hard to encode
    assert (taken.op, taken.size_bytes > plain.size_bytes) == (Op.IMAGE, True)
    assert stream.push("fill('black', 0, 0, 320, 32)").op == Op.TILES


def test_frames_are_scaled_to_what_the_model_takes_in(camera, receiver: TileReceiver) -> None:
    receiver.size = (160, 160)
    stream = camera((320, 192))
    assert stream.push().picture.shape == (96, 160, 3)
    assert places(stream.push("fill('red', 0, 0, 32, 32)")) == [(0, 0)]
    other = stream.push(options="{ size: [80, 999] }")
    assert (other.op, other.picture.shape) == (Op.IMAGE, (48, 80, 3)), "another size begins anew"
    assert stream.push(options="{ size: [80, 999] }").op == Op.TILES
    assert stream.push("(canvas.width = 40, canvas.height = 24)").picture.shape == (24, 40, 3), "never enlarged"


def test_after_a_refusal_comes_a_whole_frame(camera, receiver: TileReceiver) -> None:
    stream = camera()
    stream.push()
    receiver.refuse.append("reference_mismatch")
    refused = stream.push("fill('red', 0, 0, 16, 16)")
    assert (refused.op, stream.run("refused")) == (Op.TILES, ["reference_mismatch"])
    whole = stream.push()
    assert (whole.op, whole.refused) == (Op.IMAGE, None)
    assert apart(whole.picture, stream.shown()) < JPEG_ERROR
    late = {"type": "error", "code": "reference_mismatch", "detail": "late", "seq": refused.seq, "ack": whole.seq}
    receiver.live.send(json.dumps(late))
    until(stream.page, "refused.length === 2")
    assert stream.push().op == Op.TILES, "what came before the whole frame does not matter"
    receiver.refuse.append("model_failed")
    stream.push()
    assert [stream.push().op for _ in range(2)] == [Op.IMAGE, Op.TILES]


def test_tiles_whose_reference_was_lost_while_they_were_encoded_are_not_sent(camera, receiver: TileReceiver) -> None:
    stream = camera()
    stream.push()
    receiver.answer = False
    refused_meanwhile = """push().then((seq) => {
      const pushed = push();
      const error = { type: "error", code: "internal", detail: "", seq, ack: seq };
      sockets.at(-1).onmessage({ data: JSON.stringify(error) });
      return pushed;
    })"""
    assert stream.run(refused_meanwhile) is None
    receiver.answer = True
    assert [stream.push().op for _ in range(2)] == [Op.IMAGE, Op.TILES]


def test_after_a_lost_connection_comes_a_whole_frame(camera, receiver: TileReceiver) -> None:
    stream = camera()
    assert [stream.push().op for _ in range(2)] == [Op.IMAGE, Op.TILES]
    receiver.drop()
    until(stream.page, "sockets.length === 2 && client.state === 'open'")
    assert [hello.get("tiles") for hello in receiver.hellos] == [True, True]
    taken = [stream.push("fill('red', 0, 0, 16, 16)"), stream.push()]
    assert [(one.connection, one.op, one.refused) for one in taken] == [(1, Op.IMAGE, None), (1, Op.TILES, None)]


def test_what_found_no_credit_is_sent_with_the_next(camera, receiver: TileReceiver) -> None:
    stream = camera()
    stream.push()
    receiver.answer = False
    assert stream.run("push()") == 2
    assert stream.run("push()") == 3
    assert stream.run("(fill('red', 0, 0, 16, 16), push())") is None, "the window is 2"
    receiver.live.send(json.dumps({"type": "ack", "ack": 3, "dropped": 0}))
    until(stream.page, "client.credits === 2")
    receiver.answer = True
    blocked = """(async () => {
      fill("blue", 32, 0, 16, 16);
      const pushed = push();
      Object.defineProperty(sockets.at(-1), "bufferedAmount", { value: 1e9, configurable: true });
      const seq = await pushed;
      delete sockets.at(-1).bufferedAmount;
      return seq;
    })()"""
    assert stream.run(blocked) is None, "the line was behind when it had been encoded"
    taken = stream.push("fill('lime', 64, 0, 16, 16)")
    assert (places(taken), taken.refused) == ([(0, 0), (0, 2), (0, 4)], None)
    assert apart(taken.picture, stream.shown()) < JPEG_ERROR


def test_one_frame_at_a_time(camera) -> None:
    stream = camera()
    assert stream.run("Promise.all([push(), push()])") == [1, None]


def test_an_image_of_ones_own_makes_the_next_frame_whole(camera) -> None:
    stream = camera()
    stream.push()
    own = """new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg"))
      .then((blob) => blob.arrayBuffer()).then((data) => client.send(new Uint8Array(data), 1))"""
    assert stream.run(own) == 2
    until(stream.page, "client.unacked === 0")
    assert [(one.op, one.refused) for one in (stream.push(), stream.push())] == [(Op.IMAGE, None), (Op.TILES, None)]


def test_reset_leaves_the_reference(camera) -> None:
    stream = camera()
    stream.push()
    taken = stream.push(options="{ reset: true }")
    assert (taken.op, taken.flags, taken.refused) == (Op.TILES, Flags.RESET, None)


@pytest.mark.parametrize("asked", [True, False])
def test_where_tiles_are_not_offered_frames_are_whole(camera, receiver: TileReceiver, asked: bool) -> None:
    receiver.offer = None
    stream = camera(tiles=asked)
    assert [stream.push().op for _ in range(3)] == [Op.IMAGE] * 3
    assert receiver.hellos[0].get("tiles") == (True if asked else None)


def test_a_frame_that_is_too_large_is_not_sent_and_not_a_reference(camera, receiver: TileReceiver) -> None:
    receiver.most_bytes = 3000
    stream = camera()
    assert stream.run("(grain(80), push().catch((error) => error.code))") == "message_too_large"
    receiver.most_bytes = 1 << 20
    assert stream.run("(client.ready.limits.max_message_bytes = 1e6, client.credits)") == 2
    assert stream.push().op == Op.IMAGE


@pytest.mark.parametrize("kind", ["ImageBitmap", "VideoFrame", "OffscreenCanvas"])
def test_sources(camera, kind: str) -> None:
    stream = camera()
    make = {
        "ImageBitmap": "await createImageBitmap(canvas)",
        "VideoFrame": "new VideoFrame(canvas, { timestamp: 0 })",
        "OffscreenCanvas": "Object.assign(new OffscreenCanvas(320, 192), { made: true })",
    }[kind]
    sent = stream.run(f"""(async () => {{
      const source = {make};
      if (source.made) source.getContext("2d").drawImage(canvas, 0, 0);
      const kept = () => source.width || source.format;
      const seq = await client.sendFrame(source, 1);
      const second = source.made ? source : {make};
      const busy = [client.sendFrame(canvas, 1), client.sendFrame(second, 1)];
      return [seq, Boolean(kept()), (await Promise.all(busy))[1], Boolean(second.width || second.format)];
    }})()""")
    ours = kind == "OffscreenCanvas"
    assert sent == [1, ours, None, ours], "what was handed over is closed, whether it was sent or not"
    until(stream.page, "client.unacked === 0")
    assert apart(stream.receiver.taken[0].picture, stream.shown()) < JPEG_ERROR


@pytest.mark.parametrize(
    "broken",
    ["class { constructor() { throw new DOMException('', 'SecurityError'); } }", "class extends RealWorker "
     "{ constructor(url, ...rest) { super(new URL('none.js', url), ...rest); } }", "undefined"],
)  # fmt: skip
def test_without_a_worker_it_encodes_where_it_is(camera, broken: str) -> None:
    stream = camera()
    stream.run(f"(window.RealWorker ??= Worker, window.Worker = {broken}, 0)")
    try:
        assert [stream.push().op for _ in range(2)] == [Op.IMAGE, Op.TILES]
        assert places(stream.push("fill('red', 0, 0, 16, 16)")) == [(0, 0)]
    finally:
        stream.run("(window.Worker = RealWorker, 0)")


def test_what_cannot_be_encoded_is_said(camera) -> None:
    stream = camera(hello={"content_type": "image/gif"})
    assert stream.run("push().catch((error) => [error instanceof TypeError, error.message])") == [
        True, "this browser encodes no image/gif",
    ]  # fmt: skip
    assert stream.run("client.sendFrame(document.createElement('video'), 1).catch((error) => error.name)") in (
        "InvalidStateError", "TypeError",
    )  # fmt: skip
    assert stream.run("[client.unacked, client.credits]") == [0, 2]


def test_closing_while_a_frame_is_encoded(camera) -> None:
    stream = camera()
    stream.push()
    assert stream.run("(() => { const pushed = push(); client.close({ bye: false }); return pushed; })()") is None
    assert stream.run("push()") is None


def test_a_real_server_puts_them_together(page) -> None:
    """The fake engine's class is the grey level of the upper left corner, tens of it."""
    script = """async () => {
      const { StreamClient, streamUrl } = await import("/clients/browser/index.js");
      const canvas = new OffscreenCanvas(64, 48), pen = canvas.getContext("2d"), told = [], sent = [];
      const client = new StreamClient(streamUrl(location.origin, "door"), { tiles: true });
      const Plain = WebSocket;
      window.WebSocket = class extends Plain {
        send(data) {
          if (typeof data !== "string") sent.push(data[1]);
          super.send(data);
        }
      };
      const event = (name) => new Promise((resolve) => client.addEventListener(name, resolve, { once: true }));
      client.addEventListener("refused", ({ detail }) => told.push(detail.code));
      const ready = event("ready");
      client.open();
      const { tiles, size } = (await ready).detail;
      for (let at = 0; at < 32 * 48; at += 1) {
        pen.fillStyle = `hsl(${at * 77} 80% 50%)`; // else a whole frame is no more than a tile
        pen.fillRect(32 + (at % 32), at >> 5, 1, 1);
      }
      for (const [level, ...box] of [[55, 0, 0, 32, 48], [205, 0, 0, 16, 16], [95, 0, 0, 8, 16], [95, 0, 0, 1, 1]]) {
        pen.fillStyle = `rgb(${level} ${level} ${level})`;
        pen.fillRect(...box);
        const result = event("result");
        await client.sendFrame(canvas, 1);
        const found = (await result).detail.result;
        told.push([found.detections[0].label, found.decision, found.changed_tiles, found.width, found.height]);
      }
      await client.close();
      window.WebSocket = Plain;
      return { tiles, size, told, sent };
    }"""
    found = page.evaluate(script)
    assert found["tiles"] == {"tile_px": 16, "difference": 5}
    assert found["sent"] == [Op.IMAGE, Op.TILES, Op.TILES, Op.TILES]
    labels, decisions, changed, *size = zip(*found["told"], strict=True)
    assert labels == ("grey5", "grey20", "grey9", "grey9")
    assert decisions == ("keyframe", "partial", "partial", "reuse")
    assert 0 < changed[2] <= 4
    assert changed[3] == 0
    assert {*zip(*size, strict=True)} == {(64, 48)}


PICTURE = """async (given) => {
  const { ReferencePicture } = await import("/clients/browser/reference.js");
  const picture = new ReferencePicture(64, 32, 16), pixels = new Uint32Array(64 * 32);
  const grey = (level) => (0xff000000 | (level << 16) | (level << 8) | level) >>> 0;
  const set = (level, tile) => {
    for (let at = 0; at < pixels.length; at += 1)
      if (tile === undefined || ((at % 64) >> 4) + 4 * (at >> 10) === tile) pixels[at] = grey(level);
  };
  const push = (atMs, refreshMs = 8000) => {
    const count = picture.compare(pixels, 3, { atMs, refreshMs });
    picture.keepTiles(pixels);
    return [count, [...picture.changed].join("")];
  };
  set(100);
  picture.keepWhole(pixels, 0);
"""


def test_every_tile_is_renewed_in_its_turn_unless_it_is_identical(page) -> None:
    script = """set(101); set(100, 1); const seen = [];
      for (let atMs = 500; atMs <= 8000; atMs += 500) seen.push(push(atMs)[1]);
      const late = () => picture.compare(pixels, 3, { atMs: 99_999, refreshMs: 8000 });
      const skipped = late();
      set(102);
      return [seen.filter((one) => one.includes("1")), skipped, late()];
    }"""
    turns = [f"{1 << (7 - tile):08b}" for tile in range(8) if tile != 1]
    assert page.evaluate(PICTURE + script) == [turns, 0, 8]


def test_a_turn_that_was_not_sent_comes_again(page) -> None:
    script = """set(101);
      const seen = [0, 1].map(() => [picture.compare(pixels, 3, { atMs: 1000, refreshMs: 8000 }), picture.changed[0]]);
      return [seen, push(1000)[0], push(1999)[0], push(2000)];
    }"""
    assert page.evaluate(PICTURE + script) == [[[1, 1], [1, 1]], 1, 0, [1, "01000000"]]


def test_small_changes_add_up(page) -> None:
    """Compared with what was sent, not with the frame before: the error stays below the threshold for ever."""
    script = """const seen = [];
      for (let level = 101; level <= 106; level += 1) { set(level, 2); seen.push(push(0)[0]); }
      return seen;
    }"""
    assert page.evaluate(PICTURE + script) == [0, 0, 1, 0, 0, 1]


def test_noise_raises_the_threshold_but_not_beyond_bounds(page) -> None:
    script = """const noisy = (strength, frames) => {
        const counts = [];
        for (let frame = 0; frame < frames; frame += 1) {
          for (let at = 0; at < pixels.length; at += 1) pixels[at] = grey(100 + (at + frame) % 2 * strength);
          counts.push(picture.compare(pixels, 3, { atMs: 0, refreshMs: 8000 }));
        }
        return [counts[0], counts.at(-1), picture.threshold(3)];
      };
      const some = noisy(8, 10);
      set(100); set(110, 3);
      const object = push(0)[1];
      const loud = noisy(60, 10);
      set(100);
      return [some, object, loud, push(0)[0], picture.threshold(3)];
    }"""
    some, object_at, loud, still, threshold = page.evaluate(PICTURE + script)
    assert some == [8, 0, 6.0], "half of the pixels differ by 8: noise of 4, by a factor of 1.5"
    assert object_at == "00010000"
    assert loud[1:] == [8, 12.0], "however loud, the threshold is at most four times the server's"
    assert (still, threshold) == (1, 3.0), "one frame without it is enough to know that there is none"
