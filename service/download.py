"""Fetches one file over HTTP into a partial file, goes on where it was cut, and proves it by size and SHA-256.

Knows URLs and files only: no catalogue and no model.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO

import httpx

from service.settings import is_loopback

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_LOCK_POLL_S = 0.05
_PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


class DownloadError(Exception):
    """A file could not be had; the message names the URL or host, what was expected and what came."""


class _WrongSize(DownloadError):
    """What the server has is not the file."""

    def __init__(self, remote: Remote, came: str) -> None:
        super().__init__(f"{remote.url}: expected {remote.size_bytes} bytes, the server sends {came}")


@dataclass(frozen=True)
class Remote:
    """A file of which the bytes are known beforehand. sha256: 64 lower-case hex digits."""

    url: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Limits:
    """How long to wait and how often to go on. attempts: connections that each brought some bytes."""

    connect_s: float = 10.0
    read_s: float = 30.0
    pause_s: float = 0.5
    attempts: int = 8
    redirects: int = 5


def download(
    remote: Remote, part: Path, on_progress: Callable[[int], None] = lambda done: None, limits: Limits | None = None
) -> None:
    """Make `part` the whole, verified file, going on from the bytes that it already has.

    on_progress is called with the bytes had so far, which fall when a server makes us begin anew. After a cut
    connection `part` is kept for the next call; after a wrong digest or size, or on a full disk, it is removed.
    Raises DownloadError, or OSError when `part` cannot be written.
    """
    limits = limits or Limits()
    check_url(remote.url)
    left_over = size_of(part) > 0
    try:
        with _client(remote, limits) as client:
            _complete(client, remote, part, on_progress, limits)
            if left_over and file_sha256(part) != remote.sha256:  # perhaps bytes of another file: begin anew, once
                discard(part)
                _complete(client, remote, part, on_progress, limits)
    except _WrongSize:
        discard(part)
        raise
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        discard(part)
        raise _disk_full(remote, part) from error
    got = file_sha256(part)
    if got != remote.sha256:
        discard(part)
        raise DownloadError(f"{remote.url}: expected SHA-256 {remote.sha256}, got {got}; what came was removed")


def check_url(url: str) -> None:
    """Raise DownloadError unless the URL is https, or http on this machine."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise DownloadError(f"expected a URL, got {url!r}: {error}") from error
    if not parsed.host or not (parsed.scheme == "https" or (parsed.scheme == "http" and is_loopback(parsed.host))):
        raise DownloadError(f"expected an https URL, got {url!r}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def discard(part: Path) -> None:
    """Remove a partial file and what is remembered of it."""
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`, across threads and processes; the system frees it when a process dies.

    on_wait is called once if another holds it. The empty file stays: removing it would race with the next.
    """
    with path.open("a+b") as file:
        if not _try_lock(file):
            on_wait()
            while not _try_lock(file):
                time.sleep(_LOCK_POLL_S)
        yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _client(remote: Remote, limits: Limits) -> httpx.Client:
    """A client that never leaves https, and asks no proxy for what is on this machine."""
    local = is_loopback(httpx.URL(remote.url).host)

    def stay_safe(request: httpx.Request) -> None:
        """Every hop of a redirect comes by here."""
        if request.url.scheme != "https" and not (local and is_loopback(request.url.host)):
            raise DownloadError(f"{remote.url} redirects to {request.url}: expected https")

    try:
        return httpx.Client(
            headers={"User-Agent": "afterimage", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(limits.read_s, connect=limits.connect_s),
            follow_redirects=True,
            max_redirects=limits.redirects,
            event_hooks={"request": [stay_safe]},
            trust_env=not local,
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # a kind of proxy that it has no transport for
        named = [name for name in _PROXY_VARIABLES if os.environ.get(name) or os.environ.get(name.lower())]
        raise DownloadError(
            f"the proxy that {', '.join(named) or 'the system'} names cannot be used: expected one such as "
            f"http://HOST:PORT; change or unset it"
        ) from error


def _complete(
    client: httpx.Client, remote: Remote, part: Path, on_progress: Callable[[int], None], limits: Limits
) -> None:
    """Connect until `part` has all bytes, as long as every connection brings some."""
    if size_of(part) > remote.size_bytes:
        discard(part)
    for attempt in range(limits.attempts):
        had = size_of(part)
        if had == remote.size_bytes:
            return
        if shutil.disk_usage(part.parent).free < remote.size_bytes - had:
            raise _disk_full(remote, part)
        received, failure = _receive(client, remote, part, on_progress)
        if size_of(part) == remote.size_bytes:
            return
        began_anew = size_of(part) < had
        if (not received and not began_anew) or attempt + 1 == limits.attempts:
            raise DownloadError(_cut(remote, part, failure, limits)) from failure
        time.sleep(limits.pause_s)


def _receive(
    client: httpx.Client, remote: Remote, part: Path, on_progress: Callable[[int], None]
) -> tuple[int, httpx.TransportError | None]:
    """One connection: bytes received, and what cut it. A server that cannot go on from here empties `part`."""
    received = 0
    try:
        with client.stream("GET", remote.url, headers=_range(part)) as response:
            start = _start(response, remote, size_of(part))
            if start is None:
                discard(part)
                return 0, None
            if start == 0:
                _remember_tag(part, response)
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                for chunk in response.iter_raw():
                    if start + received + len(chunk) > remote.size_bytes:
                        raise _WrongSize(remote, "more")
                    file.write(chunk)
                    received += len(chunk)
                    on_progress(start + received)
    except httpx.TransportError as error:
        return received, error
    except httpx.HTTPError as error:
        raise DownloadError(f"{remote.url}: {error}") from error
    return received, None


def _range(part: Path) -> dict[str, str]:
    """Headers that ask for the rest, if the file is still the same."""
    had = size_of(part)
    if not had:
        return {}
    try:
        tag = {"If-Range": _tag_file(part).read_text(encoding="ascii")}
    except (OSError, UnicodeDecodeError):
        tag = {}
    return {"Range": f"bytes={had}-"} | tag


def _start(response: httpx.Response, remote: Remote, had: int) -> int | None:
    """Offset of the body's first byte in the file; None: the server cannot go on from `had`."""
    if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and had:
        return None
    if response.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise DownloadError(f"{remote.url}: {response.status_code} {response.reason_phrase}".rstrip())
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise DownloadError(f"{remote.url}: expected the bytes as they are, got Content-Encoding {encoding}")
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        fits = found and int(found[1]) == had and found[2] in ("*", str(remote.size_bytes))
        if not fits and not had:
            raise DownloadError(f"{remote.url}: expected the whole file, got a part of it")
        return had if fits else None
    offered = response.headers.get("Content-Length", "")
    if offered.isdigit() and int(offered) != remote.size_bytes:
        raise _WrongSize(remote, offered)
    return 0


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _remember_tag(part: Path, response: httpx.Response) -> None:
    """Keep the file's strong ETag; a weak one cannot stand in If-Range (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag", "")
    if tag.startswith('"') and tag.isascii():
        _tag_file(part).write_text(tag, encoding="ascii")
    else:
        _tag_file(part).unlink(missing_ok=True)


def _cut(remote: Remote, part: Path, failure: httpx.TransportError | None, limits: Limits) -> str:
    host = httpx.URL(remote.url).netloc.decode("ascii")  # with the port, unless it is the scheme's own
    had = size_of(part)
    kept = f"; {had} of {remote.size_bytes} bytes are kept, pull again to go on" if had else ""
    if isinstance(failure, httpx.ConnectTimeout):
        return f"{host} did not answer within {limits.connect_s:g} s{kept}"
    if isinstance(failure, httpx.ConnectError | httpx.ProxyError):
        return f"cannot reach {host}: {failure}{kept}"
    if isinstance(failure, httpx.TimeoutException):
        return f"{host} sent nothing for {limits.read_s:g} s{kept}"
    return f"{host} ended the connection early{kept}"


def _disk_full(remote: Remote, part: Path) -> DownloadError:
    free = shutil.disk_usage(part.parent).free
    return DownloadError(f"{part.parent}: disk full: the file has {remote.size_bytes} bytes, {free} are free")
