"""Classification: best classes first, softmax only where it is missing."""

import numpy as np
import pytest

from service.families.base import FamilyError
from service.families.classification import Classifier
from service.model_spec import ModelSpec

LOGITS = np.array([[1.0, 3.0, -2.0, 2.0]], np.float32)
PROBABILITIES = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()


@pytest.mark.parametrize("scores", ["auto", "logits"])
@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1), (4,)])
def test_logits_become_probabilities(scores, shape):
    spec = ModelSpec(family="classification", scores=scores, top_k=2)
    found = Classifier().decode({"logits": LOGITS.reshape(shape)}, spec, (224, 224))
    assert found.class_id.tolist() == [1, 3]
    np.testing.assert_allclose(found.score, PROBABILITIES[[1, 3]], rtol=1e-6)


@pytest.mark.parametrize("scores", ["auto", "probability"])
def test_probabilities_stay(scores):
    spec = ModelSpec(family="classification", scores=scores)
    found = Classifier().decode({"p": PROBABILITIES[None]}, spec, (224, 224))
    assert found.class_id.tolist() == [1, 3, 0, 2]
    np.testing.assert_array_equal(found.score, PROBABILITIES[[1, 3, 0, 2]])


def test_refuses_what_is_no_row():
    with pytest.raises(FamilyError, match="expected one row of class scores, got 'map' 1x4x2x2"):
        Classifier().decode({"map": np.zeros((1, 4, 2, 2))}, ModelSpec(family="classification"), (8, 8))
