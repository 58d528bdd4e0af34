"""What each ONNX op means in the engine's normal form: one small file per kind of op.

A rule takes a foreign node, the editor that holds its types and constants, and the opset; it returns the
nodes that compute the same outputs, or None where no normal form is exact. Nothing is guessed: a case that a
rule does not know stays foreign and runs in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cache.graph import Node
from cache.normal_form import activations, channels, convolution, eltwise, pool, quantised, resize, softmax
from cache.passes.editor import GraphEditor

Rule = Callable[[Node, GraphEditor, int], list[Node] | None]

RULES: Mapping[str, Rule] = {
    **activations.RULES,
    **channels.RULES,
    **convolution.RULES,
    **eltwise.RULES,
    **pool.RULES,
    **resize.RULES,
    **softmax.RULES,
    **quantised.RULES,
}
"""By ONNX op type; those of other domains with the domain before it."""
