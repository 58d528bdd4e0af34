"""A graph while a pass rewrites it: who makes and who reads each tensor stays true under every edit.

Knows no op. A pass makes an editor, edits, and takes the finished graph out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.graph import SYNTHETIC_PREFIX, Graph, GraphError, Node, TensorType


class GraphEditor:
    """Mutable view of one graph.

    Edits change single nodes; the order of nodes is put right by ``finish``.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
        self._producers: dict[str, str] = {}
        self._consumers: dict[str, dict[str, None]] = {}
        self.constants: dict[str, npt.NDArray[Any]] = dict(graph.constants)
        self.types: dict[str, TensorType] = dict(graph.types)
        self.outputs = frozenset(graph.outputs)
        for node in graph.nodes:
            self._link(node)

    def _link(self, node: Node) -> None:
        for name in node.outputs:
            if name:
                self._producers[name] = node.name
        for name in node.inputs:
            if name:
                self._consumers.setdefault(name, {})[node.name] = None

    def _unlink(self, node: Node) -> None:
        for name in node.outputs:
            if self._producers.get(name) == node.name:
                del self._producers[name]
        for name in node.inputs:
            self._consumers.get(name, {}).pop(node.name, None)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes as they are now."""
        return tuple(self._nodes.values())

    def each(self) -> Iterator[Node]:
        """Every node that is there at the start and still is at its turn, as it then stands."""
        for name in tuple(self._nodes):
            if name in self._nodes:
                yield self._nodes[name]

    def producer(self, tensor: str) -> Node | None:
        """The node that makes a tensor; None for inputs and constants."""
        name = self._producers.get(tensor)
        return None if name is None else self._nodes[name]

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, each once."""
        return tuple(self._nodes[name] for name in self._consumers.get(tensor, ()))

    def private(self, tensor: str) -> bool:
        """Whether a tensor may vanish into a fusion: one reader, and not an output of the graph."""
        return tensor not in self.outputs and len(self._consumers.get(tensor, ())) == 1

    def type_of(self, tensor: str) -> TensorType | None:
        """The type of a tensor or constant, None when unknown."""
        value = self.constants.get(tensor)
        if value is not None:
            return TensorType(value.dtype, value.shape)
        return self.types.get(tensor)

    def feature_map(self, tensor: str) -> TensorType | None:
        """The type of a computed float32 (1, C, H, W) tensor, None for anything else."""
        found = None if tensor in self.constants else self.types.get(tensor)
        return found if found is not None and found.is_feature_map else None

    def add_constant(self, hint: str, value: npt.NDArray[Any]) -> str:
        """Store a value under a new name and return the name."""
        name = self._fresh(hint, self.constants)
        self.constants[name] = value
        return name

    def add_tensor(self, hint: str, tensor_type: TensorType) -> str:
        """Reserve a new tensor of a known type and return its name."""
        name = self._fresh(hint, self.types)
        self.types[name] = tensor_type
        return name

    def _fresh(self, hint: str, taken: Mapping[str, object]) -> str:
        base = SYNTHETIC_PREFIX + hint.removeprefix(SYNTHETIC_PREFIX)
        name, count = base, 1
        while name in taken or name in self.constants or name in self.types:
            name, count = f"{base}.{count}", count + 1
        return name

    def add(self, node: Node) -> None:
        """Add a node; its outputs must not be made by another one."""
        if node.name in self._nodes:
            raise GraphError(f"expected a new node name, got {node.name!r} again")
        self._nodes[node.name] = node
        self._link(node)

    def remove(self, node: Node) -> None:
        """Take a node out; its outputs are then made by nobody."""
        self._unlink(node)
        del self._nodes[node.name]

    def replace(self, node: Node, *new: Node) -> None:
        """Put nodes in the place of one; the last may keep its name."""
        self.remove(node)
        for item in new:
            self.add(item)

    def update(
        self,
        node: Node,
        *,
        op: str | None = None,
        inputs: Iterable[str] | None = None,
        outputs: Iterable[str] | None = None,
        **attrs: Any,
    ) -> Node:
        """Change parts of a node in place and return the new one; attrs are merged."""
        changed = Node(
            node.name,
            node.op if op is None else op,
            node.inputs if inputs is None else tuple(inputs),
            node.outputs if outputs is None else tuple(outputs),
            {**node.attrs, **attrs},
        )
        self._unlink(node)
        self._nodes[node.name] = changed
        self._link(changed)
        return changed

    def rewire(self, old: str, new: str) -> None:
        """Let every reader of one tensor read another instead."""
        for node in self.consumers(old):
            self.update(node, inputs=[new if name == old else name for name in node.inputs])

    def scalar(self, tensor: str) -> float | None:
        """The value of a constant of one element, None for anything else."""
        value = self.constants.get(tensor)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def integers(self, tensor: str) -> tuple[int, ...] | None:
        """The values of a one-dimensional (or scalar) integer constant, None for anything else."""
        value = self.constants.get(tensor)
        if value is None or value.ndim > 1 or not np.issubdtype(value.dtype, np.integer):
            return None
        return tuple(int(item) for item in value.reshape(-1))

    def finish(self, *, keep_constants: bool = True) -> Graph:
        """The edited graph, in topological order.

        keep_constants=False drops constants and types that nothing uses.
        """
        nodes = self._ordered()
        constants, types = self.constants, self.types
        if not keep_constants:
            used = {name for node in nodes for name in (*node.inputs, *node.outputs)}
            used.update(self._graph.inputs, self._graph.outputs)
            constants = {name: value for name, value in constants.items() if name in used}
            types = {name: value for name, value in types.items() if name in used}
        source = self._graph
        return Graph(source.name, source.inputs, source.outputs, nodes, constants, types, source.folded)

    def _ordered(self) -> tuple[Node, ...]:
        """Stable topological order: a node comes as soon as its inputs are there."""
        done: set[str] = set()
        ordered: list[Node] = []
        for start in self._nodes.values():
            stack = [start]
            visiting: set[str] = set()
            while stack:
                node = stack[-1]
                if node.name in done:
                    stack.pop()
                    continue
                missing = [
                    self._producers[name]
                    for name in node.inputs
                    if name in self._producers and self._producers[name] not in done
                ]
                if missing and node.name in visiting:
                    raise GraphError(f"expected a graph without cycles, found one through {node}")
                if missing:
                    visiting.add(node.name)
                    stack.extend(self._nodes[name] for name in reversed(missing))
                else:
                    done.add(node.name)
                    ordered.append(stack.pop())
        return tuple(ordered)
