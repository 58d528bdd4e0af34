"""The order of the passes, and the check after each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from cache.graph import Graph
from cache.passes.dead_code import remove_dead_code, strip_placeholders
from cache.passes.fold_batchnorm import fold_batchnorm
from cache.passes.fold_constants import Typer, fold_constants
from cache.passes.fold_pad import fold_pad
from cache.passes.fuse_activation import fuse_activation
from cache.passes.fuse_quantised import fuse_quantised, fuse_tables
from cache.passes.normalise import normalise
from cache.passes.quantised_weights import fold_quantised_weights
from cache.passes.recognise_gate import recognise_gate
from cache.passes.recognise_shuffle import recognise_shuffle
from cache.passes.remove_identity import remove_identity
from cache.passes.space_to_depth import space_to_depth
from cache.passes.space_to_depth_bytes import space_to_depth_bytes
from cache.verify import verify

PASSES: Sequence[Callable[[Graph], Graph]] = (
    remove_dead_code,
    recognise_shuffle,
    remove_dead_code,
    remove_identity,
    recognise_gate,
    space_to_depth,
    fold_pad,
    fold_batchnorm,
    fuse_activation,
    fold_pad,
    remove_dead_code,
    strip_placeholders,
)
"""Gates come before folding: the +3 of a written-out hard-swish must not vanish into a convolution.
Padding is folded again after activations are fused: only then is it known which maps are never negative."""


def normal_form(graph: Graph, opset: int, typer: Typer, too_new: Collection[str] = ()) -> Graph:
    """Fold, normalise and rewrite a raw graph; every step is verified (GraphError)."""
    graph, weights = fold_quantised_weights(graph)
    graph = fold_constants(graph, typer)
    graph = normalise(graph, opset, too_new)
    verify(graph)
    for run in PASSES:
        graph = run(graph)
        verify(graph)
    graph = remove_dead_code(fuse_quantised(graph, weights))
    verify(graph)
    for run in (fuse_tables, space_to_depth_bytes):
        graph = run(graph)
        verify(graph)
    return graph
