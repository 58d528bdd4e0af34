"""The commands as a person types them, on files made here; what goes wrong is said in one line."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from own_model import write_model
from service_fakes import FakeEngine, make_registry, make_settings, running_server
from typer.testing import CliRunner

from service.cli import make_app
from service.commands.common import Clip, own_name, parse_clip, parse_size
from service.commands.verify import ENDLESS_FRAMES, default_frames
from service.sources import Frame, Source, open_source
from tests.cache.random_models import ModelMaker

runner = CliRunner()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small network of unknown family: two convolutions and a softmax over everything."""
    m = ModelMaker(3, 3, 32, 48)
    x = m.activate(m.conv("image", 3, 8, 3, strides=[2, 2], pads=[1] * 4), 8, "Relu")
    y = m.activate(m.conv(x, 8, 8, 3, pads=[1] * 4), 8, "Silu")
    path = tmp_path / "small.onnx"
    path.write_bytes(m.finish([y, m.node("Softmax", [m.node("Flatten", [y])], axis=1)]))
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of images: noise, and a square that moves."""
    folder = tmp_path / "clip"
    folder.mkdir()
    scene = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    for n in range(6):
        frame = scene.copy()
        frame[8:16, 4 * n : 4 * n + 8] = 255
        cv2.imwrite(str(folder / f"{n:02}.png"), frame)
    return folder


def say(*arguments: object) -> str:
    result = runner.invoke(make_app(), [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: object) -> str:
    result = runner.invoke(make_app(), [str(a) for a in arguments])
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_verify_exact(model: Path, clip: Path) -> None:
    report = json.loads(say("verify", model, clip, "--exact", "--json"))
    assert report["frames"] == 6
    assert report["bit_identical"] is True
    assert report["max_abs_error"] == 0
    assert report["onnxruntime_error"] < 1e-5
    assert 0 < report["compute_fraction"]["mean"] <= 1
    assert (report["agreement"], report["note"]) == (None, "no boxes")


def test_verify_selects_frames_and_prints_a_table(model: Path, clip: Path) -> None:
    assert json.loads(say("verify", model, clip, "--start", 1, "--every", 2, "--json"))["frames"] == 3
    shown = say("verify", model, clip, "--frames", 2)
    assert "frames: 2" in shown
    assert "no boxes" in shown


def test_models_show_says_what_is_cached_and_why_not(model: Path) -> None:
    shown = json.loads(say("models", "show", model, "--json"))
    nodes = {node["op"]: node for node in shown["nodes"]}
    assert nodes["conv + relu"]["tail"] is None
    assert nodes["Softmax"]["tail"] == 0
    assert "Softmax" in nodes["Softmax"]["reason"]
    assert shown["input"] == "48x32 RGB"
    assert "tail 0" in say("models", "show", model)


def test_detect_prints_what_a_raw_model_gives(model: Path, clip: Path) -> None:
    reply = json.loads(say("detect", clip / "00.png", "--model", model, "--json"))
    assert (reply["width"], reply["height"]) == (48, 32)
    assert [tensor["shape"] for tensor in reply["tensors"]] == [[1, 8, 16, 24], [1, 3072]]
    assert "tensor" in say("detect", clip / "00.png", "--model", model)


def test_what_goes_wrong_is_said_in_one_line(model: Path, clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("hello world")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(cv2.imencode(".jpg", np.zeros((32, 48, 3), np.uint8))[1].tobytes()[:-40])
    assert "not an ONNX model: expected a protobuf message, got text" in fail("models", "show", text)
    assert "No such file" in fail("models", "show", tmp_path / "none.onnx")
    assert "no such file or folder" in fail("verify", model, tmp_path / "none.mp4")
    assert "expected a size such as 640x384, got 'big'" in fail("verify", model, clip, "--size", "big")
    assert "at least one frame" in fail("verify", model, clip, "--start", 99)
    assert "expected a whole JPEG image, got" in fail("detect", cut, "-m", model)
    assert "JPEG, PNG or WebP" in fail("detect", text, "--model", model)
    assert "No such file" in fail("serve", tmp_path / "none.onnx")
    assert "text.onnx: not an ONNX model" in fail("serve", text)
    assert "two models are called 'small'" in fail("serve", model, model)
    assert "no such file or folder" in fail("stream", tmp_path / "none.mp4")


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "peple"),
        ("verify", "peple", "scene"),
        ("detect", "00.png", "-m", "peple"),
        ("models", "show", "peple"),
    ],
)
def test_a_misspelt_model_gets_the_nearest_name(command: tuple[str, ...], clip: Path) -> None:
    arguments = [clip / word if word == "00.png" else word for word in command]
    assert "no model 'peple'; did you mean people?" in fail(*arguments)


def test_nothing_that_listens_is_said_with_how_to_start_it(clip: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        begun = time.monotonic()
        for said in (fail("stream", "scene", "--url", url), fail("detect", clip / "00.png", "--url", url)):
            assert f"nothing listens at {url}; start a server with: {own_name()} serve (or: make run)" in said
        assert time.monotonic() - begun < 5
    assert "does not answer" in fail("stream", "scene", "--url", "http://127.0.0.1:99999")


@pytest.fixture
def server() -> Iterator[str]:
    with running_server(make_registry(FakeEngine().model()), make_settings()) as running:
        yield running.url


def test_the_scene_is_streamed_at_its_pace(server: str) -> None:
    lines = say("stream", "scene:3", "--frames", 8, "--url", server, "--json").splitlines()
    summary = json.loads(lines[-1])["summary"]
    assert summary["frames"] == 8
    assert summary["results"] + summary["skipped_without_credit"] + summary["dropped_by_server"] == 8
    assert summary["seconds"] > 7 / 25 * 0.9


def test_a_stream_is_kept_with_its_boxes_drawn(server: str, clip: Path, tmp_path: Path) -> None:
    folder, video = tmp_path / "kept", tmp_path / "kept.mp4"
    say("stream", clip, "--save", folder, "--url", server)
    kept = [cv2.imread(str(path)) for path in sorted(folder.iterdir())]
    assert len(kept) == 6
    original = cv2.imread(str(clip / "00.png"))
    assert np.abs(kept[0].astype(int) - original).max() > 100, "a box of the fake model is drawn"
    say("stream", clip, "--loop", "--frames", 9, "--save", video, "--url", server)
    with open_source(video) as source:
        assert [f.image.shape for f in source] == [(32, 48, 3)] * 9
    assert "expected a new or empty folder" in fail("stream", clip, "--save", folder, "--url", server)
    assert "no such folder" in fail("stream", clip, "--save", tmp_path / "x" / "a.mp4", "--url", server)


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the place of the built-in one."""
    folder = tmp_path / "models" / "default"
    folder.mkdir(parents=True)
    monkeypatch.setattr("service.catalogue.resources.files", lambda package: tmp_path / package)
    return write_model(folder / "people.onnx")


def test_the_built_in_model_needs_no_name(built_in: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = json.loads(say("detect", clip / "00.png", "--min-confidence", 0, "--json"))
    assert {box["label"] for box in reply["detections"]} <= {"person", "face", "vehicle"}
    assert reply["detections"]
    served = []
    monkeypatch.setattr(
        "service.serve.serve", lambda settings, registry, try_next: served.append((registry, registry.get(), try_next))
    )
    say("serve", "--size", "128x96")
    registry, model, hint = served[0]
    assert (registry.names(), model.name, model.spec.family, model.size) == (
        ("people",),
        "people",
        "afterimage",
        (128, 96),
    )
    assert hint.endswith(" stream scene")
    say("serve")
    say("serve", "people")
    assert served[1][1].size == served[2][1].size == (96, 64)


def test_a_file_called_as_the_built_in_model_is_not_served_in_its_place(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people").write_text("no model")
    served = []
    monkeypatch.setattr("service.serve.serve", lambda settings, registry, try_next: served.append(registry.get()))
    say("serve")
    say("serve", "--size", "128x96")
    assert [model.size for model in served] == [(96, 64), (128, 96)]
    assert "people: not an ONNX model" in fail("serve", "people"), "a file that is named stands for itself"


def test_the_built_in_model_is_verified_on_the_scene(built_in: Path) -> None:
    report = json.loads(say("verify", "people", "scene", "--frames", 4, "--size", "320x192", "--exact", "--json"))
    assert (report["frames"], report["bit_identical"]) == (4, True)
    assert report["onnxruntime_error"] < 1e-4


def test_verify_takes_the_scene(model: Path) -> None:
    report = json.loads(say("verify", model, "scene:2", "--frames", 3, "--json"))
    assert report["frames"] == 3
    assert default_frames("scene") == ENDLESS_FRAMES
    assert default_frames("clip.mp4") is None


def test_a_wrong_url_or_size_is_said_in_one_line(model: Path, clip: Path) -> None:
    assert "expected a URL such as" in fail("stream", clip, "--url", "foo")
    for said in (fail("serve", "--size", "4x4"), fail("serve", model, "--size", "4x4")):
        assert "Invalid value for --size: expected at least 8, got 4" in said
    assert "--size: expected at least 8, got 4" in fail("detect", clip / "00.png", "-m", model, "--size", "4x4")


def test_detect_names_a_server_that_does_not_answer_in_json(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpx.post", lambda *_, **__: httpx.Response(501, text="<html>no</html>"))
    assert "expected JSON, got HTTP 501" in fail("detect", clip / "00.png", "--url", "http://127.0.0.1:1")


def test_an_op_nobody_knows_is_named(tmp_path: Path) -> None:
    m = ModelMaker(1, 3, 8, 8)
    path = tmp_path / "odd.onnx"
    path.write_bytes(m.finish([m.node("Frobnicate", ["image"])]))
    assert "unknown op 'Frobnicate'" in fail("models", "show", path)


@pytest.mark.parametrize(("text", "size"), [("640x384", (640, 384)), ("64X32", (64, 32)), (None, None)])
def test_sizes(text: str | None, size: tuple[int, int] | None) -> None:
    assert parse_size(text) == size


def test_a_stream_that_is_stopped_still_sums_up(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frames(source: Source) -> Iterator[Frame]:
        for number, frame in enumerate(original(source)):
            if number == 3:
                raise KeyboardInterrupt
            yield frame

    original = Source.__iter__
    monkeypatch.setattr(Source, "__iter__", frames)
    with running_server(make_registry(FakeEngine().model()), make_settings()) as server:
        summed = json.loads(say("stream", clip, "--url", server.url, "--json").splitlines()[-1])
    assert summed["summary"]["frames"] == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.mp4", Clip("a.mp4", 7, 9, 3)),
        ("a.mp4@200+150/2", Clip("a.mp4", 200, 150, 2)),
        ("a.mp4@200", Clip("a.mp4", 200, 9, 3)),
        ("0@5/2", Clip("0", 5, 9, 2)),
        ("me@home.mp4", Clip("me@home.mp4", 7, 9, 3)),
    ],
)
def test_stretches_of_clips(text: str, expected: Clip) -> None:
    assert parse_clip(text, Clip("", 7, 9, 3)) == expected


def test_a_file_named_like_a_stretch_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cam@3").mkdir()
    name = str(tmp_path / "cam@3")
    assert parse_clip(name, Clip("")) == Clip(name)
