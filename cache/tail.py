"""The part of a model that the engine does not cache, run by ONNX Runtime on the cached tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_TAIL_BYTES = 4 << 30
"""Of what ONNX Runtime computes, for all tails of the process together."""


class TailError(RuntimeError):
    """ONNX Runtime refused or failed to run a part of the model."""


def bound_memory(options: Any) -> None:
    """Have a session take what it computes from memory that all sessions share, and that is bounded: sizes that depend
    on the pixels are known to nobody beforehand. Weights, and constants that are computed at the start, are not in it.
    """
    _make_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")


@lru_cache(maxsize=1)
def _make_arena() -> None:
    import onnxruntime as ort

    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    bounds = ort.OrtArenaCfg({"max_mem": MAX_TAIL_BYTES})
    with contextlib.suppress(RuntimeError):  # another thread was first
        ort.create_and_register_allocator(place, bounds)


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
    bound_memory(options)
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
