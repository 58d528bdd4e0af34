"""All cameras of the configuration together."""

from __future__ import annotations

from pathlib import Path

from cameras import clip, until

from service.ingest.feeds import STATES


def test_states_and_reconnects_of_all(make_client, tmp_path: Path) -> None:
    film = clip(tmp_path / "film.mp4", [50, 150] * 100, fps=2)
    sources = {"door": {"url": film}, "yard": {"url": film}, "gate": {"url": "rtsp://127.0.0.1:9/x"}}
    feeds = make_client(sources=sources).app.state.service.feeds
    until(lambda: feeds.states()["live"] == 2 and feeds.reconnects)
    assert set(feeds.states()) == set(STATES)
    assert sum(feeds.states().values()) == 3
    assert feeds.get("gate").status.reconnects == feeds.reconnects
    assert feeds.get("other") is None


def test_no_cameras(make_client) -> None:
    feeds = make_client().app.state.service.feeds
    assert set(feeds.states().values()) == {0}
    assert feeds.reconnects == 0
