"""The browser's StreamClient in a real browser, against a real server around the fake engine."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, launched, until
from service_fakes import FakeEngine, RunningServer, image, make_registry, make_settings, running_server, wait_until
from town import TwoServers, two_servers

from service.placement import ws_url

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

BROWSER = Path(__file__).parents[2] / "clients/browser"
SET_UP = """async ([address, id, options, jpeg]) => {
  const { StreamClient, streamUrl } = await import(`${address}/clients/browser/stream.js`);
  window.jpeg = Uint8Array.from(atob(jpeg), char => char.charCodeAt(0));
  window.sockets = [];
  const Real = window.RealSocket ??= WebSocket;
  window.WebSocket = class extends Real { constructor(...given) { super(...given); sockets.push(this); } };
  window.client = new StreamClient(streamUrl(address, id), { initialMs: 20, maximumMs: 200, ...options });
  window.heard = [];
  for (const type of ["state", "ready", "result", "refused", "lost", "moved"])
    client.addEventListener(type, event => heard.push([type, event.detail]));
  client.open();
}"""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with launched() as opened:
        yield opened


class Stream:
    """The client in a page."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def run(self, script: str, given: Any = None) -> Any:
        return self.page.evaluate(script, given)

    def until(self, condition: str, given: Any = None) -> None:
        until(self.page, condition, given)

    def heard(self, kind: str) -> list[Any]:
        script = "kind => heard.filter(([type]) => type === kind).map(([, detail]) => ({ ...detail }))"
        return self.run(script, kind)

    def states(self) -> list[str]:
        return [detail["state"] for detail in self.heard("state")]


@pytest.fixture
def connect(playwright) -> Iterator[Any]:
    """A function that opens a client in a page of the server's own."""
    pages = []

    def connect(server: RunningServer, stream_id: str = "door", path: str = "/healthz", **options: Any) -> Stream:
        page = playwright.browser.new_page()
        pages.append(page)
        page.goto(server.url + path)
        page.evaluate(SET_UP, [server.url, stream_id, options, base64.b64encode(image(120)).decode()])
        return Stream(page)

    yield connect
    for page in pages:
        page.close()


def test_frames_go_out_as_far_as_the_credits_and_come_back(server: RunningServer, engine: FakeEngine, connect) -> None:
    stream = connect(server)
    stream.until("client.state === 'open'")
    engine.gate.clear()
    window = stream.run("client.ready.window")
    assert stream.run("[...Array(client.ready.window + 2)].map(() => client.send(jpeg, 1234))") == [
        *range(1, window + 1), None, None,
    ]  # fmt: skip
    assert stream.run("[client.credits, client.unacked]") == [0, window]
    engine.gate.set()
    stream.until("client.credits === client.ready.window")
    results = stream.heard("result")
    assert [found["result"]["seq"] for found in results] == list(range(1, window + 1))
    assert results[0]["result"]["capture_ts_us"] == 1234
    assert results[0]["result"]["detections"][0]["label"] == "grey12"
    assert results[0]["roundTripMs"] > 0
    assert results[0]["annotated"] is None


def test_annotated_frames_come_with_their_results(server: RunningServer, connect) -> None:
    stream = connect(server, hello={"outputs": ["detections", "annotated"]})
    stream.until("client.state === 'open'")
    stream.run("client.send(jpeg, 1)")
    stream.until("heard.some(([type]) => type === 'result')")
    found = stream.run(
        "(() => { const [, d] = heard.find(([type]) => type === 'result'); "
        "return [d.result.seq, d.annotated[0], d.annotated[1], client.unacked]; })()"
    )
    assert found == [1, 0xFF, 0xD8, 0]


def test_nothing_is_sent_while_the_line_is_behind(server: RunningServer, connect) -> None:
    stream = connect(server, maxBufferedBytes=1000)
    stream.until("client.state === 'open'")
    stream.run("Object.defineProperty(sockets[0], 'bufferedAmount', { value: 1001, configurable: true })")
    assert stream.run("[client.credits, client.send(jpeg, 1)]") == [0, None]
    stream.run("delete sockets[0].bufferedAmount")
    assert stream.run("client.send(jpeg, 1)") == 1


def test_a_frame_larger_than_the_server_takes_is_never_sent(server: RunningServer, connect) -> None:
    stream = connect(server)
    stream.until("client.state === 'open'")
    said = stream.run(
        "(() => { client.ready.limits.max_message_bytes = 20; "
        "try { client.send(jpeg, 1); } catch (error) { return [error.code, client.unacked]; } })()"
    )
    assert said == ["message_too_large", 0]


def test_a_lost_connection_comes_back_with_what_is_cached(server: RunningServer, engine: FakeEngine, connect) -> None:
    stream = connect(server)
    stream.until("client.state === 'open'")
    stream.run("client.send(jpeg, 1)")
    stream.until("heard.some(([type]) => type === 'result')")
    engine.gate.clear()
    while engine.entered.acquire(blocking=False):
        pass
    stream.run("client.send(jpeg, 2)")
    assert engine.entered.acquire(timeout=5)
    stream.run("sockets[0].close(4000)")
    stream.until("heard.some(([type]) => type === 'lost')")
    assert stream.heard("lost") == [{"seqs": [2]}]
    engine.gate.set()
    stream.until("client.state === 'open' && sockets.length === 2")
    assert [ready["resumed"] for ready in stream.heard("ready")] == [False, True]
    assert stream.run("client.send(jpeg, 3)") == 3, "numbers go on"
    stream.until("heard.filter(([type]) => type === 'result').length === 2")
    assert stream.heard("result")[-1]["result"]["decision"] == "reuse"
    waiting = next(detail for detail in stream.heard("state") if detail["state"] == "waiting")
    assert (waiting["code"], waiting["attempt"]) == (4000, 1)
    assert 10 <= waiting["waitMs"] <= 20


def test_a_connection_that_falls_silent_is_given_up(server: RunningServer, engine: FakeEngine, connect) -> None:
    """As after a change of networks: nothing comes, and nothing says that nothing will."""
    stream = connect(server, stallMs=200)
    stream.until("client.state === 'open'")
    engine.gate.clear()
    stream.run("client.send(jpeg, 1)")
    stream.until("client.state === 'open' && sockets.length === 2")
    waiting = next(detail for detail in stream.heard("state") if detail["state"] == "waiting")
    assert (waiting["code"], waiting["reason"]) == (1006, "nothing came for too long")
    assert stream.heard("lost") == [{"seqs": [1]}]
    engine.gate.set()
    stream.until("client.send(jpeg, 2) !== null")
    stream.until("heard.some(([type]) => type === 'result')")
    assert stream.run("client.unacked") == 0


def test_a_server_that_is_slow_is_given_more_and_more_time(server: RunningServer, engine: FakeEngine, connect) -> None:
    stream = connect(server, stallMs=50)
    stream.until("client.state === 'open'")
    engine.push_s = 0.5
    stream.run("window.sending = setInterval(() => client.send(jpeg, 1), 10)")
    stream.until("heard.filter(([type]) => type === 'result').length >= 3")
    stream.run("clearInterval(sending)")
    assert stream.heard("lost"), "the first frames took longer than was known"


@pytest.mark.parametrize(
    "wake", ["dispatchEvent(new Event('online'))", "document.dispatchEvent(new Event('visibilitychange'))"]
)
def test_a_wait_ends_when_the_network_is_back_or_somebody_looks(server: RunningServer, connect, wake: str) -> None:
    stream = connect(server, initialMs=600_000, maximumMs=600_000)
    stream.until("client.state === 'open'")
    stream.run("sockets[0].close(4000)")
    stream.until("client.state === 'waiting'")
    stream.run(wake)
    stream.until("client.state === 'open' && sockets.length === 2")


def test_an_attempt_from_before_the_network_was_back_is_begun_again(server: RunningServer, connect) -> None:
    stream = connect(server)
    stream.until("client.state === 'open'")
    stream.run("""client.addEventListener("state", ({ detail }) => {
      if (detail.state === "connecting" && sockets.length === 1)
        queueMicrotask(() => dispatchEvent(new Event("online")));
    })""")
    stream.run("sockets[0].close(4000)")
    stream.until("client.state === 'open' && sockets.length === 3")


def test_what_a_server_asked_for_is_waited_out_all_the_same(engine: FakeEngine, connect) -> None:
    with running_server(make_registry(engine.model()), make_settings(retry_after_ms=600_000)) as server:
        stream = connect(server)
        stream.until("client.state === 'open'")
        server.stop()
        stream.until("client.state === 'waiting'")
        stream.run("dispatchEvent(new Event('online'))")
        stream.run("new Promise(resolve => setTimeout(resolve, 50))")
        assert stream.run("[client.state, sockets.length]") == ["waiting", 1]


def test_a_server_that_drains_and_comes_back(engine: FakeEngine, connect) -> None:
    settings = make_settings(retry_after_ms=150)
    with running_server(make_registry(engine.model()), settings) as first:
        stream = connect(first, attempts=100)
        stream.until("client.state === 'open'")
        first.stop()
        stream.until("client.state === 'waiting' || client.state === 'connecting'")
        waiting = next(detail for detail in stream.heard("state") if detail["state"] == "waiting")
        assert "draining" in stream.states()
        assert waiting["code"] == 1012
        assert waiting["waitMs"] >= 160, "what the server asked for, and jitter on top"
        with running_server(make_registry(engine.model()), settings, port=first.port):
            stream.until("client.state === 'open'")
            assert stream.heard("ready")[-1]["resume_reason"] == "unknown"


def test_a_wrong_token_is_final(connect) -> None:
    with running_server(make_registry(FakeEngine().model()), make_settings(anonymous_streams=False)) as server:
        stream = connect(server, token="wrong")
        stream.until("client.state === 'ended'")
        ended = stream.heard("state")[-1]
        assert (ended["code"], ended["said"]["code"], ended["final"]) == (1008, "unauthorized", True)
        assert stream.run("sockets.length") == 1


def test_it_gives_up_after_so_many_attempts(connect) -> None:
    with running_server(make_registry(FakeEngine().model()), make_settings(max_streams=1)) as server:
        first = connect(server, "first")
        first.until("client.state === 'open'")
        second = connect(server, "second", attempts=0)
        second.until("client.state === 'ended'")
        ended = second.heard("state")[-1]
        assert (ended["code"], ended["said"]["code"]) == (1013, "overloaded")
        assert second.heard("refused")[0]["retry_after_ms"] == server.service.settings.retry_after_ms


def test_bye_gets_what_is_due_and_the_server_forgets_the_stream(
    server: RunningServer, engine: FakeEngine, connect
) -> None:
    stream = connect(server)
    stream.until("client.state === 'open'")
    stream.run("(client.send(jpeg, 1), client.close())")
    assert [found["result"]["seq"] for found in stream.heard("result")] == [1]
    ended = stream.heard("state")[-1]
    assert (ended["state"], ended["code"], ended["final"]) == ("ended", 1000, False)
    wait_until(lambda: not server.service.streams.all())
    assert stream.run("client.send(jpeg, 2)") is None


def test_a_server_that_breaks_the_protocol(server: RunningServer, connect) -> None:
    stream = connect(server)
    stream.until("client.state === 'open'")
    stream.run("sockets[0].onmessage({ data: '{}' })")
    ended = stream.heard("state")[-1]
    assert (ended["state"], ended["code"]) == ("ended", 1002)
    assert "the server broke the protocol: bad_message" in ended["reason"]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/v1/streams/a%20b/ws"),
        ("https://cam.example/below/?x#y", "wss://cam.example/below/v1/streams/a%20b/ws"),
        ("wss://cam.example", "wss://cam.example/v1/streams/a%20b/ws"),
        ("ftp://cam.example", None),
    ],
)
def test_addresses(server: RunningServer, connect, base: str, expected: str | None) -> None:
    stream = connect(server)
    script = """async base => {
      const { streamUrl } = await import("/clients/browser/stream.js");
      try { return streamUrl(base, "a b"); } catch (error) { if (error instanceof TypeError) return null; throw error; }
    }"""
    assert stream.run(script, base) == expected


@pytest.fixture(scope="module")
def pair() -> Iterator[TwoServers]:
    with two_servers(drain_s=30.0) as running:
        running.town.origins = (running.a.url,)
        yield running


# Frames until the stream has moved, and then so many more: the move falls among them however fast they are answered.
PUMP = """async (after) => {
  let moved = false;
  client.addEventListener("moved", () => (moved = true), { once: true });
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [64, 48];
  const context = canvas.getContext("2d");
  for (let n = 0; n < 64 * 48 / 4; n += 1) {
    context.fillStyle = `rgb(${n * 7 % 256} ${n * 31 % 256} ${n * 57 % 256})`;
    context.fillRect(n % 32 * 2, Math.floor(n / 32) * 2, 2, 2);
  }
  window.sent = [];
  for (let left = after; left > 0; ) {
    context.fillStyle = `rgb(${sent.length * 5 % 256} 0 0)`;
    context.fillRect(16 * (sent.length % 3), 16, 8, 8);
    const seq = await client.sendFrame(canvas, 1);
    if (seq === null) await new Promise((resolve) => setTimeout(resolve, 2));
    else {
      sent.push(seq);
      left -= moved;
    }
  }
}"""


@pytest.mark.parametrize("tiles", [False, True])
def test_a_stream_moves_to_another_server(pair: TwoServers, connect, tiles: bool) -> None:
    """From the server's own page, under its policy; each frame has one result or is told as lost."""
    name = f"moves-{tiles}"
    pair.move(name, "b")
    stream = connect(pair.a, name, "/", attempts=0, tiles=tiles, hello={"policy": "all"})
    stream.until("client.state === 'open'")
    assert stream.run("client.url") == ws_url(pair.b.url, name)
    last = 0
    for to, before in (("a", pair.b), ("b", pair.a)):
        pumping = "after => { window.done = false; (" + PUMP + ")(after).then(() => (window.done = true)); }"
        stream.run(pumping, 20)
        stream.until("last => heard.filter(([type]) => type === 'result').length > last + 10", last)
        pair.move(name, to)
        pair.move_away(before)
        stream.until("done && client.state === 'open' && client.unacked === 0")
        last = stream.run("sent.at(-1)")
    assert [moved["url"] for moved in stream.heard("moved")] == [
        ws_url(server.url, name) for server in (pair.b, pair.a, pair.b)
    ]
    seqs = [found["result"]["seq"] for found in stream.heard("result")]
    lost = [seq for told in stream.heard("lost") for seq in told["seqs"]]
    assert (seqs, lost) == (list(range(1, last + 1)), []), "each frame has its result"
    decisions = [found["result"]["decision"] for found in stream.heard("result")]
    assert decisions.count("keyframe") == 3
    assert stream.heard("refused") == [], "the first frame at each server was a whole one"
    assert "waiting" not in stream.states()


SENDS_ELSEWHERE = """async ([to, moves]) => {
  window.WebSocket = class extends EventTarget {
    protocol = "afterimage.v1";
    constructor(url) { super(); addresses.push(url); setTimeout(() => this.onopen()); }
    send() { setTimeout(() => this.onmessage({ data: JSON.stringify({ type: "moved", ws_url: to }) })); }
    close() {}
  };
  window.addresses = [];
  const { StreamClient } = await import("/clients/browser/stream.js");
  const client = new StreamClient("ws://127.0.0.1:8000/v1/streams/door/ws", { moves, attempts: 0 });
  return new Promise((resolve) => {
    client.addEventListener("state", ({ detail }) => detail.state === "ended" && resolve([detail.said, addresses]));
    client.open();
  });
}"""


def test_a_secure_page_says_why_it_cannot_follow(playwright) -> None:
    """Browsers refuse ws from https, but to the own machine, and tell a page nothing."""
    page = playwright.browser.new_page()

    def answer(route: Any) -> None:
        name = route.request.url.rpartition("/")[2]
        body = (BROWSER / name).read_text() if name.endswith(".js") else "<!doctype html>"
        route.fulfill(body=body, content_type="text/javascript" if name.endswith(".js") else "text/html")

    page.route("https://page.test/**", answer)
    page.goto("https://page.test/")
    first = "ws://127.0.0.1:8000/v1/streams/door/ws"
    said, addresses = page.evaluate(SENDS_ELSEWHERE, ["ws://10.0.0.7:8001/v1/streams/door/ws", 1])
    assert said["code"] == "moved"
    assert "a page that came over https may not connect over ws" in said["detail"]
    assert addresses == [first]
    for there in ("ws://127.0.0.1:8001/v1/streams/door/ws", "wss://b.example/v1/streams/door/ws"):
        assert page.evaluate(SENDS_ELSEWHERE, [there, 1]) == [None, [first, there]]
    said, addresses = page.evaluate(SENDS_ELSEWHERE, ["ws://127.0.0.1:8001/v1/streams/door/ws", 0])
    assert (said["code"], addresses) == ("moved", [first])
    assert "the option moves is 0" in said["detail"]
    page.close()
