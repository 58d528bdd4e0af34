"""The techniques of the field, each as a way of running one model that can be measured beside the others.

What is on is said by each label. Whoever cannot run here says why, and is left out: no instruction for it, no layer
that it is for, a package that is not installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.fft import LIBRARY, SMALLEST, can_compute, is_there
from cache.graph import Node
from cache.memory import memory_of
from cache.plan import Plan
from cache.policy import Policy
from cache.session import FrameResult, Session
from kernels.emit_bfloat16 import HAS_BFLOAT16
from service.bench import blas
from service.bench.deepmon import DeepMon, Rule, policy_of
from service.bench.errors import BenchError
from service.bench.im2col_network import Im2colNetwork
from service.bench.joules import PlanCost, im2col_joules, plan_cost
from service.bench.variants import Image, Network
from service.compression.timing import opened_as
from service.opened import OpenedModel

NEVER = 1 << 62
"""Bytes of a map that none has."""
KEYS = (
    "im2col", "direct", "winograd", "fft", "fused", "float16", "bfloat16", "compressed", "exact", "caching", "deepmon",
    "float32", "all",
)  # fmt: skip
LABELS = {
    "im2col": "im2col + BLAS",
    "direct": "direct convolution",
    "winograd": "+ Winograd",
    "fft": "+ FFT for large kernels",
    "fused": "+ depthwise and 1x1 in one step",
    "float16": "+ maps kept as float16",
    "bfloat16": "+ products in bfloat16",
    "compressed": "+ decomposed weights",
    "exact": "+ caching, exact",
    "caching": "+ caching, within the budget",
    "deepmon": "+ caching by DeepMon's rule",
    "float32": "decomposed, caching within the budget",
    "all": "all: decomposed, float16, caching within the budget",
}
BASELINE, REFERENCE, CACHING, FLOAT32, ALL = "im2col", "direct", "caching", "float32", "all"
STREAMS = frozenset({"exact", CACHING, "deepmon", FLOAT32, ALL})
"""Rows that remember the frame before."""
DECOMPOSED = frozenset({"compressed", FLOAT32, ALL})
"""Rows that need decomposed weights."""


@dataclass(frozen=True)
class Footprint:
    """Bytes. model : weights and tables, once. stream : feature maps, which each stream holds where they are cached.
    workspace : of the threads that compute, whatever the number of streams. matrix : of it, a matrix of columns."""

    model: int
    stream: int
    workspace: int
    matrix: int = 0


@dataclass(frozen=True)
class Subject:
    """One way of running a model. joules : estimate for the last frame.

    opened : the model that it runs, whose family decodes its outputs. reset : forget all frames. scale : share of the
    original's multiply-accumulates that the model has, dense. note : what else is to be known of it.
    """

    key: str
    opened: OpenedModel
    network: Network
    footprint: Footprint
    joules: Callable[[], float] = field(repr=False)
    reset: Callable[[], None] = field(repr=False)
    scale: float = 1.0
    note: str | None = None


def large_of(plan: Plan) -> list[Node]:
    """The cached convolutions whose kernels are large enough for Fourier transforms."""
    convolutions = [node for node in plan.partition.cached if node.op == "conv"]
    return [node for node in convolutions if min(plan.graph.constants[node.inputs[1]].shape[2:]) >= SMALLEST]


def methods_named(plan: Plan, word: str) -> int:
    """Steps that have a method of that kind, for whole maps or for short lists."""
    names = [[m.entry.name for m in (s.step.method, s.step.few) if m is not None] for s in plan.steps]
    return sum(any(word in name for name in of_step) for of_step in names)


Smaller: TypeAlias = tuple[OpenedModel, str] | str
"""A model with decomposed weights and what became of it, or why there is none."""


class Maker:
    """Makes the subjects of one model. Plans and the compressed model are made once, when first asked for."""

    def __init__(
        self, opened: OpenedModel, source: str, samples: Sequence[Image], *, spec: Path | None = None, threads: int = 1,
        rule: Rule | None = None, error: float = 0.05, smaller: dict[str, Smaller] | None = None,
        compressed: Path | None = None,
    ) -> None:  # fmt: skip
        """source, spec : file or name that a compression opens, and its specification if that lies elsewhere. samples :
        frames uint8[H, W, 3] that it is fitted to. rule : DeepMon's. error : of the outputs, that a compression may
        make. smaller : where its result is kept for other makers of the same model, samples and error.
        compressed : a file that a compression of the model wrote, so that none is made here."""
        self._opened, self._source, self._samples = opened, source, samples
        self._ready = compressed
        self._elsewhere = {} if spec is None else {"spec": spec}
        self._threads, self._rule, self._error = threads, rule or Rule(), error
        self._plans: dict[str, Plan] = {}
        self._kept = {} if smaller is None else smaller

    def make(self, key: str) -> Subject:
        """The subject of one of `KEYS`. Raises BenchError, or ValueError of the engine, with the reason."""
        return getattr(self, f"_{key}")()  # type: ignore[no-any-return]

    def plan(self, key: str) -> Plan:
        """The plan of a row whose model is the original."""
        if key not in self._plans:
            self._plans[key] = self._opened.compile(self._policy(key))
        return self._plans[key]

    def _policy(self, key: str) -> Policy:
        policy = self._opened.policy
        apart = replace(policy, fft_kept=0.0, separable_bytes=NEVER)
        return {
            "direct": replace(apart, precision="strict"),
            "winograd": apart,
            "fft": replace(policy, separable_bytes=NEVER),
            "float16": replace(policy, cache_dtype="float16"),
            "bfloat16": replace(policy, compute_dtype="bfloat16"),
            "deepmon": policy_of(policy),
        }.get(key, policy)

    def _im2col(self) -> Subject:
        network = Im2colNetwork(self.plan("direct"))
        told = blas.use_threads(self._threads)
        footprint = Footprint(
            network.weight_bytes, network.map_bytes, network.extra_bytes, network.extra_bytes
        )  # fmt: skip
        joules = im2col_joules(network)
        note = None if told else "this BLAS takes as many threads as it likes"
        return Subject(
            "im2col", self._opened, lambda image: (network.frame(image), 1.0), footprint, lambda: joules, _nothing,
            note=note,
        )  # fmt: skip

    def _direct(self) -> Subject:
        return self._dense("direct", self.plan("direct"))

    def _winograd(self) -> Subject:
        plan = self.plan("winograd")
        return replace(self._dense("winograd", plan), note=f"{methods_named(plan, 'winograd')} layers")

    def _fft(self) -> Subject:
        direct = self.plan("direct")
        large = large_of(direct)
        if not large:
            raise BenchError(f"no kernel of {SMALLEST}x{SMALLEST} or more in this model")
        possible = sum(can_compute(node, direct.graph.constants[node.inputs[1]]) for node in large)
        if not possible:
            raise BenchError(f"of {len(large)} large kernels none can be computed so: strides, dilations or groups")
        if not is_there():
            raise BenchError(f"{LIBRARY} (the extra `fft`) is not there: {possible} large kernels may gain by it")
        plan = self.plan("fft")
        count = methods_named(plan, "fft")
        if not count:
            raise BenchError(f"of {possible} large kernels that it can compute none gains by it here")
        return replace(self._dense("fft", plan), note=f"{count} of {len(large)} large kernels by transforms")

    def _fused(self) -> Subject:
        plan, apart = self.plan("fused"), self.plan("winograd")
        pairs = len(apart.steps) - len(plan.steps)
        if not pairs:
            raise BenchError(
                "no depthwise convolution with a 1x1 one after it and a map between them that is large enough"
            )
        return replace(self._dense("fused", plan), note=f"{pairs} pairs")

    def _float16(self) -> Subject:
        return self._dense("float16", self.plan("float16"))

    def _bfloat16(self) -> Subject:
        if not HAS_BFLOAT16:
            raise BenchError("this CPU has no bfloat16 arithmetic")
        plan = self.plan("bfloat16")
        if not plan.bfloat16_nodes:
            raise BenchError("no layer of this model gains by it here")
        return replace(self._dense("bfloat16", plan), note=f"{plan.bfloat16_nodes} layers")

    def _compressed(self) -> Subject:
        opened, said = self._smaller()
        return replace(self._dense("compressed", opened.compile(), opened), note=said)

    def _exact(self) -> Subject:
        return self._stream("exact", self.plan("caching"), exact=True)

    def _caching(self) -> Subject:
        return self._stream("caching", self.plan("caching"))

    def _deepmon(self) -> Subject:
        return self.deepmon(self._rule)

    def deepmon(self, rule: Rule) -> Subject:
        """A stream under this rule."""
        plan = self.plan("deepmon")
        stream, memory = DeepMon(plan, rule, self._threads), memory_of(plan)
        footprint = Footprint(memory.shared, stream.nbytes, memory.thread * self._threads)
        share = f"first {rule.layers:.0%} of the convolutions, blocks of {rule.block_px} px, distance {rule.distance:g}"
        return self._subject("deepmon", self._opened, plan, stream.session, stream.push, stream.reset, footprint, share)

    def _float32(self) -> Subject:
        opened = self._smaller()[0]
        return self._stream("float32", opened.compile(), opened=opened, note=self._unprofiled())

    def _all(self) -> Subject:
        opened, note = self._opened, None
        try:
            opened = self._smaller()[0]
            note = self._unprofiled()
        except BenchError as error:
            note = f"without decomposition: {error}"
        plan = opened.compile(replace(opened.policy, cache_dtype="float16"))
        return self._stream("all", plan, opened=opened, note=note)

    def _smaller(self) -> tuple[OpenedModel, str]:
        """The model with decomposed weights, and what became of it; tried once. Raises BenchError with the reason."""
        if self._source not in self._kept:
            try:
                self._kept[self._source] = self._compress()
            except (BenchError, ValueError) as error:
                self._kept[self._source] = str(error)
        found = self._kept[self._source]
        if isinstance(found, str):
            raise BenchError(found)
        return found

    def _compress(self) -> tuple[OpenedModel, str]:
        if self._ready is not None:
            return opened_as(self._opened, self._ready), self._and_unprofiled(f"as {self._ready.name} has them")
        try:
            module: Any = importlib.import_module("service.compression.compress")
        except ImportError as error:
            raise BenchError(f"not installed: {error}") from error
        made = module.compress(
            self._source, self._samples, method="tucker2", budget=self._error, size=self._opened.size,
            **self._elsewhere,
        )  # fmt: skip
        found = made.report
        share = found.macs_after / found.macs_before
        said = f"Tucker-2: {share:.0%} of the multiply-accumulates, output error {found.output_error:.3f}"
        return opened_as(self._opened, made.data), self._and_unprofiled(said)

    def _unprofiled(self) -> str | None:
        return None if self._opened.profile is None else "not calibrated: the original's profile is of other steps"

    def _and_unprofiled(self, said: str) -> str:
        return "; ".join(filter(None, (said, self._unprofiled())))

    def _dense(self, key: str, plan: Plan, opened: OpenedModel | None = None) -> Subject:
        """Every frame in full."""
        session = Session(plan, exact=True, threads=self._threads)

        def push(image: Image) -> FrameResult:
            session.reset()
            return session.push(image)

        return self._subject(
            key, opened or self._opened, plan, session, push, session.reset, self._footprint(plan, True)
        )

    def _stream(
        self, key: str, plan: Plan, *, exact: bool = False, opened: OpenedModel | None = None, note: str | None = None
    ) -> Subject:
        """What changed is recomputed."""
        session = Session(plan, exact=exact, threads=self._threads)
        footprint = self._footprint(plan, exact)
        return self._subject(
            key, opened or self._opened, plan, session, session.push, session.reset, footprint, note
        )  # fmt: skip

    def _footprint(self, plan: Plan, exact: bool) -> Footprint:
        memory = memory_of(plan, exact)
        return Footprint(memory.shared, memory.stream, memory.thread * self._threads)

    def _subject(
        self, key: str, opened: OpenedModel, plan: Plan, session: Session, push: Callable[[Image], FrameResult],
        reset: Callable[[], None], footprint: Footprint, note: str | None = None,
    ) -> Subject:  # fmt: skip
        def network(image: Image) -> tuple[Any, float]:
            result = push(image)
            return result.outputs, result.compute_fraction

        whole = self.plan(REFERENCE).total_macs
        return Subject(
            key, opened, network, footprint, partial(_joules, plan_cost(plan, session.exact), session), reset,
            plan.total_macs / whole if whole else 1.0, note,
        )  # fmt: skip


def _joules(cost: PlanCost, session: Session) -> float:
    shares: NDArray[np.float64] = session.step_shares
    return cost.joules(shares)


def _nothing() -> None:
    """Nothing is kept from frame to frame."""
