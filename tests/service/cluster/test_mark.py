"""What members write on requests that they pass on."""

from __future__ import annotations

import pytest

from service.cluster.mark import GOOD_S, Passed, read, write

SECRET, OTHER = b"s" * 32, b"t" * 32
ASKED = Passed("GET", "/v1/streams/door", "2001:db8::/64")


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::/64", "", "a b"])
def test_a_member_believes_another_one(peer: str) -> None:
    mark = write(SECRET, ASKED._replace(peer=peer), 1000.4)
    assert read(SECRET, "GET", ASKED.path, mark, 1000.0 + GOOD_S) == peer


def test_a_mark_is_good_for_one_request_and_not_for_long() -> None:
    mark = write(SECRET, ASKED, 1000.0)
    assert read(SECRET, "DELETE", ASKED.path, mark, 1000.0) is None
    assert read(SECRET, "GET", "/v1/streams/yard", mark, 1000.0) is None
    assert read(OTHER, "GET", ASKED.path, mark, 1000.0) is None
    for now in (1001.0 + GOOD_S, 999.0 - GOOD_S):
        assert read(SECRET, "GET", ASKED.path, mark, now) is None
    assert read(SECRET, "GET", ASKED.path, mark.replace("2001", "2002"), 1000.0) is None
    assert read(SECRET, "GET", ASKED.path, mark.replace("1000", "1001", 1), 1000.0) is None


@pytest.mark.parametrize("mark", ["", "1", "1000 ", "²  x", "-1 a b", "1000 é b", "9" * 300])
def test_what_is_no_mark(mark: str) -> None:
    assert read(SECRET, "GET", ASKED.path, mark, 1000.0) is None


def test_before_there_is_a_secret_nothing_is_believed() -> None:
    assert read(b"", "GET", ASKED.path, write(b"", ASKED, 1000.0), 1000.0) is None
