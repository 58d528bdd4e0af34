"""Files that mean harm, and a process that opens each of them with little memory allowed. Test code only.

`python -m tests.cache.hostile_models` prints a line of JSON per file: what came of it, and by how much its memory grew.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.cache.onnx_models import node

SHAPE = (1, 3, 8, 8)
ALLOWED_BYTES = 16 << 30  # of addresses: libraries reserve far more than they use
PATIENCE_S = 100

FILES: dict[str, Callable[[], bytes]] = {}


def hostile(make: Callable[[], bytes]) -> Callable[[], bytes]:
    FILES[make.__name__] = make
    return make


def model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[onnx.TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 17,
    domains: Sequence[str] = (),
) -> bytes:
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        list(nodes),
        "hostile",
        [helper.make_tensor_value_info("x", floats, SHAPE)],
        [helper.make_tensor_value_info("y", floats, ["a", "b", "c", "d"])],
        list(tensors),
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8).SerializeToString()


def tensor(name: str, value: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return tensor(name, np.asarray(values, np.int64))


def to_y(name: str) -> list[onnx.NodeProto]:
    """Nodes that add one number of a tensor to the image."""
    return [node("ReduceMax", name, f"{name}_m", keepdims=0), node("Add", f"x {name}_m", "y")]


def branch(nodes: Sequence[onnx.NodeProto], tensors: Sequence[onnx.TensorProto] = ()) -> onnx.GraphProto:
    output = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "branch", [], [output], list(tensors))


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


@hostile
def no_file() -> bytes:
    return b"MZ" + bytes(100)


@hostile
def millions_of_empty_nodes() -> bytes:
    """Two bytes each in the file, 150 in memory."""
    count = 5_000_000
    return b"\x08\x08\x3a" + varint(2 * count) + b"\x0a\x00" * count


@hostile
def too_many_nodes() -> bytes:
    return model([node("Relu", "x", f"n{i}") for i in range(20_001)] + [node("Relu", "x", "y")])


@hostile
def too_many_weights() -> bytes:
    return model([node("Relu", "x", "y")], [TensorProto(name=str(i), data_type=1, dims=[0]) for i in range(60_000)])


@hostile
def too_many_inputs() -> bytes:
    return model([node("Concat", "x " * 60_000, "y", axis=1)])


@hostile
def a_billion_laughs() -> bytes:
    functions = []
    for i in range(30):
        op, domain = (f"f{i + 1}", "l") if i < 29 else ("Identity", "")
        body = [
            helper.make_node(op, ["a"], ["b"], domain=domain),
            helper.make_node(op, ["b"], ["c"], domain=domain),
        ]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("l", 1)]
        functions.append(helper.make_function("l", f"f{i}", ["a"], ["c"], body, imports))
    return model([helper.make_node("f0", ["x"], ["y"], domain="l")], functions=functions, domains=["l"])


@hostile
def a_function_that_calls_itself() -> bytes:
    imports = [helper.make_opsetid("l", 1)]
    own = helper.make_function("l", "f", ["a"], ["c"], [helper.make_node("f", ["a"], ["c"], domain="l")], imports)
    return model([helper.make_node("f", ["x"], ["y"], domain="l")], functions=[own], domains=["l"])


@hostile
def deep_branches() -> bytes:
    inner = branch([node("Identity", "x", "o")])
    for _ in range(25):
        inner = branch([node("If", "c", "o", then_branch=inner, else_branch=branch([node("Identity", "x", "o")]))])
    return model([node("If", "c", "y", then_branch=inner, else_branch=inner)], [tensor("c", True)])


@hostile
def weights_without_values() -> bytes:
    return model([node("Add", "x w", "y")], [TensorProto(name="w", data_type=1, dims=[1 << 40])])


@hostile
def sizes_that_overflow() -> bytes:
    return model([node("Add", "x w", "y")], [TensorProto(name="w", data_type=1, dims=[1 << 32, 1 << 32], raw_data=b"")])


@hostile
def negative_sizes() -> bytes:
    weight = TensorProto(name="w", data_type=1, dims=[-1, -4], raw_data=bytes(16))
    return model([node("Add", "x w", "y")], [weight])


@hostile
def a_type_that_is_none() -> bytes:
    return model([node("Add", "x w", "y")], [TensorProto(name="w", data_type=77, dims=[4], raw_data=bytes(16))])


def external(location: str) -> onnx.TensorProto:
    weight = TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    weight.external_data.add(key="location", value=location)
    return weight


@hostile
def external_data_of_an_absolute_path() -> bytes:
    return model([node("Add", "x w", "y")], [external("/etc/passwd")])


@hostile
def external_data_above_the_folder() -> bytes:
    return model([node("Add", "x w", "y")], [external("../../etc/passwd")])


@hostile
def external_data_within_a_branch() -> bytes:
    inner = branch([node("Add", "x w", "o")], [external("../w.bin")])
    return model([node("If", "c", "y", then_branch=inner, else_branch=inner)], [tensor("c", True)])


@hostile
def ops_of_a_strangers_library() -> bytes:
    return model([helper.make_node("Evil", ["x"], ["y"], domain="evil.example")], domains=["evil.example"])


@hostile
def python_as_an_op() -> bytes:
    return model([helper.make_node("PyOp", ["x"], ["y"], domain="com.microsoft")], domains=["com.microsoft"])


@hostile
def a_cycle() -> bytes:
    return model([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")])


@hostile
def a_node_that_reads_itself() -> bytes:
    return model([node("Add", "x y", "y")])


@hostile
def constant_of_eight_giga() -> bytes:
    return model([node("ConstantOfShape", "s", "c"), *to_y("c")], [ints("s", 1 << 33)])


@hostile
def twenty_constants_of_one_giga() -> bytes:
    """Each is small enough; ONNX Runtime would make all of them as it loads a tail."""
    names = [f"c{i}" for i in range(20)]
    fills = [node("ConstantOfShape", "s", name) for name in names]
    return model([*fills, node("Sum", " ".join(names), "t"), *to_y("t")], [ints("s", 250_000_000)])


@hostile
def an_expanded_image() -> bytes:
    return model([node("Expand", "x s", "e"), *to_y("e")], [ints("s", 1 << 26, 3, 8, 8)])


@hostile
def a_tiled_constant() -> bytes:
    return model([node("Tile", "w s", "t"), *to_y("t")], [ints("s", 700_000_000), tensor("w", np.zeros(1, np.float32))])


@hostile
def a_long_range() -> bytes:
    numbers = [tensor("a", np.float32(0)), tensor("b", np.float32(1e9)), tensor("d", np.float32(1))]
    return model([node("Range", "a b d", "r"), *to_y("r")], numbers)


@hostile
def an_endless_range() -> bytes:
    numbers = [tensor("a", np.float32(0)), tensor("b", np.float32(np.inf)), tensor("d", np.float32(1))]
    return model([node("Range", "a b d", "r"), *to_y("r")], numbers)


@hostile
def an_enormous_pad() -> bytes:
    return model([node("Pad", "x p", "y")], [ints("p", 0, 0, 1 << 20, 1 << 20, 0, 0, 1 << 20, 1 << 20)])


@hostile
def an_enormous_pad_of_a_convolution() -> bytes:
    """What comes out is small, for its stride is large."""
    weight = tensor("w", np.zeros((4, 3, 1, 1), np.float32))
    return model([node("Conv", "x w", "y", pads=[1 << 20] * 4, strides=[1 << 19] * 2)], [weight])


@hostile
def an_enormous_resize() -> bytes:
    scales = tensor("s", np.asarray([1, 1, 5000, 5000], np.float32))
    return model([node("Resize", "x - s", "y", mode="nearest")], [scales])


@hostile
def a_hundred_large_maps() -> bytes:
    scales, weight = np.asarray([1, 1, 1000, 1000], np.float32), np.zeros((3, 3, 1, 1), np.float32)
    layers = [node("Conv", f"a{i} w", f"a{i + 1}") for i in range(100)]
    nodes = [node("Resize", "x - s", "a0", mode="nearest"), *layers, node("Relu", "a100", "y")]
    return model(nodes, [tensor("s", scales), tensor("w", weight)])


@hostile
def sizes_that_depend_on_pixels() -> bytes:
    """Nobody can know them beforehand."""
    nodes = [
        node("ReduceMax", "x", "m", keepdims=0),
        node("Cast", "m", "k", to=TensorProto.INT64),
        node("Add", "k big", "n"),
        node("Unsqueeze", "n axis", "s"),
        node("ConstantOfShape", "s", "e"),
        *to_y("e"),
    ]
    return model(nodes, [ints("axis", 0), tensor("big", np.int64(3_000_000_000))])


@hostile
def an_expression_that_never_ends() -> bytes:
    """Backtracking takes two to the number of letters; read as a constant, it is never tried."""
    text = helper.make_tensor("s", TensorProto.STRING, [1], [b"a" * 40 + b"c"])
    nodes = [node("RegexFullMatch", "s", "v", pattern="(a+)+b"), node("Cast", "v", "f", to=TensorProto.FLOAT)]
    return model([*nodes, *to_y("f")], [text], opset=20)


def open_file(data: bytes) -> str:
    """Load, compile and run it once."""
    from cache.onnx_import import load_model
    from cache.plan import Plan
    from cache.session import Session

    session = Session(Plan.compile(load_model(data), SHAPE))
    session.push(np.zeros((8, 8, 3), np.uint8))
    return "ran"


def _report(name: str) -> None:
    data = FILES[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_AS, (ALLOWED_BYTES, ALLOWED_BYTES))
    signal.alarm(PATIENCE_S)
    try:
        kind, message = open_file(data), ""
    except Exception as error:
        kind, message = type(error).__name__, str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"name": name, "kind": kind, "message": message, "grown_mib": grown >> 10}), flush=True)


def main() -> None:
    import cache.session  # noqa: F401  (before the fork, so that no child counts it)

    for name in FILES:
        child = os.fork()
        if child == 0:
            try:
                _report(name)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"name": name, "kind": f"died, status {status}", "message": "", "grown_mib": 0}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
