"""The gateway of docker/kubernetes: HAProxy itself, on the file that is deployed, before servers of its pods' names."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from gateway import DOMAIN, HAPROXY, Cluster, ask, running_cluster
from service_fakes import image

from clients.python import FrameResult, Policy, StreamClient, StreamOptions
from service.keys import Scope, add_key
from service.lan.certificate import kept_identity

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")

PODS = ("afterimage-0", "afterimage-1", "afterimage-2")
CAMERAS = tuple(f"cam-{number}" for number in range(12))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    return add_key(folder / "keys", "cameras", [Scope.ADMIN])


@pytest.fixture(scope="module")
def running(folder: Path, key: str) -> Iterator[Cluster]:
    with running_cluster(folder, folder / "keys", *PODS) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """Gateway and all pods run, whatever an earlier test has ended."""
    if running.gateway is None:
        running.run_gateway()
    running.start(*(name for name in PODS if name not in running.pods))
    return running


@pytest.fixture
def web(cluster: Cluster, key: str) -> Iterator[httpx.Client]:
    """Asks the gateway."""
    with httpx.Client(base_url=cluster.url, headers={"authorization": f"Bearer {key}"}) as client:
        yield client


class Camera:
    """A client of one stream, that shows another picture each time."""

    def __init__(self, url: str, stream_id: str | None, token: str, tls: ssl.SSLContext | None = None) -> None:
        self.client = StreamClient(url, stream_id, StreamOptions(token=token, policy=Policy.ALL, tls=tls))
        self.lost = 0
        self._level = 0

    def push(self) -> str:
        """What the server decided about a frame; one that is lost is sent again."""
        self._level = (self._level + 50) % 250
        while True:
            for event in self.client.stream([image(self._level)]):
                if isinstance(event, FrameResult):
                    return event.result.decision
            self.lost += 1


@contextmanager
def cameras(cluster: Cluster, key: str, *ids: str) -> Iterator[dict[str, Camera]]:
    """Streams that have sent their first frame."""
    with ExitStack() as stack:
        found = {stream_id: Camera(cluster.url, stream_id, key) for stream_id in ids}
        for camera in found.values():
            stack.enter_context(camera.client)
            assert camera.push() == "keyframe"
        yield found


def test_a_stream_has_one_pod(cluster: Cluster, web: httpx.Client, key: str) -> None:
    with cameras(cluster, key, *CAMERAS) as streams:
        at = cluster.where(key)
        assert set(at) == set(CAMERAS)
        assert set(at.values()) == set(PODS)
        for _ in range(2):
            assert {camera.push() for camera in streams.values()} == {"partial"}
            for stream_id in CAMERAS:
                assert web.get(f"/v1/streams/{stream_id}").json()["connected"]
                assert web.get(f"/v1/streams/{stream_id}/snapshot.jpg").status_code == 200
        coded = "".join(f"%{ord(character):02x}" for character in CAMERAS[0])
        assert web.get(f"/v1/streams/{coded}").json()["stream_id"] == CAMERAS[0], "however its id is written"
    with cameras(cluster, key, *CAMERAS):
        assert cluster.where(key) == at, "as much as at first"


def test_a_stream_that_is_made_is_found_where_it_was_made(cluster: Cluster, web: httpx.Client) -> None:
    for _ in range(6):
        made = web.post("/v1/streams", json={"model": "fake"})
        assert made.status_code == 201
        camera = Camera(made.json()["ws_url"], None, made.json()["token"])
        with camera.client:
            assert camera.push() == "keyframe"
        assert web.delete(f"/v1/streams/{made.json()['stream_id']}").status_code == 204


def test_a_lost_pod_costs_its_streams_a_keyframe_and_others_nothing(
    cluster: Cluster, web: httpx.Client, key: str
) -> None:
    with cameras(cluster, key, *CAMERAS) as streams:
        before = cluster.where(key)
        gone = before[CAMERAS[0]]
        moved = {stream_id for stream_id, pod in before.items() if pod == gone}
        cluster.kill(gone)
        after_loss = {stream_id: camera.push() for stream_id, camera in streams.items()}
        assert after_loss == {name: "keyframe" if name in moved else "partial" for name in CAMERAS}
        after = cluster.where(key)
        assert {name for name in CAMERAS if after[name] != before[name]} == moved
        assert {camera.push() for camera in streams.values()} == {"partial"}, "one keyframe, and no second"
        cluster.wait_without(gone)
        cluster.start(gone)
        assert cluster.where(key) == after, "who is served stays"
        for stream_id in CAMERAS:
            assert web.get(f"/v1/streams/{stream_id}").status_code == 200, "found, although its pod by the hash is back"
    with cameras(cluster, key, *CAMERAS):
        assert cluster.where(key) == before, "at home again, at another address"


def test_a_pod_that_ends_hands_its_streams_over_without_losing_a_frame(cluster: Cluster, key: str) -> None:
    with cameras(cluster, key, *CAMERAS) as streams:
        before = cluster.where(key)
        gone = before[CAMERAS[0]]
        under_way = [camera for stream_id, camera in streams.items() if before[stream_id] == gone]
        for camera in under_way:
            camera.client.send(image(7))
        cluster.drain(gone)
        for camera in under_way:
            assert [type(event) for event in camera.client] == [FrameResult]
        decided = {stream_id: camera.push() for stream_id, camera in streams.items()}
        assert decided == {name: "keyframe" if before[name] == gone else "partial" for name in CAMERAS}
        assert [camera.client.lost for camera in streams.values()] == [0] * len(CAMERAS)


def test_a_lost_gateway_costs_no_keyframe(cluster: Cluster, key: str) -> None:
    with cameras(cluster, key, *CAMERAS[:4]) as streams:
        before = cluster.where(key)
        cluster.stop_gateway()
        cluster.run_gateway()
        assert {camera.push() for camera in streams.values()} == {"partial"}, "resumed at the same pods"
        assert cluster.where(key) == before


@pytest.mark.parametrize("path", ["/metrics", "/%6detrics", "/metrics?x=1"])
def test_metrics_are_for_nobody_beyond_the_gateway(cluster: Cluster, web: httpx.Client, path: str) -> None:
    refused = web.get(path)
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert ask(f"{cluster.pods[PODS[0]].url}/metrics").status_code == 200, "they are there"


def test_models_are_not_changed_in_one_pod_of_several(web: httpx.Client) -> None:
    for method, path in (
        ("POST", "/v1/models"), ("POST", "/v1/%6dodels"), ("DELETE", "/v1/models/fake"),
        ("POST", "/v1/models/fake/reload"), ("POST", "/v2/repository/models/fake/unload"),
    ):  # fmt: skip
        refused = web.request(method, path, json={"name": "people"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path
    assert web.get("/v1/models").status_code == 200
    assert web.get("/v2/models/fake").status_code == 200
    assert web.post("/v2/repository/index").status_code == 200


def test_what_is_of_no_stream_goes_to_any_pod(cluster: Cluster, web: httpx.Client) -> None:
    found = web.post("/v1/detect", content=image(), headers={"content-type": "image/jpeg"})
    assert found.json()["detections"][0]["label"] == "grey10"
    assert web.get("/").status_code == 200


def test_a_cluster_without_pods_says_so_and_is_not_ready(folder: Path, key: str) -> None:
    with running_cluster(folder, folder / "keys") as empty:
        answer = ask(f"{empty.url}/v1/models")
        assert answer.status_code == 503
        inside = f"http://127.0.0.1:{empty.inside_port}"
        assert ask(f"{inside}/readyz").status_code == 503
        assert ask(f"{inside}/healthz").status_code == 200


@pytest.fixture
def certificate(folder: Path) -> Path:
    """For localhost, as a Secret of TLS has it: tls.crt and tls.key."""
    pem = kept_identity(folder, []).certificate.read_text()
    chain, begin, key = pem.partition("-----BEGIN PRIVATE KEY")
    (folder / "tls.crt").write_text(chain)
    (folder / "tls.key").write_text(begin + key)
    return folder


def test_with_a_certificate_clients_come_by_tls_alone(cluster: Cluster, certificate: Path, key: str) -> None:
    trusting = ssl.create_default_context(cafile=certificate / "tls.crt")
    cluster.stop_gateway()
    cluster.run_gateway(certificate)
    try:
        elsewhere = ask(f"{cluster.url}/v1/models")
        assert elsewhere.status_code == 308
        assert elsewhere.headers["location"].startswith("https://")
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"https://localhost:{cluster.tls_port}", verify=trusting, headers=headers) as web:
            made = web.post("/v1/streams")
        assert "max-age" in made.headers["strict-transport-security"]
        assert made.json()["ws_url"].startswith(f"wss://localhost:{cluster.tls_port}/v1/streams/")
        camera = Camera(made.json()["ws_url"], None, made.json()["token"], trusting)
        with camera.client:
            assert [camera.push(), camera.push()] == ["keyframe", "partial"]
    finally:
        cluster.stop_gateway()


class Stub(BaseHTTPRequestHandler):
    """Is ready, and answers with its pod's address and what it was told of the client."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = str(self.server.server_address[0]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        for name in ("x-forwarded-for", "x-forwarded-proto"):
            self.send_header(name, ", ".join(self.headers.get_all(name, [])))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stubs(folder: Path) -> Iterator[Stubs]:
    """A cluster without pods, for stubs that are added."""
    with running_cluster(folder, folder / "keys") as cluster, ExitStack() as stack:
        yield Stubs(cluster, stack)


@dataclass
class Stubs:
    """Pods that are but stubs."""

    cluster: Cluster
    stack: ExitStack

    def add(self, *numbers: int) -> set[str]:
        """More of them; returns their addresses once the gateway has them."""
        found = {f"afterimage-{number}": f"127.0.0.{100 + number}" for number in numbers}
        for name, address in found.items():
            stub = ThreadingHTTPServer((address, self.cluster.port), Stub)
            self.stack.callback(stub.server_close)
            self.stack.callback(stub.shutdown)
            threading.Thread(target=stub.serve_forever, args=(0.05,), daemon=True).start()
            self.cluster.names.addresses[f"{name}.{DOMAIN}"] = address
        self.cluster.wait_for(*found)
        return set(found.values())


def test_who_a_client_is_is_told_by_what_ends_its_tls(stubs: Stubs, certificate: Path) -> None:
    stubs.add(0)
    claimed = {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"}

    def told(url: str, headers: dict[str, str]) -> tuple[str, str]:
        trusting = ssl.create_default_context(cafile=certificate / "tls.crt")
        answer = httpx.get(f"{url}/v1/models", headers=headers, verify=trusting)
        return answer.headers["x-forwarded-for"], answer.headers["x-forwarded-proto"]

    plain, secure = stubs.cluster.url, f"https://localhost:{stubs.cluster.tls_port}"
    assert told(plain, {}) == ("127.0.0.1", "http")
    assert told(plain, claimed) == ("203.0.113.7, 127.0.0.1", "https"), "what stands before it is believed"
    stubs.cluster.stop_gateway()
    stubs.cluster.run_gateway(certificate)
    stubs.cluster.wait_for("afterimage-0")
    assert told(secure, {**claimed, "x-forwarded-proto": "http"}) == ("127.0.0.1", "https"), "nobody stands before it"


def test_a_pod_more_takes_its_share_and_moves_nothing_else(stubs: Stubs) -> None:
    ids = [f"cam-{number}" for number in range(100)]

    def places() -> dict[str, str]:
        with httpx.Client(base_url=stubs.cluster.url) as web:
            return {stream_id: web.get(f"/v1/streams/{stream_id}").text for stream_id in ids}

    first = stubs.add(0, 1, 2, 3)
    before = places()
    counts = Counter(before.values())
    assert set(counts) == first
    assert 15 <= min(counts.values()) <= max(counts.values()) <= 35, "an even share is 25"
    fifth = stubs.add(4)
    after = places()
    moved = [stream_id for stream_id in ids if after[stream_id] != before[stream_id]]
    assert {after[stream_id] for stream_id in moved} == fifth, "from others to the new one alone"
    assert 10 <= len(moved) <= 30, "an even share is 20"
