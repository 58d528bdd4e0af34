"""Weights of replaced layers: from the decomposition, then fitted to what the original's layers made of sample frames.

Layer by layer, in the order in which they run: the last factor and the bias of each are fitted by least squares from
what the network compressed so far gives them to what the original's layer made there, so that a layer also makes up for
errors of those before it. Nothing is trained. Arrays and files of models; knows no ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.onnx_import import load_model
from service.compression.activations import Image, Network, Rows, Sample, rows_of
from service.compression.decompose import Decomposer, Form, Ranks, pieces
from service.compression.graph import Layer, Replacement, Surgeon, Weights
from service.opened import OpenedModel

Plan: TypeAlias = Mapping[str, Ranks]
"""Ranks of the layers that are replaced, by name."""

RIDGE = 1e-3
"""Of the mean variance of the last factor's inputs: what the sample does not tell stays as it was decomposed."""
ENOUGH = 4
"""Positions for each input of the last factor, without which only its bias is fitted."""


@dataclass(frozen=True, eq=False)
class Built:
    """A model with layers replaced. errors : of each layer's outputs on the frames that it was fitted to, root mean
    square over that of the original's."""

    data: bytes
    network: Network
    errors: Mapping[str, float]


class Builder:
    """Makes models of plans. images : prepared frames that are fitted to. correct : whether anything is fitted."""

    def __init__(
        self, opened: OpenedModel, surgeon: Surgeon, forms: Mapping[str, Form], samples: Mapping[str, Sample],
        images: Sequence[Image], correct: bool,
    ) -> None:  # fmt: skip
        self._opened, self._surgeon, self._forms, self._samples = opened, surgeon, forms, samples
        self._images, self._correct = images, correct
        self._parts: dict[str, dict[Ranks, tuple[NDArray[np.float64], ...]]] = {}
        self._in_hand: tuple[str, Decomposer] | None = None

    def root(self, layer: Layer) -> NDArray[np.float64] | None:
        """What the decomposition of a layer is weighed with."""
        return self._samples[layer.name].root if self._correct else None

    def parts(self, layer: Layer, ranks: Ranks) -> tuple[NDArray[np.float64], ...]:
        """The decomposition of a layer's weights. Kept are the last ranks of each layer, and of the last layer what
        does not depend on ranks: all of everything would be many times the model. Of cp, whose factors are small and
        take longest, all ranks that were asked for are."""
        kept = self._parts.setdefault(layer.name, {})
        if ranks not in kept:
            form = self._forms[layer.name]
            if self._in_hand is None or self._in_hand[0] != layer.name:
                self._in_hand = layer.name, Decomposer(form, layer.weight, self.root(layer))
            if form != "cp":
                kept.clear()
            kept[ranks] = self._in_hand[1].factors(ranks)
        return kept[ranks]

    def plain(self, plan: Plan) -> Network:
        """The network of a plan, nothing fitted."""
        found = {layer.name: self._replacement(layer, plan[layer.name]) for layer in self._layers(plan)}
        return self._network(self._surgeon.rewrite(found))

    def build(self, plan: Plan, progress: Callable[[float], None] = lambda share: None) -> Built:
        """The model of a plan, fitted if so asked for."""
        layers = self._layers(plan)
        found = {layer.name: self._replacement(layer, plan[layer.name]) for layer in layers}
        for number, layer in enumerate(layers if self._correct else ()):
            progress(number / len(layers))
            found[layer.name] = self._fitted(layer, found)
        data = self._surgeon.rewrite(found)
        network = Network(self._opened, load_model(data))  # checked as any file that is read
        made = rows_of(network, [(layer, layer.target) for layer in layers], self._images)
        errors = {
            layer.name: relative(rows, self._samples[layer.name].outputs)
            for layer, rows in zip(layers, made, strict=True)
        }
        return Built(data, network, errors)

    def _layers(self, plan: Plan) -> list[Layer]:
        return [layer for layer in self._surgeon.layers if layer.name in plan]

    def _network(self, data: bytes) -> Network:
        return Network(self._opened, self._surgeon.reopened(data))

    def _replacement(self, layer: Layer, ranks: Ranks) -> Replacement:
        form = self._forms[layer.name]
        parts = tuple(np.asarray(part, np.float32) for part in self.parts(layer, ranks))
        return Replacement(pieces(form, layer.shape, ranks), parts, layer.bias)

    def _fitted(self, layer: Layer, found: Mapping[str, Replacement]) -> Replacement:
        """The replacement of a layer with its last piece fitted, behind those `found` for the layers before it."""
        own = found[layer.name]
        c_out, rank, kh, kw = own.pieces[-1].shape
        if kh * kw == 1:
            rows = self._rows(layer, self._surgeon.hidden(layer), found)
        else:  # a convolution of ones and zeros lays out what the last one sees, whatever its stride and padding
            size = rank * kh * kw
            piece = replace(own.pieces[-1], shape=(size, rank, kh, kw))
            ones = np.eye(size, dtype=np.float32).reshape(piece.shape)
            seen = Replacement((*own.pieces[:-1], piece), (*own.weights[:-1], ones), None)
            rows = self._rows(layer, layer.target, {**found, layer.name: seen})
        last, bias = refit(
            rows, self._samples[layer.name].outputs, own.weights[-1].reshape(c_out, -1), own.bias, layer.takes_bias
        )
        return replace(own, weights=(*own.weights[:-1], last.reshape(own.weights[-1].shape)), bias=bias)

    def _rows(self, layer: Layer, tensor: str, found: Mapping[str, Replacement]) -> Rows:
        network = self._network(self._surgeon.rewrite(found))
        return next(rows_of(network, [(layer, tensor)], self._images))


def refit(
    rows: Rows, outputs: Rows, last: Weights, bias: Weights | None, takes_bias: bool = True
) -> tuple[Weights, Weights | None]:
    """The last factor float32[Cout, r] and the bias float32[Cout] that make `outputs` of `rows` with least squares.

    rows : float32[N, r]. outputs : float32[N, Cout]. last, bias : as the decomposition has them; the ridge pulls
    towards this factor. takes_bias : False leaves the bias as it is.
    """
    x, y, start = rows.astype(np.float64), outputs.astype(np.float64), last.astype(np.float64)
    offset = np.zeros(len(start)) if bias is None else bias.astype(np.float64)
    mean_x, mean_y = (x.mean(axis=0), y.mean(axis=0)) if takes_bias else (np.zeros(x.shape[1]), offset)
    x, rest = x - mean_x, y - mean_y - (x - mean_x) @ start.T
    fitted = start
    if len(x) >= ENOUGH * x.shape[1]:
        products = x.T @ x
        ridge = RIDGE * max(float(np.trace(products)) / len(products), 1e-30)
        fitted = start + np.linalg.solve(products + ridge * np.eye(len(products)), x.T @ rest).T
    if not takes_bias:
        return fitted.astype(np.float32), bias
    return fitted.astype(np.float32), (mean_y - fitted @ mean_x).astype(np.float32)


def relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Root mean square of the difference over that of `expected`; the difference's own where that is zero."""
    gap = float(np.square(found.astype(np.float64) - expected).mean()) if expected.size else 0.0
    size = float(np.square(expected.astype(np.float64)).mean()) if expected.size else 0.0
    return float(np.sqrt(gap / size)) if size else float(np.sqrt(gap))
