"""Keeping pictures: in a folder one by one, in a video at their times."""

import av
import cv2
import numpy as np
import pytest

from service.recorder import RecorderError, open_recorder
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
