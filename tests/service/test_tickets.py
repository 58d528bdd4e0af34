"""Tickets: whom they admit, for how long, and what a guess is worth."""

from __future__ import annotations

import pytest

from service.streams import Stream
from service.tickets import MAX_CHARACTERS, Tickets


def test_a_ticket_is_for_one_stream_and_a_time() -> None:
    now = [1000.0]
    tickets = Tickets(wall=lambda: now[0])
    door, yard = Stream("door", None, None), Stream("yard", None, None)
    ticket = tickets.issue(door, 60)
    assert len(ticket) <= MAX_CHARACTERS
    assert tickets.admits(door, ticket)
    assert not tickets.admits(yard, ticket)
    now[0] = 1059.0
    assert tickets.admits(door, ticket)
    now[0] = 1060.0
    assert not tickets.admits(door, ticket)


def test_a_ticket_ends_with_its_stream_and_its_process() -> None:
    tickets = Tickets()
    door = Stream("door", None, None, created_at=1.0)
    ticket = tickets.issue(door, 60)
    assert not tickets.admits(Stream("door", None, None, created_at=2.0), ticket), "another stream of the same id"
    assert not Tickets().admits(door, ticket)


@pytest.mark.parametrize(
    "forged", ["", ".", "9999999999", "9999999999.", "x.y", "٩.a", "9" * 5000, "-1.a", "1e9.\udcff"]
)
def test_what_is_no_ticket_admits_nobody(forged: str) -> None:
    assert not Tickets().admits(Stream("door", None, None), forged)


def test_a_ticket_cannot_be_made_to_last() -> None:
    tickets = Tickets(wall=lambda: 1000.0)
    door = Stream("door", None, None)
    ends, _, mac = tickets.issue(door, 60).partition(".")
    assert not tickets.admits(door, f"{int(ends) + 600}.{mac}")
    assert not tickets.admits(door, f"{ends}.{mac[:-1]}")
