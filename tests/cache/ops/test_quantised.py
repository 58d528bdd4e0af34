"""Convolutions of bytes: every geometry, both file formats, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.builder import Builder
from cache.onnx_import import import_graph, load_model
from cache.ops.quantised import biases, inside, pack_narrow_weights, vector_groups
from kernels.emit_int8 import BYTE_VECTORS
from tests.cache.quantised_models import Model, check_quantised, ops, weights

SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def convolution(draw: Any, *, qdq: bool) -> tuple[bytes, tuple[int, ...], float]:
    """A convolution between bytes, in either format: the file, the input's shape, the output's scale."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.uint8, np.int8]))
    low = int(np.iinfo(dtype).min)
    zeros = [low + draw(st.sampled_from([0, 128, 255, 77])) for _ in range(2)]
    groups, share_in, share_out = draw(
        st.sampled_from([(1, 3, 5), (1, 20, 70), (1, 70, 20), (2, 17, 9), (24, 1, 1), (80, 1, 1), (6, 1, 2)])
    )
    channels, outputs = groups * share_in, groups * share_out
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    attrs = {
        "strides": [draw(st.integers(1, 3)) for _ in range(2)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(2)],
        "pads": [draw(st.integers(0, 2)) for _ in range(4)],
        "group": groups,
    }
    m, per_channel = Model(), draw(st.booleans())
    w = weights(rng, outputs, share_in, *kernel)
    factors = rng.uniform(0.5, 2, outputs if per_channel else 1).astype(np.float32) / 64
    bias = rng.integers(-2000, 2000, outputs).astype(np.int32)
    sx, sy = 0.02, float(np.float32(0.02 * 0.6 * np.sqrt(share_in * kernel[0] * kernel[1])))
    scale_w = m.constant(factors if per_channel else factors[0])
    zero_w = m.constant(np.zeros(outputs if per_channel else (), np.int8), np.int8)
    if qdq:
        m.fake("x", sx, zeros[0], dtype)
        m.add("DequantizeLinear", f"{m.constant(w, np.int8)} {scale_w} {zero_w}", "w", axis=0)
        scales = np.float32(sx) * np.broadcast_to(factors, (outputs,))
        params = f"{m.constant(scales)} {m.constant(np.zeros(outputs), np.int32)}"
        m.add("DequantizeLinear", f"{m.constant(bias, np.int32)} {params}", "b", axis=0)
        m.add("Conv", "x_dq w b", "c", **attrs)
        last = draw(st.sampled_from(["c", "Relu", "Clip"]))
        if last == "Relu":
            m.add("Relu", "c", "r")
        elif last == "Clip":
            m.add("Clip", f"c {m.constant(0.0)} {m.constant(sy * 40.3)}", "r")
        name = m.fake("c" if last == "c" else "r", sy, zeros[1], dtype)
    else:
        params = m.params(sx, zeros[0], dtype)
        m.add("QuantizeLinear", f"x {params}", "q")
        parts = f"q {params} {m.constant(w, np.int8)} {scale_w} {zero_w}"
        out = m.params(sy, zeros[1], dtype)
        m.add("QLinearConv", f"{parts} {out} {m.constant(bias, np.int32)}", "c", **attrs)
        name = m.add("DequantizeLinear", f"c {out}", "y")
    shape = (1, channels, draw(st.integers(8, 12)), draw(st.integers(8, 14)))
    return m.build(shape, {name: np.float32}), shape, sy


@SETTINGS
@given(data=st.data())
def test_dequantise_conv_quantise(data: st.DataObject) -> None:
    file, shape, step = convolution(data.draw, qdq=True)
    # Unoptimised, ONNX Runtime convolves in float32: sums on a rounding edge may fall on its other side.
    plan = check_quantised(file, shape, step=step, share=0.02)
    assert ops(plan) == ["quantise", "q_conv", "dequantise"]


@SETTINGS
@given(data=st.data())
def test_qlinear_conv(data: st.DataObject) -> None:
    file, shape, step = convolution(data.draw, qdq=False)
    plan = check_quantised(file, shape, step=step)
    assert ops(plan) == ["quantise", "q_conv", "dequantise"]


@pytest.mark.parametrize("zero", [0, 3])
def test_weights_that_do_not_fit_run_in_float32(zero: int) -> None:
    m, rng = Model(), np.random.default_rng(0)
    params, out = m.params(0.02, 100), m.params(0.5, 90)
    w = m.constant(rng.integers(0, 256, (6, 5, 3, 3)), np.uint8)
    m.add("QuantizeLinear", f"x {params}", "q")
    m.add("QLinearConv", f"q {params} {w} {m.params(0.01, zero)} {out}", "c", pads=[1, 1, 1, 1])
    m.add("DequantizeLinear", f"c {out}", "y")
    data = m.build((1, 5, 9, 9), {"y": np.float32})
    plan = check_quantised(data, (1, 5, 9, 9), step=0.5, share=0.01, fused=False)
    assert "conv" in ops(plan)


def test_unsigned_weights_around_128_are_signed_ones() -> None:
    m, rng = Model(), np.random.default_rng(0)
    params, out = m.params(0.02, 100), m.params(0.1, 90)
    w = m.constant(rng.integers(64, 192, (6, 5, 3, 3)), np.uint8)
    m.add("QuantizeLinear", f"x {params}", "q")
    m.add("QLinearConv", f"q {params} {w} {m.params(0.01, 128)} {out}", "c", pads=[1, 1, 1, 1])
    m.add("DequantizeLinear", f"c {out}", "y")
    assert "q_conv" in ops(check_quantised(m.build((1, 5, 9, 9), {"y": np.float32}), (1, 5, 9, 9), step=0.1))


def test_what_the_machine_takes_from_every_byte_is_in_the_biases() -> None:
    """On CPUs that multiply signed bytes alone (`kernels.emit_int8.INPUT_OFFSET`)."""
    m, rng = Model(), np.random.default_rng(0)
    params, w = m.params(0.02, 100), weights(rng, 6, 5, 3, 3)
    m.add("QuantizeLinear", f"x {params}", "q")
    factors = f"{m.constant(w, np.int8)} {m.params(0.01, 0, np.int8)}"
    m.add("QLinearConv", f"q {params} {factors} {params}", "y", pads=[1, 1, 1, 1])
    graph = import_graph(load_model(m.build((1, 5, 9, 9), {"y": np.uint8})), (1, 5, 9, 9))
    node, builder = graph.nodes[1], Builder(graph, 9)
    (plain, rows, columns), (other, *_) = (biases(builder, node, w, (9, 9), offset) for offset in (0, 128))
    by_output = w.astype(np.int64).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(other - plain, np.broadcast_to(128 * by_output, plain.shape))
    np.testing.assert_array_equal(plain[rows[4] + columns[4]], -100 * by_output)
    np.testing.assert_array_equal(
        plain[rows[0] + columns[8]], -100 * w[:, :, 1:, :2].astype(np.int64).sum(axis=(1, 2, 3))
    )


def test_inside() -> None:
    cases, which = inside(5, 5, 3, 1, 1, 1)
    np.testing.assert_array_equal(cases[which], [[0, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0]])
    assert len(cases) == 3


@pytest.mark.parametrize("vectors", range(1, 20))
def test_vector_groups(vectors: int) -> None:
    groups = vector_groups(vectors)
    assert [first for first, _ in groups] == list(np.cumsum([0, *(count for _, count in groups[:-1])]))
    counts = [count for _, count in groups]
    assert sum(counts) == vectors
    assert max(counts) <= BYTE_VECTORS
    assert max(counts) - min(counts) <= 1


def test_a_dilated_row_of_an_image_takes_a_tap_for_each_pixel() -> None:
    weight = np.arange(1, 19, dtype=np.int8).reshape(1, 3, 2, 3)
    taps, spans, packed = pack_narrow_weights(weight, 400, (1, 2))
    np.testing.assert_array_equal(taps, [0, 8, 16, 400, 408, 416])
    assert spans.tolist() == [[0, 1, 0, 6, 0]]
    whole = packed.view(np.int8)[: 6 * 4 * 16 * 4].reshape(2, 3, 4, 16, 4)
    np.testing.assert_array_equal(whole[:, :, 0, 0, :3].transpose(2, 0, 1), weight[0])
    assert not whole[:, :, 1:].any()
