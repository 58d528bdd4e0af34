"""Waiting and chance, in closed form: what the plan says of latency and of streams that fall where there is no room."""

from __future__ import annotations

import math
from statistics import NormalDist


def erlang_c(servers: int, load: float) -> float:
    """Share of items that wait, of a load (in servers) that comes at random; 1 from load = servers.

    Source: A. K. Erlang (1917). By the recursion of the loss formula, which never overflows.
    """
    if load >= servers:
        return 1.0
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait_s(servers: int, load: float, service_s: float, variation: float) -> float:
    """Seconds that an item waits on average; infinite from load = servers (A. O. Allen, "Probability, statistics and
    queueing theory", 1990: the Allen-Cunneen approximation for arrivals at random).

    service_s : mean. variation : variance of the service time over its mean's square.
    """
    if load >= servers:
        return math.inf
    return erlang_c(servers, load) * service_s / (servers - load) * (1 + variation) / 2


def passed_over(streams: int, boxes: int, room: int) -> float:
    """Share of streams that find their first box full, where each of them belongs to any box with the same chance, so
    that their number on a box is binomial.

    The first pass alone: those who are passed on and fill another box are not followed.
    """
    if streams <= room:
        return 0.0
    if boxes == 1:
        return 1 - room / streams
    log_here, log_elsewhere = -math.log(boxes), math.log1p(-1 / boxes)
    log_ways = math.lgamma(streams + 1)
    beyond = (
        (count - room)
        * math.exp(
            log_ways - math.lgamma(count + 1) - math.lgamma(streams - count + 1)
            + count * log_here + (streams - count) * log_elsewhere
        )
        for count in range(room + 1, streams + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(beyond) * boxes / streams)


def quantile(share: float) -> float:
    """How many standard deviations above the mean a normal value stays with this probability."""
    return NormalDist().inv_cdf(share)
