"""Stretches of a plan's steps: so many that their weights stay in a core's cache while frames of several streams go
through them, one frame after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cache.steps import Step, Words

STRETCH_BYTES = 1 << 17
"""Weights of a stretch, about; what the frames read and write besides must have room beside them."""


def stretches_of(steps: Sequence[Step], outside: bool) -> Words:
    """int64[n], after which steps stretches end: those of so many bytes of weights each.

    outside : the image lies in the thread's work space, which has room for one. The first stretch then ends with the
    last step that reads it, and each frame goes through that before the next one is taken in; else it is empty.
    """
    readers = [i for i, step in enumerate(steps) if any(read.map == 0 for read in step.reads)]
    first = 1 + max(readers, default=-1) if outside else 0
    ends, held = [first], 0
    for index, step in enumerate(steps[first:], first):
        size = weights_bytes(step)
        if held and held + size > STRETCH_BYTES:
            ends.append(index)
            held = 0
        held += size
    if ends[-1] < len(steps):
        ends.append(len(steps))
    return np.array(ends, np.int64)


def weights_bytes(step: Step) -> int:
    """Bytes that a step reads besides maps: weights and tables of addresses, of the method that short lists take."""
    kept = (step.few or step.method).kept
    return sum(array.nbytes for array in kept if isinstance(array, np.ndarray))
