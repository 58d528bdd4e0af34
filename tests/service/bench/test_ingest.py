"""Every way from pixels to a tensor gives the table's values, and the fastest is found."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

from service.bench import ingest
from service.model_spec import IMAGENET_MEAN, IMAGENET_STD, ModelSpec

SPECS = {
    "bytes": {"mean": 0, "std": 1},
    "unit": {"mean": 0, "std": 255},
    "imagenet": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "grey": {"colour": "GRAY", "mean": 127, "std": 128},
}


@pytest.mark.parametrize("name", SPECS)
def test_all_ways_agree_with_the_table(name):
    spec = ModelSpec.model_validate(SPECS[name])
    table = spec.normalisation()
    frame = np.random.default_rng(0).integers(0, 256, (6, 10, spec.channels), np.uint8)
    wanted = np.stack([table[frame[:, :, c], c] for c in range(spec.channels)])[None]
    found = ingest.ways(table)
    assert ingest.BLOB in found
    assert (ingest.CAST in found) == (name == "bytes")
    for way, run in found.items():
        tensor = np.full(wanted.shape, np.nan, np.float32)
        run(frame, tensor)
        np.testing.assert_allclose(tensor, wanted, atol=1e-6, rtol=0, err_msg=way)
    tensor = np.zeros(wanted.shape, np.float32)
    found[ingest.LOOKUP](frame, tensor)
    assert tensor.tobytes() == wanted.astype(np.float32).tobytes()


def test_a_line_is_read_off_a_table_by_hand():
    table = ModelSpec.model_validate({"mean": (10, 20, 30), "std": (2, 4, 5)}).normalisation()
    mean, factor = ingest.affine(table)
    assert mean == pytest.approx([10, 20, 30])
    assert factor == pytest.approx([0.5, 0.25, 0.2])


@pytest.mark.parametrize("bend", [0.01, None], ids=["bent", "flat"])
def test_a_table_that_is_no_line_is_looked_up(bend):
    table = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, axis=1)
    if bend is None:
        table[:] = 0.5
    else:
        table[100] += bend
    assert ingest.affine(table) is None
    assert list(ingest.ways(table)) == [ingest.LOOKUP]


def test_the_fastest_is_found():
    candidates = [(name, partial(time.sleep, seconds)) for name, seconds in (("slow", 0.02), ("fast", 0.001))]
    assert ingest.fastest(candidates) == "fast"
