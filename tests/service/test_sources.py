"""Clips: which frames come, with which numbers and times, and what is said when none do."""

from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from service.ingest.camera import CameraState, Picture, Status
from service.scene import Scene
from service.sources import SourceError, is_endless, open_source

DATA = Path(__file__).parents[3] / "shared" / "data" / "videos"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Twenty grey frames of rising brightness, ten a second."""
    path = tmp_path_factory.mktemp("clips") / "ramp.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(20):
            image = np.full((48, 64, 3), 20 + level * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def folder(tmp_path):
    """Three images and a file that is none."""
    for number, suffix in enumerate((".jpg", ".png", ".webp")):
        cv2.imwrite(str(tmp_path / f"{number}{suffix}"), np.full((8, 12, 3), 40 * number, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_video_gives_every_frame(video):
    with open_source(video) as source:
        frames = list(source)
    assert len(frames) == source.total == 20
    assert source.fps == 10
    assert [f.sequence for f in frames] == [f.position for f in frames] == list(range(20))
    assert [f.timestamp_ns for f in frames] == [n * 100_000_000 for n in range(20)]
    levels = [f.image.mean() for f in frames]
    np.testing.assert_allclose(levels, 20 + np.arange(20) * 10, atol=8)
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image.flags.c_contiguous


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        ({"start": 15}, [15, 16, 17, 18, 19]),
        ({"start": 2, "frames": 3}, [2, 3, 4]),
        ({"start": 1, "every": 8}, [1, 9, 17]),
        ({"frames": 2, "every": 5}, [0, 5]),
        ({"start": 18, "frames": 9}, [18, 19]),
        ({"frames": 0}, []),
        ({"start": 40}, []),
    ],
)
def test_start_frames_and_every(video, options, positions):
    with open_source(str(video), **options) as source:
        frames = list(source)
    assert [f.position for f in frames] == positions
    assert [f.sequence for f in frames] == list(range(len(positions)))
    assert source.total == len(positions)


def test_a_folder_gives_its_images_by_name(folder):
    with open_source(folder) as source:
        frames = list(source)
    assert source.total == 3
    np.testing.assert_allclose([f.image.mean() for f in frames], [0, 40, 80], atol=2)
    assert [f.timestamp_ns for f in frames] == [0, 40_000_000, 80_000_000]


def test_one_image_is_a_clip_of_one(folder):
    with open_source(folder / "1.png") as source:
        assert [f.image.shape for f in source] == [(8, 12, 3)]


def test_missing_and_undecodable_sources_are_named(tmp_path, folder):
    with pytest.raises(SourceError, match=r"nowhere\.mp4: no such file or folder"):
        open_source(tmp_path / "nowhere.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("this is no video at all\n" * 50)
    with pytest.raises(SourceError, match=r"text\.mp4: not a video that can be opened"):
        open_source(text)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SourceError, match="expected JPEG, PNG or WebP images in this folder, found none"):
        open_source(empty)
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:40])
    with pytest.raises(SourceError, match=r"1\.png: expected a whole PNG image"):
        list(open_source(folder))


def test_a_file_without_video_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="expected a video stream, found none"):
        open_source(path)


def test_a_camera_that_is_not_there_is_named():
    with pytest.raises(SourceError, match="camera 97: cannot be opened"):
        open_source(97)
    with pytest.raises(SourceError, match="camera 98: cannot be opened"):
        open_source("98")


def test_refuses_a_range_that_makes_no_sense(video):
    with pytest.raises(ValueError, match="got start 0, frames None, every 0"):
        open_source(video, every=0)
    with pytest.raises(ValueError, match="got start -1"):
        open_source(video, start=-1)


def test_the_scene_has_no_end_unless_one_is_asked_for():
    with open_source("scene", start=40, every=2, frames=3) as source:
        frames = list(source)
        assert (source.fps, source.total, source.name) == (25.0, 3, "scene")
    assert [f.position for f in frames] == [40, 42, 44]
    assert [f.timestamp_ns for f in frames] == [1_600_000_000, 1_680_000_000, 1_760_000_000]
    np.testing.assert_array_equal(frames[1].image, Scene().frame(42))
    with open_source("scene:7") as source:
        assert source.total is None
        np.testing.assert_array_equal(next(iter(source)).image, Scene(7).frame(0))


@pytest.mark.parametrize("name", ["scene:", "scene:x", "scene:-1", "scene:1.5"])
def test_a_scene_needs_a_whole_number(name):
    with pytest.raises(SourceError, match=rf"{name}: expected scene or scene:SEED"):
        open_source(name)


def test_a_file_called_scene_is_a_file(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    assert is_endless("scene")
    (tmp_path / "scene").mkdir()
    cv2.imwrite(str(tmp_path / "scene" / "a.png"), np.zeros((8, 12, 3), np.uint8))
    assert not is_endless("scene")
    with open_source("scene") as source:
        assert [f.image.shape for f in source] == [(8, 12, 3)]


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_hides_the_scene_is_said(tmp_path, monkeypatch, is_folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene").mkdir() if is_folder else (tmp_path / "scene").write_text("no video")
    with pytest.raises(SourceError, match=r"^scene: .*; it hides the built-in scene, which is scene:0 as well$"):
        open_source("scene")
    with open_source("scene:0", frames=1) as source:
        assert len(list(source)) == 1
    (tmp_path / "clip").mkdir()
    with pytest.raises(SourceError, match=r"found none$"):
        open_source("clip")


def test_a_loop_begins_again_and_its_time_goes_on(video, folder):
    with open_source(video, loop=True, start=18, frames=45) as source:
        frames = list(source)
        assert source.total == 45
    assert [f.position for f in frames] == list(range(18, 63))
    assert [f.timestamp_ns for f in frames] == [n * 100_000_000 for n in range(18, 63)]
    np.testing.assert_array_equal(frames[2].image, frames[22].image)
    with open_source(folder, loop=True) as source:
        assert source.total is None
        levels = [f.image.mean() for f in islice(source, 7)]
    np.testing.assert_allclose(levels, [0, 40, 80, 0, 40, 80, 0], atol=2)


def test_a_real_clip_gives_the_frames_that_opencv_gives():
    path = DATA / "intel_one-by-one-person-detection.mp4"
    if not path.is_file():
        pytest.skip(f"no test data: {path}")
    with open_source(path, start=20, frames=2, every=3) as source:
        ours = list(source)
    capture = cv2.VideoCapture(str(path))
    theirs = [capture.read()[1] for _ in range(24)]
    capture.release()
    assert [f.position for f in ours] == [20, 23]
    for frame in ours:
        gap = np.abs(frame.image.astype(int) - theirs[frame.position])
        assert gap.mean() < 1.0


class FakeCamera:
    """Does what its script says: a status is told, a number is the grey level of a picture."""

    script: tuple[Status | int, ...] = ()
    stopped = 0

    def __init__(self, address, options, on_status):
        assert not options.skip_unchanged, "every frame that is asked for comes"
        self.status, self._on_status, self._left = Status(), on_status, list(self.script)

    def start(self):
        pass

    def stop(self):
        type(self).stopped += 1

    def take(self, timeout_s):
        item = self._left.pop(0)
        if isinstance(item, Status):
            self.status = item
            self._on_status(item)
            return None
        return Picture(np.full((4, 4, 3), item, np.uint8), 0, 1000 + item, 0)


def waiting(reason):
    return Status(CameraState.WAITING, reason)


@pytest.fixture
def camera(monkeypatch):
    monkeypatch.setattr("service.sources.Camera", FakeCamera)
    monkeypatch.setattr(FakeCamera, "stopped", 0)
    return lambda *script: monkeypatch.setattr(FakeCamera, "script", script)


def test_a_camera_on_the_network_is_endless_and_its_losses_are_said_once(camera):
    live = Status(CameraState.LIVE)
    camera(live, 10, 20, waiting("refused"), Status(CameraState.CONNECTING, "refused"), waiting("away"), live, 30,
           waiting("gone"), live, 40)  # fmt: skip
    url, told = "rtsp://admin:geheim@cam/x?y", []
    assert is_endless(url)
    with open_source(url, frames=4, told=told.append) as source:
        frames = list(source)
    assert (source.name, source.total, source.fps) == ("rtsp://cam/x", 4, None)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 20, 30, 40]
    assert [frame.timestamp_ns for frame in frames] == [1010, 1020, 1030, 1040]
    assert told == ["rtsp://cam/x: refused; trying again", "rtsp://cam/x: gone; trying again"]
    assert FakeCamera.stopped == 1


def test_a_camera_that_is_not_there_at_first_is_an_error(camera):
    camera(Status(), waiting("connection refused"))
    told = []
    with (
        open_source("rtsp://admin:geheim@cam/x", told=told.append) as source,
        pytest.raises(SourceError, match=r"^rtsp://cam/x: connection refused$"),
    ):
        next(iter(source))
    assert told == []


def test_an_address_that_is_none():
    with pytest.raises(SourceError, match=r"expected an address with a host$"):
        open_source("rtsp://admin:geheim@")
