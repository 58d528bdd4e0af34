"""Where a client goes next: after moves, and after failures."""

from __future__ import annotations

import pytest

from clients.python import Refused, ServerMisbehaved
from clients.python.route import STEADY_S, MovedAway, Route


def url(host: str, scheme: str = "ws") -> str:
    return f"{scheme}://{host}/v1/streams/door/ws"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def moved(route: Route, host: str) -> bool:
    return route.goes(route.check(url(host)))


def test_a_row_of_moves_ends() -> None:
    route = Route(url("a"), 2)
    assert [moved(route, host) for host in "bcd"] == [True, True, False]
    assert (route.here, route.moves) == (url("c"), 2), "the last one was not followed"
    route.lost()
    assert route.here == url("a")
    assert moved(route, "b"), "another row"


def test_ready_alone_ends_no_row() -> None:
    """Two servers that send a stream to and fro would keep a client as busy as it can be."""
    clock = Clock()
    route = Route(url("a"), 1, clock)
    assert moved(route, "b")
    route.opened()
    clock.now += STEADY_S
    assert not moved(route, "a")
    route.opened()
    clock.now += STEADY_S + 0.1
    assert moved(route, "a"), "it was open for a while"
    route.settled()
    assert moved(route, "b"), "a frame was settled"
    assert not moved(route, "a"), "it was not open at all"


def test_after_a_failure_it_begins_where_it_was_told_to() -> None:
    route = Route(url("a"), 4)
    route.lost()
    assert route.here == url("a"), "there is nowhere else"
    assert moved(route, "b")
    route.lost()
    assert route.here == url("a"), "b was never open"
    route.lost()
    assert route.here == url("a")


def test_where_the_first_is_gone_it_tries_the_last_that_was_ready_once() -> None:
    route = Route(url("a"), 4)
    assert moved(route, "b")
    route.opened()
    route.lost()
    assert route.here == url("a")
    route.lost()
    assert route.here == url("b")
    route.opened()
    route.lost()
    route.lost()
    assert route.here == url("b"), "it was ready again"
    route.lost()
    assert route.here == url("a")
    route.lost()
    assert route.here == url("a"), "b did not answer"


def test_a_first_server_that_is_ready_is_the_last() -> None:
    route = Route(url("a"), 4)
    assert moved(route, "b")
    route.opened()
    route.lost()
    route.opened()  # it has come to a
    route.lost()
    assert route.here == url("a")


def test_where_nobody_may_go() -> None:
    with pytest.raises(ServerMisbehaved, match="wss to ws"):
        Route(url("a", "wss"), 4).check(url("b"))
    with pytest.raises(ServerMisbehaved, match="broke the protocol"):
        Route(url("a"), 0).check("http://b")
    with pytest.raises(Refused, match="another server") as caught:
        Route(url("a"), 0).check(url("b"))
    assert caught.value.code == "moved"


def test_tls_stays_tls_over_several_moves() -> None:
    route = Route(url("a"), 4)
    assert route.goes(MovedAway(url("b", "wss")))
    with pytest.raises(ServerMisbehaved, match="wss to ws"):
        route.check(url("a"))
