"""The log in both forms, whose entries it holds, and what must never stand in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
from rich.console import Console
from service_fakes import FakeEngine, frame, image, make_registry, make_settings, running_server, subprotocols
from websockets.sync.client import connect

from service.logs import set_up


@pytest.fixture
def lines() -> Iterator:
    """A function that sets the log up and gives what was written so far; the log is as it was, after."""
    root, own, written = logging.getLogger(), logging.getLogger("afterimage"), io.StringIO()
    before = list(root.handlers), root.level, own.level

    def begin(*chosen):
        root.handlers.clear()  # pytest's own
        set_up(*chosen, Console(file=written, width=200))
        return lambda: written.getvalue().splitlines()

    yield begin
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


def test_json_entries_have_stable_fields(lines) -> None:
    said = lines("json", "debug")
    log = logging.getLogger("afterimage.ws")
    log.debug("stream %s:\ntwo lines", "door", extra={"stream_id": "door", "seq": 3})
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("a frame failed", extra={"error_id": "ab12"})
    first, second = (json.loads(line) for line in said())
    assert list(first) == ["time", "level", "logger", "message", "stream_id", "seq"]
    assert (first["level"], first["logger"], first["seq"]) == ("debug", "afterimage.ws", 3)
    assert first["message"] == "stream door:\ntwo lines"
    assert first["time"].endswith("Z")
    assert len(first["time"]) == len("2026-01-01T00:00:00.000Z")
    assert (second["level"], second["error_id"]) == ("error", "ab12")
    assert "ValueError: broken" in second["exception"]


def test_text_is_for_people(lines) -> None:
    said = lines("text", "info")
    logging.getLogger("afterimage.serve").info("listening on [here]", extra={"model": "m"})
    logging.getLogger("afterimage.serve").debug("unseen")
    (line,) = said()
    assert "INFO" in line
    assert "listening on [here]" in line


@pytest.mark.parametrize(("level", "own", "others"), [("debug", 4, 3), ("info", 3, 3), ("error", 1, 1)])
def test_levels_are_for_our_own_entries(lines, level: str, own: int, others: int) -> None:
    said = lines("json", level)
    for name in ("afterimage.x", "uvicorn.error"):
        log = logging.getLogger(name)
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(number, "said")
    loggers = [json.loads(line)["logger"] for line in said()]
    assert (loggers.count("afterimage.x"), loggers.count("uvicorn.error")) == (own, others)


def test_a_whole_server_logs_json_and_no_secrets(lines, engine: FakeEngine) -> None:
    said = lines("json", "debug")
    secret = "a-key-that-nobody-may-read"
    with running_server(make_registry(engine.model()), make_settings()) as server:
        made = httpx.post(f"{server.url}/v1/streams").json()
        engine.failures.append(RuntimeError("inside"))
        address = made["ws_url"]
        with connect(address, subprotocols=subprotocols(made["token"]), compression=None) as socket:
            socket.send('{"type":"hello"}')
            resume = json.loads(socket.recv(5))["resume"]
            socket.send(frame(7))
            error_id = json.loads(socket.recv(5))["error_id"]
        with connect(
            address, additional_headers={"Authorization": f"Bearer {secret}"}, subprotocols=subprotocols()
        ) as no:
            assert json.loads(no.recv(5))["code"] == "unauthorized"
        engine.failures.append(RuntimeError("inside"))
        headers = {"content-type": "image/jpeg", "authorization": f"Bearer {secret}"}
        assert httpx.post(f"{server.url}/v1/detect", content=image(), headers=headers).status_code == 500
    text = "\n".join(said())
    entries = [json.loads(line) for line in said()]
    (failed,) = (entry for entry in entries if entry.get("error_id") == error_id)
    assert (failed["stream_id"], failed["seq"], failed["model"]) == (made["stream_id"], 7, "fake")
    assert "RuntimeError: inside" in failed["exception"]
    assert any(entry["logger"].startswith("uvicorn") for entry in entries), "its entries come the same way"
    for hidden in (made["token"], resume, secret):
        assert hidden not in text
