"""A small network of our own family, opened, and frames for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from own_model import SIZE, write_model

from service.opened import OpenedModel, open_model


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.onnx")


@pytest.fixture
def opened(model_file: Path) -> OpenedModel:
    return open_model(model_file)


@pytest.fixture
def clip() -> list[np.ndarray]:
    """Noise in which a square moves; one frame twice, as cameras give them."""
    background = np.random.default_rng(5).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    frames = []
    for left in (0, 16, 16, 32, 48):
        frame = background.copy()
        frame[8:32, left : left + 24] = 220
        frames.append(frame)
    return frames
