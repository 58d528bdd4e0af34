"""What a decoder can tell of change, and what that costs and is worth, against comparing pictures.

`python -m benchmarks.codec_hints [--frames N] CLIP...`: every clip is re-encoded with the system's ffmpeg as cameras
do (x264, no B-frames, no look-ahead): a sharp and a poor one, with every frame sent twice, and its first frame alone
for ever, a scene without noise. A row for each.

- **vectors**: motion vectors that FFmpeg exports (`flags2=+export_mvs`). `export` is what decoding takes more for it,
  `read` what turning them into a mask of macroblocks takes. A macroblock counts as still where its vectors are all
  zero; `wrong` is the share of still ones in which some pixel of the decoded luma did change, `far` by more than 8.
- **tiny**: predicted frames whose packet has less than a byte for each row of macroblocks; `same` is the share of those
  that are the frame before, to the last bit.
- **same**: frames that are the frame before, to the last bit. `look` is what `service.ingest.decoding.same_picture`
  takes for frames that differ and for those that do not, `convert` the conversion to BGR and its copy that a same frame
  saves.
- **diff**: the engine's own comparison, `kernels.tile_diff.changed_tiles`, at 640x384.

Times are medians of a core's time, us for each frame.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import av
import numpy as np
import typer

from kernels.tile_diff import changed_tiles
from service.ingest.decoding import is_tiny, same_picture

BLOCK = 16
FAR = 8
ENCODINGS = {
    "sharp (crf 23)": ["-crf", "23"],
    "poor (crf 35)": ["-crf", "35"],
    "poor, one picture": ["-crf", "35", "-vf", "loop=loop=-1:size=1"],
    "poor, each twice": ["-crf", "35", "-vf", "setpts=2*PTS,fps={twice}"],
}
COLUMNS = (
    "clip", "encoding", "decode", "export", "read", "wrong", "far", "tiny", "tiny same", "same", "look: differs",
    "look: same", "convert", "diff",
)  # fmt: skip
T = TypeVar("T")


def encode(clip: Path, options: list[str], frames: int, target: Path) -> Path:
    """The first frames of a clip as a camera would send them."""
    with av.open(str(clip)) as container:
        rate = container.streams.video[0].average_rate
    filled = [option.format(twice=rate) for option in options]
    command = [
        "ffmpeg", "-v", "error", "-y", "-i", str(clip), "-an", *filled, "-frames:v", str(frames), "-c:v", "libx264",
        "-preset", "veryfast", "-tune", "zerolatency", "-g", "50", "-threads", "1", "-pix_fmt", "yuv420p", str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return target


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a call returns, and the thread's time for it in us."""
    begun = time.thread_time_ns()
    found = work()
    return found, (time.thread_time_ns() - begun) / 1e3


def decoded(path: Path, *, vectors: bool) -> Iterator[tuple[Any, int, float]]:
    """Frames, bytes of their packets, and the time of decoding them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"} if vectors else {}
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            frames, spent_us = timed(packet.decode)
            for frame in frames:
                yield frame, packet.size, spent_us


def still_blocks(frame: Any) -> np.ndarray:
    """bool[rows, columns] of macroblocks whose vectors are all zero; those without any are coded anew."""
    rows, columns = -(-frame.height // BLOCK), -(-frame.width // BLOCK)
    told, moved = np.zeros((rows, columns), bool), np.zeros((rows, columns), bool)
    for side in frame.side_data:
        if side.type.name != "MOTION_VECTORS":
            continue
        found = side.to_ndarray()
        row = np.clip(found["dst_y"] // BLOCK, 0, rows - 1)
        column = np.clip(found["dst_x"] // BLOCK, 0, columns - 1)
        told[row, column] = True
        moving = (found["motion_x"] != 0) | (found["motion_y"] != 0)
        moved[row[moving], column[moving]] = True
    return told & ~moved


def luma(frame: Any) -> np.ndarray:
    """uint8[H, W] of a planar frame; shares its memory."""
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def block_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Largest difference of each macroblock."""
    difference = np.abs(one.astype(np.int16) - other)
    height, width = difference.shape
    padded = np.pad(difference, ((0, -height % BLOCK), (0, -width % BLOCK)))
    return padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).max(axis=(1, 3))


def measure(path: Path) -> dict[str, str]:
    """The figures of one encoded clip."""
    plain = [spent for _, _, spent in decoded(path, vectors=False)]
    exporting, reads, wrong, far, tiny, same, differs_us, same_us, convert = [], [], [], [], [], [], [], [], []
    last: Any = None
    for frame, size, spent in decoded(path, vectors=True):
        exporting.append(spent)
        if last is not None:
            still, read_us = timed(lambda frame=frame: still_blocks(frame))  # type: ignore[misc]
            equal, look_us = timed(lambda frame=frame, last=last: same_picture(frame, last))  # type: ignore[misc]
            _, convert_us = timed(lambda frame=frame: frame.to_ndarray(format="bgr24").copy())  # type: ignore[misc]
            reads.append(read_us)
            convert.append(convert_us)
            (same_us if equal else differs_us).append(look_us)
            same.append(equal)
            if not frame.key_frame:
                off = block_difference(luma(frame), luma(last))[still]
                wrong += (off > 0).tolist()
                far += (off > FAR).tolist()
                if is_tiny(size, frame.height):
                    tiny.append(equal)
        last = frame
    paired = np.asarray(exporting[: len(plain)]) - np.asarray(plain[: len(exporting)])
    return {
        "decode": _us(plain), "export": _us(paired.tolist()), "read": _us(reads),
        "wrong": _share(wrong), "far": _share(far), "tiny": str(len(tiny)), "tiny same": _share(tiny),
        "same": _share(same), "look: differs": _us(differs_us), "look: same": _us(same_us), "convert": _us(convert),
    }  # fmt: skip


def difference_us() -> float:
    """The engine's comparison of a frame of 640x384 with tiles of 8, us."""
    frame = np.random.default_rng(0).integers(0, 256, (384, 640, 3), np.uint8)
    limits, sums = np.full((48, 80), 384, np.int32), np.zeros((48, 80), np.int32)
    tiles = np.zeros((48, 80), np.uint8)
    runs = [timed(lambda: changed_tiles(frame, frame, 8, limits, sums, tiles))[1] for _ in range(200)]
    return float(np.median(runs[10:]))


def _us(values: list[float]) -> str:
    return f"{np.median(values):.0f}" if values else "-"


def _share(values: list[bool]) -> str:
    return f"{np.mean(values):.1%}" if values else "-"


def main(
    clips: Annotated[list[Path], typer.Argument(help="Clips that the system's ffmpeg can read.")],
    frames: Annotated[int, typer.Option(min=10, help="Frames of each.")] = 150,
) -> None:
    """Print the table as Markdown."""
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    diff = f"{difference_us():.0f}"
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            for name, options in ENCODINGS.items():
                found = measure(encode(clip, options, frames, Path(folder) / "clip.mp4"))
                row = {"clip": clip.stem, "encoding": name, **found, "diff": diff}
                print(f"| {' | '.join(row[column] for column in COLUMNS)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
