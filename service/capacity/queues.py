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


def passed_over(mean: float, room: int) -> float:
    """Share of streams that find their first box full, where the number that belong to a box is Poisson's of a mean.

    The first pass alone: those who are passed on and fill another box are not followed.
    """
    if mean <= 0:
        return 0.0
    most = math.ceil(mean + 40 * math.sqrt(mean) + 40)
    log_mean = math.log(mean)
    beyond = (
        (count - room) * math.exp(count * log_mean - mean - math.lgamma(count + 1))
        for count in range(room + 1, max(most, room) + 1)
    )
    return min(1.0, math.fsum(beyond) / mean)


def quantile(share: float) -> float:
    """How many standard deviations above the mean a normal value stays with this probability."""
    return NormalDist().inv_cdf(share)
