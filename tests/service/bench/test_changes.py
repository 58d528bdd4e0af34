"""Pictures of which a known share changes, in whole blocks of a JPEG."""

from __future__ import annotations

import numpy as np
import pytest

from service.bench.changes import ALIGN_PX, cells, pictures


@pytest.mark.parametrize("size", [(640, 384), (416, 416), (96, 64)])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.4, 1.0])
def test_cells_make_the_share_and_never_overlap(size: tuple[int, int], share: float) -> None:
    covered = np.zeros(size[::-1], int)
    for left, top, right, bottom in cells(size, share):
        assert right > left
        assert bottom > top
        assert left % ALIGN_PX == top % ALIGN_PX == 0
        covered[top:bottom, left:right] += 1
    assert covered.max() == 1
    widest = max(right - left for left, _, right, _ in cells(size, share))
    assert 0 <= covered.mean() - min(share, covered.mean()) <= widest * ALIGN_PX / covered.size


def test_nothing_changes_outside_of_the_cells() -> None:
    plain, moved = pictures((320, 192), 0.1)
    differs = (plain != moved).any(axis=2)
    inside = np.zeros_like(differs)
    for left, top, right, bottom in cells((320, 192), 0.1):
        inside[top:bottom, left:right] = True
    assert not (differs & ~inside).any()
    assert differs[inside].mean() > 0.5


def test_a_share_of_nothing_is_one_picture() -> None:
    assert cells((640, 384), 0.0) == []
    plain, moved = pictures((96, 64), 0.0)
    assert np.array_equal(plain, moved)
