"""What a browser should send: changed tiles as JPEG or WebP, or a video of WebCodecs. Bytes, time, quality.

    python -m benchmarks.browser_tiles scene --frames 90

Encodes the same frames in Chromium in each way, one after the other, and compares what a receiver would see with the
source. Needs Chromium and playwright; talks to loopback only.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import av
import cv2
import numpy as np
import simplejpeg

from clients.wire import Op
from clients.wire.tiles import parse_tiles
from service.sources import open_source

ROOT = Path(__file__).parents[1]
CODECS = {"vp8": "vp8", "vp09.00.30.08": "vp9", "avc1.42001f": "h264"}

LOAD = """async (frames) => {
  window.frames = await Promise.all(frames.map(async (data) => {
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
    return createImageBitmap(new Blob([bytes], { type: "image/png" }));
  }));
  window.toText = (bytes) => {
    const parts = [];
    for (let at = 0; at < bytes.length; at += 4096) parts.push(String.fromCharCode(...bytes.subarray(at, at + 4096)));
    return btoa(parts.join(""));
  };
}"""

TILES = """async ([contentType, quality, tiles]) => {
  const { TileEncoder } = await import("/clients/browser/tiles.js");
  const encoder = new TileEncoder({ quality, worker: false }), sent = [];
  const size = [frames[0].width, frames[0].height];
  const canvas = new OffscreenCanvas(...size), pen = canvas.getContext("2d");
  let ms = 0;
  for (const frame of frames) {
    pen.drawImage(frame, 0, 0);
    const startMs = performance.now();
    const { op, payload } = await encoder.encode(canvas, { size, tiles, contentType });
    ms += performance.now() - startMs;
    encoder.confirm();
    sent.push([op, toText(payload)]);
  }
  return [ms / frames.length, sent];
}"""

VIDEO = """async ([codec, bitrate]) => {
  const sent = [];
  const encoder = new VideoEncoder({
    output: (chunk) => {
      const bytes = new Uint8Array(chunk.byteLength);
      chunk.copyTo(bytes);
      sent.push([0, toText(bytes)]);
    },
    error: (error) => { throw error; },
  });
  const { width, height } = frames[0];
  const config = { codec, width, height, bitrate, framerate: 15, latencyMode: "realtime" };
  if (codec.startsWith("avc1")) config.avc = { format: "annexb" };
  if (!(await VideoEncoder.isConfigSupported(config)).supported) return null;
  encoder.configure(config);
  let ms = 0;
  for (const [at, frame] of frames.entries()) {
    const picture = new VideoFrame(frame, { timestamp: at * 66667 });
    const startMs = performance.now();
    encoder.encode(picture, { keyFrame: at === 0 });
    while (sent.length <= at) await new Promise((resolve) => setTimeout(resolve, 0));
    ms += performance.now() - startMs;
    picture.close();
  }
  encoder.close();
  return [ms / frames.length, sent];
}"""


def pasted(sent: list[tuple[int, bytes]]) -> Iterator[np.ndarray]:
    """What a receiver of tiles sees, BGR."""
    picture = np.empty(0, np.uint8)
    for op, payload in sent:
        if op == Op.IMAGE:
            picture = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
        else:
            paste(picture, payload)
        yield picture


def paste(picture: np.ndarray, payload: bytes) -> None:
    """Put the tiles of an op 3 payload into a picture, in place."""
    tiles = parse_tiles(payload)
    if not tiles.count:
        return
    if tiles.image.startswith(b"\xff\xd8"):
        mosaic = simplejpeg.decode_jpeg(tiles.image, colorspace="BGR", fastupsample=True)
    else:
        mosaic = cv2.imdecode(np.frombuffer(tiles.image, np.uint8), cv2.IMREAD_COLOR)
    px = tiles.tile_px
    changed = np.unpackbits(np.frombuffer(tiles.bitmap, np.uint8))[: tiles.grid[0] * tiles.grid[1]].reshape(tiles.grid)
    for place, (row, column) in enumerate(np.argwhere(changed)):
        part = picture[row * px : (row + 1) * px, column * px : (column + 1) * px]
        y, x = place // tiles.columns * px, place % tiles.columns * px
        part[:] = mosaic[y : y + part.shape[0], x : x + part.shape[1]]


def played(sent: list[tuple[int, bytes]], codec: str) -> Iterator[np.ndarray]:
    """What a receiver of a video sees, BGR."""
    decoder = av.CodecContext.create(codec, "r")
    for _, data in sent:
        for frame in decoder.decode(av.Packet(data)):
            yield frame.to_ndarray(format="bgr24")
    for frame in decoder.decode(None):
        yield frame.to_ndarray(format="bgr24")


def psnr(seen: list[np.ndarray], frames: list[np.ndarray]) -> float:
    """Mean over frames, dB."""
    return float(np.mean([cv2.PSNR(picture, frame) for picture, frame in zip(seen, frames, strict=True)]))


def report(name: str, found: Any, frames: list[np.ndarray], codec: str = "") -> None:
    """One row."""
    if found is None:
        print(f"{name:26} not in this browser")
        return
    ms, texts = found
    sent = [(op, base64.b64decode(data)) for op, data in texts]
    start_ns = time.perf_counter_ns()
    seen = [picture.copy() for picture in (played(sent, codec) if codec else pasted(sent))]
    taken_ms = (time.perf_counter_ns() - start_ns) / 1e6 / len(frames)
    sizes = [len(data) for _, data in sent]
    whole = sum(op == Op.IMAGE for op, _ in sent)
    row = f"{name:24} {np.mean(sizes) / 1000:7.2f} kB {ms:7.1f} ms {taken_ms:7.1f} ms to take"
    print(f"{row} {psnr(seen, frames):7.2f} dB {whole:4} whole", flush=True)


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", default="scene")
    parser.add_argument("--frames", type=int, default=90)
    args = parser.parse_args()
    with open_source(args.clip, frames=args.frames) as clip:
        frames = [frame.image for frame in clip]
    from playwright.sync_api import sync_playwright

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Files(*given, directory=str(ROOT)))
    Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/clients/browser/package.json")
        page.evaluate(LOAD, [base64.b64encode(cv2.imencode(".png", frame)[1]).decode() for frame in frames])
        offer = {"tile_px": 16, "difference": 3.0}
        for kind, tiles in (("whole", None), ("tiles", offer)):
            for codec in ("jpeg", "webp"):
                found = page.evaluate(TILES, [f"image/{codec}", 0.8, tiles])
                report(f"{kind}, {codec} 80", found, frames)
        for codec, decoder in CODECS.items():
            for kbits in (500, 1000):
                report(f"{codec} {kbits} kbit/s", page.evaluate(VIDEO, [codec, kbits * 1000]), frames, decoder)
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
