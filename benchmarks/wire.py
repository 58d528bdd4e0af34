"""What frames cost on the wire: bytes, and the server's time before the network, as whole JPEGs, as tiles and as H.264.

    python -m benchmarks.wire ../shared/data/videos --json wire.json

Frames are scaled to fit into the model's input first, as clients do. JPEGs, whole and of tiles, are of quality 80.
H.264 is libx264's (veryfast, zerolatency, crf 23, by PyAV), a packet for each frame. The server's time is that of
decoding, fitting and comparing, one core, in the pipeline that serves streams. Agreement is that of
`service/agreement.py`, of the boxes of each stream with those of a full recompute of the frames as they were before
they were encoded. All ways take each frame in turn, in one process; the first frame of a clip is left out of times,
not of bytes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from clients.python.tiles import TileEncoder
from clients.wire import HEADER_BYTES, Op, TileRules, parse_tiles
from service.agreement import WEAK, Agreement
from service.codec import Image, Limits, encode_jpeg
from service.families.base import Outputs, boxes_of
from service.pipeline import FramePipeline, Prepared
from service.preprocess import Size, fit, resize
from service.reference import TILE_PX, Reference
from service.registry import Model, load
from service.settings import ModelSource, Settings
from service.sources import open_source

RULES = TileRules(tile_px=TILE_PX, difference=Settings.model_fields["tile_difference_levels"].default)
QUALITY, CRF, PRESET = 80, 23, "veryfast"
STARTS = {"one-by-one": 200, "bottle": 100, "car-detection": 100, "asl_walk": 10, "juggle": 50}
"""Where in a clip to begin, by a part of its name, so that there is something to see; elsewhere at 20."""
MOVING = ("bedroom", "solidWhiteRight")
"""Clips whose camera moves."""

Take = Callable[[Image], tuple[int, Prepared]]
"""Encodes a frame and has the server take it in: bytes, and what is to be pushed."""


@dataclass
class Way:
    """One way to send frames, with a stream of its own. fit_ms, diff_ms : to decode and fit a frame, to compare it."""

    take: Take
    pipeline: FramePipeline
    nbytes: list[int] = field(default_factory=list)
    fit_ms: list[float] = field(default_factory=list)
    diff_ms: list[float] = field(default_factory=list)
    agreement: Agreement = field(default_factory=Agreement)

    def run(self, frame: Image, decode: Callable[[Outputs], Any], expected: Any) -> None:
        """One frame."""
        nbytes, prepared = self.take(frame)
        result = self.pipeline.push(prepared)
        self.nbytes.append(nbytes)
        self.diff_ms.append(result.diff_ns / 1e6)
        self.agreement.add(expected, decode(result.outputs))
        self.pipeline.finish(prepared, result)

    def prepare(self, call: Callable[[], Prepared]) -> Prepared:
        """What `call` gives, timed: the thread's own time, so that others on the machine do not count."""
        began = time.thread_time_ns()
        prepared = call()
        self.fit_ms.append((time.thread_time_ns() - began) / 1e6)
        return prepared

    def figures(self) -> dict[str, Any]:
        """Of a clip."""
        fit, diff = np.asarray(self.fit_ms[1:]), np.asarray(self.diff_ms[1:])
        times = fit + diff
        return {
            "bytes_mean": round(float(np.mean(self.nbytes))), "bytes_median": float(np.median(self.nbytes)),
            "ms_mean": round(float(np.mean(times)), 3), "ms_median": round(float(np.median(times)), 3),
            "fit_ms_median": round(float(np.median(fit)), 3), "diff_ms_median": round(float(np.median(diff)), 3),
            "agreement": self.agreement.figures(),
        }  # fmt: skip


def whole(model: Model) -> Way:
    """Whole JPEGs."""

    def take(frame: Image) -> tuple[int, Prepared]:
        jpeg = encode_jpeg(frame, QUALITY)
        return len(jpeg) + HEADER_BYTES, way.prepare(lambda: way.pipeline.prepare(jpeg))

    way = Way(take, _pipeline(model))
    return way


def tiles(model: Model, fps: float) -> Way:
    """Tiles that changed, of a client whose clock is the clip's."""
    sent = 0
    encoder = TileEncoder(QUALITY, RULES, clock=lambda: sent / fps)
    reference = Reference(Limits(), 16 << 20)

    def take(frame: Image) -> tuple[int, Prepared]:
        nonlocal sent
        sent += 1
        encoded = encoder.encode(frame)
        encoder.sent(encoded)

        def server() -> Prepared:
            if encoded.op is Op.IMAGE:
                reference.take_whole(sent, encoded.payload, encoded.size, (sent,))
            else:
                refusal = reference.take_tiles(sent, encoded.payload, parse_tiles(encoded.payload))
                assert refusal is None, refusal
            return way.pipeline.prepare(reference.at(sent))

        return len(encoded.payload) + HEADER_BYTES, way.prepare(server)

    way = Way(take, _pipeline(model))
    return way


def h264(model: Model, size: Size, fps: float) -> Way:
    """H.264, without delay: a packet in, a frame out."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = (side - side % 2 for side in size)
    encoder.pix_fmt, encoder.time_base = "yuv420p", 1 / Fraction(fps).limit_denominator(1000)
    encoder.framerate = Fraction(fps).limit_denominator(1000)
    encoder.options = {"preset": PRESET, "tune": "zerolatency", "crf": str(CRF)}
    decoder = av.CodecContext.create("h264", "r")
    decoder.flags |= av.codec.context.Flags.low_delay
    decoder.thread_count = 1

    def take(frame: Image) -> tuple[int, Prepared]:
        picture = av.VideoFrame.from_ndarray(frame[: encoder.height, : encoder.width], format="bgr24")
        packets = encoder.encode(picture)

        def server() -> Prepared:
            (decoded,) = (found for packet in packets for found in decoder.decode(av.Packet(bytes(packet))))
            return way.pipeline._placed(decoded.to_ndarray(format="bgr24"), 0, None)

        return sum(packet.size for packet in packets) + HEADER_BYTES, way.prepare(server)

    way = Way(take, _pipeline(model))
    return way


def _pipeline(model: Model) -> FramePipeline:
    return FramePipeline(model, model.open_session(), Limits())


def measure(model: Model, clip: Path, count: int) -> dict[str, Any]:
    """The figures of every way over one clip."""
    spec = model.spec.model_copy(update={"min_confidence": min(WEAK, model.spec.min_confidence)})
    dense = model.open_dense()

    def decode(outputs: Outputs) -> Any:
        return boxes_of(model.family.decode(outputs, spec, model.size))

    ways: dict[str, Way] = {}
    for frame in _frames(clip, count, model.size):
        if not ways:
            size = frame.shape[1], frame.shape[0]
            ways = {"jpeg": whole(model), "tiles": tiles(model, 25.0), "h264": h264(model, size, 25.0)}
        dense.reset()
        expected = decode(dense.push(fit(frame, model.size, model.spec)[0]).outputs)
        for way in ways.values():
            way.run(frame, decode, expected)
    found = {name: way.figures() for name, way in ways.items()}
    mine, jpeg = found["tiles"], found["jpeg"]
    return {
        "clip": clip.stem, "camera": "moves" if any(part in clip.stem for part in MOVING) else "fixed",
        "size": list(size), "frames": len(ways["jpeg"].nbytes), "strong_boxes": ways["jpeg"].agreement.total,
        "fewer_bytes": round(jpeg["bytes_mean"] / mine["bytes_mean"], 2),
        "less_ms": round(jpeg["ms_median"] / mine["ms_median"], 2),
        **found,
    }  # fmt: skip


def _frames(clip: Path, count: int, size: Size) -> Iterator[Image]:
    """Frames of a clip, scaled to fit into the model's input; of even width and height, as H.264 has them."""
    start = next((start for part, start in STARTS.items() if part in clip.stem), 20)
    with open_source(clip, start=start, frames=count) as source:
        for each in source:
            height, width = each.image.shape[:2]
            ratio = min(1.0, size[0] / width, size[1] / height)
            inner = round(width * ratio) // 2 * 2, round(height * ratio) // 2 * 2
            yield np.ascontiguousarray(resize(each.image, inner))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| clip (camera) | bytes a frame: JPEG | tiles | H.264 | fewer | ms before the network: JPEG | tiles | H.264"
        " | less | agreement .5 / .75: JPEG | tiles | H.264 |",
        "|" + "---|" * 12,
    ]
    for row in rows:
        ways = [row[name] for name in ("jpeg", "tiles", "h264")]
        nbytes = [f"{way['bytes_mean']:,}" for way in ways]
        times = [f"{way['ms_mean']:.2f} ({way['ms_median']:.2f})" for way in ways]
        agree = [_agreement(way["agreement"]) for way in ways]
        cells = [f"{row['clip']} ({row['camera']})", *nbytes, f"{row['fewer_bytes']}x", *times, f"{row['less_ms']}x"]
        lines.append(f"| {' | '.join([*cells, *agree])} |")
    return "\n".join(lines)


def _agreement(figures: dict[str, float] | None) -> str:
    return "none seen" if figures is None else f"{figures['iou50']:.3f} / {figures['iou75']:.3f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="a clip, or a folder of them")
    parser.add_argument("--model", type=Path, help="an ONNX file; default: YOLOX-nano beside the clips, else built in")
    parser.add_argument("--size", default="640x384", help="of the model's input")
    parser.add_argument("--frames", type=int, default=100, help="of each clip")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    folder = options.clips.is_dir()
    clips = sorted(p for p in options.clips.iterdir() if p.suffix in (".mp4", ".mkv")) if folder else [options.clips]
    beside = options.clips.parent / "models/yolox_nano.onnx"
    path = options.model or (beside if beside.exists() else Path("people"))
    width, height = (int(side) for side in options.size.split("x"))
    model = load(path.stem, ModelSource(path=path, size=(width, height)))
    model.warm()
    rows = []
    for clip in clips:
        rows.append(measure(model, clip, options.frames))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{model.name} {options.size}, {options.frames} frames a clip\n\n{table(rows)}")
    if options.json is not None:
        options.json.write_text(json.dumps({"model": model.name, "size": options.size, "clips": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
