"""The limits of the input test follow the noise of the stream, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from cache.change import TileGrid
from cache.noise import PARTS, NoiseModel
from kernels.noise import count_differences
from kernels.tile_diff import changed_tiles

HEIGHT, WIDTH = 96, 128


class Input:
    """A stream's input test without a network: what changed is taken into the reference frame."""

    def __init__(self, times: float = 1.5, tile: int = 8) -> None:
        self.grid = TileGrid(HEIGHT, WIDTH, tile)
        self.model = NoiseModel(self.grid, 3, 2.0, times)
        self.reference: np.ndarray | None = None
        self.marks = np.zeros(self.grid.shape, np.uint8)

    def see(self, frame: np.ndarray) -> float:
        """Share of changed tiles."""
        if self.reference is None:
            self.reference = frame.copy()
            return 1.0
        changed = changed_tiles(frame, self.reference, self.grid.tile, self.model.limits, self.model.sums, self.marks)
        count_differences(self.reference, self.grid.tile, self.model.sums, *self.model.next_part(), self.model.counts)
        self.model.advance(self.reference)
        taken = np.kron(self.marks, np.ones((self.grid.tile, self.grid.tile), np.uint8))[:HEIGHT, :WIDTH] != 0
        self.reference[taken] = frame[taken]
        return changed / len(self.grid)


def noisy(scene: np.ndarray, sigma: np.ndarray | float, seed: int) -> np.ndarray:
    """The scene with Gaussian noise of a standard deviation in levels."""
    noise = np.random.default_rng(seed).standard_normal(scene.shape) * sigma
    return np.clip(np.rint(scene + noise), 0, 255).astype(np.uint8)


def after_turns(stream: Input, scene: np.ndarray, sigma: np.ndarray | float, turns: int = 3) -> float:
    """Mean share of changed tiles in the last turn of so many."""
    seen = [stream.see(noisy(scene, sigma, n)) for n in range(turns * PARTS + 1)]
    return float(np.mean(seen[-PARTS:]))


def test_noise_is_learnt_and_no_longer_a_change():
    scene = np.full((HEIGHT, WIDTH, 3), 90.0)
    assert after_turns(Input(times=0.0), scene, 4.0) > 0.9, "with a fixed limit everything changes, always"
    assert after_turns(Input(), scene, 4.0) < 0.01


def test_what_moves_in_the_noise_is_still_seen():
    stream, scene = Input(), np.full((HEIGHT, WIDTH, 3), 90.0)
    after_turns(stream, scene, 4.0)
    scene[40:56, 64:80] += 20
    assert stream.see(noisy(scene, 4.0, 1000)) == 4 / len(stream.grid)
    assert stream.marks[5:7, 8:10].all()


def test_a_clean_part_stays_sensitive_beside_a_dark_noisy_one():
    stream, scene = Input(), np.full((HEIGHT, WIDTH, 3), 40.0)
    scene[:, 64:] = 200
    sigma = np.where(scene < 128, 5.0, 0.3)
    after_turns(stream, scene, sigma)
    assert stream.model.limits[0, 0] > 2 * stream.model.limits[0, -1]
    scene[:16, 112:] += 3
    stream.see(noisy(scene, sigma, 1000))
    assert stream.marks[:2, -2:].all(), "3 levels are seen where it is clean"


def test_a_clean_stream_keeps_the_limits_of_its_policy():
    stream = Input()
    before = stream.model.limits.copy()
    after_turns(stream, np.full((HEIGHT, WIDTH, 3), 90.0), 0.0)
    assert np.array_equal(stream.model.limits, before)
    assert before[0, 0] == 2 * 8 * 8 * 3


def test_a_camera_that_moves_is_not_taken_for_noise():
    """Texture that moves differs everywhere, but for the flat third of the picture: which tells."""
    rng = np.random.default_rng(3)
    stream, wide = Input(), rng.integers(0, 256, (HEIGHT, WIDTH * 3, 3)).astype(np.float64)
    seen = []
    for n in range(3 * PARTS):
        scene = wide[:, 2 * n : 2 * n + WIDTH].copy()
        scene[:40] = 128
        seen.append(stream.see(noisy(scene, 0.3, n)))
    assert min(seen[-PARTS:]) > 0.5
    assert stream.model.limits.max() < 1.3 * 2 * 8 * 8 * 3


def test_no_noise_takes_a_limit_beyond_four_times():
    stream = Input()
    after_turns(stream, np.full((HEIGHT, WIDTH, 3), 128.0), 6.0)
    assert stream.model.limits.max() == 4 * 2 * 8 * 8 * 3


def test_noise_that_ends_is_forgotten():
    """Once its last trace is gone from the reference frame too, as after a turn of refresh."""
    stream, scene = Input(), np.full((HEIGHT, WIDTH, 3), 90.0)
    after_turns(stream, scene, 4.0)
    high = int(stream.model.limits[0, 0])
    stream.reference = scene.astype(np.uint8)
    after_turns(stream, scene, 0.0, turns=6)
    assert stream.model.limits[0, 0] == 2 * 8 * 8 * 3 < high / 2


@pytest.mark.parametrize("tile", [4, 8])
@pytest.mark.parametrize("contrast", [24, 60])
def test_a_thin_edge_that_moves_by_a_pixel_is_seen(tile: int, contrast: int):
    """An edge between two greys, as of a person's leg, moves by one column: the tiles on it have changed, only they."""
    stream, scene = Input(tile=tile), np.full((HEIGHT, WIDTH, 3), 100.0)
    scene[:, :61] += contrast
    after_turns(stream, scene, 0.5)
    scene[:, 61] += contrast
    stream.see(noisy(scene, 0.5, 1000))
    column = 61 // tile
    assert stream.marks[:, column].all()
    assert stream.marks.sum() == stream.marks.shape[0]


def test_memory_is_counted():
    model = NoiseModel(TileGrid(64, 64, 8), 3, 2.0, 1.5)
    assert model.nbytes == 64 * 4 * 3 + 16 * 64 * 4
