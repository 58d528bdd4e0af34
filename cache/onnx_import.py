"""Reads ONNX files: checks them as untrusted input, turns them into graphs, cuts pieces out of them.

The only file of the engine that knows onnx, and longer than the house likes for that reason: whatever must
see its classes is here. What an op means is decided in ``cache.normal_form``; the rewriting is done in
``cache.passes``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx.defs
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from onnx import helper

from cache.graph import FOREIGN_PREFIX, Graph, GraphError, Node, TensorType
from cache.heads import Head, find_heads
from cache.model import InputInfo, ModelError, OnnxModel, ancestors, image_input, native_shape
from cache.normal_form.contrib_types import contrib_types
from cache.normal_form.window import pool_size
from cache.passes.pipeline import normal_form
from cache.proto import all_graphs, all_nodes, captured, inlined_nodes, looks_like, refuse_external_data, subgraphs
from cache.resizing import scaled_targets
from cache.tail import bound_memory
from cache.wire_scan import check_fields

__all__ = [
    "Head",
    "InputInfo",
    "ModelError",
    "OnnxModel",
    "at_size",
    "changed",
    "extract",
    "import_graph",
    "load_model",
    "native_shape",
    "spatial_heads",
]

MAX_BYTES = 1 << 30
"""VGG-19 takes 575 MB, most of it in fully connected layers."""
MAX_NODES = 20_000
MAX_TENSORS = 50_000
"""Initializers, and inputs and outputs of nodes."""
MAX_ELEMENTS = 1 << 28
"""Of one tensor, and of all together that ONNX Runtime may compute once as constants."""
MAX_ALL_ELEMENTS = 1 << 31
"""Of all tensors of a graph: what is kept is checked again when the plan is made, in bytes."""
MIN_OPSET = 7
NEWEST_KNOWN_OP = 22
"""Ops whose definition is newer than this opset are left to ONNX Runtime: their meaning is not known here."""

_STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_SMALL = 1024
_NEVER_EVALUATED = frozenset(
    {
        "AveragePool", "Attention", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DFT", "DeformConv", "Einsum",
        "GRU", "GridSample", "ImageDecoder", "LSTM", "LpPool", "MaxPool", "MaxUnpool", "QLinearConv", "RNN",
        "RegexFullMatch", "RoiAlign", "STFT", "StringSplit", "TfIdfVectorizer",
    }
)  # fmt: skip
"""Ops that take far more time or memory than the size of their result tells: never worth folding."""
_ONNX_ERRORS = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    ValueError,
    RuntimeError,
    TypeError,
    KeyError,
)

Array = npt.NDArray[Any]


def load_model(source: str | Path | bytes, *, max_bytes: int = MAX_BYTES, max_nodes: int = MAX_NODES) -> OnnxModel:
    """Read and check a model from a path or from the bytes of a file.

    Raises ModelError: not ONNX, larger than max_bytes or max_nodes, weights in other files, an opset or op
    that nobody here knows, or anything the ONNX checker objects to; OSError when a path cannot be read.
    """
    path = None if isinstance(source, bytes) else Path(source)
    data = source if isinstance(source, bytes) else _read(Path(source), max_bytes)
    if len(data) > max_bytes:
        raise ModelError(f"model too large: expected at most {max_bytes} bytes, got {len(data)}")
    proto = _parse(data)
    count = inlined_nodes(proto, max_nodes)
    if count > max_nodes:
        raise ModelError(f"model too large: expected at most {max_nodes} nodes, got {count} or more")
    _check_tensors(proto)
    opset = _check_opset(proto)
    if proto.functions:
        try:
            proto = onnx.inliner.inline_local_functions(proto)
        except _ONNX_ERRORS as error:
            raise ModelError(f"not a valid ONNX model: {error}") from error
    refuse_external_data(proto)
    _check_ops(proto)
    _check(proto)
    name = path.stem if path is not None else (proto.graph.name or "model")
    graph = _source_graph(proto, name)
    weights = {item.name for item in proto.graph.initializer}
    return OnnxModel(
        path=path,
        name=name,
        proto=proto,
        opset=opset,
        metadata={item.key: item.value for item in proto.metadata_props},
        inputs=[_input_info(item) for item in proto.graph.input if item.name not in weights],
        outputs=graph.outputs,
        sha256=hashlib.sha256(data).hexdigest(),
        source=graph,
    )


def _read(path: Path, max_bytes: int) -> bytes:
    size = path.stat().st_size
    if size > max_bytes:
        raise ModelError(f"model too large: expected at most {max_bytes} bytes, got {size} in {path.name}")
    return path.read_bytes()


def _check_tensors(proto: Any) -> None:
    weights = sum(len(graph.initializer) for graph in all_graphs(proto.graph))
    ends = sum(len(node.input) + len(node.output) for node in all_nodes(proto.graph))
    if max(weights, ends) > MAX_TENSORS:
        raise ModelError(f"model too large: expected at most {MAX_TENSORS} tensors, got {max(weights, ends)}")


def _parse(data: bytes) -> Any:
    try:
        check_fields(data, onnx.ModelProto.DESCRIPTOR)
        proto = onnx.load_model_from_string(data)
    except ModelError:
        raise
    except Exception as error:  # protobuf raises an error of its own
        raise ModelError(f"not an ONNX model: expected a protobuf message, got {looks_like(data)}") from error
    if not proto.ir_version or not proto.graph.node or not proto.graph.output:
        raise ModelError(f"not an ONNX model: expected a graph with nodes, got {looks_like(data)}")
    return proto


def _check_opset(proto: Any) -> int:
    opsets = {item.domain: item.version for item in proto.opset_import}
    version = opsets.get("", opsets.get("ai.onnx"))
    newest = onnx.defs.onnx_opset_version()
    if version is None or not MIN_OPSET <= version <= newest:
        raise ModelError(f"expected ONNX opset {MIN_OPSET} to {newest}, got {version}")
    return int(version)


def _check_ops(proto: Any) -> None:
    """Every op has a definition: here for the standard domains, in ONNX Runtime for the others."""
    opsets = {item.domain: item.version for item in proto.opset_import}
    ask_runtime = False
    for node in all_nodes(proto.graph):
        if node.domain not in _STANDARD_DOMAINS:
            ask_runtime = True
            continue
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = opsets.get(domain, opsets.get(node.domain))
        if version is None or not onnx.defs.has(node.op_type, max_inclusive_version=version, domain=domain):
            shown = f"{domain}.{node.op_type}" if domain else node.op_type
            raise ModelError(f"unknown op {shown!r} (node {node.name!r}): not in opset {version}")
    if ask_runtime:
        try:
            _require_loads(proto)
        except ModelError as error:
            domains = sorted({node.domain for node in all_nodes(proto.graph)} - set(_STANDARD_DOMAINS))
            raise ModelError(f"unknown op in domain {', '.join(domains)}: {error}") from error


def _check(proto: Any) -> None:
    """The ONNX checker's rules; what it objects to and ONNX Runtime loads all the same is let through."""
    try:
        onnx.checker.check_model(proto)
    except _ONNX_ERRORS as error:
        try:
            _require_loads(proto)
        except ModelError:
            raise ModelError(f"not a valid ONNX model: {error}") from error


def _require_loads(proto: Any) -> None:
    """Raise ModelError, with the first line of its reason, where ONNX Runtime does not take a model."""
    try:
        _runtime().InferenceSession(proto.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise ModelError(lines[0] if lines else type(error).__name__) from error


def _input_info(value: Any) -> InputInfo:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"input {value.name!r}: expected a tensor, got another type")
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
    return InputInfo(value.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape)


def _source_graph(proto: Any, name: str) -> Graph:
    weights: dict[str, Array] = {}
    for item in proto.graph.initializer:
        weights[item.name] = _array(item, f"initializer {item.name!r}")
    nodes: list[Node] = []
    taken: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        label = node.name or f"{node.op_type}_{index}"
        if label in taken:
            label = f"{label}#{index}"
        taken.add(label)
        op = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        implicit = captured(node)
        nodes.append(Node(label, FOREIGN_PREFIX + op, (*node.input, *implicit), tuple(node.output), _attributes(node)))
    inputs = tuple(item.name for item in proto.graph.input if item.name not in weights)
    outputs = tuple(item.name for item in proto.graph.output)
    return Graph(name, inputs, outputs, tuple(nodes), weights, {})


def _array(tensor: Any, what: str) -> Array:
    try:
        value: Array = onnx.numpy_helper.to_array(tensor)
    except _ONNX_ERRORS as error:
        raise ModelError(f"{what}: expected values for shape {tuple(tensor.dims)}, got {error}") from error
    return value


def _attributes(node: Any) -> dict[str, Any]:
    """Attributes as plain Python values; graphs are left out (the node runs in ONNX Runtime)."""
    result: dict[str, Any] = {}
    for attribute in node.attribute:
        kind = attribute.type
        if kind == onnx.AttributeProto.TENSOR:
            result[attribute.name] = _array(attribute.t, f"attribute {attribute.name!r} of {node.name!r}")
        elif kind in (onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT):
            result[attribute.name] = helper.get_attribute_value(attribute)
        elif kind == onnx.AttributeProto.STRING:
            result[attribute.name] = attribute.s.decode("utf-8", "replace")
        elif kind == onnx.AttributeProto.INTS:
            result[attribute.name] = tuple(attribute.ints)
        elif kind == onnx.AttributeProto.FLOATS:
            result[attribute.name] = tuple(attribute.floats)
    if node.op_type == "Cast" and "to" in result:
        result["to"] = _dtype(result["to"])
    return result


def _dtype(element: int) -> np.dtype[Any] | None:
    try:
        dtype: np.dtype[Any] = np.dtype(helper.tensor_dtype_to_np_dtype(element))
    except _ONNX_ERRORS:
        return None
    return dtype


def _outgrows(node: Node, size: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether a convolution's window, its gaps included, is larger than its input with its padding."""
    axes = len(size)
    pads, gaps = node.attrs.get("pads") or (0,) * 2 * axes, node.attrs.get("dilations") or (1,) * axes
    if node.attrs.get("auto_pad") in (b"SAME_UPPER", b"SAME_LOWER", "SAME_UPPER", "SAME_LOWER"):
        return False
    if len(kernel) != axes or len(pads) != 2 * axes or len(gaps) != axes:
        return False
    reach = zip(size, pads[:axes], pads[axes:], kernel, gaps, strict=True)
    return any(n > 0 and n + before + behind < (k - 1) * gap + 1 for n, before, behind, k, gap in reach)


_SLIDING = {"onnx.Conv", "onnx.MaxPool", "onnx.AveragePool", "onnx.LpPool"}


class _OnnxTyper:
    """Types and values of single nodes, from onnx itself (see ``cache.passes.fold_constants.Typer``)."""

    def __init__(self, model: OnnxModel, image: str, input_shape: Sequence[int]) -> None:
        self._model = model
        self._image = image
        self._input_shape = tuple(input_shape)
        self._protos = dict(zip((n.name for n in model.source.nodes), model.proto.graph.node, strict=True))
        self._imports = list(model.proto.opset_import)
        self._versions = {item.domain: item.version for item in self._imports}
        self._types: dict[str, Any] = {}

    def declare(self, name: str, tensor_type: TensorType) -> None:
        element = helper.np_dtype_to_tensor_dtype(tensor_type.dtype)
        self._types[name] = helper.make_tensor_type_proto(element, tensor_type.shape)

    def infer(self, node: Node, constants: Mapping[str, Array]) -> Mapping[str, TensorType]:
        proto = self._protos[node.name]
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        if domain == "com.microsoft":
            return self._contrib(node)
        if domain not in ("", "ai.onnx.ml") or any(name and name not in self._types for name in node.inputs):
            return {}
        schema = onnx.defs.get_schema(node.op.rpartition(".")[2], self._version(domain), domain)
        types = {name: self._types[name] for name in node.inputs if name}
        data = {
            name: onnx.numpy_helper.from_array(constants[name], name)
            for name in node.inputs
            if name in constants and constants[name].size <= _SMALL
        }
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema,
                proto,
                types,
                data,
                opset_imports=self._imports,
                ir_version=self._model.proto.ir_version,
            )
        except _ONNX_ERRORS as error:
            self._require_runs(node, str(error))
            return {}
        self._check_windows(node, found)
        self._types.update(found)
        self._count_windows(node)
        found = {name: self._types[name] for name in found}
        result = {name: known for name, proto in found.items() if (known := _tensor_type(proto)) is not None}
        self._check_reshape(node, result)
        return result

    def _contrib(self, node: Node) -> Mapping[str, TensorType]:
        known = {name: _tensor_type(self._types.get(name)) for name in node.inputs}
        found = contrib_types(node, {name: kind for name, kind in known.items() if kind is not None})
        for name, kind in found.items():
            self.declare(name, kind)
        return found

    def _count_windows(self, node: Node) -> None:
        """Shape inference counts one window too many for some pools with ceil_mode."""
        if node.op not in ("onnx.MaxPool", "onnx.AveragePool"):
            return
        x, y = (_tensor_type(self._types.get(name)) for name in (node.inputs[0], node.outputs[0]))
        if x is None or y is None or len(x.shape) != 4:
            return
        size = pool_size(node, (x.shape[2], x.shape[3]))
        if size is not None and size != y.shape[2:]:
            for name in filter(None, node.outputs):
                known = _tensor_type(self._types[name])
                if known is not None:
                    self.declare(name, TensorType(known.dtype, (*known.shape[:2], *size)))

    def _check_windows(self, node: Node, found: Mapping[str, Any]) -> None:
        """Shape inference gives sizes below 0 where a window is larger than all that it slides over."""
        dims = [dim.dim_value for kind in found.values() for dim in kind.tensor_type.shape.dim]
        source = _tensor_type(self._types.get(node.inputs[0])) if node.inputs else None
        if node.op not in _SLIDING or source is None:
            return
        weight = _tensor_type(self._types.get(node.inputs[1])) if node.op == "onnx.Conv" else None
        kernel = node.attrs.get("kernel_shape") or (weight.shape[2:] if weight is not None else ())
        if min(dims, default=0) < 0 or (node.op == "onnx.Conv" and _outgrows(node, source.shape[2:], kernel)):
            size, window = ("x".join(map(str, part)) for part in (source.shape[2:], kernel))
            raise self._fixed(node, f"its kernel, {window}, is larger than its input, {size}, with its padding")

    def _version(self, domain: str) -> int:
        return int(self._versions.get(domain, self._versions.get("ai.onnx", self._model.opset)))

    def _check_reshape(self, node: Node, found: Mapping[str, TensorType]) -> None:
        """Shape inference believes a Reshape whatever its input holds."""
        source = _tensor_type(self._types.get(node.inputs[0])) if node.op == "onnx.Reshape" else None
        target = found.get(node.outputs[0])
        if source is None or target is None:
            return
        if np.prod(source.shape, dtype=np.int64) != np.prod(target.shape, dtype=np.int64):
            raise self._fixed(node, f"it is fixed to {target.shape}, and gets {source.shape}")

    def _require_runs(self, node: Node, reason: str) -> None:
        """Inference is stricter than the runtime here and there: what ONNX Runtime runs is no error."""
        try:
            piece = extract(self._model, {self._image: self._input_shape}, [node.outputs[0]])
            session = _runtime().InferenceSession(piece, _quiet(), providers=["CPUExecutionProvider"])
            session.run(None, {self._image: np.zeros(self._input_shape, np.float32)})
        except Exception as error:
            shapes = []
            for name in node.inputs:
                known = _tensor_type(self._types.get(name))
                fixed = "fixed " if name in self._model.source.constants else ""
                shapes.append(f"{fixed}{name!r} {known.shape if known else 'of unknown shape'}")
            raise self._fixed(node, f"its inputs are {', '.join(shapes)}") from error

    def _fixed(self, node: Node, detail: str) -> ModelError:
        size = "x".join(map(str, self._input_shape))
        return ModelError(f"model cannot run at {size}: node {node.name!r} ({node.op[5:]}): {detail}")

    def evaluate(self, node: Node, values: Sequence[Array | None]) -> Sequence[Array] | None:
        from onnx.reference import ReferenceEvaluator

        proto = self._protos[node.name]
        if subgraphs(proto) or proto.domain not in ("", "ai.onnx") or proto.op_type in _NEVER_EVALUATED:
            return None
        names = [name for name in proto.input if name]
        graph = helper.make_graph(
            [proto],
            "fold",
            [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names)],
            [helper.make_empty_tensor_value_info(name) for name in proto.output if name],
        )
        single = helper.make_model(graph, opset_imports=self._imports)
        feeds = {name: value for name, value in zip(proto.input, values, strict=False) if name}
        try:
            results = list(ReferenceEvaluator(single).run(None, feeds))
        except Exception:
            return None
        if not all(isinstance(item, np.ndarray | np.generic) for item in results):
            return None
        named = dict(zip((name for name in proto.output if name), results, strict=True))
        return [np.asarray(named.get(name, 0)) for name in proto.output]


def _runtime() -> Any:
    """ONNX Runtime, imported where it is first needed: most models that are well-formed never ask for it."""
    import onnxruntime

    return onnxruntime


def _quiet() -> Any:
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    bound_memory(options)
    return options


def _tensor_type(proto: Any) -> TensorType | None:
    """A concrete tensor type, None when any of it is unknown."""
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    dtype = _dtype(proto.tensor_type.elem_type)
    dims = proto.tensor_type.shape.dim
    if dtype is None or not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        return None
    return TensorType(dtype, tuple(int(dim.dim_value) for dim in dims))


def import_graph(
    model: OnnxModel, input_shape: tuple[int, int, int, int], outputs: Sequence[str] | None = None
) -> Graph:
    """The model in normal form at one input size, ending at the named tensors (its own outputs if None).

    input_shape : (1, C, H, W); it may differ from what the file declares.
    Raises ModelError when a tensor does not exist, when the part needs other inputs than one float32 image,
    or when a node cannot run at this size (the message names it).
    """
    shape = tuple(int(size) for size in input_shape)
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise ModelError(f"expected an input shape (1, C, H, W), got {shape}")
    source = model.source
    wanted = tuple(dict.fromkeys(outputs)) if outputs is not None else source.outputs
    positions, reached = ancestors(source, wanted, ())
    info = image_input(model, reached)
    if info.shape is not None:
        declared = info.shape[1] if len(info.shape) == 4 else None
        if len(info.shape) != 4 or declared not in (None, shape[1]):
            raise ModelError(f"expected an input of shape {info.shape}, got {shape}")
    nodes = tuple(source.nodes[i] for i in positions)
    types = {info.name: TensorType(np.dtype(np.float32), shape)}
    raw = Graph(model.name, (info.name,), wanted, nodes, source.constants, types)
    try:
        graph = normal_form(raw, model.opset, _OnnxTyper(model, info.name, shape), _too_new(model))
    except GraphError as error:
        raise ModelError(f"model {model.name!r} cannot be imported at {shape}: {error}") from error
    _check_sizes(graph)
    return graph


def _check_sizes(graph: Graph) -> None:
    """Raise ModelError where tensors of known size are too large, alone or together; nothing is allocated yet."""
    of_image, once, everything = set(graph.inputs), 0, 0
    for name, known in graph.types.items():
        if math.prod(known.shape) > MAX_ELEMENTS:
            raise ModelError(f"expected tensors of at most {MAX_ELEMENTS} elements, got {name!r} of {known}")
    for node in graph.nodes:
        found = [graph.types[name] for name in node.outputs if name in graph.types]
        size = sum(math.prod(known.shape) for known in found)
        if of_image.isdisjoint(node.inputs):
            once += size
        else:
            of_image.update(node.outputs)
            everything += size
    if once > MAX_ELEMENTS or everything > MAX_ALL_ELEMENTS:
        raise ModelError(
            f"expected at most {MAX_ELEMENTS} elements of constants and {MAX_ALL_ELEMENTS} of other tensors, "
            f"got {once} and {everything}"
        )


def at_size(model: OnnxModel, input_shape: tuple[int, int, int, int]) -> OnnxModel:
    """The model with its channel shuffles fixed to the maps of another input size; itself where there are none.

    Raises ModelError as `import_graph` does at the file's own size.
    """
    native = native_shape(model)
    if native is None or native == tuple(input_shape):
        return model
    graph = import_graph(model, native)
    targets = scaled_targets(model.source, graph, native[2:], input_shape[2:])
    if not targets:
        return model
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for item, node in zip(proto.graph.node, model.source.nodes, strict=True):
        if node.name in targets:
            name = f"{node.name}@{input_shape[2]}x{input_shape[3]}"
            proto.graph.initializer.append(onnx.numpy_helper.from_array(targets[node.name], name))
            item.input[1] = name
    del proto.graph.value_info[:]
    return changed(model, proto)


def changed(model: OnnxModel, proto: Any) -> OnnxModel:
    """The model with other nodes and weights between the same inputs and outputs. Nothing is checked."""
    return replace(model, proto=proto, source=_source_graph(proto, model.name))


def _too_new(model: OnnxModel) -> frozenset[str]:
    """Op types whose definition in this model's opset is newer than the rules of the normal form."""
    if model.opset <= NEWEST_KNOWN_OP:
        return frozenset()
    kinds = {node.op.removeprefix(FOREIGN_PREFIX) for node in model.source.nodes if "." not in node.op[5:]}
    return frozenset(
        kind
        for kind in kinds
        if onnx.defs.has(kind, max_inclusive_version=model.opset)
        and onnx.defs.get_schema(kind, model.opset).since_version > NEWEST_KNOWN_OP
    )


def extract(
    model: OnnxModel,
    inputs: Mapping[str, Sequence[int] | None],
    outputs: Sequence[str],
    *,
    constants: Mapping[str, Array] | None = None,
    dtypes: Mapping[str, np.dtype[Any]] | None = None,
) -> bytes:
    """A model file that computes some tensors of a model from others, for ONNX Runtime.

    inputs : tensors to start from, each with its shape or None to leave it open
    constants : tensors to hold fixed at a value (``Graph.folded`` for a tail, whose shape arithmetic would
        otherwise reach back to the image)
    dtypes : of inputs, where they are known; else what the file says, or float32
    Raises ModelError when a tensor does not exist or the outputs need an input that is not given.
    """
    source, fixed = model.source, constants or {}
    both = [name for name in outputs if name in inputs]
    if both:
        raise ModelError(f"expected outputs other than the inputs, got {both}")
    positions, reached = ancestors(source, outputs, [*inputs, *fixed])
    if reached:
        raise ModelError(f"expected inputs that the outputs can be computed from, {reached} missing")
    used = {name for i in positions for name in source.nodes[i].inputs} | set(outputs)
    graph = onnx.GraphProto(name=model.proto.graph.name or model.name)
    elements = _element_types(model, inputs)
    elements |= {name: int(helper.np_dtype_to_tensor_dtype(dtype)) for name, dtype in (dtypes or {}).items()}
    for name, shape in inputs.items():
        graph.input.append(helper.make_tensor_value_info(name, elements[name], shape))
    for name in outputs:
        graph.output.append(onnx.ValueInfoProto(name=name))
    graph.node.extend(model.proto.graph.node[i] for i in positions)
    for item in model.proto.graph.initializer:
        if item.name in used and item.name not in inputs and item.name not in fixed:
            graph.initializer.append(item)
    for name, value in fixed.items():
        if name in used and name not in inputs:
            graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    piece = onnx.ModelProto(ir_version=max(model.proto.ir_version, 4), producer_name="afterimage", graph=graph)
    piece.opset_import.extend(model.proto.opset_import)
    data: bytes = piece.SerializeToString()
    return data


def _element_types(model: OnnxModel, names: Mapping[str, object]) -> dict[str, int]:
    """Element types of tensors: what the file declares, else what inference finds, else float32."""
    graph = model.proto.graph

    def listed(proto: Any) -> dict[str, int]:
        infos = [*proto.input, *proto.value_info, *proto.output]
        return {item.name: item.type.tensor_type.elem_type for item in infos}

    found = listed(graph)
    if any(not found.get(name) for name in names):
        try:
            found = listed(onnx.shape_inference.infer_shapes(model.proto).graph)
        except _ONNX_ERRORS:
            found = dict(found)
    return {name: found.get(name) or int(onnx.TensorProto.FLOAT) for name in names}


def spatial_heads(model: OnnxModel, graph: Graph) -> tuple[Head, ...]:
    """The last spatial tensors before the reshaping tail of each output of ``graph``.

    graph : this model, imported at any size it runs at, ending at its own outputs.
    """
    return find_heads(model.source, graph)
