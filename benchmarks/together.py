"""Frames of several streams through the steps together, against one after the other.

`python -m benchmarks.together MODEL CLIP...`: streams are the clips, over and over, each from another place, one frame
of each per turn. The same frames go to two sets of sessions, turns of the one and of the other way in blocks that
alternate. Turns in which any frame was reused or recomputed whole are left out. What a frame takes is time of a core,
which does not count what others do on a shared machine. Latency is the time from the beginning of a turn, when all its
frames are there, until a frame's result is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cache import stretches
from cache.plan import Plan
from cache.session import FrameResult, Session
from cache.together import push_together
from service.catalogue import find_model
from service.opened import open_model
from service.preprocess import fit
from service.sources import open_source

Image = NDArray[np.uint8]
APART = 37
"""Frames between two streams of one clip."""
BLOCK = 8
"""Turns of one way before the other one's."""


def one_after_the_other(
    sessions: Sequence[Session], frames: Sequence[Image]
) -> tuple[list[FrameResult], list[int], int]:
    """Results, nanoseconds until each was there, and nanoseconds of a core for all."""
    results, ends, start, begun = [], [], time.perf_counter_ns(), time.thread_time_ns()
    for session, frame in zip(sessions, frames, strict=True):
        results.append(session.push(frame))
        ends.append(time.perf_counter_ns() - start)
    return results, ends, time.thread_time_ns() - begun


def all_together(sessions: Sequence[Session], frames: Sequence[Image]) -> tuple[list[FrameResult], list[int], int]:
    """The same for `push_together`, whose results come at the end."""
    start, begun = time.perf_counter_ns(), time.thread_time_ns()
    outcomes = push_together(sessions, frames)
    end, used = time.perf_counter_ns() - start, time.thread_time_ns() - begun
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, FrameResult)], [end] * len(frames), used


WAYS = (one_after_the_other, all_together)


def compare(plan: Plan, turns: Sequence[Sequence[Image]]) -> dict[str, float]:
    """Medians over turns of frames uint8[H, W, C], one for each stream."""
    streams = len(turns[0])
    plan = replace(plan, together=streams)
    sets = [[Session(plan) for _ in range(streams)] for _ in WAYS]
    counted = np.ones(len(turns), bool)
    took, late = np.zeros((2, len(turns))), np.zeros((2, len(turns)))
    work = np.zeros(len(turns))
    for start in range(0, len(turns), BLOCK):
        for way in (0, 1) if start // BLOCK % 2 == 0 else (1, 0):
            for n in range(start, min(start + BLOCK, len(turns))):
                results, ends, used = WAYS[way](sets[way], turns[n])
                counted[n] &= all(result.decision == "partial" for result in results)
                counted[n] &= n > start  # the first one finds the other way's data in the cache
                took[way, n], late[way, n] = used / streams, float(np.mean(ends))
                work[n] = float(np.mean([result.compute_fraction for result in results]))
    took, late, work = took[:, counted] / 1e6, late[:, counted] / 1e6, work[counted]
    return {
        "streams": streams, "turns": int(counted.sum()), "work": float(np.median(work)),
        "alone_ms": float(np.median(took[0])), "together_ms": float(np.median(took[1])),
        "ratio": float(np.median(took[1] / took[0])), "alone_latency_ms": float(np.median(late[0])),
        "together_latency_ms": float(np.median(late[1])),
    }  # fmt: skip


def main(
    model: Annotated[str, typer.Argument()],
    clips: Annotated[list[str], typer.Argument()],
    size: Annotated[str, typer.Option()] = "640x384",
    streams: Annotated[str, typer.Option(help="Numbers of streams, with commas between them.")] = "2,4,8",
    start: Annotated[int, typer.Option()] = 20,
    frames: Annotated[int, typer.Option()] = 120,
    stretch: Annotated[int, typer.Option(help="KiB of weights of a stretch of steps.")] = stretches.STRETCH_BYTES >> 10,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print the table, and write it."""
    width, height = map(int, size.split("x"))
    opened = open_model(find_model(model), (width, height))
    stretches.STRETCH_BYTES = stretch << 10
    plan, console, found = opened.compile(), Console(), []
    images = []
    for clip in clips:
        with open_source(clip, start=start, frames=frames) as source:
            images.append([fit(frame.image, opened.size, opened.spec)[0] for frame in source])
    table = Table(
        "streams", "turns", "work", "alone, ms of a core", "together", "ratio", "latency alone, ms", "together"
    )
    for count in map(int, streams.split(",")):
        turns = []
        for n in range(frames):
            parts = [images[i % len(images)] for i in range(count)]
            shifts = [i // len(images) * APART for i in range(count)]
            turns.append([part[(n + shift) % len(part)] for part, shift in zip(parts, shifts, strict=True)])
        row = compare(plan, turns)
        found.append({"model": model, "stretch_kib": stretch, **row})
        table.add_row(
            str(count), str(row["turns"]), f"{row['work']:.1%}", f"{row['alone_ms']:.2f}", f"{row['together_ms']:.2f}",
            f"{row['ratio']:.3f}", f"{row['alone_latency_ms']:.1f}", f"{row['together_latency_ms']:.1f}",
        )  # fmt: skip
    console.print(table)
    if json_file:
        json_file.write_text(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
