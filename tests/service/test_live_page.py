"""The live page in a real browser with a made-up camera, against a real server around the fake engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import CAMERA, CHROMIUM, launched, until
from service_fakes import FakeEngine, RunningServer, make_registry, make_settings, running_server, wait_until

from service.keys import Scope, add_key

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

ABROAD = "cam.example"
DEVICES: dict[str, dict[str, Any]] = {"desktop": {"viewport": {"width": 1280, "height": 800}}, "Pixel 5": {}}

# How much of the right edge of the box, in the middle of the picture, has the colour of the box's class.
EDGE = """async () => {
  const { colourOf } = await import("/page/overlay.js");
  const canvas = document.getElementById("overlay"), found = document.getElementById("picture").dataset.found;
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  probe.fillStyle = colourOf(Number(found.replace("grey", "")));
  probe.fillRect(0, 0, 1, 1);
  const wanted = probe.getImageData(0, 0, 1, 1).data;
  const column = canvas.getContext("2d").getImageData(canvas.width / 2, 0, 1, canvas.height).data;
  let like = 0;
  for (let at = 0; at < column.length; at += 4)
    if ([0, 1, 2].every(part => Math.abs(column[at + part] - wanted[part]) < 24)) like += 1;
  return like / canvas.height;
}"""

# A camera of one grey level at a time, which is another ten times a second.
GREYS = """
  navigator.mediaDevices.getUserMedia = async () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [320, 240];
    const pen = canvas.getContext("2d");
    let step = 0;
    const paint = () => {
      const level = 45 + 60 * (step++ % 4);
      pen.fillStyle = `rgb(${level} ${level} ${level})`;
      pen.fillRect(0, 0, 320, 240);
    };
    paint();
    setInterval(paint, 100);
    return canvas.captureStream(30);
  };
"""

# All that the status ever said.
LISTEN = """addEventListener("DOMContentLoaded", () => {
  const status = document.getElementById("status");
  window.said = [];
  new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });
});"""

# For each result: how far the grey beside the box is from the grey that the result says.
WATCH = """() => {
  const picture = document.getElementById("picture"), canvas = document.getElementById("overlay");
  window.apart = []; window.labels = new Set();
  new MutationObserver(() => {
    const [shown] = canvas.getContext("2d").getImageData(canvas.width * 0.8, canvas.height * 0.8, 1, 1).data;
    apart.push(Math.abs(shown - (Number(picture.dataset.found.replace("grey", "")) * 10 + 5)));
    labels.add(picture.dataset.found);
  }).observe(picture, { attributeFilter: ["data-found", "data-seq"] });
}"""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with launched(*CAMERA, f"--host-resolver-rules=MAP {ABROAD} 127.0.0.1") as opened:
        yield opened


@pytest.fixture
def visit(playwright) -> Iterator[Any]:
    """A function that opens the page, and looks at the end whether it failed anywhere."""
    contexts, failures = [], []

    def visit(server: RunningServer, device: str = "desktop", before: str = "", host: str = "127.0.0.1") -> Any:
        context = playwright.browser.new_context(**(DEVICES.get(device) or playwright.devices[device]))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda message: "Content Security" in message.text and failures.append(message.text))
        if before:
            page.add_init_script(before)
        page.goto(f"http://{host}:{server.port}/")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert failures == []


@pytest.fixture
def server() -> Iterator[RunningServer]:
    engine = FakeEngine()
    with running_server(make_registry(engine.model(), engine.model("other")), make_settings()) as running:
        yield running


def says(page: Any, text: str, where: str = "#status") -> None:
    """Wait until the page says so."""
    until(page, "([where, text]) => document.querySelector(where).textContent.includes(text)", [where, text])


def complains(page: Any, text: str) -> None:
    page.get_by_role("alert").wait_for()
    says(page, text, "#problem")


def start(page: Any) -> None:
    says(page, "Ready to start")
    page.get_by_role("button", name="Start").click()
    until(page, "Number(document.getElementById('picture').dataset.seq) >= 5")


@pytest.mark.parametrize("device", DEVICES)
def test_a_camera_with_its_boxes(server: RunningServer, visit, device: str) -> None:
    page = visit(server, device)
    start(page)
    says(page, "Running")
    assert page.evaluate(EDGE) > 0.5
    says(page, "%", "#work")
    says(page, "ms", "#latency")
    says(page, "Found: grey", "#spoken")
    assert page.locator("#objects").text_content() == "1"
    assert float(page.locator("#rate").text_content()) > 0
    chart = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(part => part)"
    assert page.locator("#chart").evaluate(chart)
    (stream,) = server.service.streams.all()
    assert stream.token is not None
    page.get_by_role("button", name="Stop").click()
    says(page, "Stopped")
    wait_until(lambda: not server.service.streams.all())
    assert page.evaluate("document.getElementById('video').srcObject") is None, "the camera is let go"
    page.get_by_role("button", name="Start").click()
    until(page, "Number(document.getElementById('picture').dataset.seq) >= 1")


@pytest.mark.parametrize("device", DEVICES)
def test_it_fits_and_can_be_touched_and_read_aloud(server: RunningServer, visit, device: str) -> None:
    page = visit(server, device)
    start(page)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for name in ("Key of this server", "Model", "Threshold"):
        assert page.get_by_label(name).count() == 1, name
    small = page.evaluate(
        """[...document.querySelectorAll("button, select, input:not([type=radio]), .choice")]
        .filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 44).map(one => one.id)"""
    )
    assert small == []
    page.get_by_role("img", name="Live picture. Found: grey").wait_for()


def test_keys_are_enough(server: RunningServer, visit) -> None:
    page = visit(server)
    says(page, "Ready to start")
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert reached == ["start", "camera", "model", "threshold"]
    page.locator("#start").press("Enter")
    says(page, "Running")
    assert page.evaluate("document.activeElement.id") == "start"
    page.keyboard.press("Space")
    says(page, "Stopped")


def test_boxes_are_drawn_on_the_frame_they_belong_to(server: RunningServer, visit) -> None:
    page = visit(server, before=GREYS)
    start(page)
    page.evaluate(WATCH)
    until(page, "apart.length >= 30 && labels.size >= 4")
    assert page.evaluate("Math.max(...apart)") <= 8, "the camera's greys are 60 apart"


def test_the_threshold_and_the_model_can_be_chosen(server: RunningServer, visit) -> None:
    page = visit(server)
    start(page)
    found = "document.getElementById('picture').dataset.found"
    page.get_by_label("Threshold").fill("0.8")
    assert page.evaluate(found) == "", "the box's score is 0.75"
    assert page.locator("#threshold-value").text_content() == "80%"
    page.get_by_label("Model").select_option("other")
    until(page, f"{found} !== ''")
    wait_until(lambda: [stream.model for stream in server.service.streams.all()] == ["other"])


def test_a_video_file(server: RunningServer, visit, tmp_path: Path) -> None:
    page = visit(server)
    says(page, "Ready to start")
    page.get_by_label("Video file").check()
    page.get_by_role("button", name="Start").click()
    complains(page, "Choose a video file first")
    (tmp_path / "text.mp4").write_bytes(b"no video")
    page.get_by_label("File (stays").set_input_files(tmp_path / "text.mp4")
    page.get_by_role("button", name="Start").click()
    complains(page, "cannot play this file")
    clip = page.evaluate(
        """async () => {
          const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
          const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: "video/webm" }), parts = [];
          recorder.ondataavailable = event => parts.push(event.data);
          recorder.start();
          for (let step = 0; step < 20; step += 1) {
            pen.fillStyle = `rgb(${step * 10} 90 90)`;
            pen.fillRect(0, 0, 300, 150);
            await new Promise(requestAnimationFrame);
          }
          await new Promise(resolve => { recorder.onstop = resolve; recorder.stop(); });
          return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
        }"""
    )
    (tmp_path / "clip.webm").write_bytes(bytes(clip))
    page.get_by_label("File (stays").set_input_files(tmp_path / "clip.webm")
    page.get_by_role("button", name="Start").click()
    until(page, "Number(document.getElementById('picture').dataset.seq) >= 5")
    assert page.get_by_role("alert").count() == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAllowedError", "does not let this page use the camera"),
        ("NotFoundError", "No camera was found"),
        ("NotReadableError", "Another program may be using it"),
    ],
)
def test_a_camera_that_does_not_start(server: RunningServer, visit, name: str, words: str) -> None:
    refusing = f"async () => {{ throw new DOMException('', '{name}'); }}"
    page = visit(server, before=f"navigator.mediaDevices.getUserMedia = {refusing};")
    says(page, "Ready to start")
    page.get_by_role("button", name="Start").click()
    complains(page, words)
    assert page.get_by_role("button", name="Start").count() == 1
    assert server.service.streams.all() == []


def test_a_page_that_is_not_secure(visit) -> None:
    settings = make_settings(allowed_origins=(f"http://{ABROAD}",))
    with running_server(make_registry(FakeEngine().model()), settings) as server:
        page = visit(server, host=ABROAD)
        assert page.evaluate("isSecureContext") is False
        says(page, "Ready to start")
        page.get_by_role("button", name="Start").click()
        complains(page, f"http://localhost:{server.port}/")


def test_a_key_is_asked_for_and_refused_in_words(visit, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys", "door", [Scope.INFER])
    with running_server(make_registry(FakeEngine().model()), make_settings(keys_file=tmp_path / "keys")) as server:
        page = visit(server)
        complains(page, "needs a key")
        field = page.get_by_label("Key of this server")
        field.fill("wrong")
        page.get_by_role("button", name="Use this key").click()
        complains(page, "refused this key")
        field.fill(key)
        field.press("Enter")
        start(page)
        assert not field.is_visible()
        assert page.get_by_role("alert").count() == 0
        (stream,) = server.service.streams.all()
        assert stream.owner == "door"


def test_a_code_lets_a_tab_in_and_is_taken_out_of_the_address(visit, tmp_path: Path) -> None:
    settings = make_settings(lan=True, state_folder=tmp_path)
    with running_server(make_registry(FakeEngine().model()), settings) as server:
        joins, address = server.service.access.joins, f"{server.url}/"
        page = visit(server)
        complains(page, "needs a key")
        page.evaluate("location.hash = '#join=wrong'")  # as if it were scanned while the page is open
        complains(page, "used before, or its time is over")
        assert page.url == address
        page.evaluate(f"location.hash = '#join={joins.new_code()}'")
        says(page, "Ready to start")
        assert page.url == address
        assert page.get_by_role("alert").count() == 0
        page.reload()
        start(page)
        (stream,) = server.service.streams.all()
        assert stream.owner.startswith("joined-")
        other = visit(server)
        complains(other, "needs a key")
        other.goto("about:blank")
        other.add_init_script("Object.defineProperty(window, 'sessionStorage', { get() { throw new Error(); } })")
        other.goto(f"{address}#join={joins.new_code()}")
        says(other, "Ready to start")


def test_a_server_that_goes_away_and_comes_back(visit) -> None:
    engine, settings = FakeEngine(), make_settings(retry_after_ms=300)
    with running_server(make_registry(engine.model()), settings) as first:
        page = visit(first, before=LISTEN)
        start(page)
        first.stop()
        until(page, "said.some(text => text.includes('shutting down or starting again'))")
        full = '{"code": "overloaded", "detail": "starting"}'
        page.route("**/v1/streams", lambda route: route.fulfill(status=503, body=full), times=1)
        with running_server(make_registry(engine.model()), settings, port=first.port) as second:
            says(page, "Running")
            (stream,) = second.service.streams.all()
            wait_until(lambda: stream.counters.results > 2)
            assert page.get_by_role("alert").count() == 0
            page.get_by_role("button", name="Stop").click()
            says(page, "Stopped")


def test_a_server_that_is_full(visit) -> None:
    with running_server(make_registry(FakeEngine().model()), make_settings(max_streams=1)) as server:
        page = visit(server)
        says(page, "Ready to start")
        assert httpx.post(f"{server.url}/v1/streams", trust_env=False).status_code == 201
        page.get_by_role("button", name="Start").click()
        complains(page, "takes no new stream now")
        assert page.evaluate("document.getElementById('video').srcObject") is None


def test_nothing_is_sent_while_the_page_is_hidden(server: RunningServer, visit) -> None:
    page = visit(server)
    start(page)
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    says(page, "Paused while this page is hidden")
    (stream,) = server.service.streams.all()
    frames = """async () => {
      const video = document.getElementById("video");
      for (let left = 10; left > 0; left -= 1) await new Promise(resolve => video.requestVideoFrameCallback(resolve));
    }"""
    page.evaluate(frames)  # what was being encoded has been sent
    paused_at = stream.counters.received
    page.evaluate(frames)
    assert stream.counters.received == paused_at
    page.evaluate(hide, False)
    says(page, "Running")
    wait_until(lambda: stream.counters.received > paused_at)
