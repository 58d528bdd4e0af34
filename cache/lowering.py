"""Every op the engine can cache: one line each. A new op is a file in `cache/ops` and a line here."""

from __future__ import annotations

from collections.abc import Callable

from cache.builder import Builder
from cache.graph import QUANTISED_OPS, Graph, Node
from cache.ops import (
    affine,
    byte_maps,
    concat,
    conv,
    conv_transpose,
    eltwise,
    global_pool,
    pad,
    pool,
    quantised,
    resize,
    select_channels,
    slice_spatial,
    softmax,
)  # fmt: skip

Supports = Callable[[Graph, Node], "str | None"]
Lower = Callable[[Node, Builder], None]

OPS: dict[str, tuple[Supports, Lower]] = {
    "conv": (conv.supports, conv.lower),
    "conv_transpose": (conv_transpose.supports, conv_transpose.lower),
    "max_pool": (pool.supports, pool.lower),
    "avg_pool": (pool.supports, pool.lower),
    "global_avg_pool": (global_pool.supports, global_pool.lower),
    "global_max_pool": (global_pool.supports, global_pool.lower),
    "resize": (resize.supports, resize.lower),
    "add": (eltwise.supports, eltwise.lower),
    "sub": (eltwise.supports, eltwise.lower),
    "mul": (eltwise.supports, eltwise.lower),
    "max": (eltwise.supports, eltwise.lower),
    "min": (eltwise.supports, eltwise.lower),
    "affine": (affine.supports, affine.lower),
    "activate": (affine.supports, affine.lower),
    "softmax": (softmax.supports, softmax.lower),
    "concat": (concat.supports, concat.lower),
    "select_channels": (select_channels.supports, select_channels.lower),
    "slice_spatial": (slice_spatial.supports, slice_spatial.lower),
    "pad": (pad.supports, pad.lower),
    "quantise": (byte_maps.supports, byte_maps.lower_quantise),
    "dequantise": (byte_maps.supports, byte_maps.lower_dequantise),
    "q_conv": (quantised.supports, quantised.lower),
    "q_add": (byte_maps.supports, byte_maps.lower_combination),
    "q_mul": (byte_maps.supports, byte_maps.lower_combination),
    "q_lookup": (byte_maps.supports, byte_maps.lower_lookup),
    "q_max_pool": (byte_maps.supports, byte_maps.lower_max_pool),
    "q_resize": (byte_maps.supports, byte_maps.lower_copy),
    "q_slice": (byte_maps.supports, byte_maps.lower_copy),
    "q_concat": (byte_maps.supports, byte_maps.lower_concat),
    "q_select": (byte_maps.supports, byte_maps.lower_select),
}


def unsupported(graph: Graph, node: Node) -> str | None:
    """Why a node cannot be cached, or None when it can."""
    if node.op not in OPS:
        return f"{node.op.removeprefix('onnx.')} is not an op the engine caches"
    for name in (*graph.activations(node), *node.outputs):
        found = graph.type_of(name)
        if found is None:
            return f"the shape of {name!r} is not known"
        if not found.is_feature_map and not (node.op in QUANTISED_OPS and found.is_byte_map):
            return f"{name!r} is {found}, not a float32 feature map (1, C, H, W)"
    return OPS[node.op][0](graph, node)


def lower(node: Node, builder: Builder) -> None:
    """Add a supported node to the plan."""
    OPS[node.op][1](node, builder)
