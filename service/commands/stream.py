"""`afterimage stream`: send a camera, a file, a folder or the scene to a server, and sum up what came back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from clients.python import Event, FrameRefused, FramesLost, StreamClient, StreamOptions
from clients.python.core import now_us
from clients.wire import Policy, Ready
from service import codec
from service.annotate import annotate
from service.commands.common import (
    SOURCE_HELP,
    EveryOption,
    FramesOption,
    StartOption,
    err,
    out,
    plain_errors,
    require_server,
)
from service.commands.lines import line_of, print_line
from service.preprocess import resize
from service.recorder import Recorder, RecorderError, open_recorder, refuse_source
from service.sources import Frame, Source, is_camera, is_endless, open_source

STREAM_ID = "cli"
_WATCH_S = 0.1


@dataclass(frozen=True)
class Sending:
    """How frames are sent: policy, JPEG quality (1-100), and frames a second (None: as the server can).

    tiles: scaled down to the model's input, and only what changed of them, where the server takes that.
    Their capture time is when the source gave them, before they are encoded or wait.
    """

    policy: Policy
    quality: int
    fps: float | None
    tiles: bool = False


@dataclass
class Tally:
    """What a stream gave. Times in ms; ages are from a frame's capture to its result's arrival here."""

    results: int = 0
    boxes: int = 0
    refused: int = 0
    lost: int = 0
    objects: set[int] = field(default_factory=set)
    fractions: list[float] = field(default_factory=list)
    round_trips_ms: list[float] = field(default_factory=list)
    server_ms: list[float] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    evicted: int = 0
    dropped: int = 0
    skipped: int = 0
    reconnections: int = 0
    bytes_sent: int = 0

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, FramesLost):
            self.lost += len(event.seqs)
        elif isinstance(event, FrameRefused):
            self.refused += 1
        else:
            self.results += 1
            boxes = event.result.detections or ()
            self.boxes += len(boxes)
            self.objects.update(box.track_id for box in boxes if box.track_id is not None)
            self.fractions.append(event.result.compute_fraction)
            self.round_trips_ms.append(event.round_trip_ms)
            self.server_ms.append(event.result.timing_ms.total)
            self.ages_ms.append((now_us() - event.result.capture_ts_us) / 1e3)
            self.evicted += event.result.evicted
            self.dropped = max(self.dropped, event.result.dropped)

    def summary(self, seconds: float, offered: int) -> dict[str, Any]:
        """Plain figures for JSON."""
        after_first = self.fractions[1:] or self.fractions
        return {
            "frames": offered,
            "results": self.results,
            "boxes": self.boxes,
            **({"objects": len(self.objects)} if self.objects else {}),
            "skipped_without_credit": self.skipped,
            "dropped_by_server": self.dropped,
            "evicted": self.evicted,
            "refused": self.refused,
            "lost": self.lost,
            "reconnections": self.reconnections,
            "bytes_sent": self.bytes_sent,
            "seconds": round(seconds, 3),
            "frames_per_second": round(self.results / seconds, 2) if seconds else None,
            "compute_fraction_mean": round(float(np.mean(after_first)), 4) if after_first else None,
            "round_trip_ms_p50": _percentile(self.round_trips_ms, 50),
            "round_trip_ms_p99": _percentile(self.round_trips_ms, 99),
            "server_ms_p50": _percentile(self.server_ms, 50),
            "age_ms_p50": _percentile(self.ages_ms, 50),
            "age_ms_p99": _percentile(self.ages_ms, 99),
        }


def _percentile(values: list[float], share: float) -> float | None:
    return round(float(np.percentile(values, share)), 2) if values else None


def command(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    url: Annotated[str, typer.Option(help="The server, or a stream's ws_url.")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option("--model", "-m", help="Name of a model of the server.")] = None,
    token: Annotated[str | None, typer.Option(envvar="AFTERIMAGE_TOKEN", help="Token of the stream.")] = None,
    start: StartOption = 0,
    frames: FramesOption = None,
    every: EveryOption = 1,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Send at this rate. Default: the scene's own, else as the server can.")
    ] = None,
    policy: Annotated[
        Policy | None,
        typer.Option(
            help="latest: drop what is late; drop_newest: what finds no room; all: wait. Default: all for files."
        ),
    ] = None,
    max_fps: Annotated[
        float | None, typer.Option(min=0.001, max=1000, help="Have no more frames a second computed.")
    ] = None,
    idle_fps: Annotated[
        float | None, typer.Option(min=0.001, max=1000, help="While nothing changes, have so many a second looked at.")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 90,
    min_confidence: Annotated[float | None, typer.Option(min=0, max=1, help="Leave out weaker results.")] = None,
    tracks: Annotated[
        bool, typer.Option("--tracks", help="Give every object a number that it keeps from frame to frame.")
    ] = False,
    tiles: Annotated[
        bool, typer.Option("--tiles", help="Send the model's size, and only the tiles that changed.")
    ] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a file again when it ends, until stopped.")] = False,
    ack_timeout: Annotated[
        float,
        typer.Option(min=1, help="Seconds without an answer to frames on the way before the connection is given up."),
    ] = 10.0,
    save: Annotated[
        Path | None, typer.Option(help="Keep the frames with what was found drawn: a video file, or a new folder.")
    ] = None,
    overlay: Annotated[
        bool | None,
        typer.Option("--overlay/--no-overlay", help="With --save, show what was recomputed. Default: yes."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one result a line, then the summary.")] = False,
) -> None:
    """Stream frames to a server over WebSocket."""
    with plain_errors(), open_source(source, start=start, frames=frames, every=every, loop=loop, told=_say) as clip:
        live = is_endless(source)
        chosen = policy or (Policy.LATEST if live else Policy.ALL)
        if fps is None and live and not is_camera(source):
            fps = clip.fps  # the scene can be drawn faster than its people should walk
        options = StreamOptions(
            model=model, token=token, policy=chosen, min_confidence=min_confidence, max_fps=max_fps, idle_fps=idle_fps,
            tracks=tracks, tiles=tiles, quality=quality, changes=save is not None if overlay is None else overlay,
            ack_timeout_s=ack_timeout,
        )  # fmt: skip
        stream_id = None if "/ws" in url else f"{STREAM_ID}-{time.time_ns():x}"
        try:
            opening = StreamClient(url, stream_id, options)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--url") from error
        if save is not None:
            refuse_source(save, source)
        require_server(url)
        with opening as client, open_recorder(save) if save is not None else nullcontext() as recorder:
            tally, seconds, offered = run(client, clip, Sending(chosen, quality, fps, tiles), as_json, recorder)
        figures = tally.summary(seconds, offered)
        if as_json:
            print_line({"summary": figures})
        else:
            out.print(_table(figures))
        if recorder is not None and not recorder.count:
            missing = "result" if offered else "frame"
            raise RecorderError(f"{save}: no {missing} came, and nothing was saved")


class Drawing:
    """Draws results on the frames that they belong to, and hands them to a recorder (None: does nothing).

    most : frames that may be under way or waiting to be taken; of older ones no result will come.
    """

    def __init__(self, recorder: Recorder | None, most: int) -> None:
        self._recorder, self._most = recorder, most
        self._frames: dict[int, Frame] = {}

    def sent(self, seq: int, frame: Frame) -> None:
        """Remember a frame until its result comes."""
        if self._recorder is not None:
            self._frames[seq] = frame
            while len(self._frames) > self._most:
                self._forget(next(iter(self._frames)))

    def take(self, event: Event) -> None:
        """Keep the frame of a result; forget a frame that has none."""
        if isinstance(event, FramesLost):
            self._forget(*event.seqs)
        elif isinstance(event, FrameRefused):
            self._forget(*[] if event.seq is None else [event.seq])
        elif self._recorder is not None and event.seq in self._frames:
            frame, result = self._frames[event.seq], event.result
            drawn = annotate(frame.image, result.detections, result.classes, result.changes, result.compute_fraction)
            self._recorder.add(drawn, frame.timestamp_ns)
            # Results come in the order of sending: what was sent before and has none was dropped.
            self._forget(*[seq for seq in self._frames if seq <= event.seq])

    def _forget(self, *seqs: int) -> None:
        for seq in seqs:
            self._frames.pop(seq, None)


def run(
    client: StreamClient, clip: Source, sending: Sending, lines: bool, recorder: Recorder | None = None
) -> tuple[Tally, float, int]:
    """Send every frame, show progress; returns the tally, the seconds it took, and the frames offered."""
    ready = client.connect()  # it may take a while, and is no part of the stream's time
    tally, begun, offered = Tally(), time.monotonic(), 0
    due = begun
    drawing = Drawing(recorder, 4 * ready.window + 8)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress, _losses_said(client, tally):
        bar = progress.add_task(clip.name, total=clip.total)

        def take(event: Event) -> None:
            tally.add(event)
            drawing.take(event)
            if lines:
                print_line(line_of(event))
            recent = tally.fractions[-1] if tally.fractions else 1.0
            progress.update(bar, completed=tally.results, description=f"{clip.name}  recomputed {recent:4.0%}")

        try:
            for frame in clip:
                captured_us = now_us()
                if sending.tiles:
                    frame = replace(frame, image=_scaled(frame.image, client.ready))
                image = None if sending.tiles else codec.encode_jpeg(frame.image, sending.quality)
                while (event := client.receive(max(0.0, due - time.monotonic()))) is not None:
                    take(event)
                waits = sending.policy is Policy.ALL
                if image is None:
                    seq = (client.send_image if waits else client.try_send_image)(frame.image, captured_us)
                else:
                    seq = (client.send if waits else client.try_send)(image, captured_us)
                if seq is None:
                    tally.skipped += 1
                else:
                    drawing.sent(seq, frame)
                offered += 1
                if sending.fps:  # what is late is not made up for in a burst
                    due = max(due + 1 / sending.fps, time.monotonic() - 1 / sending.fps)
            while (event := client.receive()) is not None:
                take(event)
        except KeyboardInterrupt:
            err.print("stopped; frames under way are not waited for")
    tally.reconnections, tally.bytes_sent = client.reconnections, client.bytes_sent
    tally.dropped = max(tally.dropped, client.server_dropped)  # an ack may have been the last to tell
    return tally, time.monotonic() - begun, offered


def _scaled(image: NDArray[np.uint8], ready: Ready | None) -> NDArray[np.uint8]:
    """A frame no larger than the model takes in."""
    height, width = image.shape[:2]
    ratio = 1.0 if ready is None else min(1.0, ready.size[0] / width, ready.size[1] / height)
    return resize(image, (max(1, round(width * ratio)), max(1, round(height * ratio))))


@contextmanager
def _losses_said(client: StreamClient, tally: Tally) -> Iterator[None]:
    """Say on stderr that the connection is lost, once until results come again; if the stream then starts afresh; and
    where it has moved to.

    From a thread of its own: the client's calls do not return while it tries to come back.
    """
    done, known = Flag(), client.reconnections

    def watch() -> None:
        seen, results_when_said, ready, moves, where = known, -1, client.ready, 0, ""
        ended = False
        while not ended:
            ended = done.wait(_WATCH_S)
            if client.reconnections > seen and tally.results != results_when_said:
                err.print("the connection to the server was lost; trying again", highlight=False)
                results_when_said = tally.results
            seen = client.reconnections
            if client.moves > moves and client.url != where:
                _say(f"the stream has moved to {client.url}")
            moves, where = client.moves, client.url
            before, ready = ready, client.ready
            if ready is not None and ready is not before and ready.resume_reason is not None:
                why = ready.resume_reason.value.replace("_", " ")
                err.print(f"the server has nothing to resume ({why}); the stream starts afresh", highlight=False)

    watcher = Thread(target=watch, name="losses", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _say(text: str) -> None:
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title="stream", show_header=False)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), "unknown" if value is None else str(value))
    return table
