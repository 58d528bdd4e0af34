"""Downloads from a server that cuts, stalls, lies and forgets: the file is whole and right, or it is not there."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from file_server import Served, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.download import DownloadError, Limits, Remote, _cut, check_url, download, exclusive, size_of

BODY = np.random.default_rng(3).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Limits(connect_s=2, read_s=2, pause_s=0, attempts=3)
ONCE = Limits(connect_s=2, read_s=0.2, pause_s=0, attempts=1)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(BODY) as found:
        yield found


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "model.part"


def fetch(served: Served, part: Path, limits: Limits = QUICK, sha256: str = SHA256) -> list[int]:
    """Download the served file; gives the progress that was told."""
    told: list[int] = []
    download(Remote(served.url, sha256, len(BODY)), part, told.append, limits)
    assert part.read_bytes() == BODY
    return told


def refused(served: Served, part: Path, limits: Limits = QUICK, sha256: str = SHA256) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch(served, part, limits, sha256)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(part: Path) -> list[str]:
    return sorted(file.name for file in part.parent.iterdir())


def test_a_whole_file_with_its_progress(served: Served, part: Path) -> None:
    told = fetch(served, part)
    assert told == sorted(told)
    assert told[-1] == len(BODY)
    (request,) = served.requests
    assert "Range" not in request
    assert request["Accept-Encoding"] == "identity"


def test_a_file_that_is_whole_already_is_only_verified(served: Served, part: Path) -> None:
    part.write_bytes(BODY)
    fetch(served, part)
    assert not served.requests


def test_a_cut_connection_is_gone_on_from(served: Served, part: Path) -> None:
    served.cuts = [100_000, 50_000]
    fetch(served, part)
    assert [request["Range"] for request in served.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert {request["If-Range"] for request in served.requests[1:]} == {'"v1"'}
    assert served.sent_bytes == len(BODY)


def test_a_cut_that_no_length_tells_of_is_seen(served: Served, part: Path) -> None:
    served.cuts, served.length = [100_000], None
    fetch(served, part)
    assert served.requests[1]["Range"] == "bytes=100000-"


def test_a_later_call_goes_on(served: Served, part: Path) -> None:
    served.cuts = [120_000]
    told = refused(served, part, ONCE)
    assert told == f"{served.host} ended the connection early; 120000 of 300000 bytes are kept, pull again to go on"
    assert fetch(served, part)[0] > 120_000
    assert served.requests[1]["Range"] == "bytes=120000-"


def test_a_connection_that_brings_nothing_ends_it(served: Served, part: Path) -> None:
    served.cuts = [1000, 0]
    assert "1000 of 300000 bytes are kept" in refused(served, part, Limits(pause_s=0))
    assert len(served.requests) == 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, len(BODY) // 2), max_size=4), st.booleans(), st.sampled_from(['"v1"', 'W/"v1"', ""]))
def test_whatever_the_cuts_the_file_is_right(
    served: Served, part: Path, cuts: list[int], ranges: bool, tag: str
) -> None:
    part.unlink(missing_ok=True)
    served.cuts, served.ranges, served.tag = list(cuts), ranges, tag
    fetch(served, part, Limits(pause_s=0))


def test_a_file_that_changed_since_is_had_anew(served: Served, part: Path) -> None:
    served.tag, served.cuts = '"v0"', [100_000]
    refused(served, part, ONCE)
    served.tag = '"v1"'
    assert fetch(served, part)[0] < 100_000
    assert served.requests[1]["If-Range"] == '"v0"'


def test_a_weak_tag_does_not_vouch_for_bytes(served: Served, part: Path) -> None:
    served.tag, served.cuts = 'W/"v1"', [100_000]
    fetch(served, part)
    assert served.requests[1]["Range"] == "bytes=100000-"
    assert "If-Range" not in served.requests[1]


def test_a_server_that_ignores_range_begins_anew(served: Served, part: Path) -> None:
    served.ranges = False
    part.write_bytes(BODY[:90_000])
    fetch(served, part)
    assert len(served.requests) == 1


@pytest.mark.parametrize("answer", ["416", "bytes 5-299999/300000", "bytes 90000-299999/777", "nonsense"])
def test_a_server_that_cannot_go_on_is_asked_for_the_whole(served: Served, part: Path, answer: str) -> None:
    served.answer_range_with = answer
    part.write_bytes(BODY[:90_000])
    fetch(served, part)
    assert [request["Range"] for request in served.requests] == ["bytes=90000-", None]


@pytest.mark.parametrize("bytes_left", [1000, len(BODY), len(BODY) + 1])
def test_left_over_bytes_of_another_file_do_no_harm(served: Served, part: Path, bytes_left: int) -> None:
    part.write_bytes(b"x" * bytes_left)
    fetch(served, part)


def test_a_wrong_digest_is_refused_and_nothing_is_left(served: Served, part: Path) -> None:
    told = refused(served, part, sha256="0" * 64)
    assert f"expected SHA-256 {'0' * 64}, got {SHA256}" in told
    assert left(part) == []
    assert len(served.requests) == 1


def test_a_file_longer_than_stated_is_not_read_on(served: Served, part: Path) -> None:
    served.body, served.length = BODY + bytes(20_000_000), None
    assert "expected 300000 bytes, the server sends more" in refused(served, part)
    assert left(part) == []
    assert served.sent_bytes < len(served.body)


def test_another_length_is_refused_before_anything_is_read(served: Served, part: Path) -> None:
    served.body = BODY[:-1]
    assert "expected 300000 bytes, the server sends 299999" in refused(served, part)
    assert left(part) == []


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_a_refusal_says_the_url_and_the_status(served: Served, part: Path, status: int, reason: str) -> None:
    served.status = status
    assert refused(served, part) == f"{served.url}: {reason}"
    assert left(part) == []


def test_an_encoded_answer_is_refused(served: Served, part: Path) -> None:
    served.encoding = "gzip"
    assert "got Content-Encoding gzip" in refused(served, part)


def test_a_redirect_is_followed(served: Served, part: Path) -> None:
    served.redirects = [served.url, "/elsewhere"]
    fetch(served, part)
    assert len(served.requests) == 3


def test_redirects_have_an_end(served: Served, part: Path) -> None:
    served.redirects = [served.url] * 20
    assert "redirects" in refused(served, part)
    assert len(served.requests) == QUICK.redirects + 1


@pytest.mark.parametrize("elsewhere", ["http://example.invalid/model", "ftp://example.invalid/model"])
def test_a_redirect_off_https_is_not_followed(served: Served, part: Path, elsewhere: str) -> None:
    served.redirects = [elsewhere]
    assert refused(served, part) == f"{served.url} redirects to {elsewhere}: expected https"


def test_a_server_that_goes_quiet_is_given_up(served: Served, part: Path) -> None:
    served.stall_s = 0.6
    told = refused(served, part, ONCE)
    assert told == f"{served.host} sent nothing for 0.2 s; 150000 of 300000 bytes are kept, pull again to go on"


def test_no_one_there(part: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        url = f"http://{host}/model"
        with pytest.raises(DownloadError, match=rf"^cannot reach {host}: .*refused"):
            download(Remote(url, SHA256, len(BODY)), part, limits=QUICK)
    assert left(part) == []


def test_a_port_is_said_where_it_is_not_the_schemes_own() -> None:
    def said(url: str) -> str:
        return _cut(Remote(url, SHA256, 1), Path("none"), httpx.ConnectError("no route"), QUICK)

    assert said("https://example.com:443/m") == "cannot reach example.com: no route"
    assert said("https://example.com:8443/m") == "cannot reach example.com:8443: no route"
    assert said("http://[::1]:9/m") == "cannot reach [::1]:9: no route"


@pytest.mark.parametrize(
    ("variable", "proxy"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("all_proxy", "socks://127.0.0.1:9"),
        ("HTTPS_PROXY", "http://127.0.0.1:port"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_said(
    part: Path, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(DownloadError, match=rf"^the proxy that {variable.upper()} names cannot be used: expected one"):
        download(Remote("https://example.com/m", SHA256, len(BODY)), part, limits=QUICK)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_no_proxy_is_asked_for_this_machine(
    served: Served, part: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, proxy)
    fetch(served, part)


def test_where_a_file_stands_in_for_a_folder_there_is_nothing(part: Path) -> None:
    part.write_bytes(BODY)
    assert (size_of(part), size_of(part / "x"), size_of(part.with_name("none"))) == (len(BODY), 0, 0)


def test_too_little_space_is_said_before_anything_is_asked(
    served: Served, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    told = refused(served, part)
    assert told == f"{part.parent}: disk full: the file has 300000 bytes, 1000 are free"
    assert not served.requests


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_leaves_nothing(served: Served, part: Path) -> None:
    part.symlink_to("/dev/full")
    assert "disk full" in refused(served, part)
    assert left(part) == []


@pytest.mark.parametrize("url", ["https://example.com/m.onnx", "http://127.0.0.1:9/m", "http://localhost/m"])
def test_https_and_loopback_are_let_through(url: str) -> None:
    assert check_url(url) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("url", ["http://example.com/m", "ftp://example.com/m", "file:///etc/passwd", "m.onnx", ""])
def test_other_urls_are_refused(url: str, part: Path) -> None:
    with pytest.raises(DownloadError, match="expected an https URL, got"):
        download(Remote(url, SHA256, 1), part)


def test_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with exclusive(tmp_path / "lock", waiting.set):
            order.append("second")

    with exclusive(tmp_path / "lock", lambda: order.append("never")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
