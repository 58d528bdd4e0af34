"""The part of a model that the engine does not cache, run by ONNX Runtime on the cached tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class TailError(RuntimeError):
    """ONNX Runtime refused or failed to run a part of the model."""


def runtime_session(model: bytes, threads: int = 1) -> Any:
    """An ONNX Runtime CPU session with all graph optimisations.

    Raises TailError with ONNX Runtime's own reason when it cannot run the model.
    """
    import onnxruntime as ort  # 40 ms and 40 MB that a model without tails can do without

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exception classes share no base but Exception
        raise TailError(f"ONNX Runtime cannot run this model: {error}") from error


class TailRunner:
    """A sub-model from cached tensors (or the model's own inputs) to outputs. Stateless; shared by all streams."""

    def __init__(self, model: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._session = runtime_session(model)

    @property
    def types(self) -> dict[str, str]:
        """ONNX Runtime's type of every input and output, such as ``tensor(float)``."""
        return {item.name: item.type for item in (*self._session.get_inputs(), *self._session.get_outputs())}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name. feeds : one array per input, shapes and dtypes as the model declares."""
        try:
            results = self._session.run(list(self.outputs), {name: feeds[name] for name in self.inputs})
        except Exception as error:
            raise TailError(f"ONNX Runtime failed on {', '.join(self.outputs)}: {error}") from error
        return dict(zip(self.outputs, (np.asarray(r) for r in results), strict=True))
