"""Ops on bytes besides convolution, in both file formats, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cache.quantised_models import Model, check_quantised, ops, weights

SHAPE = (1, 21, 12, 14)


def two(m: Model, *, dtype: type = np.uint8, zeros: tuple[int, int] = (110, 140)) -> tuple[str, str]:
    """Two byte tensors of one image, and their parameters: "q scale zero"."""
    found = []
    for i, (scale, zero) in enumerate(zip((0.02, 0.03), zeros, strict=True)):
        params = m.params(scale, zero - (128 if dtype is np.int8 else 0), dtype)
        m.add("QuantizeLinear", f"x {params}", f"q{i}")
        found.append(f"q{i} {params}")
    return found[0], found[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(("op", "step"), [("QLinearAdd", 0.05), ("QLinearMul", 0.11)])
@pytest.mark.parametrize("scales", ["any", "ties"])
def test_qlinear_sum_and_product(dtype: type, op: str, step: float, scales: str) -> None:
    m = Model()
    first, second = two(m, dtype=dtype)
    if scales == "ties":
        first, second = first.replace("c1", m.constant(0.25)), second.replace("c3", m.constant(0.5))
        m.constants |= {"c1": np.float32(0.25), "c3": np.float32(0.5)}
        step = 1.0
    out = m.params(step, 0 if dtype is np.int8 else 127, dtype)
    m.add(op, f"{first} {second} {out}", "s")
    m.add("DequantizeLinear", f"s {out}", "y")
    plan = check_quantised(m.build(SHAPE, {"y": np.float32}), SHAPE, step=step)
    assert ops(plan)[-2:] == [{"QLinearAdd": "q_add", "QLinearMul": "q_mul"}[op], "dequantise"]


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("relu", [False, True])
def test_sum_and_product_between_dequantised(op: str, relu: bool) -> None:
    m = Model()
    for i, part in enumerate(two(m)):
        m.add("DequantizeLinear", part, f"d{i}")
    m.add(op, "d0 d1", "s")
    if relu:
        m.add("Relu", "s", "r")
    name = m.fake("r" if relu else "s", 0.0613, 33)
    plan = check_quantised(m.build(SHAPE, {name: np.float32}), SHAPE, step=0.0613, share=0.01, fused=not relu)
    assert ops(plan)[-2:] == [f"q_{op.lower()}", "dequantise"]


def test_a_sum_with_one_value_per_channel() -> None:
    m = Model()
    first, _ = two(m)
    other, out = m.params(0.01, 100), m.params(0.05, 120)
    constant = m.constant(np.random.default_rng(0).integers(0, 256, (1, 21, 1, 1)), np.uint8)
    m.add("QLinearAdd", f"{first} {constant} {other} {out}", "s")
    m.add("DequantizeLinear", f"s {out}", "y")
    data = m.build(SHAPE, {"y": np.float32})
    plan = check_quantised(data, SHAPE, step=0.05, share=0.01, fused=False)
    assert "affine" in ops(plan)


@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_functions_of_one_byte_are_tables(op: str, dtype: type) -> None:
    m = Model()
    first, _ = two(m, dtype=dtype)
    out = m.params(0.01, 0, dtype)
    m.add(op, f"{first} {out}", "s")
    m.add("DequantizeLinear", f"s {out}", "y")
    plan = check_quantised(m.build(SHAPE, {"y": np.float32}), SHAPE, step=0.01)
    assert ops(plan) == ["quantise", "dequantise"], "the table is in the quantisation"


@pytest.mark.parametrize("qdq", [False, True])
def test_silu_is_one_table(qdq: bool) -> None:
    m, rng = Model(), np.random.default_rng(0)
    params, mid, gate, out = m.params(0.02, 100), m.params(0.05, 120), m.params(1 / 255, 0), m.params(0.04, 7)
    w = f"{m.constant(weights(rng, 8, 21, 3, 3), np.int8)} {m.params(0.002, 0, np.int8)}"
    m.add("QuantizeLinear", f"x {params}", "q")
    if qdq:
        m.add("DequantizeLinear", f"q {params}", "d")
        m.add("DequantizeLinear", w, "wd")
        m.add("Conv", "d wd", "c")
        m.add("QuantizeLinear", f"c {mid}", "cq")
        for name in ("left", "right"):
            m.add("DequantizeLinear", f"cq {mid}", name)
        m.add("Sigmoid", "left", "g")
        m.add("QuantizeLinear", f"g {gate}", "gq")
        m.add("DequantizeLinear", f"gq {gate}", "gd")
        m.add("Mul", "right gd", "s")
        m.add("QuantizeLinear", f"s {out}", "sq")
    else:
        m.add("QLinearConv", f"q {params} {w} {mid}", "cq")
        m.add("QLinearSigmoid", f"cq {mid} {gate}", "gq")
        m.add("QLinearMul", f"cq {mid} gq {gate} {out}", "sq")
    m.add("DequantizeLinear", f"sq {out}", "y")
    plan = check_quantised(m.build(SHAPE, {"y": np.float32}), SHAPE, step=0.04, share=0.02)
    assert ops(plan) == ["quantise", "q_conv", "dequantise"]


@pytest.mark.parametrize("same", [True, False])
def test_concat_is_a_view_where_scales_agree(same: bool) -> None:
    m = Model()
    first, second = two(m)
    out = " ".join(first.split()[1:]) if same else m.params(0.04, 99)
    m.add("MaxPool", "q1", "p1", kernel_shape=[1, 1])
    second = second if not same else f"q0p {out}"
    m.add("MaxPool", "q0", "q0p", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    m.add("QLinearConcat", f"{out} {first} {second}", "j", axis=1)
    m.add("DequantizeLinear", f"j {out}", "y")
    plan = check_quantised(m.build(SHAPE, {"y": np.float32}), SHAPE, step=0.04)
    assert ops(plan).count("q_lookup") == 0, "tables are in the quantisations"
    assert "q_concat" not in ops(plan)


def test_a_concat_is_read_by_every_kind_of_step() -> None:
    """Sums, look-ups, depthwise and dense convolutions of a view of two maps with odd channel counts."""
    m, rng = Model(), np.random.default_rng(0)
    params = m.params(0.02, 100)
    m.add("QuantizeLinear", f"x {params}", "q")
    parts = []
    for i, outputs in enumerate((70, 19)):
        w = f"{m.constant(weights(rng, outputs, 21, 1, 1), np.int8)} {m.params(0.002, 0, np.int8)}"
        parts.append(m.add("QLinearConv", f"q {params} {w} {params}", f"p{i}"))
    m.add("QLinearConcat", f"{params} p0 {params} p1 {params}", "j", axis=1)
    m.add("QLinearSigmoid", f"j {params} {params}", "s")
    m.add("QLinearAdd", f"j {params} s {params} {params}", "a")
    deep = f"{m.constant(weights(rng, 89, 1, 3, 3), np.int8)} {m.params(0.01, 0, np.int8)}"
    m.add("QLinearConv", f"j {params} {deep} {params}", "d", group=89, pads=[1, 1, 1, 1])
    m.add("QLinearAdd", f"d {params} a {params} {params}", "b")
    dense = f"{m.constant(weights(rng, 33, 89, 3, 3), np.int8)} {m.params(0.001, 0, np.int8)}"
    m.add("QLinearConv", f"j {params} {dense} {params}", "e", pads=[1, 1, 1, 1])
    for name in "be":
        m.add("DequantizeLinear", f"{name} {params}", f"y{name}")
    check_quantised(m.build(SHAPE, {"yb": np.float32, "ye": np.float32}), SHAPE, step=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("qdq", [False, True])
def test_pool_resize_slice_and_split(dtype: type, qdq: bool) -> None:
    m = Model()
    first, _ = two(m, dtype=dtype)
    params = " ".join(first.split()[1:])

    def step(op: str, name: str, out: str, extra: str = "", **attrs: object) -> str:
        if not qdq:
            return m.add(op, f"{name}{extra}", out, **attrs)
        m.add("DequantizeLinear", f"{name} {params}", f"{out}_x")
        m.add(op, f"{out}_x{extra}", f"{out}_y", **attrs)
        return m.add("QuantizeLinear", f"{out}_y {params}", out)

    step("MaxPool", "q0", "p", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0])
    scales = m.constant([1, 1, 2, 2])
    step("Resize", "p", "r", f" - {scales}", mode="nearest", coordinate_transformation_mode="asymmetric",
         nearest_mode="floor")  # fmt: skip
    ends = (m.constant(v, np.int64) for v in ([2, 1, 0], [19, 9, 11], [1, 2, 3], [1, 2, 1]))
    step("Slice", "r", "s", " " + " ".join(ends))
    m.add("DequantizeLinear", f"s {params}", "y")
    plan = check_quantised(m.build(SHAPE, {"y": np.float32}), SHAPE, step=0.02)
    assert set(ops(plan)) == {"quantise", "q_max_pool", "q_resize", "q_slice", "dequantise"}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_bytes_are_handed_out(dtype: type) -> None:
    m = Model()
    two(m, dtype=dtype)
    m.nodes.pop()
    check_quantised(m.build(SHAPE, {"q0": dtype}), SHAPE)


@pytest.mark.parametrize("op", ["QLinearGlobalAveragePool", "QLinearAveragePool"])
def test_averages_run_in_float32(op: str) -> None:
    m = Model()
    first, _ = two(m)
    out = m.params(0.01, 120)
    attrs = {"kernel_shape": [2, 3], "strides": [2, 1]} if op == "QLinearAveragePool" else {}
    m.add(op, f"{first} {out}", "p", **attrs)
    m.add("DequantizeLinear", f"p {out}", "y")
    # ONNX Runtime adds bytes, we add what they stand for: a sum on a rounding edge may fall on its other side.
    plan = check_quantised(m.build(SHAPE, {"y": np.float32}), SHAPE, step=0.01, share=0.02, fused=False)
    assert {"avg_pool", "global_avg_pool"} & set(ops(plan))


def test_a_gate_is_broadcast() -> None:
    m = Model()
    first, _ = two(m)
    gate, out = m.params(0.01, 128), m.params(0.03, 100)
    m.add("QLinearGlobalAveragePool", f"{first} {gate}", "g")
    m.add("QLinearMul", f"{first} g {gate} {out}", "s")
    m.add("DequantizeLinear", f"s {out}", "y")
    plan = check_quantised(m.build(SHAPE, {"y": np.float32}), SHAPE, step=0.03, share=0.05, fused=False)
    assert "q_mul" in ops(plan)
