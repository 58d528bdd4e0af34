"""The browser's client against a server that does what no server should; the table says what must come of each.

All scenarios run in one page, a few at a time: a browser delays handshakes where many are under way.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from browser import CHROMIUM, launched
from hostile_scenarios import SCENARIOS
from hostile_server import JPEG, hostile_server

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

BLIND = {
    *("http_400", "http_401", "http_403", "http_404", "redirects"),
    *("other_subprotocol", "no_subprotocol"),
    *("not_utf8", "masked", "close_bad_code", "close_bad_text"),
}
"""A page is told no more of these than that the connection is lost: it comes back until its attempts are used up."""
BEYOND_A_PAGE = {"huge_message", "endless_message"}
"""A browser gathers a message before a page hears of it, and a page cannot say how much."""
TALKS = {"talks_and_settles_nothing"}
"""The client gives a connection up when nothing comes, and here something does: it waits for its credits."""
AT_ONCE = 8
ALONE = "floods_errors"
"""Leaves the server no time for others, until the browser ends it."""

# Plays scenarios; what came of each, in the table's words.
PLAY = """async ([rows, jpeg, atOnce]) => {
  const { StreamClient, streamUrl } = await import("/clients/browser/index.js");
  const image = Uint8Array.from(atob(jpeg), (char) => char.charCodeAt(0));
  const play = ({ name, then, slow, annotated }) => new Promise((resolve) => {
    const told = { name, results: 0, connections: 0, refused: 0, lost: 0, waits: 0, then: "hung" };
    const client = new StreamClient(streamUrl(location.origin, name), {
      attempts: then === "gives_up" ? 1 : 6, initialMs: 5, maximumMs: 2000, askedMs: 100, token: "s3cret",
      hello: annotated ? { outputs: ["detections", "annotated"] } : {},
      ...(slow && { openTimeoutMs: 300, readyTimeoutMs: 300, stallMs: 300 }),
    });
    let sent = 0;
    const pump = setInterval(() => {
      while (client.credits > 0 && sent < (then === "works" ? 4 : 400) && client.send(image, 1)) sent += 1;
    }, 2);
    const end = (words, more) => {
      clearInterval(pump);
      clearTimeout(deadline);
      resolve({ ...told, then: words, ...more });
    };
    const deadline = setTimeout(() => { end("hung", { state: client.state }); client.close({ bye: false }); }, 20000);
    client.addEventListener("refused", () => (told.refused += 1));
    client.addEventListener("lost", ({ detail }) => (told.lost += detail.seqs.length));
    client.addEventListener("result", () => {
      told.results += 1;
      const well = told.connections === 1 && !told.refused && !told.lost;
      if (then === "works" && told.results === 4) end(well ? "works" : "unwell");
      else if (then === "back" && told.connections > 1) end("back");
      else if (then === "follows" && told.connections > 1) end(told.waits ? "back" : "follows");
      else return;
      client.close({ bye: false });
    });
    client.addEventListener("state", ({ detail }) => {
      if (detail.state === "connecting") told.connections += 1;
      if (detail.state === "waiting") told.waits += 1;
      if (detail.state !== "ended" || !detail.final) return;
      const { code, reason, said } = detail;
      if (reason.startsWith("the server broke the protocol: ")) end("misbehaved", { code, reason, said });
      else end(told.waits ? "gives_up" : "refused", { code, reason, said });
    });
    client.open();
  });
  const left = [...rows], stories = [];
  const worker = async () => { while (left.length) stories.push(await play(left.shift())); };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return stories;
}"""


def expected(name: str) -> str:
    """What the table says, as far as a page can tell."""
    if name in BLIND:
        return "gives_up"
    if name == "echoes_the_token":
        return "misbehaved"  # the page looks at the subprotocol itself
    return SCENARIOS[name].then


@pytest.fixture(scope="module")
def stories() -> Iterator[dict[str, dict[str, Any]]]:
    with hostile_server() as server, launched() as playwright:
        page = playwright.browser.new_page()
        page.set_default_timeout(120_000)
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(server.url)
        rows = [
            {"name": name, "then": expected(name), "slow": row.slow, "annotated": name.startswith("annotated")}
            for name, row in SCENARIOS.items()
            if name not in BEYOND_A_PAGE | TALKS
        ]
        image = base64.b64encode(JPEG).decode()
        one_by_one = [row for row in rows if row["slow"]] + [row for row in rows if row["name"] == ALONE]
        quick = page.evaluate(PLAY, [[row for row in rows if row not in one_by_one], image, AT_ONCE])
        # A handshake that hangs holds up the others of its host.
        slow = page.evaluate(PLAY, [one_by_one, image, 1])
        assert failures == []
        yield {story["name"]: story for story in quick + slow}


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in BEYOND_A_PAGE | TALKS])
def test_it_ends_or_goes_on_as_the_table_says(stories: dict[str, dict[str, Any]], name: str) -> None:
    story = stories[name]
    assert story["then"] == expected(name), story
    if story["then"] == "misbehaved":
        assert (story["code"], story["waits"]) == (1002, 0)
    if story["then"] == "gives_up":
        assert story["waits"] == (6 if SCENARIOS[name].then != "gives_up" and name not in BLIND else 1)
    if story["then"] == "refused" and SCENARIOS[name].code is not None:
        assert story["code"] == SCENARIOS[name].code


def test_what_a_page_cannot_tell_is_in_the_table() -> None:
    assert set(SCENARIOS) >= BLIND | BEYOND_A_PAGE | TALKS
