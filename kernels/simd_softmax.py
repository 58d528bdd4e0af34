"""The explicit-vector intrinsics of `kernels.softmax`; as `simd.py`, on int64 byte addresses."""

from __future__ import annotations

from kernels.constants import LOWEST
from kernels.emit import Builder, Value, const, less_or_second
from kernels.emit_finish import exp_of_minus
from kernels.simd import make_lane_op

FARTHEST = 87.0
"""Distances beyond it count as this: exp(-87) is 1.6e-38."""


def _exp_below(b: Builder, x: Value, largest: Value) -> Value:
    return exp_of_minus(b, less_or_second(b, b.fsub(largest, x), const(FARTHEST)))


def _live(b: Builder, x: Value, live: Value) -> Value:
    return b.select(b.fcmp_unordered("!=", live, const(0.0)), x, const(LOWEST))


lane_exp = make_lane_op(_exp_below, 1, 1)  # exp(x - s) for x up to s
lane_choose = make_lane_op(_live, 2, 0)  # x where y is not 0, else the lowest number
