import numpy as np
import pytest

from cache.onnx_import import import_graph, load_model
from cache.partition import partition
from cache.report import Row, Totals, describe, totals
from tests.cache.onnx_models import SHAPE, build, model_path, node, weights


def test_rows_and_totals() -> None:
    nodes = [
        node("Conv", "x w", "c", name="conv"),
        node("Relu", "c", "r"),
        node("Reshape", "r n", "f", name="flat"),
        node("MatMul", "f m", "y", name="classify"),
    ]
    constants = {"w": weights(4, 4, 1, 1), "n": np.array([1, 480]), "m": weights(480, 10)}
    graph = import_graph(load_model(build(nodes, constants)), SHAPE)
    rows = describe(graph, partition(graph, lambda graph, node: None))
    assert rows == (
        Row("conv", "conv + relu", (1, 4, 10, 12), 4 * 4 * 120, None, ""),
        Row("flat", "Reshape", (1, 480), 0, 0, "Reshape is not a cached op in this form"),
        Row("classify", "MatMul", (1, 10), 4800, 0, "MatMul is not a cached op in this form"),
    )
    found = totals(rows)
    assert found == Totals(1, 2, 1920, 4800)
    assert found.cached_share == pytest.approx(1920 / 6720)
    assert totals(()).cached_share == 1


@pytest.mark.data
def test_yolox_is_cached_but_for_its_tail() -> None:
    graph = import_graph(load_model(model_path("yolox_nano.onnx")), (1, 3, 416, 416))
    found = totals(describe(graph, partition(graph, lambda graph, node: None)))
    assert found.tail_nodes == 5
    assert found.tail_macs == 0
    assert 0.4e9 < found.cached_macs < 0.7e9
