"""A plan in words: what was asked, what comes of it, and all that was assumed. No printing."""

from __future__ import annotations

import math

from cache.policy import Policy
from service.capacity.plan import LINK_SHARE, Plan
from service.limits import default_cache_bytes

BOUNDS = {
    "admission": "workers (admission)",
    "peaks": "workers in peaks",
    "cores": "cores",
    "memory": "memory",
    "network": "network",
}
"""What the bounds are called for people."""


def headline(found: Plan) -> str:
    """The answer in one line."""
    demand, spare = found.demand, found.terms.spare
    of_them = f", {spare} of them may be lost" if spare else ""
    return (
        f"{found.boxes} boxes of {found.box.name}{of_them}: {demand.streams} streams of {found.cost.model} at"
        f" {demand.fps:g} frames a second, {found.full} on a box at most"
    )


def stream_rows(found: Plan) -> list[tuple[str, str]]:
    """What one stream takes."""
    stream, demand = found.stream, found.demand
    share = demand.activity / _busy_share(found)
    return [
        ("a frame, on average", f"{stream.frame_ms:.2f} ms of a worker"),
        (f"while busy ({share:.0%} of the tiles change)", f"{stream.busy_ms:.2f} ms"),
        ("while still", f"{stream.still_ms:.2f} ms"),
        ("recomputed whole", f"{stream.keyframe_ms:.2f} ms"),
        ("workers", f"{stream.wanted:.4f} of one, deviation {stream.deviation:.4f}"),
        ("memory", f"{stream.memory_bytes / (1 << 20):.1f} MiB"),
        ("network", f"{stream.bits_s / 1e6:.2f} Mbit/s to the box"),
    ]


def box_rows(found: Plan) -> list[tuple[str, str]]:
    """What that means for a box, and for all of them."""
    rows = [
        (f"room by {BOUNDS[name]}", f"{count} streams" + ("  <- binds" if name == found.binds else ""))
        for name, count in found.room.items()
    ]
    ideal = math.ceil(found.demand.streams / found.full)
    return [
        *rows,
        ("boxes", f"{ideal} full ones, {found.terms.spare} spare: {found.boxes}"),
        ("load of a box", f"{found.utilisation:.0%} of its workers on average, {found.full_utilisation:.0%} when full"),
        ("streams of a box", f"{found.usual:.1f} on average, {found.full} at most"),
        ("streams whose first box is full", f"{found.passed_over:.1%}, served by their next one"),
        ("wait of a frame on a full box", f"{found.wait_ms:.1f} ms on average"),
        ("after a box is lost", recovery(found)),
    ]


def recovery(found: Plan) -> str:
    """What the streams of a lost box cost the others."""
    if math.isinf(found.recovery_s):
        return "the others have no time for its streams"
    return f"{found.full} whole frames, {found.recovery_s * 1e3:.0f} ms of what is free on each other box"


def assumptions(found: Plan) -> list[str]:
    """All that the figures rest on, a sentence or two each."""
    return [*_of_streams(found), *_of_boxes(found)]


def _of_streams(found: Plan) -> list[str]:
    demand, cost, box = found.demand, found.cost, found.box
    busy_share = _busy_share(found)
    source = f"Measured on {box.date}" if box.estimate is None else f"Estimated, not measured: {box.estimate}"
    lines = [
        f"{source}: frames of {cost.model} at {cost.size} by the share of tiles that changed, whole frames, decoding,"
        " memory.",
        "Activity is the mean share of tiles that change, over all streams and frames of the busiest hour:"
        f" {demand.activity:.1%}. Quieter hours need less.",
        f"A stream is busy {busy_share:.0%} of the time, with {demand.activity / busy_share:.1%} of its tiles changing,"
        f" and still otherwise (--peak {demand.peak:g}); streams are busy independently of each other.",
        f"Once in {Policy().refresh_s:g} s all of a stream is looked at again ({cost.refresh_ms:.1f} ms), and once in"
        f" {demand.keyframe_every_s:g} s it is recomputed whole (cuts, lights, reconnections).",
        f"Frames come as {'the tiles that changed' if demand.tiles else 'whole JPEGs'} of"
        f" {demand.picture or cost.size} pixels.",
    ]
    if cost.outside_ms is None:
        return [*lines, "Sockets and messages were not measured and are not counted."]
    return [*lines, f"Sockets and messages take {cost.outside_ms:.2f} ms of a core for a frame, beside the workers."]


def _of_boxes(found: Plan) -> list[str]:
    terms, box = found.terms, found.box
    gib, mbit = box.memory_bytes / (1 << 30), terms.link_bits_s / 1e6
    cache_gib = default_cache_bytes(box.memory_bytes) / (1 << 30)
    return [
        f"With {box.workers} workers busy a frame takes {found.cost.slowdown(box.workers):.2f} times its time alone.",
        f"Admission, as the server's: beyond {1 - terms.headroom:.0%} of {box.workers} workers' time, on average,"
        " streams are refused.",
        f"Peaks: for {terms.quantile:.0%} of the time a full box has time for every frame (normal approximation of the"
        " sum of its streams); otherwise older frames give way to newer ones.",
        f"Placement by rendezvous hashing, full boxes passed over. A box is full at {found.full} streams: set"
        f" AFTERIMAGE_MAX_STREAMS={found.full} on each, as admission alone lets in on a quiet night what wants more by"
        " day.",
        f"Streams of lost boxes find room on the others, for up to {terms.spare} lost at once.",
        "Waiting is as if frames came at random (Allen and Cunneen); cameras are steadier, so that it is less.",
        f"{cache_gib:.1f} of {gib:.1f} GiB for models and streams, as the server keeps it; {LINK_SHARE:.0%} of"
        f" {mbit:g} Mbit/s.",
    ]


def _busy_share(found: Plan) -> float:
    return min(1.0, max(1 / found.demand.peak, found.demand.activity))
