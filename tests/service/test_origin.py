"""Origins: programs pass, the own page passes, others only by the settings."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from service.origin import origin_allowed


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "expected"),
    [
        (None, "cam:8000", "ws", True),
        ("http://cam:8000", "cam:8000", "ws", True),
        ("http://CAM:8000", "cam:8000", "ws", True),
        ("https://cam", "cam", "wss", True),
        ("https://cam:443", "cam", "wss", True),
        ("http://cam", "cam:80", "http", True),
        ("http://[::1]:8000", "[::1]:8000", "ws", True),
        ("http://cam:8001", "cam:8000", "ws", False),
        ("http://cam", "cam:8000", "ws", False),
        ("https://cam:8000", "cam:8000", "ws", False),
        ("http://evil.example", "cam:8000", "ws", False),
        ("http://cam.evil.example:8000", "cam:8000", "ws", False),
        ("null", "cam:8000", "ws", False),
        ("", "", "ws", False),
        ("file://", "cam:8000", "ws", False),
        ("http://cam:99999", "cam:99999", "ws", False),
        ("https://app.example", "cam:8000", "ws", True),
    ],
)
def test_origins(origin: str | None, host: str, scheme: str, expected: bool) -> None:
    headers = {"host": host} | ({"origin": origin} if origin is not None else {})
    assert origin_allowed(Headers(headers), scheme, ("https://app.example",)) is expected


def test_two_origins_are_one_too_many() -> None:
    raw = [(b"host", b"cam"), (b"origin", b"http://cam"), (b"origin", b"http://cam")]
    assert not origin_allowed(Headers(raw=raw), "ws", ())


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1:80", True), ("localhost", True), ("evil.example", False)])
def test_a_server_on_loopback_has_loopback_names_only(host: str, expected: bool) -> None:
    headers = Headers({"host": host, "origin": f"http://{host}"})
    assert origin_allowed(headers, "ws", (), loopback=True) is expected
    assert origin_allowed(headers, "ws", ())
