"""The live page in a real browser with a made-up camera, against a real server around the fake engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import CAMERA, CHROMIUM, launched, until
from service_fakes import FakeEngine, RunningServer, image, make_registry, make_settings, running_server, wait_until

from clients.python import StreamClient, StreamOptions
from clients.wire import Policy
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

# A camera whose lower right quarter blinks, until `blinks` is false. `turn` makes it upright.
QUARTER = """
  window.blinks = true;
  navigator.mediaDevices.getUserMedia = async () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [256, 192];
    window.turn = () => { [canvas.width, canvas.height] = [192, 256]; };
    const pen = canvas.getContext("2d");
    let step = 0;
    setInterval(() => {
      pen.fillStyle = "rgb(125 125 125)";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.fillStyle = blinks && step++ % 4 < 2 ? "rgb(60 60 60)" : "rgb(190 190 190)";
      pen.fillRect(canvas.width / 2, canvas.height / 2, canvas.width / 2, canvas.height / 2);
    }, 50);
    return canvas.captureStream(30);
  };
"""

# How far from grey the picture is in the middle of its still and of its blinking quarter.
TINT = """() => {
  const canvas = document.getElementById("overlay"), pen = canvas.getContext("2d");
  return [0.3, 0.8].map(share => {
    const [red, , blue] = pen.getImageData(canvas.width * share, canvas.height * share, 1, 1).data;
    return red - blue;
  });
}"""

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


# Locks on the screen, instead of the browser's.
WAKE = """
  window.locks = [];
  const request = async () => {
    locks.push({ released: false, async release() { this.released = true; } });
    return locks.at(-1);
  };
  Object.defineProperty(navigator, "wakeLock", { value: { request } });
"""

# Results as of a server, or a model, that knows nothing of changes.
UNTOLD = """
  const parse = JSON.parse;
  JSON.parse = text => { const { changes, ...rest } = parse(text); return rest; };
"""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with launched(
        *CAMERA, "--use-fake-device-for-media-stream=device-count=2", f"--host-resolver-rules=MAP {ABROAD} 127.0.0.1"
    ) as opened:
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
        """[...document.querySelectorAll("button, select, input:not([type=radio], [type=checkbox]), .choice")]
        .filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 44).map(one => one.id)"""
    )
    assert small == []
    page.get_by_role("img", name="Live picture. Found: grey").wait_for()


def test_keys_are_enough(server: RunningServer, visit) -> None:
    page = visit(server)
    says(page, "Ready to start")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert reached == ["start", "heat", "camera", "camera-choice", "model", "threshold"]
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


def test_what_was_recomputed_is_tinted_and_fades(server: RunningServer, visit) -> None:
    page = visit(server, before=QUARTER)
    start(page)
    assert page.evaluate(TINT) == [0, 0], "it was not asked for"
    page.get_by_label("Show what was recomputed").check()
    until(page, f"(([still, blinking]) => still === 0 && blinking > 25)(({TINT})())")
    strip = "document.getElementById('stages').getAttribute('aria-label')"
    until(page, f"{strip}.endsWith('25%, 25%, 25%, 25%, 25%, 25%, 25%, 25%')")
    page.evaluate("blinks = false")
    until(page, f"({TINT})()[1] === 0")
    until(page, f"{strip}.includes('answer: 0%')")
    page.evaluate("blinks = true")
    until(page, f"({TINT})()[1] > 25")
    page.get_by_label("Show what was recomputed").uncheck()
    assert page.evaluate(TINT) == [0, 0]
    assert page.locator("#stages").is_hidden()


def test_dense_is_measured_and_said(server: RunningServer, visit) -> None:
    page = visit(server, before=QUARTER)
    start(page)
    says(page, "computed whole here)", "#dense")
    (stream,) = server.service.streams.all()
    whole = stream.figures.decisions
    before = whole["keyframe"]
    page.get_by_role("button", name="Measure dense").click()
    wait_until(lambda: whole["keyframe"] >= before + 5)
    says(page, f"(median of {whole['keyframe']} frames computed whole here)", "#dense")
    until(page, "document.getElementById('chart').getAttribute('aria-label').includes('dense it takes')")


def test_a_camera_that_is_turned(server: RunningServer, visit) -> None:
    page = visit(server, "Pixel 5", before=QUARTER)
    page.get_by_label("Show what was recomputed").check()
    start(page)
    (before,) = server.service.streams.all()
    page.evaluate("turn()")
    until(page, "(canvas => canvas.height > canvas.width)(document.getElementById('overlay'))")
    until(page, f"(([still, blinking]) => still === 0 && blinking > 25)(({TINT})())")
    until(page, "(box => box.height > box.width)(document.getElementById('picture').getBoundingClientRect())")
    assert server.service.streams.all() == [before]
    assert page.get_by_role("alert").count() == 0


def test_another_camera_while_it_runs_and_choices_that_are_remembered(server: RunningServer, visit) -> None:
    page = visit(server)
    start(page)
    (before,) = server.service.streams.all()
    choice = page.get_by_label("Which camera")
    until(page, "document.getElementById('camera-choice').options.length === 3")
    assert choice.locator("option").all_text_contents() == ["Any camera", "fake_device_0", "fake_device_1"]
    choice.select_option("fake_device_1")
    shown = "document.getElementById('video').srcObject?.getVideoTracks()[0].label"
    until(page, f"{shown} === 'fake_device_1'")
    says(page, "Running")
    received = before.counters.received
    wait_until(lambda: before.counters.received > received + 2)
    assert server.service.streams.all() == [before]
    page.get_by_label("Model").select_option("other")
    page.get_by_label("Threshold").fill("0.7")
    page.get_by_label("Show what was recomputed").check()
    page.reload()
    start(page)
    assert page.evaluate(shown) == "fake_device_1"
    assert page.get_by_label("Model").input_value() == "other"
    assert page.get_by_label("Threshold").input_value() == "0.7"
    assert page.get_by_label("Show what was recomputed").is_checked()


def test_a_browser_that_keeps_nothing(server: RunningServer, visit) -> None:
    refusing = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('', 'SecurityError'); } });"
    )
    page = visit(server, before=refusing)
    page.get_by_label("Show what was recomputed").check()
    start(page)


def columns(page: Any) -> int:
    """Pictures side by side."""
    lefts = "[...document.querySelectorAll('.tile:not([hidden])')].map(one => one.getBoundingClientRect().left)"
    return len(set(page.evaluate(lefts)))


@pytest.mark.parametrize(("device", "beside"), [("desktop", 2), ("Pixel 5", 1)])
def test_a_wall_of_pictures(server: RunningServer, visit, device: str, beside: int) -> None:
    page = visit(server, device)
    start(page)
    for _ in range(2):
        page.get_by_label("One more picture").select_option(index=0)
        page.get_by_role("button", name="Add to the wall").click()
    seen = "[...document.querySelectorAll('article .picture')].filter(one => Number(one.dataset.seq) >= 3).length"
    until(page, f"{seen} === 2")
    assert len(server.service.streams.all()) == 3
    assert columns(page) == beside
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    until(page, "document.querySelector('article .figures').textContent.includes('of the work')")
    page.get_by_role("button", name="Remove").first.click()
    wait_until(lambda: len(server.service.streams.all()) == 2)
    page.get_by_role("button", name="Stop").click()
    wait_until(lambda: len(server.service.streams.all()) == 1)
    assert page.locator("#first").is_hidden()
    page.get_by_role("button", name="Remove").click()
    wait_until(lambda: not server.service.streams.all())
    assert page.locator("#first").is_visible()


def test_other_streams_on_the_wall(server: RunningServer, visit) -> None:
    page = visit(server)
    start(page)
    page.route("**/snapshot.jpg?*", lambda route: route.fulfill(status=401, json={"code": "unauthorized"}))
    page.route(
        "**/v1/streams/door/snapshot.jpg?*", lambda route: route.fulfill(body=image(), content_type="image/jpeg")
    )
    page.route("**/v1/streams/yard/snapshot.jpg?*", lambda route: route.fulfill(status=404, json={"code": "no_frame"}))
    page.get_by_label("Show other streams").check()
    says(page, "No other streams on this server now", "#others-words")
    with (
        StreamClient(server.url, "door", StreamOptions(policy=Policy.ALL)),
        StreamClient(server.url, "yard", StreamOptions(policy=Policy.ALL)),
    ):
        page.get_by_role("img", name="Last picture of stream door").wait_for()
        page.get_by_text("No picture yet").wait_for()
        assert page.evaluate("document.querySelector('.tile img').naturalWidth") == 128
        assert page.locator("article").count() == 2, "one's own is not shown twice"
        private = httpx.post(f"{server.url}/v1/streams", trust_env=False).json()["stream_id"]
        page.get_by_text("Only whoever made this stream may see its picture").wait_for()
        assert page.get_by_role("article", name=f"Stream {private}").count() == 1
        page.get_by_label("Show other streams").uncheck()
        assert page.locator("article").count() == 0


def test_the_screen_stays_on_while_it_runs(server: RunningServer, visit) -> None:
    page = visit(server, before=WAKE)
    start(page)
    until(page, "locks.filter(lock => !lock.released).length === 1")
    page.evaluate("locks.forEach(lock => { lock.released = true; })")  # as the browser does to a hidden page
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    until(page, "locks.length === 2 && !locks[1].released")
    page.get_by_role("button", name="Stop").click()
    until(page, "locks.every(lock => lock.released)")


def test_a_model_that_is_unloaded(server: RunningServer, visit) -> None:
    page = visit(server)
    page.get_by_label("Model").select_option("other")
    start(page)
    gone = httpx.delete(f"{server.url}/v1/models/other", params={"force": True}, trust_env=False)
    assert gone.status_code == 204
    complains(page, "The server has unloaded this model. Choose another")
    page.get_by_role("button", name="Start").click()
    complains(page, "The server no longer has this model. Choose another")
    page.get_by_label("Model").select_option("fake")
    page.get_by_role("button", name="Start").click()
    until(page, "Number(document.getElementById('picture').dataset.seq) >= 1")


def test_a_server_that_does_not_tell_what_it_recomputed(server: RunningServer, visit) -> None:
    page = visit(server, before=UNTOLD)
    page.get_by_label("Show what was recomputed").check()
    start(page)
    says(page, "does not tell what is recomputed", "#untold")
    assert page.evaluate(TINT) == [0, 0]


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
