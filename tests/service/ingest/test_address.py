"""Addresses: what is one, and that no password gets out of it."""

from __future__ import annotations

import pytest

from service.ingest.address import MAX_CHARACTERS, AddressError, is_address, parse, redact


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rtsp://cam/stream1", "rtsp://cam/stream1"),
        ("RTSP://admin:geheim@cam:8554/h264?u=admin&p=geheim#x", "rtsp://cam:8554/h264"),
        ("rtsps://a:ge@heim@[fe80::1]:322/live", "rtsps://[fe80::1]:322/live"),
        ("http://cam/mjpg?pwd=geheim", "http://cam/mjpg"),
        ("rtsp://cam/user=admin_password=geheim_channel=1", "rtsp://cam/..."),
        ("file:///clips/door.mp4", "file:///clips/door.mp4"),
    ],
)
def test_a_name_has_no_password(text: str, name: str) -> None:
    address = parse(text)
    assert address.name == name
    assert "heim" not in f"{address.name} {address}"
    assert address.live == (not text.startswith("file"))


def test_the_whole_address_is_kept_for_the_decoder() -> None:
    assert parse("RTSP://admin:geheim@cam/x?y=1").url == "rtsp://admin:geheim@cam/x?y=1"
    assert parse("file:///clips/door.mp4").url == "/clips/door.mp4"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "such as rtsp://"),
        ("door.mp4", "such as rtsp://"),
        ("ftp://geheim@cam/x", "such as rtsp://"),
        ("concat:/etc/passwd", "such as rtsp://"),
        ("rtsp://", "such as rtsp://"),
        ("rtsp://admin:geheim@/x", "a host"),
        ("rtsp://admin:geheim@cam:99999/x", "a port that exist"),
        ("rtsp://admin:geheim@cam:port/x", "a port that exist"),
        ("rtsp://admin:geheim@[cam/x", "a host"),
        ("rtsp://cam/geheim x", "without spaces"),
        ("rtsp://cam/geheim\n", "printed characters"),
        ("rtsp://geheim" + "x" * MAX_CHARACTERS, f"at most {MAX_CHARACTERS}"),
        ("file://clips/door.mp4", "its whole path"),
    ],
)
def test_what_is_no_address(text: str, says: str) -> None:
    with pytest.raises(AddressError, match=says) as raised:
        parse(text)
    assert "geheim" not in str(raised.value)


def test_which_texts_are_meant_as_addresses() -> None:
    assert all(map(is_address, ("rtsp://x", "RTSPS://x", "http://x", "https://")))
    assert not any(map(is_address, ("0", "scene", "clip.mp4", "rtsp/x.mp4", "file:///x", "")))


def test_texts_are_rid_of_passwords() -> None:
    text = "cannot open 'rtsp://a:b@c@cam/x?pw=1' or http://cam/?u=2, really"
    assert redact(text) == "cannot open 'rtsp://***@cam/x' or http://cam/ really"
    assert redact("nothing to hide: a@b?c") == "nothing to hide: a@b?c"
