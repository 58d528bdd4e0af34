"""Layers of a network with and without a matrix: which step computes which convolutions, and how a table says it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.im2col import Layer, Products, described, extra, layers, ours, section
from cache.graph import macs
from cache.plan import Plan
from cache.session import Session
from service.bench.synthetic import open_synthetic


@pytest.fixture(scope="module")
def plan() -> Plan:
    opened = open_synthetic("synthetic:mobilenet", (64, 32))
    return Plan.compile(opened.model, (1, 3, 32, 64), None, opened.spec.normalisation())


def test_every_convolution_has_its_step(plan: Plan) -> None:
    found = list(layers(plan))
    assert sum(len(nodes) for nodes, _ in found) == 52
    assert all(sum(macs(plan.graph, n) for n in nodes) == planned.step.macs for nodes, planned in found)


def test_layers_are_named_by_what_they_do(plan: Plan) -> None:
    names = [described(plan.graph, nodes[-1]) for nodes, _ in layers(plan)]
    assert names[0] == "3x3/2 3 to 32, 32x16"
    assert "3x3/2 depthwise 96, 16x8" in names
    assert names[-1] == "1x1 320 to 1280, 2x1"


def test_extra_memory_of_both_ways(plan: Plan) -> None:
    (first, step), *_ = layers(plan)
    assert Products(plan.graph, first).extra_bytes == 4 * (3 * 9 * 32 * 16 + 3 * 34 * 66)
    assert extra(plan, step) == 4 * (plan.needs.scratch + step.step.method.work_elements)
    both = first + next(nodes for nodes, _ in list(layers(plan))[1:])
    between = 4 * 32 * 32 * 16
    assert Products(plan.graph, both).extra_bytes == 4 * (32 * 9 * 32 * 16 + 32 * 34 * 18) + between


def test_a_step_alone_computes_its_whole_map(plan: Plan) -> None:
    session = Session(plan, exact=True)
    session.push(np.zeros((32, 64, 3), np.uint8))
    _, planned = next(iter(layers(plan)))
    made = plan.maps[planned.step.target]
    assert ours(session, planned)() == -(-made.height // 4) * -(-made.width // 4) * 16


def test_a_table_for_each_network_with_its_sums() -> None:
    rows = [
        Layer("vgg16", "a", 2_000_000, 4.0, 2.0, 1.0, 4.0, 3 << 20, 1 << 10, 2 << 10),
        Layer("vgg16", "b", 1_000_000, 2.0, 2.0, 2.0, 1.0, 1 << 20, 3 << 10, 4 << 10),
    ]
    text = section(rows, 1)
    assert "| a | 2.0 | 4.000 | 2.000 | 1.000 | 4.00 | 3.00 | 1 | 2 |" in text
    assert "| all, and the most memory | 3.0 | 6.00 | 4.00 | 3.00 | 2.00 | 3.00 | 3 | 4 |" in text
    assert "BLAS 1 thread, ours 1; float32" in text
    assert "BLAS 4 threads, ours 1; float32" in section(rows, 4)
