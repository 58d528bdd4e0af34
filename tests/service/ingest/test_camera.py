"""A camera: its latest picture, and that it comes back whatever happens to it or to its process."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cameras import PATIENCE_S, History, clip, rtsp_server, until

from service.ingest import camera as module
from service.ingest.address import parse
from service.ingest.camera import FIRST_WAIT_S, LONGEST_WAIT_S, Camera, CameraOptions, CameraState, wait_s

CONNECTING, LIVE, STALLED, WAITING = (
    CameraState.CONNECTING, CameraState.LIVE, CameraState.STALLED, CameraState.WAITING
)  # fmt: skip


@contextmanager
def watched(url: str, **options) -> Iterator[tuple[Camera, History]]:
    history = History()
    camera = Camera(parse(url), CameraOptions(**options), on_status=history)
    camera.start()
    try:
        yield camera, history
    finally:
        assert camera.stop(PATIENCE_S)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.2)


def test_a_camera_is_lost_and_found(short_waits: None) -> None:
    """A real RTSP server, halted, killed and started again; and the camera's own process, killed."""
    with rtsp_server() as server, watched(server.url(), stall_s=1.0) as (camera, history):
        picture = camera.take(PATIENCE_S)
        assert picture is not None
        assert picture.image.shape == (120, 160, 3)
        assert picture.image.max() > 200, "a white ball on black"
        assert abs(time.time() - picture.captured_us / 1e6) < PATIENCE_S
        later = camera.take(PATIENCE_S)
        assert later is not None
        assert later.sequence > picture.sequence
        assert later.timestamp_ns > picture.timestamp_ns

        server.process.send_signal(signal.SIGSTOP)
        until(lambda: STALLED in history.states())
        stalled = next(status for status in history.told if status.state is STALLED)
        assert stalled.reason == "no picture came for 1 s"
        until(lambda: history.has(LIVE, STALLED, WAITING, CONNECTING))
        server.process.send_signal(signal.SIGCONT)
        until(lambda: history.has(STALLED, LIVE))

        history.told.clear()
        server.process.kill()
        server.process.wait()
        until(lambda: any(s.reason == "connection refused" for s in history.told))
        with rtsp_server(server.port):
            until(lambda: history.has(WAITING, CONNECTING, LIVE))
            camera.take(0)
            assert camera.take(PATIENCE_S) is not None

            history.told.clear()
            os.kill(camera.status.pid, signal.SIGKILL)
            until(lambda: history.has(WAITING, LIVE))
            lost = next(status for status in history.told if status.state is WAITING)
            assert lost.reason == "its decoder was ended by SIGKILL"
            assert camera.status.reconnects >= 3
    assert camera.status.state is CameraState.STOPPED


def test_a_wrong_password_is_said_and_never_shown(short_waits: None) -> None:
    with rtsp_server() as server, watched(server.url("viewer:geheim@")) as (_, history):
        until(lambda: WAITING in history.states())
    reasons = {status.reason for status in history.told if status.state is WAITING}
    assert reasons == {"it refuses the user or the password (401)"}
    assert "geheim" not in str(history.told)


@contextmanager
def tcp_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which every connection gets an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE_S)


def garbage(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(random.Random(0).randbytes(1 << 16))


def garbage_over_http(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n"
    connection.sendall(head + b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + random.Random(0).randbytes(1 << 16))


def elsewhere(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n")


@pytest.mark.parametrize(
    ("scheme", "answer"), [("rtsp", garbage), ("http", garbage), ("http", garbage_over_http), ("http", elsewhere)]
)
def test_a_hostile_camera_ends_in_a_reason(scheme: str, answer: Callable[[socket.socket], None]) -> None:
    with tcp_server(answer) as port, watched(f"{scheme}://a:geheim@127.0.0.1:{port}/x") as (camera, history):
        until(lambda: WAITING in history.states())
        assert camera.take(0) is None
    reason = next(status.reason for status in history.told if status.state is WAITING)
    assert reason
    assert "geheim" not in reason
    assert "127.0.0.1" not in reason


def test_a_camera_that_says_nothing_is_not_waited_for_for_ever() -> None:
    over = threading.Event()
    with tcp_server(lambda connection: over.wait(PATIENCE_S) and None) as port:
        with watched(f"rtsp://127.0.0.1:{port}/x", open_s=0.5) as (_, history):
            until(lambda: WAITING in history.states())
            assert history.told[-1].reason == "no picture came within 0.5 s"
        over.set()


def test_a_file_that_ends_is_read_again(tmp_path: Path, short_waits: None) -> None:
    with watched(clip(tmp_path / "a.mp4", [40, 200])) as (camera, history):
        until(lambda: history.has(LIVE, WAITING, CONNECTING, LIVE))
        assert camera.status.decoded >= 3
    assert next(status.reason for status in history.told if status.state is WAITING) == "it ended the stream"


def test_its_process_has_nothing_that_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_TOKEN", "geheim")
    url = clip(tmp_path / "geheim.mp4", [9] * 500, fps=1)
    with socket.create_server(("127.0.0.1", 0)) as listener, watched(url) as (camera, _):
        listener.set_inheritable(True)
        assert camera.take(PATIENCE_S) is not None
        root = Path(f"/proc/{camera.status.pid}")
        if not root.exists():
            pytest.skip("no /proc here")
        assert b"geheim" not in (root / "cmdline").read_bytes(), "the address is not where others can read it"
        assert b"geheim" not in (root / "environ").read_bytes()
        opened = [os.readlink(link) for link in (root / "fd").iterdir()]
        assert not [name for name in opened if name.startswith("socket:")]
        assert os.getpgid(camera.status.pid) != os.getpgid(0), "Ctrl-C is for the program, which ends it"


def test_nothing_is_left_when_it_is_stopped(tmp_path: Path) -> None:
    before = set(os.listdir("/dev/fd"))
    with watched(clip(tmp_path / "a.mp4", [9] * 500, fps=1)) as (camera, _):
        assert camera.take(PATIENCE_S) is not None
        pid = camera.status.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert set(os.listdir("/dev/fd")) == before
    assert camera.take() is None
    assert camera.stop()


def test_a_decoder_that_sends_nonsense_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    monkeypatch.setattr(module.sys, "executable", str(script))
    for said, reason in (
        ("garbage", "nonsense: expected a line of JSON"),
        (
            '{"decoded":1,"unchanged":0,"slot":9,"width":1,"height":1,"stamp_ns":0,"failed":""}',
            "nonsense: expected a pict",
        ),
        ("x" * 100_000, "nonsense: expected shorter lines"),
    ):
        script.write_text(f"#!/bin/sh\nprintf '%s' '{said}'\n[ {len(said)} -gt 9999 ] || echo\nsleep 60\n")
        script.chmod(0o755)
        with watched("file:///none") as (_, history):
            until(lambda: WAITING in history.states())
            assert reason in history.told[-1].reason


def test_a_decoder_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", "/none/python")
    with watched("file:///none") as (_, history):
        until(lambda: WAITING in history.states())
        assert history.told[-1].reason == "its decoder cannot be started: No such file or directory"


def test_whatever_fails_in_its_thread_it_goes_on(
    tmp_path: Path, short_waits: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make, failures = module.Slots.make, [MemoryError(), MemoryError()]

    def fail_first(max_pixels: int) -> module.Slots:
        if failures:
            raise failures.pop()
        return make(max_pixels)

    monkeypatch.setattr(module.Slots, "make", fail_first)
    with watched(clip(tmp_path / "film.mp4", [50] * 20, fps=10)) as (camera, history):
        assert camera.take(PATIENCE_S) is not None
        reasons = {status.reason for status in history.told if status.state is WAITING}
        assert "its reader failed: MemoryError" in reasons
    assert caplog.text.count("a camera's reader failed") == 1, "said once"


def test_whoever_is_told_its_status_may_fail(tmp_path: Path) -> None:
    def broken(status: module.Status) -> None:
        raise ValueError("broken")

    url = clip(tmp_path / "film.mp4", [50] * 20, fps=10)
    camera = Camera(parse(url), CameraOptions(), on_status=broken)
    camera.start()
    assert camera.take(PATIENCE_S) is not None
    assert camera.stop(PATIENCE_S)


def test_waits_double_are_bounded_and_differ() -> None:
    rng = random.Random(1)
    for failures, full in ((1, FIRST_WAIT_S), (2, 2 * FIRST_WAIT_S), (3, 4 * FIRST_WAIT_S), (10**6, LONGEST_WAIT_S)):
        waits = [wait_s(failures, rng) for _ in range(50)]
        assert full / 2 <= min(waits) < max(waits) <= full
        assert len(set(waits)) > 40


def test_nothing_is_decoded_in_the_servers_process() -> None:
    look = "import sys, service.ingest.camera; print('av' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
