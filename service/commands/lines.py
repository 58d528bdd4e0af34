"""Results as lines of JSON, for pipes: `afterimage stream --json`. The fields are described in docs/api.md."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import typer

from clients.python import FrameRefused, FrameResult, FramesLost
from clients.wire import Detection, Mask, Result, Tensor


def print_line(value: dict[str, Any]) -> None:
    """Print JSON at once; end quietly, as other tools do, when nobody reads it any more."""
    try:
        print(json.dumps(value), flush=True)
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left has nowhere to go
        raise typer.Exit(1) from error


def line_of(event: FrameResult | FrameRefused | FramesLost) -> dict[str, Any]:
    """The object of an event: a result has `seq` at its top, a frame without one is under `refused` or `lost`."""
    if isinstance(event, FrameRefused):
        return {"refused": {"seq": event.seq, "code": event.code, "detail": event.detail}}
    if isinstance(event, FramesLost):
        return {"lost": {"seqs": list(event.seqs)}}
    return _result(event.seq, event.result, event.round_trip_ms)


def _result(seq: int, result: Result, round_trip_ms: float) -> dict[str, Any]:
    line: dict[str, Any] = {
        "seq": seq,
        "time": _iso(result.capture_ts_us),
        "decision": result.decision,
        "compute_fraction": result.compute_fraction,
        "changed_tiles": result.changed_tiles,
        "width": result.width,
        "height": result.height,
        "round_trip_ms": round(round_trip_ms, 3),
        "timing_ms": msgspec.to_builtins(result.timing_ms),
        "dropped": result.dropped,
    }
    if result.evicted:
        line["evicted"] = True
    if result.changes is not None:
        line["stages"] = list(result.changes.stages)
    line["detections"] = [_box(found) for found in result.detections or ()]
    if result.classes is not None:
        line["classes"] = [msgspec.to_builtins(found) for found in result.classes]
    if result.masks is not None:
        line["masks"] = [_mask(found) for found in result.masks]
    if result.tensors is not None:
        line["tensors"] = [_tensor(found) for found in result.tensors]
    return line


def _iso(time_us: int) -> str:
    """UTC, to the millisecond, of microseconds since 1970."""
    moment = datetime.fromtimestamp(time_us / 1e6, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _box(found: Detection) -> dict[str, Any]:
    box: dict[str, Any] = {
        "label": found.label, "class_id": found.class_id, "score": found.score, "xyxy": list(found.xyxy),
    }  # fmt: skip
    if found.track_id is not None:
        box["track_id"] = found.track_id
    if found.keypoints is not None:
        box["keypoints"] = [list(point) for point in found.keypoints]
    return box


def _mask(found: Mask) -> dict[str, Any]:
    """Without its run lengths, which may be thousands: the share of the covered part of the frame that it takes."""
    rows, columns = found.size
    share = sum(found.counts[1::2]) / max(1, rows * columns)
    return {"label": found.label, "class_id": found.class_id, "share": round(share, 4), "xyxy": list(found.xyxy)}


def _tensor(found: Tensor) -> dict[str, Any]:
    """Without its values."""
    return {"name": found.name, "dtype": found.dtype, "shape": list(found.shape)}
