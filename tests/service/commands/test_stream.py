"""`afterimage stream`: what it saves, what it must not destroy, and a server or a reader that goes away."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras import rtsp_server
from service_fakes import FakeEngine, RunningServer, make_registry, make_settings, running_server, wait_until
from town import two_servers
from typer.testing import CliRunner

from service.cli import make_app
from service.commands.stream import Drawing
from service.recorder import open_recorder
from service.sources import Frame, open_source

ROOT = Path(__file__).parents[3]
runner = CliRunner()


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with running_server(make_registry(FakeEngine().model()), make_settings()) as running:
        yield running


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    with open_recorder(path) as recorder:
        for number in range(12):
            recorder.add(np.full((48, 64, 3), 10 * number, np.uint8), number * 40_000_000)
    return path


def stream(*arguments: object) -> tuple[int, str]:
    result = runner.invoke(make_app(), ["stream", *[str(a) for a in arguments]])
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.split())


def test_the_source_is_not_overwritten(server: RunningServer, clip: Path, tmp_path: Path) -> None:
    before = clip.read_bytes()
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    for source, save in ((clip, clip), (clip, link), (link, clip)):
        code, said = stream(source, "--save", save, "--url", server.url)
        assert (code, "expected another file than the source" in said) == (1, True), said
    assert clip.read_bytes() == before
    code, said = stream(clip, "--save", tmp_path / "other.mp4", "--url", server.url)
    assert code == 0, said
    with open_source(tmp_path / "other.mp4") as kept:
        assert len(list(kept)) == 12


def test_tracks_show_numbers(server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackers")
    folder = tmp_path / "still"
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((96, 128, 3), 100, np.uint8))
    written: list[str] = []
    monkeypatch.setattr("service.annotate.cv2.putText", lambda image, text, *rest: written.append(text))
    saved = tmp_path / "saved"
    code, said = stream(folder, "--tracks", "--fps", 30, "--save", saved, "--json", "--url", server.url)
    assert code == 0, said
    lines = [json.loads(line) for line in said.replace("} {", "}\n{").splitlines() if line.startswith("{")]
    ids = [line["detections"][0].get("track_id") for line in lines if "seq" in line]
    assert ids == [None, 1, 1, 1, 1]
    assert lines[-1]["summary"]["objects"] == 1
    assert written == ["grey10 75%", *["#1 grey10 75%"] * 4]


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_nothing_to_save_is_said(server: RunningServer, clip: Path, tmp_path: Path, name: str) -> None:
    code, said = stream(clip, "--start", 99999, "--save", tmp_path / name, "--url", server.url)
    assert code == 1, said
    assert f"{name}: no frame came, and nothing was saved" in said
    assert stream(clip, "--start", 99999, "--url", server.url)[0] == 0, "without --save the summary says it"


def test_frames_without_results_save_nothing(clip: Path, tmp_path: Path) -> None:
    with running_server(make_registry(FakeEngine().model()), make_settings(max_pixels=64)) as server:
        code, said = stream(clip, "--save", tmp_path / "out.mp4", "--url", server.url)
    assert code == 1, said
    assert "no result came, and nothing was saved" in said


def test_a_reader_that_goes_away_ends_it_quietly(server: RunningServer) -> None:
    command = [sys.executable, "-m", "service.cli", "stream", "scene", "--json", "--frames", "200", "--url", server.url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert json.loads(process.stdout.readline())["seq"] == 1
            process.stdout.close()
            said = process.stderr.read().decode()
            assert process.wait(20) == 1
            assert "error" not in said.lower(), said
        finally:
            process.kill()
    wait_until(lambda: not server.service.connections)


def test_a_lost_connection_is_said_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.zeros((48, 64, 3), np.uint8))
    engine = FakeEngine()
    ended: list[tuple[int, str]] = []

    def run(url: str) -> None:
        ended.append(stream(folder, "--loop", "--frames", 60, "--fps", 20, "--url", url, "--json"))

    with running_server(make_registry(engine.model()), make_settings(drain_s=0.2, retry_after_ms=0)) as first:
        thread = threading.Thread(target=run, args=(first.url,))
        thread.start()
        wait_until(lambda: first.service.connections)
        wait_until(lambda: sum(len(session.decisions) for session in engine.sessions) > 6)
    with running_server(make_registry(FakeEngine().model()), make_settings(), port=first.port):
        thread.join(30)
    code, said = ended[0]
    assert code == 0, said
    summary = json.loads(said[said.rindex('{"summary"') :])["summary"]
    assert summary["reconnections"] >= 1
    assert summary["results"] > 0
    assert said.count("the connection to the server was lost; trying again") == 1
    assert said.count("the server has nothing to resume (unknown); the stream starts afresh") == 1


@pytest.mark.parametrize(("patience_s", "lost"), [(1, True), (20, False)])
def test_a_box_may_be_given_more_time_for_a_frame(clip: Path, patience_s: int, lost: bool) -> None:
    engine = FakeEngine(push_s=1.6)
    with running_server(make_registry(engine.model()), make_settings()) as slow:
        asked = ("--frames", 2, "--policy", "all", "--ack-timeout", patience_s, "--json")
        code, said = stream(clip, *asked, "--url", slow.url)
    summary = json.loads(said[said.rindex('{"summary"') :])["summary"]
    assert code == 0, said
    assert ("the connection to the server was lost; trying again" in said) == lost
    assert bool(summary["reconnections"]) == lost
    assert lost or summary["results"] == 2


def test_where_a_stream_moves_to_is_said(clip: Path) -> None:
    with two_servers() as pair:
        pair.town.everybody = "b"
        status, said = stream(clip, "--url", pair.a.url)
        assert status == 0, said
        assert said.count("the stream has moved to ws://") == 1
        assert f"{pair.b.url.removeprefix('http://')}/v1/streams/cli-" in said
        assert "lost" not in said.split("moved to")[0]


def test_policy_and_rates_reach_the_server(server: RunningServer, clip: Path) -> None:
    asked = ("--policy", "drop_newest", "--max-fps", "0.01", "--idle-fps", "0.5", "--json")
    code, said = stream(clip, *asked, "--url", server.url)
    assert code == 0, said
    summary = json.loads(said[said.rindex('{"summary"') :])["summary"]
    assert summary["results"] == 1, "one in a hundred seconds"
    assert summary["dropped_by_server"] + summary["skipped_without_credit"] == 11
    assert (summary["evicted"], summary["refused"]) == (0, 0)
    assert 0 < summary["age_ms_p50"] < 20_000


def saved_pictures(server: RunningServer, folder: Path, save: Path, *options: str) -> list[np.ndarray]:
    code, said = stream(folder, "--save", save, *options, "--url", server.url)
    assert code == 0, said
    return [cv2.imread(str(path)) for path in sorted(save.iterdir())]


def test_saved_pictures_show_what_was_recomputed_unless_told_not_to(server: RunningServer, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(3):  # the second frame is the first again, the third another
        cv2.imwrite(str(folder / f"{number}.png"), np.full((480, 640, 3), 100 if number < 2 else 160, np.uint8))
    shown = saved_pictures(server, folder, tmp_path / "shown")
    plain = saved_pictures(server, folder, tmp_path / "plain", "--no-overlay")
    right = (slice(50, 400), slice(400, 600))  # beside the box
    for with_overlay, without in zip(shown, plain, strict=True):
        assert not np.array_equal(with_overlay[440:, :300], without[440:, :300]), "the strip"
    assert np.abs(plain[0][right].astype(int) - 100).max() <= 3
    assert shown[0][right].mean(axis=(0, 1))[2] > 105, "a keyframe is tinted"
    assert np.abs(shown[1][right].astype(int) - 100).max() <= 3, "what was reused is not"
    assert shown[2][right].mean(axis=(0, 1))[2] > 165


def test_lines_are_whole_and_come_before_the_summary(server: RunningServer, clip: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "stream", str(clip), "--json", "--url", server.url]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    *lines, last = [json.loads(line) for line in run.stdout.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 13))
    assert {"time", "decision", "compute_fraction", "detections", "timing_ms"} <= set(lines[0])
    assert (lines[0]["decision"], lines[0]["detections"][0]["label"]) == ("keyframe", "grey0")
    assert last["summary"]["results"] == 12


def test_a_camera_on_the_network(server: RunningServer) -> None:
    with rtsp_server() as camera:
        code, said = stream(camera.url(), "--frames", 3, "--json", "--url", server.url)
    assert code == 0, said
    assert json.loads(said.partition('{"summary": ')[2].removesuffix("}"))["frames"] == 3
    assert "secret" not in said
    code, said = stream("rtsp://viewer:geheim@127.0.0.1:9/cam", "--url", server.url)
    assert (code, "rtsp://127.0.0.1:9/cam: connection refused" in said, "geheim" in said) == (1, True, False), said


def test_frames_that_get_no_result_are_not_kept(tmp_path: Path) -> None:
    """Those that are paced are settled by an ack, which is no event."""
    with open_recorder(tmp_path / "kept") as recorder:
        drawing, picture = Drawing(recorder, 3), np.zeros((8, 8, 3), np.uint8)
        for seq in range(1, 100):
            drawing.sent(seq, Frame(picture, seq, seq, seq))
        assert list(drawing._frames) == [97, 98, 99]
        recorder.add(picture, 0)
