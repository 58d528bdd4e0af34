import pytest

from cache.graph import Node
from cache.normal_form.window import ceil_size, pair, pool_size, window_pads, window_size


def make(**attrs: object) -> Node:
    return Node("n", "onnx.MaxPool", ("x",), ("y",), attrs)


def test_pairs() -> None:
    assert pair(make(strides=(2, 3)), "strides", 1) == (2, 3)
    assert pair(make(), "strides", 1) == (1, 1)
    assert pair(make(strides=(2,)), "strides", 1) is None


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({}, (0, 0, 0, 0)),
        ({"pads": (1, 2, 3, 4)}, (1, 2, 3, 4)),
        ({"pads": (1, 2)}, None),
        ({"pads": (-1, 0, 0, 0)}, None),
        ({"auto_pad": "VALID", "pads": (1, 1, 1, 1)}, (0, 0, 0, 0)),
        ({"auto_pad": "SAME_UPPER"}, (0, 1, 1, 1)),
        ({"auto_pad": "SAME_LOWER"}, (1, 1, 0, 1)),
        ({"auto_pad": "SIDEWAYS"}, None),
    ],
)
def test_pads(attrs: dict[str, object], expected: object) -> None:
    assert window_pads(make(**attrs), (8, 9), (3, 3), (2, 2), (1, 1)) == expected


def test_sizes() -> None:
    assert window_size((8, 9), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)) == (4, 5)
    assert ceil_size(4, 8, 2, 2, (0, 0), 1) == 4
    assert ceil_size(3, 8, 3, 2, (0, 0), 1) == 4
    assert ceil_size(7, 13, 2, 2, (1, 1), 1) == 7  # an eighth window would lie in the trailing padding


def test_pool_sizes_with_ceil_mode() -> None:
    attrs = {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    assert pool_size(make(**attrs), (10, 13)) is None
    assert pool_size(make(ceil_mode=1, **attrs), (10, 13)) == (6, 7)
