"""Raw passes tensors through."""

import numpy as np

from service.families.base import boxes_of
from service.families.raw import Raw
from service.model_spec import ModelSpec


def test_tensors_pass_through_uncopied():
    tensors = {"a": np.arange(4.0), "b": np.zeros((2, 2))}
    result = Raw().decode(tensors, ModelSpec(), (8, 8))
    assert result.tensors["a"] is tensors["a"]
    assert set(result.tensors) == {"a", "b"}
    assert len(boxes_of(result)) == 0
