"""What a plan takes of memory, and who shares it: counted from the plan, before any stream exists. No printing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.exposure import can_be_brought_back
from cache.graph import Graph
from cache.half import Staging
from cache.plan import Plan
from kernels.noise import SHADES, STEPS
from kernels.program import JOB_WORDS

Array = npt.NDArray[Any]

VIEWS = frozenset({"concat", "select_channels"})
"""Ops whose output no engine has to store: its values lie in the inputs."""


@dataclass(frozen=True)
class Memory:
    """Bytes. What ONNX Runtime takes for tails is not known and not counted.

    weights, tables : of the plan, shared by all its streams: packed weights and their tables of addresses; lists of
    every pixel and the program's tables.
    feature_maps : a stream's arena, borders and idle lanes included. reference_frame : its uint8 frame, and
    room for one more, brought back to that one's exposure. masks : what
    tells which pixels a frame wrote. outputs : tensors that it hands out or gives to tails.
    thread : work space of each thread that pushes frames, whatever the number of streams and models.
    activations : for comparison, one set of activations: the input and the output of every cached node that is no
    view, as float32, without borders or idle lanes.
    """

    weights: int
    tables: int
    feature_maps: int
    reference_frame: int
    masks: int
    outputs: int
    thread: int
    activations: int

    @property
    def shared(self) -> int:
        """Held once for all streams of the plan."""
        return self.weights + self.tables

    @property
    def stream(self) -> int:
        """Held by each stream."""
        return self.feature_maps + self.reference_frame + self.masks + self.outputs

    @property
    def ratio(self) -> float:
        """All that a stream holds but its reference frame, over one set of activations."""
        return (self.stream - self.reference_frame) / self.activations

    def as_dict(self) -> dict[str, int | float]:
        """Every figure by name, bytes but for the ratio."""
        return {**asdict(self), "shared": self.shared, "stream": self.stream, "ratio": round(self.ratio, 3)}


def memory_of(plan: Plan, exact: bool = False) -> Memory:
    """Count a plan's memory, in exact sessions if so. Makes no session."""
    methods = [m for s in plan.steps for m in (s.step.method, s.step.few) if m is not None]
    reads = [r for s in plan.steps for r in s.step.reads]
    program = plan.program
    tables: list[Array] = [a for r in reads for a in (r.rows.low, r.rows.high, r.columns.low, r.columns.high)]
    tables += [a for s in plan.steps for a in (s.everything, s.lanes)] + [m.words for m in methods]
    tables += [program.steps, program.reads, program.maps, program.costs, program.epsilons, plan.table]
    tile = plan.policy.tile
    tiles = -(-plan.height // tile) * -(-plan.width // tile)
    frames = 2 if can_be_brought_back(plan.policy.exposure, plan.channels) and not exact else 1
    pixels = sum(m.height * m.width for m in plan.maps)
    return Memory(
        weights=_once([a for m in methods for a in m.kept]),
        tables=_once(tables),
        feature_maps=plan.arena_bytes,
        reference_frame=frames * plan.height * plan.width * plan.channels,
        masks=pixels + len(plan.maps) * 3 * 8 + tiles * 14 + SHADES * STEPS * 4 + len(plan.steps) * JOB_WORDS * 8,
        outputs=_outputs(plan),
        thread=_thread(plan),
        activations=_activations(plan),
    )


def _thread(plan: Plan) -> int:
    """Work space, with masks of each of the frames that go through the steps together."""
    masks = plan.needs.mask_words * 8 * plan.together if plan.together > 1 else 0
    return plan.needs.nbytes + masks + (0 if plan.half is None else Staging.nbytes(plan.half))


def _once(arrays: Sequence[Array]) -> int:
    """Bytes of arrays, those that share memory counted once."""
    return sum({(a.ctypes.data, a.nbytes): a.nbytes for a in arrays}.values())


def _outputs(plan: Plan) -> int:
    taps = sum(tap.dtype.itemsize * int(np.prod(tap.shape)) for tap in plan.taps.values())
    return taps + sum(_bytes(plan.graph, name) for tail in plan.tails for name in tail.outputs)


def _activations(plan: Plan) -> int:
    stored = {name for node in plan.partition.cached if node.op not in VIEWS for name in node.outputs if name}
    return 4 * int(np.prod(plan.input_shape)) + sum(_bytes(plan.graph, name) for name in stored)


def _bytes(graph: Graph, name: str) -> int:
    """Bytes of a tensor of the graph; 0 where its shape is not known."""
    found = graph.type_of(name)
    return 0 if found is None else int(np.prod(found.shape)) * found.dtype.itemsize
