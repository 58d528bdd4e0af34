"""Snapshots, MJPEG and tickets over a real server: who may look, what comes, and when it ends."""

from __future__ import annotations

import base64
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
from browser import CHROMIUM, launched, until
from service_fakes import FakeEngine, RunningServer, image, make_registry, make_settings, running_server, wait_until

from clients.python import FrameResult, StreamClient, StreamOptions
from clients.wire import Policy
from service.http_guard import MAX_URL_BYTES
from service.keys import Scope, add_key, remove_key

PLAIN = {"boxes": "false"}


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with serving() as running:
        yield running


@contextmanager
def serving(**settings: object) -> Iterator[RunningServer]:
    with running_server(make_registry(FakeEngine().model()), make_settings(**settings)) as running:
        yield running


@contextmanager
def sender(server: RunningServer, stream_id: str | None = "door", token: str | None = None) -> Iterator[StreamClient]:
    options = StreamOptions(policy=Policy.ALL, token=token)
    with StreamClient(server.url, stream_id, options) as client:
        yield client


def send(client: StreamClient, level: int = 100, size: tuple[int, int] = (128, 96)) -> int:
    """Send a frame of one grey level and wait for its result."""
    client.send(image(level, size))
    event = client.receive(20)
    assert isinstance(event, FrameResult)
    return event.seq


def get(
    server: RunningServer, what: str = "snapshot.jpg", stream_id: str = "door", **options: object
) -> httpx.Response:
    return httpx.get(f"{server.url}/v1/streams/{stream_id}/{what}", trust_env=False, timeout=30, **options)  # type: ignore[arg-type]


def pixels(data: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def grey(data: bytes) -> int:
    return round(float(pixels(data)[5:, 80:].mean()))


class Watching:
    """An MJPEG that is read in a thread. pictures : what came so far; over : set at its end."""

    def __init__(self, server: RunningServer, stream_id: str = "door", **options: Any) -> None:
        self.pictures: list[bytes] = []
        self.head: httpx.Response | None = None
        self.over = threading.Event()
        self._address = f"{server.url}/v1/streams/{stream_id}/mjpeg"
        self._options = options
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        wait_until(lambda: self.head is not None)

    def _read(self) -> None:
        with httpx.stream("GET", self._address, trust_env=False, timeout=30, **self._options) as response:
            self.head = response
            data = b""
            for chunk in response.iter_raw():
                data += chunk
                *parts, data = data.split(b"\r\n--afterimage\r\n")
                for picture in [part.split(b"\r\n\r\n", 1)[1] for part in parts]:
                    if self.pictures[-1:] != [picture]:  # one that nothing follows comes twice
                        self.pictures.append(picture)
        self.over.set()


def test_a_snapshot_is_the_last_frame(server: RunningServer) -> None:
    with sender(server) as client:
        for level in (50, 200):
            seq = send(client, level)
        answer = get(server)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-afterimage-seq"] == str(seq)
        assert answer.headers["last-modified"].endswith(" GMT")
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert pixels(answer.content).shape == (96, 128, 3)
        assert grey(get(server, params=PLAIN).content) == pytest.approx(200, abs=2)
        assert not np.array_equal(pixels(answer.content), pixels(get(server, params=PLAIN).content))
        assert pixels(get(server, params={"width": 64}).content).shape == (48, 64, 3)
        assert pixels(get(server, params={"width": 4000}).content).shape == (96, 128, 3)
    wait_until(lambda: not server.service.connections)


def test_a_snapshot_with_what_was_recomputed(server: RunningServer) -> None:
    with sender(server) as client:
        send(client, 100, (640, 480))
        tinted = pixels(get(server, params={"overlay": "changes"}).content)
        plain = pixels(get(server).content)
        assert tinted[100:300, 450:600, 2].mean() > plain[100:300, 450:600, 2].mean() + 3
        assert get(server, params={"overlay": "else"}).status_code == 422


def test_what_is_not_there_is_said(server: RunningServer) -> None:
    unknown = get(server, stream_id="nobody")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_stream")
    with sender(server) as client:
        client.connect()
        wait_until(lambda: server.service.streams.get("door") is not None)
        empty = get(server)
        assert (empty.status_code, empty.json()["code"]) == (404, "no_frame")
        assert "no frame of it has been computed yet" in empty.json()["detail"]
    assert get(server, "mjpeg", stream_id="nobody").status_code == 404


def test_a_frame_that_is_not_kept_is_waited_for() -> None:
    with serving(view_keep_bytes=1 << 20) as server, sender(server) as client:
        send(client, 10, (640, 640))  # 1.2 MB
        late: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: late.append(get(server)))
        thread.start()
        wait_until(lambda: server.service.viewing.viewers == 1)
        send(client, 200)
        thread.join(20)
        assert (late[0].status_code, grey(late[0].content)) == (200, pytest.approx(200, abs=3))
        send(client, 10, (640, 640))
        gone = get(server)
        assert (gone.status_code, gone.json()["code"]) == (404, "no_frame")
        assert "view_bytes" not in gone.json()["detail"]
        assert "view_keep_bytes" in gone.json()["detail"]


def test_mjpeg_gives_each_frame_as_it_comes_and_ends_with_the_stream(server: RunningServer) -> None:
    with sender(server) as client:
        send(client, 50)
        watching = Watching(server, params=PLAIN)
        assert watching.head is not None
        assert watching.head.headers["content-type"] == "multipart/x-mixed-replace; boundary=afterimage"
        wait_until(lambda: len(watching.pictures) == 1)
        send(client, 200)
        wait_until(lambda: len(watching.pictures) == 2)
        assert [grey(picture) for picture in watching.pictures] == [pytest.approx(50, abs=2), pytest.approx(200, abs=2)]
        assert httpx.delete(f"{server.url}/v1/streams/door", trust_env=False).status_code == 204
        assert watching.over.wait(10)
    wait_until(lambda: server.service.viewing.viewers == 0)


def test_mjpeg_ends_when_the_server_stops() -> None:
    with serving() as server, sender(server) as client:
        send(client)
        watching = Watching(server)
        wait_until(lambda: watching.pictures)
        server.stop()
        assert watching.over.wait(10)


def test_mjpeg_ends_when_no_frame_comes() -> None:
    with serving(view_idle_s=0.2) as server, sender(server) as client:
        send(client)
        watching = Watching(server)
        assert watching.over.wait(10)
        assert len(watching.pictures) == 1


def test_pyav_plays_it(server: RunningServer) -> None:
    """As ffmpeg does, which Home Assistant's generic camera uses."""
    done = threading.Event()

    def feed() -> None:
        with sender(server) as client:
            level = 0
            while not done.is_set():
                level = (level + 20) % 240
                send(client, level)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        wait_until(lambda: server.service.streams.get("door") is not None)
        with av.open(f"{server.url}/v1/streams/door/mjpeg", format="mpjpeg", timeout=20) as container:
            frames = [frame for frame, _ in zip(container.decode(video=0), range(4), strict=False)]
        assert [(frame.width, frame.height) for frame in frames] == [(128, 96)] * 4
    finally:
        done.set()
        thread.join(20)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_chromium_shows_it_at_once(server: RunningServer) -> None:
    """Each frame when it is there, not when the next one comes."""
    shown = "([level]) => Math.abs(document.looking() - level) < 4"
    with sender(server) as client, launched() as playwright:
        send(client, 50)
        page = playwright.browser.new_page()
        page.goto(server.url + "/")
        page.evaluate(LOOK)
        until(page, shown, [50])
        send(client, 200)
        until(page, shown, [200])


LOOK = """() => {
  const picture = new Image();
  picture.src = "/v1/streams/door/mjpeg?boxes=false";
  document.body.append(picture);
  const canvas = new OffscreenCanvas(1, 1), context = canvas.getContext("2d");
  document.looking = () => {
    if (!picture.naturalWidth) return -1;
    context.drawImage(picture, -9, -9);
    return context.getImageData(0, 0, 1, 1).data[0];
  };
}"""


def test_a_viewer_that_takes_nothing_is_cut_off_and_holds_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with serving(send_timeout_s=0.3) as server, sender(server) as client:
        busy = np.random.default_rng(1).integers(0, 256, (1600, 1600, 3), np.uint8)
        noise = cv2.imencode(".jpg", busy, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        send(client)
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"GET /v1/streams/door/mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_until(lambda: server.service.viewing.viewers == 1)
            for _ in range(100):
                client.send(noise)
                assert isinstance(client.receive(20), FrameResult), "frames are computed all the same"
                if not server.service.viewing.viewers:
                    break
            assert server.service.viewing.drawn < 20, "pictures that nobody takes are not drawn"
            wait_until(lambda: server.service.viewing.viewers == 0)
    assert not [record for record in caplog.records if record.name.startswith("uvicorn") and record.levelno > 20]


def test_viewers_are_bounded() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serving(max_viewers=2, max_viewers_per_stream=1, retry_after_ms=1500))
        for stream_id in ("door", "yard", "gate"):
            send(stack.enter_context(sender(server, stream_id)))
        Watching(server)
        full = get(server)
        assert (full.status_code, full.json()["code"]) == (429, "too_many_viewers")
        assert full.headers["retry-after"] == "2"
        Watching(server, "yard")
        for what in ("snapshot.jpg", "mjpeg"):
            everywhere = get(server, what, "gate")
            assert (everywhere.status_code, everywhere.json()["code"]) == (503, "overloaded")
        assert server.service.viewing.viewers == 2


def test_a_client_that_leaves_makes_room(server: RunningServer) -> None:
    with sender(server) as client:
        send(client)
        with httpx.stream("GET", f"{server.url}/v1/streams/door/mjpeg", trust_env=False) as response:
            pictures = response.iter_raw()  # the client leaves with it, so that it is held
            assert next(pictures)
            assert server.service.viewing.viewers == 1
        wait_until(lambda: server.service.viewing.viewers == 0)


def test_max_fps_is_kept(server: RunningServer) -> None:
    with sender(server) as client:
        send(client)
        watching = Watching(server, params={"max_fps": 0.01})
        wait_until(lambda: watching.pictures)
        for _ in range(5):
            send(client)
        assert (server.service.viewing.drawn, len(watching.pictures)) == (1, 1), "the next one is due in 100 s"
        assert get(server, "mjpeg", params={"max_fps": 0}).status_code == 422


@contextmanager
def keyed(tmp_path: Path) -> Iterator[tuple[RunningServer, dict[str, str]]]:
    names = {"owner": [Scope.INFER], "other": [Scope.INFER], "admin": [Scope.ADMIN]}
    keys = {name: add_key(tmp_path / "keys", name, scopes) for name, scopes in names.items()}
    with serving(keys_file=tmp_path / "keys") as server:
        yield server, keys


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_pictures_are_for_the_owner_and_admins(tmp_path: Path) -> None:
    with keyed(tmp_path) as (server, keys):
        made = httpx.post(f"{server.url}/v1/streams", headers=bearer(keys["owner"]), trust_env=False).json()
        stream_id, token = made["stream_id"], made["token"]
        with sender(server, stream_id, token) as client:
            send(client)
            basic = base64.b64encode(f"any:{token}".encode()).decode()
            allowed = [bearer(secret) for secret in (keys["owner"], keys["admin"], token)]
            for headers in [*allowed, {"x-api-key": token}, {"authorization": f"Basic {basic}"}]:
                assert get(server, stream_id=stream_id, headers=headers).status_code == 200, headers
            for what in ("snapshot.jpg", "mjpeg"):
                assert get(server, what, stream_id, headers=bearer(keys["other"])).status_code == 403
                assert get(server, what, stream_id).status_code == 401
                assert get(server, what, stream_id, headers=bearer("wrong")).status_code == 401
                assert get(server, what, stream_id, headers={"authorization": "Basic !"}).status_code == 401
            assert "basic" not in get(server, "mjpeg", stream_id).headers["www-authenticate"].lower()
            views = f"{server.url}/v1/streams/{stream_id}/views"
            assert httpx.post(views, headers=bearer(keys["other"]), trust_env=False).status_code == 403
            assert httpx.post(views, trust_env=False).status_code == 401


def test_an_mjpeg_ends_with_its_key(tmp_path: Path) -> None:
    with keyed(tmp_path) as (server, keys), sender(server, "door", keys["owner"]) as client:
        send(client, 50)
        watching = Watching(server, headers=bearer(keys["admin"]))
        wait_until(lambda: len(watching.pictures) == 1)
        remove_key(tmp_path / "keys", "admin")
        assert server.service.access.keys is not None
        wait_until(lambda: server.service.access.owner(keys["admin"]) is None)
        send(client, 200)
        assert watching.over.wait(10)
        assert len(watching.pictures) == 1


@pytest.mark.parametrize("with_keys", [True, False])
def test_pictures_of_cameras_need_a_key_but_on_the_own_machine(tmp_path: Path, with_keys: bool) -> None:
    key = add_key(tmp_path / "keys", "any", [Scope.INFER])
    fields = {"keys_file": tmp_path / "keys", "anonymous_streams": True} if with_keys else {}
    with serving(**fields) as server, sender(server) as client:
        send(client)
        assert get(server).status_code == 200, "not a camera's"
        stream = server.service.streams.get("door")
        assert stream is not None
        stream.source = Camera()
        views = f"{server.url}/v1/streams/door/views"
        assert get(server, headers=bearer(key)).status_code == 200
        refused, proxied = (401, 401) if with_keys else (200, 403)
        assert get(server).status_code == refused
        assert get(server, headers={"x-forwarded-for": "192.0.2.1"}).status_code == proxied
        assert get(server, "mjpeg", headers={"via": "1.1 gate"}).status_code == proxied
        assert httpx.post(views, headers={"via": "1.1 gate"}, trust_env=False).status_code == proxied
        assert httpx.post(views, headers=bearer(key), trust_env=False).status_code == 201


class Camera:
    def brief(self) -> dict[str, Any]:
        return {}


def test_a_ticket_opens_pictures_of_one_stream_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        server, keys = stack.enter_context(keyed(tmp_path))
        for stream_id in ("door", "yard"):
            send(stack.enter_context(sender(server, stream_id, keys["owner"])))
        owner = bearer(keys["owner"])
        views = f"{server.url}/v1/streams/door/views"
        made = httpx.post(views, headers=owner, json={"seconds": 60}, trust_env=False)
        assert made.status_code == 201
        assert made.json()["expires_s"] == 60
        snapshot, ticket = made.json()["snapshot_url"], made.json()["snapshot_url"].split("ticket=")[1]
        answer = httpx.get(snapshot, trust_env=False)
        assert answer.status_code == 200
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"
        watching = Watching(server, params={"ticket": ticket})
        wait_until(lambda: watching.pictures)
        for other in (
            get(server, stream_id="yard", params={"ticket": ticket}),
            get(server, stream_id="nobody", params={"ticket": ticket}),
            get(server, params={"ticket": ticket[:-1]}),
            httpx.get(f"{server.url}/v1/streams/door", params={"ticket": ticket}, trust_env=False),
            httpx.get(f"{server.url}/v1/streams/door", headers=bearer(ticket), trust_env=False),
            httpx.post(views, params={"ticket": ticket}, trust_env=False),
            httpx.delete(f"{server.url}/v1/streams/door", params={"ticket": ticket}, trust_env=False),
        ):
            assert other.status_code == 401, other.request.url
        assert httpx.post(views, headers=owner, json={"seconds": 99999}, trust_env=False).status_code == 422
        assert get(server, params={"ticket": "x" * MAX_URL_BYTES}).status_code == 414
        httpx.delete(f"{server.url}/v1/streams/door", headers=owner, trust_env=False)
        assert httpx.get(snapshot, trust_env=False).status_code == 401, "it ends with the stream"
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not any(ticket in line or "ticket=" in line for line in ours)
