"""Focus in front of a convolution of bytes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cache.quantised_models import Model, check_quantised, ops, weights

SHAPE = (1, 3, 12, 16)


def focus(scales: tuple[float, ...], *, group: int = 1, order: str = "00 10 01 11") -> bytes:
    """Four slices of the image, each quantised, their concat, a convolution."""
    m, parts = Model(), []
    n = {value: m.constant([value], np.int64) for value in (0, 1, 2, 3, 99)}
    for name, scale in zip(order.split(), scales, strict=True):
        m.add("Slice", f"x {n[int(name[0])]} {n[99]} {n[2]} {n[2]}", f"r{name}")
        m.add("Slice", f"r{name} {n[int(name[1])]} {n[99]} {n[3]} {n[2]}", f"s{name}")
        params = m.params(scale, 128)
        parts.append(f"{m.add('QuantizeLinear', f's{name} {params}', f'q{name}')} {params}")
    params, out = m.params(scales[0], 128), m.params(0.05, 90)
    m.add("QLinearConcat", f"{params} {' '.join(parts)}", "f", axis=1)
    w = f"{m.constant(weights(np.random.default_rng(0), 20, 12 // group, 3, 3), np.int8)} {m.params(0.003, 0, np.int8)}"
    m.add("QLinearConv", f"f {params} {w} {out}", "c", pads=[1, 0, 1, 2], group=group)
    m.add("DequantizeLinear", f"c {out}", "y")
    return m.build(SHAPE, {"y": np.float32})


@pytest.mark.parametrize("order", ["00 10 01 11", "11 00 01 10"])
def test_slices_that_are_quantised_alike_become_one_convolution(order: str) -> None:
    plan = check_quantised(focus((0.02,) * 4, order=order), SHAPE, step=0.05)
    assert ops(plan) == ["quantise", "q_conv", "dequantise"]
    assert plan.maps[plan.steps[0].step.target].pixel == 1, "four bytes to a pixel"


@pytest.mark.parametrize(("scales", "group"), [((0.02, 0.02, 0.02, 0.03), 1), ((0.02,) * 4, 2)])
def test_others_keep_their_slices(scales: tuple[float, ...], group: int) -> None:
    plan = check_quantised(focus(scales, group=group), SHAPE, step=0.05)
    assert ops(plan).count("quantise") == 4
