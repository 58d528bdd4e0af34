"""Where our time of a dense frame goes: node by node, with the share of this machine's peak that each reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cache.session import Session
from service.bench.ingest import Frame
from service.bench.peak import peak_flops


class NodeTime(NamedTuple):
    """One step of a plan. shape : (C, H, W) of what it makes. ns : median of a keyframe's time in it."""

    name: str
    op: str
    shape: tuple[int, int, int]
    macs: int
    ns: float


def node_times(session: Session, frame: Frame, rounds: int) -> list[NodeTime]:
    """Time of every step of the session's plan on keyframes of `frame`, medians over `rounds`."""
    plan = session.plan
    profiles = [session.profile(frame) for _ in range(rounds)]
    medians = np.median(np.array(profiles, np.float64), axis=0).tolist()
    rows = []
    for planned, ns in zip(plan.steps, medians, strict=True):
        made = plan.maps[planned.step.target]
        shape = (int(planned.lanes.size), made.height, made.width)
        rows.append(NodeTime(planned.step.name, planned.step.op, shape, planned.step.macs, ns))
    return rows


def node_rows(session: Session, frame: Frame, rounds: int, threads: int = 1) -> list[dict[str, Any]]:
    """`node_times` with rates, ready for JSON; the peak is measured beside them."""
    return rows_of(node_times(session, frame, rounds), peak_flops(threads))


def rows_of(times: Sequence[NodeTime], peak: float) -> list[dict[str, Any]]:
    """name, op, shape, ms, share_of_time, gflops and share_of_peak (null where a node has no multiply-adds).

    A Winograd convolution is counted by the multiplications of the direct one, and may exceed the peak.
    """
    total = sum(node.ns for node in times)
    rows = []
    for node in times:
        rate = 2 * node.macs / (node.ns * 1e-9) if node.macs and node.ns else None
        rows.append(
            {
                "name": node.name,
                "op": node.op,
                "shape": list(node.shape),
                "ms": round(node.ns / 1e6, 4),
                "share_of_time": round(node.ns / total, 4) if total else None,
                "gflops": None if rate is None else round(rate / 1e9, 2),
                "share_of_peak": None if rate is None else round(rate / peak, 4),
            }
        )
    return rows
