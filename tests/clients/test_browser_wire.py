"""The browser's codec in a real browser, against the same golden vectors as Python's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browser import CHROMIUM, launched
from service_fakes import FakeEngine, make_registry, make_settings, running_server

from clients.wire import vectors

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

HELPERS = """
  const bytes = hex => Uint8Array.from(hex.match(/../g) ?? [], pair => parseInt(pair, 16));
  const hex = data => Array.from(data, byte => byte.toString(16).padStart(2, "0")).join("");
  const text = data => new TextDecoder("utf-8", {fatal: true}).decode(bytes(data));
  const refusal = call => {
    try { call(); } catch (error) { if (error instanceof wire.WireError) return error.code; throw error; }
    return null;
  };
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Any]:
    """Runs the body of a function of `wire` and `vectors`, with the helpers, in a page that the server has sent."""
    with running_server(make_registry(FakeEngine().model()), make_settings()) as server, launched() as playwright:
        page = playwright.browser.new_page()
        page.goto(f"{server.url}/healthz")

        def evaluate(body: str, given: Any) -> Any:
            script = f"async given => {{ const wire = await import('/clients/browser/wire.js'); {HELPERS} {body} }}"
            return page.evaluate(script, given)

        yield evaluate


def load(stem: str) -> list[dict[str, Any]]:
    found = json.loads((vectors.GOLDEN / f"{stem}.json").read_text(encoding="utf-8"))
    assert found
    return found


def test_frames_byte_for_byte(run) -> None:
    golden = load("frames")
    found = run(
        """return given.map(vector => {
          const frame = wire.decodeFrame(bytes(vector.hex));
          return {
            name: vector.name, hex: hex(wire.encodeFrame(frame)), op: frame.op, flags: frame.flags,
            seq: String(frame.seq), capture_ts_us: String(frame.captureTsUs), payload_hex: hex(frame.payload),
          };
        });""",
        golden,
    )
    assert found == golden


def test_changed_tiles_byte_for_byte(run) -> None:
    golden = load("tiles")
    found = run(
        """return given.map(vector => {
          const { payload } = wire.decodeFrame(bytes(vector.hex));
          const tiles = wire.parseTiles(payload);
          return {
            base: tiles.base, width: tiles.width, height: tiles.height, tile_px: tiles.tilePx, columns: tiles.columns,
            bitmap_hex: hex(tiles.bitmap), image_hex: hex(tiles.image), payload_hex: hex(wire.encodeTiles(tiles)),
            reference: wire.referenceOf(payload),
          };
        });""",
        golden,
    )
    assert found == [{key: vector[key] for key in one} for one, vector in zip(found, golden, strict=True)]


def test_refused_tiles(run) -> None:
    golden = load("refused_tiles")
    found = run("return given.map(vector => refusal(() => wire.decodeFrame(bytes(vector.hex))));", golden)
    assert found == [vector["code"] for vector in golden]


def test_tiles_with_fields_out_of_range_are_not_encoded(run) -> None:
    found = run(
        """const good = {base: 1, width: 16, height: 16, tilePx: 16, columns: 0, bitmap: bytes("00"), image: bytes("")};
        return [
          {}, {base: -1}, {base: 2 ** 32}, {base: 0.5}, {width: 65536}, {tilePx: 256}, {columns: 65536},
          {bitmap: bytes("")}, {bitmap: bytes("0000")}, {bitmap: bytes("80")}, {bitmap: bytes("40")},
        ].map(fields => refusal(() => wire.encodeTiles({...good, ...fields})));""",
        None,
    )
    assert found == [None] + ["bad_tiles"] * 10


def test_an_offer_of_tiles_that_is_none(run) -> None:
    (golden,) = (vector["fields"] for vector in load("server_messages") if vector["name"] == "ready_tiles")
    offers = [{}, {"tile_px": 16}, {"tile_px": 0, "difference": 3}, {"tile_px": 16, "difference": -1}, [], 3, None]
    texts = [json.dumps(golden | {"tiles": offer}) for offer in offers]
    found = run("return given.map(message => refusal(() => wire.parseMessage(message)));", texts)
    assert found == ["bad_message"] * 6 + [None]


def test_a_frame_is_encoded_from_numbers_too(run) -> None:
    (golden,) = (vector for vector in load("frames") if vector["name"] == "image_jpeg")
    found = run(
        "return hex(wire.encodeFrame({seq: 1, captureTsUs: 1700000000123456, payload: bytes(given)}));",
        golden["payload_hex"],
    )
    assert found == golden["hex"]


def test_every_truncation_of_a_frame_is_refused(run) -> None:
    passed = run(
        """return given.flatMap(vector => {
          const data = bytes(vector.hex);
          return Array.from(data.keys()).filter(length => !refusal(() => wire.decodeFrame(data.subarray(0, length))))
            .map(length => `${vector.name} ${length}`);
        });""",
        load("frames"),
    )
    assert passed == []


def test_refused_frames(run) -> None:
    golden = load("refused_frames")
    found = run("return given.map(vector => refusal(() => wire.decodeFrame(bytes(vector.hex))));", golden)
    assert found == [vector["code"] for vector in golden]


def test_fields_out_of_range_are_refused(run) -> None:
    found = run(
        """const payload = bytes("ffd8ffd9");
        return [
          {seq: 0, captureTsUs: 0}, {seq: 2 ** 32, captureTsUs: 0}, {seq: 1.5, captureTsUs: 0},
          {seq: 1, captureTsUs: -1}, {seq: 1, captureTsUs: 2n ** 64n}, {seq: 1, captureTsUs: 0, payload: bytes("")},
        ].map(frame => refusal(() => wire.encodeFrame({payload, ...frame})));""",
        None,
    )
    assert found == ["bad_seq", "bad_seq", "bad_seq", "bad_message", "bad_message", "empty_payload"]


def test_every_message_of_a_server(run) -> None:
    golden = load("server_messages")
    found = run("return given.map(vector => wire.parseMessage(text(vector.json_hex)));", golden)
    assert found == [vector["fields"] for vector in golden]


def test_every_truncation_of_a_message_is_refused(run) -> None:
    passed = run(
        """return given.flatMap(vector => {
          const whole = text(vector.json_hex);
          return Array.from({length: whole.length}, (_, length) => length)
            .filter(length => !refusal(() => wire.parseMessage(whole.slice(0, length))))
            .map(length => `${vector.name} ${length}`);
        });""",
        load("server_messages"),
    )
    assert passed == []


def test_messages_that_are_none(run) -> None:
    texts = ["", "null", "3", "[]", "{}", '{"type":"hello"}', '{"type":"constructor"}', '{"type":"ack","ack":"1"}']
    found = run("return given.map(message => refusal(() => wire.parseMessage(message)));", texts)
    assert found == ["empty_message"] + ["bad_message"] * 7


def test_messages_of_a_client(run) -> None:
    golden = [vector for vector in load("client_messages") if vector["name"].startswith("hello")]
    found = run("return given.map(({fields: {type, ...rest}}) => JSON.parse(wire.encodeHello(rest)));", golden)
    assert found == [vector["fields"] for vector in golden]
    assert run("return wire.encodeBye();", None) == '{"type":"bye"}'


def test_subprotocols(run) -> None:
    golden = [vector for vector in load("subprotocols") if vector["offered"][0] == "afterimage.v1"]
    assert len(golden) == 2
    found = run("return given.map(vector => wire.subprotocols(vector.token));", golden)
    assert found == [vector["offered"] for vector in golden]


def test_where_a_client_may_be_sent(run) -> None:
    golden = load("moves")
    script = "return given.map(vector => refusal(() => wire.follow(vector.ws_url, vector.from)));"
    assert run(script, golden) == [None if vector["taken"] else "bad_message" for vector in golden]
    long = [f"ws://b.example/{'x' * length}/door/ws" for length in (2048 - 23, 2049 - 23)]
    assert [len(url) for url in long] == [2048, 2049]
    assert run(script, [golden[0] | {"ws_url": url} for url in long]) == [None, "bad_message"]


def test_close_codes_as_in_python(run) -> None:
    from clients.wire.errors import is_retryable

    codes = list(range(1000, 1016))
    assert run("return given.map(wire.isRetryable);", codes) == [is_retryable(code) for code in codes]
