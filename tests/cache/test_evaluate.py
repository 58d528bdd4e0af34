from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cache.evaluate import TooLarge, evaluate, slices_of

I = np.array  # noqa: E741
GRID = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
FLOATS = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)

CASES: list[tuple[str, list[Any], dict[str, Any], int]] = [
    ("Identity", [GRID], {}, 17),
    ("Add", [GRID, I([1, 2, 3, 4])], {}, 17),
    ("Sub", [GRID, I(3)], {}, 17),
    ("Mul", [FLOATS, np.float32(3)], {}, 17),
    ("Div", [I([7, -7, 7, -7]), I([2, 2, -2, -2])], {}, 17),
    ("Div", [FLOATS, np.float32(3)], {}, 17),
    ("Equal", [GRID, I(3)], {}, 17),
    ("Greater", [GRID, I(3)], {}, 17),
    ("Less", [GRID, I(3)], {}, 17),
    ("Floor", [FLOATS], {}, 17),
    ("Ceil", [FLOATS], {}, 17),
    ("Neg", [GRID], {}, 17),
    ("Sqrt", [np.abs(FLOATS)], {}, 17),
    ("Exp", [FLOATS], {}, 17),
    ("Gather", [GRID, I([[0, -1], [1, 1]])], {"axis": 2}, 17),
    ("Gather", [GRID, I(-1)], {}, 17),
    ("Concat", [GRID, GRID], {"axis": -1}, 17),
    ("Unsqueeze", [GRID, I([0, 2])], {}, 17),
    ("Unsqueeze", [GRID], {"axes": [1]}, 11),
    ("Squeeze", [GRID[None], I([0])], {}, 17),
    ("Squeeze", [GRID[None]], {"axes": [0]}, 11),
    ("Slice", [GRID, I([-1, 0]), I([-(2**63), 2]), I([2, 0]), I([-2, 1])], {}, 17),
    ("Slice", [GRID, I([1]), I([2**62])], {}, 17),
    ("Reshape", [GRID, I([0, -1])], {}, 17),
    ("Transpose", [GRID], {"perm": [2, 0, 1]}, 17),
    ("Transpose", [GRID], {}, 17),
    ("Expand", [I([[1], [2]]), I([3, 1, 4])], {}, 17),
    ("Range", [I(3), I(11), I(3)], {}, 17),
    ("Range", [np.float32(1), np.float32(0), np.float32(-0.3)], {}, 17),
    ("Where", [GRID > 3, GRID, I(0)], {}, 17),
    ("ReduceProd", [GRID + 1], {"axes": [1], "keepdims": 0}, 13),
    ("ReduceProd", [I([2, 3])], {}, 13),
]


@pytest.mark.parametrize(("op", "values", "attrs", "opset"), CASES)
def test_agrees_with_the_reference(op: str, values: list[Any], attrs: dict[str, Any], opset: int) -> None:
    names = [f"i{index}" for index in range(len(values))]
    node = helper.make_node(op, names, ["y"], **attrs)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_empty_tensor_value_info(name) for name in names],
        [helper.make_empty_tensor_value_info("y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    arrays = [np.asarray(value) for value in values]
    (expected,) = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
    found = evaluate(op, arrays, attrs)
    assert found is not None
    assert found.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_cast() -> None:
    found = evaluate("Cast", [FLOATS], {"to": np.dtype(np.int64)})
    assert found is not None
    assert found.dtype == np.int64
    assert evaluate("Cast", [FLOATS], {"to": None}) is None
    assert evaluate("Cast", [np.array(["a"], object)], {"to": np.dtype(np.float32)}) is None


def test_constants() -> None:
    assert evaluate("Constant", [], {"value_ints": (1, 2)}) is not None
    assert evaluate("Constant", [], {"value_string": "a"}) is None
    filled = evaluate("ConstantOfShape", [np.array([2, 2])], {"value": np.array([7], np.int64)})
    assert filled is not None
    assert filled.tolist() == [[7, 7], [7, 7]]


@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("ConstantOfShape", [I([1 << 20, 1 << 20])]),
        ("Expand", [I([1]), I([1 << 40])]),
        ("Range", [I(0), I(1 << 40), I(1)]),
        ("Add", [np.zeros((1 << 13, 1)), np.zeros((1, 1 << 13))]),
        ("Gather", [np.zeros((2, 1 << 12)), np.zeros(1 << 12, np.int64)]),
    ],
)
def test_growth_is_bounded(op: str, values: list[Any]) -> None:
    with pytest.raises(TooLarge):
        evaluate(op, values, {})


def test_what_is_not_known_is_left() -> None:
    assert evaluate("Conv", [GRID, GRID], {}) is None
    assert evaluate("Reshape", [GRID, I([2, 12])], {"allowzero": 1}) is None
    assert evaluate("Add", [GRID, None], {}) is None


def test_slices() -> None:
    found = slices_of(3, [GRID], {"starts": (1,), "ends": (3,), "axes": (-1,)})
    assert found == (slice(None), slice(None), slice(1, 3, 1))


def test_element_types_of_cast_are_numpy_types() -> None:
    assert np.dtype(helper.tensor_dtype_to_np_dtype(TensorProto.INT64)) == np.int64
