"""Half precision against float32 on the built-in model: errors, memory, and how they are told."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import half_precision
from benchmarks.half_precision import Figure, forms, measure, section
from cache.policy import Policy
from kernels.emit_bfloat16 import HAS_BFLOAT16


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half_precision, "SIZE", (160, 96))
        return measure("people", "scene", 0, 3)


def test_forms_are_those_that_the_machine_can_compute():
    made = {name: form(Policy()) for name, form in forms().items()}
    assert ("both" in made) == HAS_BFLOAT16
    assert (made["float32"], made["maps float16"].cache_dtype) == (Policy(), "float16")


def test_maps_take_half_and_cost_some_accuracy(found):
    whole, half = found[:2]
    assert [f.form for f in found] == list(forms())
    assert (whole.error, whole.dense, whole.cached) == (0.0, 1.0, 1.0)
    assert 0 < half.error < 0.05
    assert half.stream_bytes < 0.8 * whole.stream_bytes
    assert half.thread_bytes > whole.thread_bytes


def test_a_row_says_what_was_found():
    figure = Figure("net", "maps float16", 0, 7_400_000, 12_200_000, 1, 4.5e-4, 0.06, (1.0, 0.98), 0.2, 9.0, 1.1, 1.25)
    rows = section([figure, dataclasses.replace(figure, form="both", nodes=3, agreement=None)]).splitlines()
    assert rows[2] == "| net | maps float16 | 7.4 | 12.2 | 4.5e-04 | 6.0e-02 | 1.000 / 0.980 | 20.0% | 1.10 | 1.25 |"
    assert rows[3].startswith("| net | both (3 nodes) |")
    assert "| no boxes |" in rows[3]
    assert any("no instructions for products in bfloat16" in row for row in rows) != HAS_BFLOAT16
