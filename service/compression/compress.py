"""A model made smaller: layers looked at on frames, ranks chosen, factors put in, the result measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from cache.onnx_import import OnnxModel, load_model
from service.bench.synthetic import is_synthetic, open_synthetic
from service.compression import search
from service.compression.activations import Image, Network, Sample, look
from service.compression.correction import Builder, Built, Plan
from service.compression.decompose import Form, Ranks, spectra
from service.compression.errors import CompressionError
from service.compression.graph import Layer, Surgeon, file_bytes
from service.compression.measure import Truth
from service.compression.report import LayerReport, Report
from service.families import Size
from service.opened import OpenedModel, open_model

Method: TypeAlias = Literal["tucker2", "cp", "svd"]
METHODS: tuple[Method, ...] = ("tucker2", "cp", "svd")
BAYES = "vbmf"
_WINDOWED: Mapping[str, Form] = {"tucker2": "tucker2", "cp": "cp", "svd": "spatial"}
PROBES = 4
"""Frames that a layer's sensitivity is measured on."""
Progress: TypeAlias = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Compressed:
    """data : an ONNX file. report : what was done, and what it costs and saves."""

    data: bytes
    report: Report


@dataclass(frozen=True)
class Target:
    """What is asked for; one of the three. energy : share of squared singular values that every layer keeps, or "vbmf".
    macs : share of multiply-accumulates that may be left. budget : relative error of the outputs that may be made."""

    energy: float | Literal["vbmf"] | None = None
    macs: float | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in self._all().items() if value is not None}
        if len(given) != 1:
            said = " and ".join(given) or "none"
            raise CompressionError(f"expected one of energy, macs and budget, got {said}")
        (name, value), *_ = given.items()
        inside = value == BAYES and name == "energy"
        if not isinstance(value, str):
            inside = math.isfinite(value) and value > 0 and (value < 1 or (name == "energy" and value == 1))
        if not inside:
            wanted = f"a share above 0 up to 1, or {BAYES}" if name == "energy" else "a share between 0 and 1"
            raise CompressionError(f"{name}: expected {wanted}, got {value}")

    def _all(self) -> dict[str, float | str | None]:
        return {"energy": self.energy, "macs": self.macs, "budget": self.budget}

    def __str__(self) -> str:
        return next(f"{name} {value}" for name, value in self._all().items() if value is not None)


def compress(
    source: Path | str,
    frames: Iterable[Image],
    *,
    method: str,
    energy: float | Literal["vbmf"] | None = None,
    macs: float | None = None,
    budget: float | None = None,
    correct: bool = True,
    size: Size | None = None,
    progress: Progress | None = None,
    spec: Path | None = None,
) -> Compressed:
    """A smaller model that answers nearly like the original; plain ONNX.

    source : an ONNX file, its TOML specification beside it or in `spec`, or "synthetic:vgg16" and its kind. frames :
    uint8[H, W, 3] BGR of any size, like what the model will see, held at the model's; every second one is held back to
    measure with.
    method : "tucker2", "cp" or "svd", of convolutions with windows; 1x1 ones and matrices are always cut by SVD.
    energy, macs, budget : one of them (`Target`). correct : decompose for the inputs that the frames have, and fit by
    least squares. size : (W, H) of the input; None takes the model's own. progress : called with what is done and how
    much of it. Raises CompressionError: no such method or target, no frames, nothing to compress, or a target that
    cannot be reached; and what `open_model` raises.
    """
    if method not in METHODS:
        raise CompressionError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    target = Target(energy, macs, budget)
    work = _Work(source, frames, method, correct, size, spec, progress or (lambda what, share: None))
    plan, built = work.chosen(target)
    return Compressed(built.data, work.report(target, plan, built))


class _Work:
    """One compression under way."""

    def __init__(
        self, source: Path | str, frames: Iterable[Image], method: str, correct: bool, size: Size | None,
        spec: Path | None, progress: Progress,
    ) -> None:  # fmt: skip
        self._opened, file = _open(source, size, spec)
        self._method, self._correct, self._progress = method, correct, progress
        self._surgeon = Surgeon(file)
        self._network = Network(self._opened)
        images = [self._network.prepared(frame) for frame in frames]
        if not images:
            raise CompressionError("expected at least one frame, got none")
        self._fitted_to, self._held = images[::2], images[1::2] or images
        self._before = self._network.total_macs()
        self._layers = self._reached()
        samples = look(self._network, self._layers, self._fitted_to, lambda share: progress("activations", share))
        forms = {layer.name: _form(layer, method) for layer in self._layers}
        self._builder = Builder(self._opened, self._surgeon, forms, samples, self._fitted_to, correct)
        self._shaped = {
            layer.name: self._shape(layer, forms[layer.name], samples[layer.name]) for layer in self._layers
        }
        self._truth = Truth(self._opened, self._network, self._held)

    def chosen(self, target: Target) -> tuple[Plan, Built]:
        """The plan for a target, and its model."""
        if target.energy is not None:
            plan = self._by_energy(target.energy)
            return plan, self._build(plan)
        if target.macs is not None:
            return self._by_macs(self._moves(), target.macs)
        assert target.budget is not None
        return self._by_budget(self._moves(by_time=True), target.budget)

    def report(self, target: Target, plan: Plan, built: Built) -> Report:
        """All figures."""
        error, agreement = self._truth.compare(built.network)
        reasons = dict(self._surgeon.left)
        rows: list[LayerReport] = []
        for layer in self._surgeon.layers:
            shaped = self._shaped.get(layer.name)
            if shaped is None:
                reasons[layer.name] = "not on the way to the outputs that are used"
            elif layer.name not in plan:
                rows.append(LayerReport(
                    layer.name, shape=layer.shape, macs_before=shaped.before, macs_after=shaped.before,
                    reason="no ranks that save work at this target",
                ))  # fmt: skip
            else:
                ranks = plan[layer.name]
                rows.append(LayerReport(
                    layer.name, shaped.form, layer.shape, ranks, shaped.before, shaped.after(ranks),
                    built.errors[layer.name],
                ))  # fmt: skip
        rows.extend(LayerReport(name, reason=reason) for name, reason in reasons.items())
        return Report(
            model=self._opened.model.name, method=self._method, target=str(target), corrected=self._correct,
            size=self._opened.size, frames=(len(self._fitted_to), len(self._held)), layers=tuple(rows),
            macs_before=self._before, macs_after=built.network.total_macs(),
            bytes_before=file_bytes(self._surgeon.model), bytes_after=len(built.data), output_error=error,
            agreement=agreement, in_sample=self._held[0] is self._fitted_to[0],
        )  # fmt: skip

    def _reached(self) -> list[Layer]:
        """Layers that the outputs in use depend on. Raises CompressionError where there are none."""
        reached = self._network.reached()
        found = [layer for layer in self._surgeon.layers if layer.target in reached]
        if not found:
            raise CompressionError(f"{self._opened.model.name}: nothing to compress: {_why(self._surgeon)}")
        return found

    def _shape(self, layer: Layer, form: Form, sample: Sample) -> search.Shaped:
        plain = spectra(form, layer.weight)
        root = self._builder.root(layer)
        cut = plain if root is None else spectra(form, layer.weight, root)
        return search.Shaped(form, layer.shape, sample.size_in, sample.size_out, cut, plain)

    def _by_energy(self, energy: float | str) -> dict[str, Ranks]:
        plan: dict[str, Ranks] = {}
        for name, shaped in self._shaped.items():
            ranks = shaped.by_bayes() if isinstance(energy, str) else shaped.at_energy(energy)
            if shaped.after(ranks) < shaped.before:
                plan[name] = ranks
        if not plan:
            raise CompressionError(
                f"{self._opened.model.name}: nothing to compress: of {len(self._shaped)} layers none has ranks that "
                f"save work at energy {energy}"
            )
        return plan

    def _moves(self, by_time: bool = False) -> tuple[search.Move, ...]:
        """All that can be done, cheapest first: what each layer does to the outputs for the work, or time, it saves."""
        ladders: dict[str, tuple[search.Rung, ...]] = {}
        sensitivity: dict[str, float] = {}
        few = Truth(self._opened, self._network, self._fitted_to[:PROBES])
        for number, layer in enumerate(self._layers):
            self._progress("sensitivity of layers", number / len(self._layers))
            rungs = search.ladder(self._shaped[layer.name], by_time)
            if not rungs:
                continue
            probe = search.probe_of(rungs)
            error = few.error(self._builder.plain({layer.name: probe.ranks}))
            ladders[layer.name] = rungs
            sensitivity[layer.name] = error**2 / max(probe.loss, 1e-12)
        if not ladders:
            raise CompressionError(
                f"{self._opened.model.name}: nothing to compress: of {len(self._layers)} layers none has ranks that "
                f"save {'time' if by_time else 'work'}"
            )
        return search.moves(ladders, sensitivity)

    def _by_macs(self, moves: Sequence[search.Move], share: float) -> tuple[Plan, Built]:
        count = search.count_for(moves, math.ceil(self._before * (1 - share)))
        if count is None:
            least = 1 - sum(move.saved for move in moves) / self._before
            raise CompressionError(
                f"macs: expected a share that can be reached, got {share:g}; the least that {self._method} leaves is "
                f"{least:.3f}"
            )
        plan = search.plan_of(moves[:count])
        return plan, self._build(plan)

    def _by_budget(self, moves: Sequence[search.Move], budget: float) -> tuple[Plan, Built]:
        kept: dict[int, Built] = {}

        def measure(count: int) -> float:
            kept[count] = self._build(search.plan_of(moves[:count]))
            error = self._truth.error(kept[count].network)
            for other in [n for n in kept if n != count and (n > count or error <= budget)]:
                del kept[other]  # only the largest that holds is wanted
            return error

        count, least = search.within(moves, budget, measure)
        if least is not None:
            first = moves[0]
            raise CompressionError(
                f"budget: no layer can be replaced at an error of the outputs of {budget:g} or less; the least that "
                f"was found is {least:.4g}, {first.layer} alone with ranks {'x'.join(map(str, first.ranks))}"
            )
        return search.plan_of(moves[:count]), kept[count]

    def _build(self, plan: Plan) -> Built:
        what = f"{len(plan)} layers"
        return self._builder.build(plan, lambda share: self._progress(what, share))


def _open(source: Path | str, size: Size | None, spec: Path | None) -> tuple[OpenedModel, OnnxModel]:
    """The model at a size, and as the file has it."""
    if isinstance(source, str) and is_synthetic(source):
        opened = open_synthetic(source, size)
        return opened, opened.model
    return open_model(source, size, spec, profile=""), load_model(source)


def _form(layer: Layer, method: str) -> Form:
    return "pointwise" if layer.shape[2:] == (1, 1) else _WINDOWED[method]


def _why(surgeon: Surgeon) -> str:
    """Why the nodes of a model are left alone."""
    if not surgeon.left:
        return "expected convolutions or matrix products with constant weights, found none"
    counts: dict[str, int] = {}
    for reason in surgeon.left.values():
        counts[reason] = counts.get(reason, 0) + 1
    return "; ".join(f"{count} x {reason}" for reason, count in counts.items())
