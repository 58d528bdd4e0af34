"""How many boxes a demand takes: the smallest of what workers, their peaks, cores, memory and network allow a box.

The workers' bound is the server's own (`service.admission`): what streams want on average stays below the workers' time
less the headroom. All the others are checked beside it. Pure arithmetic; `service.capacity.words` says it in words.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from cache.policy import Policy
from service.capacity.box import Box, BoxError, ModelCost, pixels
from service.capacity.queues import mean_wait_s, passed_over, quantile
from service.limits import default_cache_bytes

LINK_SHARE = 0.8
"""Of a link's rate that is used."""


@dataclass(frozen=True)
class Demand:
    """What streams ask for.

    activity : share of a frame's tiles that changed, mean over streams and frames of the busiest hour. peak : a stream
    is busy 1 / peak of the time, with peak x activity, and still otherwise. picture : size of the frames as sent;
    None: the network's. tiles : sent as changed tiles. keyframe_every_s : a stream is recomputed whole so often: cuts,
    lights, reconnections.
    """

    streams: int
    fps: float
    activity: float
    peak: float = 3.0
    picture: str | None = None
    tiles: bool = False
    keyframe_every_s: float = 600.0


@dataclass(frozen=True)
class Terms:
    """What is kept free.

    headroom : share of the workers' time, as the server's setting. quantile : of the time in which a full box's workers
    have time for every frame. spare : boxes that may be lost. link_bits_s : of a box's network.
    """

    headroom: float
    quantile: float = 0.99
    spare: int = 1
    link_bits_s: float = 1e9


@dataclass(frozen=True)
class PerStream:
    """What one stream takes on average. wanted, deviation : seconds of workers a second, mean and standard deviation;
    frame_ms, variation : of a frame's cost, variation being variance over mean squared. outside : seconds of cores a
    second outside of the workers. bits_s : to the box. memory_bytes : on it."""

    wanted: float
    deviation: float
    frame_ms: float
    busy_ms: float
    still_ms: float
    keyframe_ms: float
    variation: float
    outside: float
    bits_s: float
    memory_bytes: int


@dataclass(frozen=True)
class Plan:
    """room : streams of a box by each bound. binds : which is least. boxes : with the spare ones.

    usual, full : streams of a box, on average and at most. utilisation, full_utilisation : share of its workers' time
    then. wait_ms : that a frame waits on average on a full box. passed_over : share of streams whose first box is full.
    recovery_s : worker time that a lost box's keyframes take on each of the others, over the time that is free there.
    """

    box: Box
    cost: ModelCost
    demand: Demand
    terms: Terms
    stream: PerStream
    room: dict[str, int]
    boxes: int
    passed_over: float
    wait_ms: float
    recovery_s: float

    @property
    def binds(self) -> str:
        """Which bound is the least."""
        return min(self.room, key=lambda name: self.room[name])

    @property
    def full(self) -> int:
        """Streams of a box at most."""
        return self.room[self.binds]

    @property
    def usual(self) -> float:
        """Streams of a box on average, where all boxes live."""
        return self.demand.streams / self.boxes

    @property
    def utilisation(self) -> float:
        """Of the workers, on average."""
        return self.usual * self.stream.wanted / self.box.workers

    @property
    def full_utilisation(self) -> float:
        """Of the workers of a full box, on average."""
        return self.full * self.stream.wanted / self.box.workers

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "box": self.box.name,
            "measured": self.box.date.isoformat(),
            "estimate": self.box.estimate,
            "model": self.cost.model,
            "size": self.cost.size,
            "workers": self.box.workers,
            "demand": asdict(self.demand),
            "terms": asdict(self.terms),
            "stream": asdict(self.stream),
            "streams_per_box": self.room,
            "binds": self.binds,
            "max_streams": self.full,
            "boxes": self.boxes,
            "utilisation": round(self.utilisation, 4),
            "full_utilisation": round(self.full_utilisation, 4),
            "passed_over": round(self.passed_over, 4),
            "wait_ms": round(self.wait_ms, 2),
            "recovery_s": None if math.isinf(self.recovery_s) else round(self.recovery_s, 3),
        }


def plan(box: Box, model: str, size: str | None, demand: Demand, terms: Terms) -> Plan:
    """How many such boxes a demand takes. Raises BoxError where a model was not measured, or a box is too small for
    one stream."""
    cost = box.cost(model, size)
    stream = per_stream(box, cost, demand)
    room = rooms(box, cost, stream, terms)
    short = [name for name, count in room.items() if count < 1]
    if short:
        raise BoxError(
            f"{box.name} has no room for one such stream ({', '.join(short)}): it wants {stream.wanted:.2f} of"
            f" {box.workers} workers, {stream.memory_bytes >> 20} MiB and {stream.bits_s / 1e6:.1f} Mbit/s"
        )
    full = min(room.values())
    boxes = -(-demand.streams // full) + terms.spare
    load = full * stream.wanted
    free = box.workers - min(float(box.workers), demand.streams / max(1, boxes - 1) * stream.wanted)
    burst_s = full * stream.keyframe_ms / 1e3 / max(1, boxes - 1)
    return Plan(
        box, cost, demand, terms, stream, room, boxes,
        passed_over=passed_over(demand.streams, boxes, full),
        wait_ms=1e3 * mean_wait_s(box.workers, load, stream.frame_ms / 1e3, stream.variation),
        recovery_s=burst_s / free if free > 0 and boxes > 1 else math.inf,
    )  # fmt: skip


def per_stream(box: Box, cost: ModelCost, demand: Demand) -> PerStream:
    """What one of the streams takes, with all workers of the box at work."""
    slow, refresh_s = cost.slowdown(box.workers), Policy().refresh_s
    busy_share = min(1.0, max(1 / demand.peak, demand.activity))
    busy_activity = demand.activity / busy_share
    extra_ms = _picture_ms(cost, demand.picture)
    parts = [
        (busy_share, slow * (cost.ms(busy_activity, demand.tiles) + extra_ms * (busy_activity if demand.tiles else 1))),
        (1 - busy_share, slow * (cost.ms(0.0, demand.tiles) + (0.0 if demand.tiles else extra_ms))),
    ]
    whole_ms = slow * (cost.keyframe_ms + extra_ms)
    whole_share = min(1.0, 1 / (demand.keyframe_every_s * demand.fps))
    turns_ms = slow * cost.refresh_ms / (refresh_s * demand.fps)  # a part of every frame
    kinds = [(share * (1 - whole_share), ms + turns_ms) for share, ms in parts] + [(whole_share, whole_ms + turns_ms)]
    frame_ms = sum(share * ms for share, ms in kinds)
    second = sum(share * ms * ms for share, ms in kinds)
    (_, busy_ms), (_, still_ms) = parts
    # Frames of one state come in a row, so that it is states that vary what a stream wants for a time.
    spread_ms = math.sqrt(busy_share * (1 - busy_share)) * (busy_ms - still_ms)
    return PerStream(
        wanted=min(1.0, demand.fps * frame_ms / 1e3),
        deviation=demand.fps * spread_ms / 1e3,
        frame_ms=frame_ms, busy_ms=busy_ms, still_ms=still_ms, keyframe_ms=whole_ms,
        variation=second / frame_ms**2 - 1,
        outside=demand.fps * (cost.outside_ms or 0.0) / 1e3,
        bits_s=8 * demand.fps * _message_bytes(cost, demand, busy_share),
        memory_bytes=cost.memory.stream,
    )  # fmt: skip


def rooms(box: Box, cost: ModelCost, stream: PerStream, terms: Terms) -> dict[str, int]:
    """How many streams each bound allows a box."""
    usable = default_cache_bytes(box.memory_bytes) - cost.memory.shared
    deviations = quantile(terms.quantile) * stream.deviation
    root = (math.sqrt(deviations**2 + 4 * stream.wanted * box.workers) - deviations) / (2 * stream.wanted)
    return {
        "admission": admitted(box.workers, terms.headroom, stream.wanted),
        "peaks": math.floor(root * root + 1e-9),
        "cores": math.floor(box.cores / (stream.wanted + stream.outside) + 1e-9),
        "memory": max(0, usable // stream.memory_bytes) if stream.memory_bytes else 1 << 30,
        "network": math.floor(terms.link_bits_s * LINK_SHARE / stream.bits_s),
    }


def admitted(workers: int, headroom: float, wanted: float) -> int:
    """Streams that `service.admission` lets in, of which each wants so many seconds of workers a second."""
    most = workers * (1 - headroom)
    return max(1, math.floor(most / wanted + 1e-9))


def _picture_ms(cost: ModelCost, size: str | None) -> float:
    """More than decoding takes at the network's own size."""
    return 0.0 if size is None else cost.picture(size).ms - cost.picture(cost.size).ms


def _message_bytes(cost: ModelCost, demand: Demand, busy_share: float) -> float:
    """Of a frame, on average."""
    size = demand.picture or cost.size
    if not demand.tiles:
        return float(cost.picture(size).bytes)
    busy = cost.message_bytes(demand.activity / busy_share, tiles=True)
    still = cost.message_bytes(0.0, tiles=True)
    return max(1.0, (busy_share * busy + (1 - busy_share) * still) * pixels(size) / pixels(cost.size))
