"""Keeping pictures: in a folder one by one, in a video at their times."""

import resource
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from service.recorder import RecorderError, open_recorder, refuse_source, write_jpeg
from service.sources import open_source


def picture(level, size=(64, 48)):
    return np.full((size[1], size[0], 3), level, np.uint8)


def test_a_folder_holds_them_in_order(tmp_path):
    with open_recorder(tmp_path / "out") as recorder:
        for number in range(3):
            recorder.add(picture(60 * number), number * 1000)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["000000.jpg", "000001.jpg", "000002.jpg"]
    levels = [cv2.imread(str(tmp_path / "out" / name)).mean() for name in names]
    np.testing.assert_allclose(levels, [0, 60, 120], atol=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".MOV"])
def test_a_video_holds_them_at_their_times(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    times = [5_000_000_000 + ms * 1_000_000 for ms in (0, 40, 80, 200, 200, 240)]
    with open_recorder(path) as recorder:
        for number, stamp in enumerate(times):
            recorder.add(picture(40 * number), stamp)
    with open_source(path) as source:
        frames = list(source)
    np.testing.assert_allclose([f.image.mean() for f in frames], np.arange(6) * 40, atol=6)
    np.testing.assert_allclose([f.timestamp_ns / 1e6 for f in frames], [0, 40, 80, 200, 200, 240], atol=1.1)


def test_sizes_are_made_even_and_those_of_the_first(tmp_path):
    path = tmp_path / "out.mp4"
    with open_recorder(path) as recorder:
        recorder.add(picture(50, (65, 49)), 0)
        recorder.add(picture(90, (128, 96)), 40_000_000)
    with av.open(str(path)) as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(64, 48)] * 2


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("here already")
    (tmp_path / "file").write_text("a file")
    for name, message in (
        ("full", "expected a new or empty folder"),
        ("file", "expected a folder, got a file"),
        ("a.avi", r"a\.avi: expected a folder, or a video file \(.mkv, .mov, .mp4\), got .avi"),
        ("nowhere/a.mp4", "no such folder"),
    ):
        with pytest.raises(RecorderError, match=message):
            open_recorder(tmp_path / name)
    assert (tmp_path / "full" / "a.txt").read_text() == "here already"
    with pytest.raises(OSError, match="No such file"):
        open_recorder(tmp_path / "nowhere" / "folder")


FULL_DISK = """
import sys
from pathlib import Path
import numpy as np
from service.recorder import RecorderError, open_recorder
noise = np.random.default_rng(0)
with open_recorder(Path(sys.argv[1])) as recorder:
    try:
        for number in range(80):
            recorder.add(noise.integers(0, 256, (240, 320, 3), np.uint8), number * 40_000_000)
    except RecorderError as error:
        print("first:", error)
        recorder.add(np.zeros((240, 320, 3), np.uint8), 10**10)
"""


def test_a_full_disk_ends_a_video_with_a_message_and_not_a_crash(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path = tmp_path / "full.mp4"
    path.symlink_to("/dev/full")
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1, ended
    assert f"first: {path}: cannot be written: No space left on device" in ended.stdout
    assert ended.stderr.strip().endswith(f"{path}: cannot be written: an earlier picture failed")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_disk_that_fills_as_the_video_ends_is_said(tmp_path, suffix):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path = tmp_path / f"full{suffix}"
    path.symlink_to("/dev/full")
    recorder = open_recorder(path)
    recorder.add(picture(9), 0)
    with pytest.raises(RecorderError, match=f"full{suffix}: cannot be written: No space left"):
        recorder.close()


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_recorder(tmp_path / "out") as recorder:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            with pytest.raises(RecorderError, match=r"out/000000\.jpg: cannot be written: File too large"):
                recorder.add(picture(9), 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert recorder.count == 0
    with pytest.raises(RecorderError, match=r"nowhere/a\.jpg: cannot be written: No such file"):
        write_jpeg(tmp_path / "nowhere" / "a.jpg", picture(9))


def test_pictures_kept_are_counted(tmp_path):
    for name in ("folder", "video.mp4"):
        with open_recorder(tmp_path / name) as recorder:
            assert recorder.count == 0
            recorder.add(picture(9), 0)
            recorder.add(picture(9), 40_000_000)
        assert recorder.count == 2


def test_the_source_is_known_by_any_name(tmp_path):
    source, link, hard = (tmp_path / name for name in ("clip.mp4", "link.mp4", "hard.mp4"))
    source.write_bytes(b"precious")
    link.symlink_to(source)
    hard.hardlink_to(source)
    for save, origin in ((source, source), (link, source), (hard, source), (source, link), (source, str(source))):
        with pytest.raises(RecorderError, match="expected another file than the source"):
            refuse_source(save, origin)
    refuse_source(tmp_path / "new.mp4", source)
    refuse_source(source, "scene")
    (tmp_path / "other.mp4").write_bytes(b"precious")
    refuse_source(tmp_path / "other.mp4", source)
