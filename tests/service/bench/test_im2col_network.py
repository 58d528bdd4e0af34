"""A whole network by matrix products gives what our engine gives, in memory that is used again."""

from __future__ import annotations

import numpy as np
import pytest

from cache.plan import Plan
from cache.session import Session
from service.bench.dense_ops import UnknownOpError
from service.bench.im2col_network import Im2colNetwork
from service.bench.synthetic import open_synthetic
from service.evaluate import relative_error


@pytest.fixture(scope="module")
def mobilenet() -> Plan:
    """With a tail, depthwise and 1x1 convolutions, and sums."""
    opened = open_synthetic("synthetic:mobilenet", (64, 32))
    return Plan.compile(opened.model, (1, 3, 32, 64), None, opened.spec.normalisation())


def test_as_our_engine_twice_over(mobilenet):
    network, session = Im2colNetwork(mobilenet), Session(mobilenet, exact=True)
    for seed in (0, 1):
        image = np.random.default_rng(seed).integers(0, 256, (32, 64, 3), np.uint8)
        expected = session.push(image).outputs
        assert relative_error(network.frame(image), expected) < 1e-4


def test_memory_is_used_again(mobilenet):
    network = Im2colNetwork(mobilenet)
    every_map = sum(part.out.nbytes for part in network.parts)
    assert network.map_bytes < 0.6 * every_map
    largest = max(part.product.matrix_bytes for part in network.parts if part.product)
    assert network.extra_bytes >= largest > 0
    weights = sum(part.product.macs > 0 for part in network.parts if part.product)
    assert weights == 52
    assert network.weight_bytes > 4 * 2_000_000


def test_no_map_that_is_still_read_is_written(mobilenet):
    """A part's output never lies in the memory of one of its inputs."""
    for part in Im2colNetwork(mobilenet).parts:
        assert not any(np.shares_memory(part.out, source) for source in part.sources)


def test_an_op_that_it_does_not_know_is_refused(mobilenet, monkeypatch):
    monkeypatch.setattr("service.bench.dense_ops._ELTWISE", {})
    with pytest.raises(UnknownOpError, match="add"):
        Im2colNetwork(mobilenet)
