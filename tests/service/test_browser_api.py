"""The API from a page in a real browser: fetch with an image, and a stream with its token in the subprotocol."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from service_fakes import FakeEngine, RunningServer, image, make_registry, make_settings, running_server

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

FETCH = """async ([url, data]) => {
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const response = await fetch(url + "/v1/detect", {
    method: "POST", headers: {"content-type": "image/jpeg"}, body: bytes,
  });
  return {status: response.status, reply: await response.json()};
}"""
FORM = """async ([url, data]) => {
  const form = new FormData();
  form.append("image", new Blob([Uint8Array.from(atob(data), c => c.charCodeAt(0))]), "camera.jpg");
  form.append("min_confidence", "0.5");
  const response = await fetch(url + "/v1/vision/detection", {method: "POST", body: form});
  return await response.json();
}"""
STREAM = """async ([url, data]) => {
  const jpeg = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const made = await (await fetch(url + "/v1/streams", {method: "POST"})).json();
  const bytes = new TextEncoder().encode(made.token);
  const token = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const socket = new WebSocket(made.ws_url, ["afterimage.v1", "base64.websocket.bearer." + token]);
  socket.binaryType = "arraybuffer";
  const inbox = [], waiting = [];
  socket.onmessage = event => (waiting.shift() ?? (message => inbox.push(message)))(JSON.parse(event.data));
  const next = () => inbox.length ? Promise.resolve(inbox.shift()) : new Promise(resolve => waiting.push(resolve));
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = () => reject("no connection"); });
  socket.send(JSON.stringify({type: "hello", content_type: "image/jpeg"}));
  const ready = await next();
  const frame = new Uint8Array(16 + jpeg.length), header = new DataView(frame.buffer);
  header.setUint8(0, 1); header.setUint8(1, 1); header.setUint32(4, 1, true); header.setBigUint64(8, 1234n, true);
  frame.set(jpeg, 16);
  socket.send(frame);
  const result = await next();
  const closed = new Promise(resolve => { socket.onclose = event => resolve(event.code); });
  socket.send(JSON.stringify({type: "bye"}));
  return {protocol: socket.protocol, ready, result, code: await closed};
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    settings = make_settings(anonymous_streams=False)
    with running_server(make_registry(FakeEngine().model()), settings) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield launched
        launched.close()


def page_of(browser, server: RunningServer):
    """A page that a server has sent itself: browsers ask where a page came from before they let it reach loopback."""
    page = browser.new_page()
    page.goto(f"{server.url}/healthz")
    return page


def run(page, script: str, server: RunningServer) -> Any:
    return page.evaluate(script, [server.url, base64.b64encode(image(120)).decode()])


def test_fetch_of_an_image(server: RunningServer, browser) -> None:
    found = run(page_of(browser, server), FETCH, server)
    assert (found["status"], found["reply"]["detections"][0]["label"]) == (200, "grey12")


def test_fetch_of_a_form(server: RunningServer, browser) -> None:
    found = run(page_of(browser, server), FORM, server)
    assert (found["success"], found["predictions"][0]["label"]) == (True, "grey12")


def test_a_stream_with_its_token_in_the_subprotocol(server: RunningServer, browser) -> None:
    found = run(page_of(browser, server), STREAM, server)
    assert found["protocol"] == "afterimage.v1", "the token is not echoed"
    assert found["ready"]["type"] == "ready"
    result = found["result"]
    assert (result["seq"], result["capture_ts_us"], result["decision"]) == (1, 1234, "keyframe")
    assert result["detections"][0]["label"] == "grey12"
    assert found["code"] == 1000


def test_a_page_of_another_origin_gets_nothing(server: RunningServer, browser) -> None:
    session = server.service.seats["fake"].pipeline._session
    computed, streams = len(session.decisions), len(server.service.streams)
    with running_server(make_registry(FakeEngine().model()), make_settings()) as other:
        page = page_of(browser, other)
        for script in (FETCH, FORM, STREAM):
            with pytest.raises(sync_api.Error):
                run(page, script, server)
    assert len(session.decisions) == computed, "a form is sent without asking first, and refused by its Origin"
    assert len(server.service.streams) == streams
