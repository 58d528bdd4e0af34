"""What real cameras do besides showing something that moves: `python -m benchmarks.hard_streams MODEL CLIP`.

Each case is made of the clip's own frames and run twice as `afterimage verify` does: with the input test as it was (one
limit for every tile, every frame as it is, whole frames above 95% of the tiles), and as it is. Counts work and
agreement, not time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import av
import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from service.catalogue import find_model
from service.opened import open_model
from service.sources import open_source
from service.verification import verify

Image = NDArray[np.uint8]
Images = list[Image]
GROUP = 15
"""Frames from one keyframe of the encoder to the next."""


def levels(image: Image, gains: Any, offsets: Any = 0.0) -> Image:
    """The image at another exposure; gains and offsets broadcast against [H, W, 3]."""
    return np.clip(np.rint(image * np.asarray(gains, np.float32) + np.asarray(offsets, np.float32)), 0, 255).astype(
        np.uint8
    )


def pulses(frames: Images) -> Images:
    """Through H.264 at a low rate, every fifteenth frame a keyframe of the encoder."""
    height, width = (size // 2 * 2 for size in frames[0].shape[:2])
    stored = io.BytesIO()
    with av.open(stored, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "33", "g": str(GROUP), "bf": "0", "sc_threshold": "0", "preset": "veryfast"}
        for image in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    stored.seek(0)
    with av.open(stored) as container:
        return [picture.to_ndarray(format="bgr24") for picture in container.decode(video=0)]


def exposure(frames: Images) -> Images:
    """From the second quarter on, a tenth darker and 5 levels up, reached in five frames."""
    begin = len(frames) // 4
    shares = [min(max((n - begin) / 5, 0.0), 1.0) for n in range(len(frames))]
    return [levels(image, 1 - 0.1 * s, 5 * s) for image, s in zip(frames, shares, strict=True)]


def white_balance(frames: Images) -> Images:
    """Half way, blue goes up and red down by 6% from one frame to the next."""
    return [levels(image, (1.06, 1.0, 0.94) if n >= len(frames) // 2 else 1.0) for n, image in enumerate(frames)]


def clock(frames: Images) -> Images:
    """Hundredths of a second burnt into a corner."""
    made = []
    for n, image in enumerate(frames):
        shown, scale = image.copy(), image.shape[1] / 800
        text, at = f"2026-11-28 12:00:{n / 25:05.2f}", (round(10 * scale), round(24 * scale))
        cv2.putText(shown, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.7 * scale, (255, 255, 255), max(1, round(2 * scale)))
        made.append(shown)
    return made


def repeated(frames: Images) -> Images:
    """Every frame three times, as from a camera that is asked too often."""
    return [frames[n // 3] for n in range(len(frames))]


def cut(frames: Images) -> Images:
    """Half way, another scene: the mirror image."""
    return [image if n < len(frames) // 2 else np.ascontiguousarray(image[:, ::-1]) for n, image in enumerate(frames)]


def daylight(frames: Images) -> Images:
    """A fifth of a level brighter each frame."""
    return [levels(image, 1.0, n / 5) for n, image in enumerate(frames)]


def flicker(frames: Images) -> Images:
    """A lamp that beats with the shutter: four levels up and down."""
    return [levels(image, 1.0, 4 * np.sin(2 * n)) for n, image in enumerate(frames)]


def bands(frames: Images) -> Images:
    """The same through a rolling shutter: bands that wander through the picture."""
    rows = np.arange(frames[0].shape[0])[:, None, None] / frames[0].shape[0]
    return [levels(image, 1.0, 4 * np.sin(2 * n + 9 * rows)) for n, image in enumerate(frames)]


def dark(frames: Images) -> Images:
    """A third of the light, and sensor noise of 5 levels in it, falling off with brightness."""
    rng = np.random.default_rng(0)
    dimmed = [image.astype(np.float32) * 0.35 for image in frames]
    return [
        np.clip(image + rng.standard_normal(image.shape, np.float32) * (1 + 4 * np.exp(-image / 40)), 0, 255).astype(
            np.uint8
        )
        for image in dimmed
    ]


CASES: tuple[Callable[[Images], Images], ...] = (
    pulses, exposure, white_balance, clock, repeated, cut, daylight, flicker, bands, dark,
)  # fmt: skip


def main(
    model: Annotated[str, typer.Argument()],
    clip: Annotated[str, typer.Argument()],
    size: Annotated[str, typer.Option()] = "640x384",
    start: Annotated[int, typer.Option()] = 200,
    frames: Annotated[int, typer.Option()] = 60,
    only: Annotated[str, typer.Option(help="Names of cases, with commas between them.")] = "",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print the table, and write it."""
    width, height = map(int, size.split("x"))
    opened = open_model(find_model(model), (width, height))
    with open_source(clip, start=start, frames=frames) as source:
        images = [frame.image for frame in source]
    plain = replace(opened.policy, tile_noise=0.0, exposure=0.0)
    table, found = Table("case", "work before", "after", "agreement before", "after", "noise floor"), {}
    console = Console()
    for case in CASES:
        if only and case.__name__ not in only.split(","):
            continue
        made = case(images)
        before, after = (verify(opened, made, policy=policy) for policy in (plain, opened.policy))
        found[case.__name__] = {"before": before, "after": after}
        pairs = [_agreement(report["agreement"]) for report in (before, after)]
        work = [f"{report['compute_fraction']['mean']:.1%}" for report in (before, after)]
        table.add_row(case.__name__, *work, *pairs, _agreement(after["noise_floor"]))
        console.print(case.__name__, *work, *pairs, _agreement(after["noise_floor"]), after["decisions"])
    console.print(table)
    if json_file:
        json_file.write_text(json.dumps(found))


def _agreement(found: dict[str, float] | None) -> str:
    return "no boxes" if found is None else f"{found['iou50']:.3f} / {found['iou75']:.3f}"


if __name__ == "__main__":
    typer.run(main)
