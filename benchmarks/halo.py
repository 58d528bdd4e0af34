"""A model of convolution after convolution with a halo: what lies between is made band by band and never stored.

Counted from a plan, not measured. A band of R rows of the second map needs R rows and a halo of the first; the halo is
computed again for each band. What is saved is writing the map between and reading it again, from beyond L2.
"""

from __future__ import annotations

from dataclasses import dataclass

from cache.plan import Plan, PlannedStep
from cache.stretches import weights_bytes

BYTES_PER_NS = 10.0
"""Assumed of the cache or memory beyond L2: a core streams 10 GB/s of it."""
MACS_PER_NS = 40.0
"""Assumed of a core: 80 GFLOP/s."""


@dataclass(frozen=True)
class Pair:
    """Two convolutions: the second alone reads the first one's map, and sees it through a window of several rows.

    between_bytes : the map between. weights_bytes : of both. rows : most rows of a band for which input, both bands and
    weights lie in L2; 0 where weights alone do not leave room for one. again_macs : of the first convolution, computed
    again for the halos. saved_ns : by the assumptions above, bytes not moved less work done again; negative is a loss.
    """

    first: str
    second: str
    between_bytes: int
    weights_bytes: int
    rows: int
    again_macs: int
    saved_ns: float


def pairs(plan: Plan, l2_bytes: int) -> list[Pair]:
    """All such pairs of a plan."""
    makers = {planned.step.target: planned for planned in plan.steps}
    readers: dict[int, list[PlannedStep]] = {}
    for planned in plan.steps:
        for read in planned.step.reads:
            readers.setdefault(read.map, []).append(planned)
    found = []
    for index, (second, *others) in readers.items():
        first = makers.get(index)
        if first is None or others or (first.step.op, second.step.op) != ("conv", "conv") or len(second.step.reads) > 1:
            continue
        if second.step.reads[0].rows.taps > 1:
            found.append(pair(plan, first, second, l2_bytes))
    return found


def pair(plan: Plan, first: PlannedStep, second: PlannedStep, l2_bytes: int) -> Pair:
    """One of them."""
    between, made = plan.maps[first.step.target], plan.maps[second.step.target]
    window = second.step.reads[0].rows
    halo = window.taps - window.stride
    row = {info.name: 64 * info.blocks * info.width for info in (between, made)}  # blocks of 16 float32
    source = first.step.reads[0]
    source_row = 64 * max(plan.maps[source.map].blocks, 1) * plan.maps[source.map].width
    weights = weights_bytes(first.step) + weights_bytes(second.step)
    per_row = row[made.name] + window.stride * (row[between.name] + max(source.rows.stride, 1) * source_row)
    rows = min(max((l2_bytes - weights - halo * (row[between.name] + source_row)) // per_row, 0), made.height)
    bands = -(-made.height // rows) if rows else 0
    again = first.step.macs * halo * max(bands - 1, 0) // between.height
    size = row[between.name] * between.height
    saved = 2 * size / BYTES_PER_NS - again / MACS_PER_NS if rows else 0.0
    return Pair(first.step.name, second.step.name, size, weights, rows, again, saved)


def summary(name: str, plan: Plan, l2_bytes: int) -> str:
    """A row of a table: all pairs of one plan, those alone whose map does not fit in L2, and what is gained by them."""
    found = pairs(plan, l2_bytes)
    large = [p for p in found if p.between_bytes > l2_bytes]
    useful = [p for p in large if p.saved_ns > 0]
    dense_ns = plan.total_macs / MACS_PER_NS
    again = sum(p.again_macs for p in useful) / max(plan.total_macs, 1)
    moved = sum(2 * p.between_bytes for p in useful) / 1e6
    gain = sum(p.saved_ns for p in useful) / dense_ns
    return f"| {name} | {len(found)} | {len(large)} | {len(useful)} | {moved:.1f} | {again:.1%} | {gain:.1%} |"


HEAD = (
    "| network | pairs | map between larger than L2 | of these, pay | bytes not moved, MB | work done again "
    "| gain, of a dense frame |\n" + "|---" * 7 + "|"
)
