"""What tensors of a model hold on sample frames: a sample of positions, a few tensors and one frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.graph import macs
from cache.model import ancestors, image_input
from cache.onnx_import import OnnxModel, at_size, extract, import_graph
from cache.tail import TailRunner
from service.compression.graph import Layer
from service.opened import OpenedModel
from service.preprocess import fit

Image: TypeAlias = NDArray[np.uint8]
Rows: TypeAlias = NDArray[np.float32]
Outputs: TypeAlias = Mapping[str, NDArray[Any]]

ROWS = 4096
"""Positions of a layer that are looked at, over all frames together."""
_TOGETHER = 6
"""Layers whose tensors are read in one run: of one frame, so many of them are in memory."""
_SHRINK = 1e-3
"""Part of the mean variance that every channel has at least."""
_ENOUGH = 2
"""Positions for each channel, without which a covariance says nothing."""


class Network:
    """A model as it runs on frames of one size, in ONNX Runtime."""

    def __init__(self, opened: OpenedModel, model: OnnxModel | None = None) -> None:
        """model : another file in the place of the opened one, with the same input and outputs."""
        self._opened = opened
        self.shape = (1, opened.spec.channels, opened.size[1], opened.size[0])
        self.model = opened.model if model is None else at_size(model, self.shape)
        self.outputs = tuple(opened.outputs or self.model.outputs)
        self.input = image_input(self.model, [item.name for item in self.model.inputs]).name
        self._table = opened.spec.normalisation()

    def prepared(self, frame: Image) -> Image:
        """A frame uint8[H, W, 3] BGR as the network's input takes it, uint8[h, w, C]."""
        return fit(frame, self._opened.size, self._opened.spec)[0]

    def reader(self, names: Sequence[str]) -> Callable[[Image], dict[str, NDArray[Any]]]:
        """A function from prepared frames to tensors of the model, by name."""
        made = [name for name in dict.fromkeys(names) if name != self.input]
        runner = TailRunner(extract(self.model, {self.input: self.shape}, made), [self.input], made) if made else None

        def read(image: Image) -> dict[str, NDArray[Any]]:
            x = np.stack([self._table[image[:, :, c], c] for c in range(image.shape[2])])[None]
            return {self.input: x, **({} if runner is None else runner.run({self.input: x}))}

        return read

    def reached(self) -> frozenset[str]:
        """Tensors that the outputs in use are made from, and they themselves."""
        positions, _ = ancestors(self.model.source, self.outputs, ())
        return frozenset(name for i in positions for name in self.model.source.nodes[i].outputs)

    def total_macs(self) -> int:
        """Multiply-accumulates of a dense run up to the outputs that are used."""
        graph = import_graph(self.model, self.shape, self.outputs)
        return sum(macs(graph, node) for node in graph.nodes)


@dataclass(frozen=True, eq=False)
class Sample:
    """What a layer of the original reads and makes on the sample frames.

    outputs : float32[N, Cout], without activation. root : float64[Cin, Cin], R of the inputs' covariance R R^T, a
    little of every channel added; of their second moments about zero where the layer takes no bias; None where too few
    positions were seen. size_in, size_out : height and width; of a matrix product the number of rows, and 1.
    """

    outputs: Rows
    root: NDArray[np.float64] | None
    size_in: tuple[int, int]
    size_out: tuple[int, int]


def look(
    network: Network, layers: Sequence[Layer], images: Sequence[Image], progress: Callable[[float], None]
) -> dict[str, Sample]:
    """A sample of each layer, by name. images : prepared frames."""
    found: dict[str, Sample] = {}
    for start in range(0, len(layers), _TOGETHER):
        some = layers[start : start + _TOGETHER]
        read = network.reader([name for layer in some for name in (layer.source, layer.target)])
        kept = {layer.name: _Collected(layer) for layer in some}
        for number, image in enumerate(images):
            tensors = read(image)
            for layer in some:
                kept[layer.name].add(tensors[layer.source], tensors[layer.target], number, len(images))
        found |= {name: collected.sample() for name, collected in kept.items()}
        progress(min(1.0, (start + _TOGETHER) / len(layers)))
    return found


def rows_of(network: Network, tensors: Sequence[tuple[Layer, str]], images: Sequence[Image]) -> Iterator[Rows]:
    """float32[N, C] of a tensor that goes with each layer, at the positions of `Sample.outputs`."""
    for start in range(0, len(tensors), 2 * _TOGETHER):
        some = tensors[start : start + 2 * _TOGETHER]
        read = network.reader([tensor for _, tensor in some])
        kept: list[list[Rows]] = [[] for _ in some]
        for number, image in enumerate(images):
            found = read(image)
            for (layer, tensor), rows in zip(some, kept, strict=True):
                whole = _rows(layer, found[tensor])
                rows.append(whole[_positions(layer, number, len(whole), len(images))])
        for rows in kept:
            yield np.concatenate(rows)


class _Collected:
    """Rows of a layer's input and output, of all frames."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._inputs, self._outputs = list[Rows](), list[Rows]()
        self._sizes = ((1, 1), (1, 1))

    def add(self, x: NDArray[Any], y: NDArray[Any], number: int, frames: int) -> None:
        into, out = _rows(self._layer, x), _rows(self._layer, y)
        self._sizes = _size(self._layer, x), _size(self._layer, y)
        self._outputs.append(out[_positions(self._layer, number, len(out), frames)])
        self._inputs.append(into[_positions(self._layer, number, len(into), frames)])

    def sample(self) -> Sample:
        """Drops the inputs: they are of no use after this."""
        root = _root(self._inputs, self._layer.takes_bias)
        self._inputs.clear()
        return Sample(np.concatenate(self._outputs), root, *self._sizes)


def _root(rows: Sequence[Rows], centred: bool) -> NDArray[np.float64] | None:
    """`Sample.root` of float32[N, Cin] of several frames. centred : False where no bias can make up for the mean."""
    count, channels = sum(map(len, rows)), rows[0].shape[1]
    if count < _ENOUGH * channels:
        return None  # before anything of channels by channels is made: fully connected layers have many, and few rows
    products, total = np.zeros((channels, channels)), np.zeros(channels)
    for some in rows:
        wide = some.astype(np.float64)
        products += wide.T @ wide
        total += wide.sum(axis=0)
    covariance = products / count
    if centred:
        covariance -= np.outer(total / count, total / count)
    least = float(np.trace(covariance)) / channels
    if not least > 0 or not np.isfinite(covariance).all():
        return None
    return np.asarray(np.linalg.cholesky(covariance + np.eye(channels) * least * _SHRINK))


def _rows(layer: Layer, values: NDArray[Any]) -> Rows:
    """A tensor as [positions, channels]."""
    if layer.op == "Conv":
        return np.asarray(values[0], np.float32).reshape(values.shape[1], -1).T
    return np.asarray(values, np.float32).reshape(-1, values.shape[-1])


def _size(layer: Layer, values: NDArray[Any]) -> tuple[int, int]:
    if layer.op == "Conv":
        return int(values.shape[2]), int(values.shape[3])
    return values.size // values.shape[-1], 1


def _positions(layer: Layer, number: int, available: int, frames: int) -> NDArray[np.intp]:
    """The same ones whatever the network, others in each frame."""
    wanted = -(-ROWS // frames)
    if available <= wanted:
        return np.arange(available)
    return np.sort(np.random.default_rng((layer.position, number)).choice(available, wanted, replace=False))
