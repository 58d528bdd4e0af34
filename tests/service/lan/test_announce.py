"""What the terminal shows can be scanned."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.lan.announce import invitation, join_url, page_url, qr_text

URL = "https://192.168.1.5:8000/#join=GqlnNF_bhKBlsSXshzatkA"


def scan(lines: list[str]) -> str:
    """What a camera in front of a dark terminal reads."""
    halves = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    rows = [[halves[char][half] for char in line] for line in lines for half in (0, 1)]
    picture = np.kron(np.asarray(rows, np.uint8) * 255, np.ones((8, 8), np.uint8))
    text, _, _ = cv2.QRCodeDetector().detectAndDecode(picture)
    return text


@pytest.mark.parametrize("url", [URL, "https://[2001:db8:1234:5678:9abc:def0:1234:5678]:65535/#join=" + "x" * 22])
def test_a_camera_reads_the_url(url: str) -> None:
    assert scan(qr_text(url, coloured=False).splitlines()) == url


def test_colours_are_for_terminals() -> None:
    plain, coloured = (qr_text(URL, coloured=coloured).splitlines() for coloured in (False, True))
    assert "\x1b" not in "".join(plain)
    assert [line.removeprefix("\x1b[97;40m").removesuffix("\x1b[0m") for line in coloured] == plain
    assert max(map(len, plain)) <= 79


@pytest.mark.parametrize(
    ("address", "expected"),
    [("192.168.1.5", "https://192.168.1.5:8000/"), ("fd00::5", "https://[fd00::5]:8000/"), ("cam.example", None)],
)
def test_the_page_at_an_address(address: str, expected: str | None) -> None:
    assert page_url(address, 8000) == expected or expected is None
    assert page_url("cam.example", 443) == "https://cam.example:443/"


def test_a_code_stands_in_the_fragment_alone() -> None:
    assert join_url("https://a:1/", "x/y#z") == "https://a:1/#join=x%2Fy%23z"


def test_an_invitation_says_all_that_is_needed() -> None:
    pages = ["https://192.168.1.5:8000/", "https://10.0.0.5:8000/"]
    text = invitation(pages, "GqlnNF_bhKBlsSXshzatkA", 600, "AB:CD", coloured=False)
    code, _, words = text.partition("Scan it")
    assert scan(code.splitlines()) == URL
    for part in (URL, "or at https://10.0.0.5:8000/\n", "within 10 minutes and once", "AB:CD"):
        assert part in words
    assert "within 90 s" in invitation(pages, "x", 90, "AB", coloured=False)
