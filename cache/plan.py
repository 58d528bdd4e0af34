"""A Plan: everything about running one model at one size that does not change from frame to frame.

Compiled once, immutable, shared by all streams of a model. All that changes is in `cache.session`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cache import lowering
from cache.addition import additions, can_be_added
from cache.arena import MapInfo
from cache.bfloat16 import bfloat16_convolution
from cache.builder import Builder, element_offsets
from cache.fft import is_by_fft
from cache.graph import QUANTISED_OPS, Graph, Node
from cache.half import HalfLayout, half_layout
from cache.moving import Pitches, pitches_of
from cache.normalisation import line
from cache.onnx_import import ModelError, OnnxModel, extract, import_graph, native_shape
from cache.ops import separable
from cache.ops.byte_maps import is_read_by_pixels
from cache.ops.conv import depthwise_convolution
from cache.ops.slots import byte_offsets
from cache.partition import Partition, partition
from cache.passes.merge_siblings import merge_siblings
from cache.policy import Level, Policy
from cache.program import Program, assemble, packed_words
from cache.sliding import Records, Room, find_records, group_maps, with_room
from cache.state import Needs
from cache.steps import Step, Words
from cache.stretches import stretches_of
from cache.tail import TailRunner
from cache.values import Value
from cache.verify import verify
from kernels.layout import scratch_elements
from kernels.masks import list_pixels

Shape = tuple[int, int, int, int]
MAX_ARENA_ELEMENTS = 1 << 30
"""float32 elements of one stream's feature maps: 4 GiB."""
Table = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PlannedStep:
    """A step with its rule.

    epsilon : threshold in units of the node's spread; 0 passes every change on. block, few_block : decisions are taken
    for so many pixels squared, by the step's one method and by the other. lanes : int64[C], lanes of the target
    (block * 16 + lane) that hold a channel; the others count for nothing. everything : int32[n, 2], every pixel of the
    target, in the smallest blocks that the method computes, whatever `block` is: a CPU fetches long rows ahead.
    """

    step: Step
    epsilon: float
    block: int
    few_block: int
    lanes: npt.NDArray[np.int64]
    everything: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Tap:
    """A cached tensor handed out as float32, uint8 or int8[1, C, H, W]: an output, or an input of a tail.

    maps : the maps it lies in. offsets : int64[C], arena element (byte, for bytes) of each channel at (0, 0).
    row, pixel : elements.
    """

    name: str
    shape: Shape
    maps: tuple[int, ...]
    offsets: npt.NDArray[np.int64]
    row: int
    pixel: int
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class Plan:
    """A model compiled for one input size.

    input_name, input_shape : the image, (1, C, H, W). table : float32[256, C], value of each byte after
    normalisation; line : slope and shift of it, where it is a line. maps, arena_elements : the layout of a stream's
    arena. steps : in order. taps : cached tensors to hand out. tails : run when one of their inputs was written.
    constants : outputs that depend on no input. half : where maps kept as float16 lie; the arena is then a thread's,
    for one step. room : where maps may go without being copied. Measured by `cache.tuning`: whole_from, share of a
    dense frame's work at which a partial frame, in blocks that are compared, takes as long as a dense one; together,
    most frames of several streams that are worth running at once, 1 for none.
    """

    name: str
    graph: Graph
    partition: Partition
    policy: Policy
    input_name: str
    input_shape: Shape
    output_names: tuple[str, ...]
    table: Table
    line: tuple[Table, Table]
    maps: tuple[MapInfo, ...]
    arena_elements: int
    needs: Needs
    steps: tuple[PlannedStep, ...]
    program: Program = field(repr=False)
    taps: Mapping[str, Tap]
    tails: tuple[TailRunner, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    half: HalfLayout | None = None
    room: Room | None = None
    whole_from: float = 0.9
    together: int = 1

    @classmethod
    def compile(
        cls,
        model: OnnxModel,
        input_shape: Shape | None = None,
        outputs: Sequence[str] | None = None,
        normalisation: Table | None = None,
        policy: Policy | None = None,
    ) -> Plan:
        """Compile a model with one image input.

        input_shape : (1, C, H, W); None takes the file's own. outputs : tensors to end at; None takes the model's
        outputs. normalisation : float32[256, C], what each byte of a frame becomes; None keeps the bytes' values.
        Raises ModelError where it cannot run at that size, or has no image input (`cache.pass_through` runs those).
        """
        shape = input_shape or native_shape(model)
        if shape is None:
            found = [item.shape for item in model.inputs]
            raise ModelError(
                f"{model.name}: expected an input (1, C, H, W) of fixed size, or a size given; got {found}"
            )
        graph = import_graph(model, shape, outputs)
        return compile_graph(model, graph, shape, normalisation, policy or Policy())

    @property
    def height(self) -> int:
        """Input rows, px."""
        return self.input_shape[2]

    @property
    def width(self) -> int:
        """Input columns, px."""
        return self.input_shape[3]

    @property
    def channels(self) -> int:
        """Input channels."""
        return self.input_shape[1]

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of a dense frame, tails left out."""
        return sum(s.step.macs for s in self.steps)

    @cached_property
    def pitches(self) -> Pitches:
        """How maps follow a picture that moves as a whole."""
        return pitches_of(self.maps, [s.step for s in self.steps])

    @cached_property
    def records(self) -> Records | None:
        """The records of all steps, where they can follow maps that move without being copied."""
        return None if self.room is None else find_records((s.step for s in self.steps), self.maps, self.room.of)

    @cached_property
    def stretches(self) -> Words:
        """int64[n], after which steps end those that frames of several streams go through one after the other."""
        return stretches_of([s.step for s in self.steps], self.maps[0].outside)

    @property
    def bfloat16_nodes(self) -> int:
        """Steps that are computed in bfloat16 on this machine, of a whole map."""
        return sum(s.step.method.entry is bfloat16_convolution for s in self.steps)

    @property
    def fft_nodes(self) -> int:
        """Steps that are computed by Fourier transforms, of a whole map."""
        return sum(is_by_fft(s.step.method) for s in self.steps)

    def tensor(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """float32[1, C, H, W] of a frame uint8[H, W, C]: what another engine must be given."""
        return np.stack([self.table[frame[:, :, c], c] for c in range(self.channels)])[None]

    @property
    def arena_bytes(self) -> int:
        """Memory of one stream's feature maps."""
        return self.arena_elements * 4 if self.half is None else self.half.stored_elements * 2


def compile_graph(model: OnnxModel, graph: Graph, shape: Shape, table: Table | None, policy: Policy) -> Plan:
    """Compile a graph that was imported from `model` at `shape`."""
    if len(graph.inputs) != 1:
        raise ModelError(f"{model.name}: expected one input, got {len(graph.inputs)}: {', '.join(graph.inputs)}")
    if table is None:
        table = np.repeat(np.arange(256, dtype=np.float32)[:, None], shape[1], axis=1)
    if table.shape != (256, shape[1]):
        raise ValueError(f"expected a normalisation table float32[256, {shape[1]}], got shape {table.shape}")
    names = [node.name for node in partition(graph, lowering.unsupported).cached]
    graph = merge_siblings(graph, names, kept=policy.nodes)
    verify(graph)
    parts = partition(graph, lowering.unsupported)
    kept_share = policy.fft_kept if policy.cache_dtype == "float32" else 0.0  # lists are cut below a tile's size there
    builder = Builder(graph, shape[2], policy.precision == "strict", policy.compute_dtype, kept_share)
    handed = {*graph.outputs, *(name for tail in parts.tails for name in tail.inputs)}
    image = declare_input(builder, graph.inputs[0], shape, parts.cached, graph.inputs[0] in handed)
    kept = {*handed, *policy.nodes}
    wanted_share = 0.0 if builder.strict else kept_share
    fused = separable.pairs(graph, parts.cached, kept, policy.separable_bytes, wanted_share)
    never_stored = {first.name for first in fused.values()}
    sums = additions(graph, parts.cached, kept)
    if builder.arena.maps[0].outside:  # there only around what has changed: no step reads it with another map
        sums = {name: s for name, s in sums.items() if graph.inputs[0] not in s.convolution.inputs}
    added = {addition.convolution.name for addition in sums.values()}

    def lower(node: Node) -> None:
        if node.name in fused:
            separable.lower(fused[node.name], node, builder)
        else:
            lowering.lower(node, builder)

    for node in parts.cached:
        if node.name in sums:
            addition = sums[node.name]
            if can_be_added(builder, addition.addend):
                lower(addition.merged)
            else:
                lower(addition.convolution)
                lower(node)
        elif node.name not in never_stored | added:
            lower(node)
    maps, elements = builder.arena.finish()
    check_arena(model, elements // 2 if policy.cache_dtype == "float16" else elements)  # before tables are made
    half = None
    if policy.cache_dtype == "float16":
        refuse_bytes(model, parts.cached)
        half = half_layout(maps, [finish(maps) for finish in builder.steps])  # who meets whom does not depend on places
        maps, elements = half.maps, half.elements
    wanted = [n for n in graph.outputs if n in builder.values]
    wanted += [n for tail in parts.tails for n in tail.inputs]
    room = None
    if policy.motion and policy.motion_room_px and half is None and not has_bytes(parts.cached):
        values = [builder.values[name] for name in wanted]
        maps, elements, room = make_room(maps, elements, [finish(maps) for finish in builder.steps], values, policy)
    steps = tuple(plan_step(finish(maps), maps, policy, builder.live) for finish in builder.steps)
    check_arena(model, elements + (maps[0].room if maps[0].outside else 0))
    unknown = sorted(set(policy.nodes) - {s.step.name for s in steps})
    if unknown:
        raise ValueError(f"expected rules for nodes that are cached, got {', '.join(unknown)}")
    steps = without_idle_thresholds(steps, policy)
    tails = tuple(make_tail(model, graph, tail) for tail in parts.tails)
    places = maps if half is None else half.stored
    taps = {name: make_tap(name, builder.values[name], places, graph) for name in dict.fromkeys(wanted)}
    methods = [m for s in steps for m in (s.step.method, s.step.few) if m is not None]
    needs = Needs(
        scratch=scratch_elements(max((maps[s.step.target].blocks for s in steps), default=1)),
        work=max((m.work_elements for m in methods), default=0),
        list_px=max(longest_list(maps, steps), 1),
        mask_words=sum(packed_words(m.height, m.width) for m in maps), steps=len(steps),
        stale_words=max((packed_words(m.height, m.width) for m in maps), default=1),
        image=maps[0].room if maps[0].outside else 0, image_reach_tiles=image_reach(steps, policy.tile),
    )  # fmt: skip
    return Plan(
        name=model.name, graph=graph, partition=parts, policy=policy, input_name=image, input_shape=shape,
        output_names=graph.outputs, table=np.ascontiguousarray(table, np.float32),
        line=line(np.asarray(table, np.float32)), maps=maps, arena_elements=elements, needs=needs, steps=steps,
        program=assemble(steps, maps, half), taps=taps,
        tails=tails, constants={n: graph.constants[n] for n in graph.outputs if n in graph.constants},
        half=half, room=room,
    )  # fmt: skip


def make_room(
    maps: tuple[MapInfo, ...], elements: int, steps: Sequence[Step], handed: Sequence[Value], policy: Policy
) -> tuple[tuple[MapInfo, ...], int, Room | None]:
    """Maps placed with room for moves, where all steps and what is handed out can follow; as they were where not."""
    pitches = pitches_of(maps, steps)
    of = group_maps(maps, pitches)
    if of is None or find_records(steps, maps, of) is None or any(np.unique(of[v.maps]).size > 1 for v in handed):
        return maps, elements, None
    return with_room(maps, of, pitches.pitches, policy.motion_room_px)


def without_idle_thresholds(steps: tuple[PlannedStep, ...], policy: Policy) -> tuple[PlannedStep, ...]:
    """The steps; none on a map that no step reads, or only a light one on the way to an output, has a threshold.

    It would save next to no work, and blur the outputs. Before a light one a rule of the node's own stands.
    """
    read = {r.map for s in steps for r in s.step.reads}
    ends = [s for s in steps if s.step.target not in read and is_light(s.step)]
    seen = {r.map for s in steps if s not in ends for r in s.step.reads}
    seen |= {s.step.target for s in steps if s.step.name in policy.nodes} & read
    return tuple(s if s.step.target in seen else replace(s, epsilon=0.0) for s in steps)


def is_light(step: Step) -> bool:
    """Whether a step costs little beside the one that makes its input."""
    ways = [way for way in (step.method, step.few) if way is not None]
    return step.op == "dequantise" or any(way.entry is depthwise_convolution for way in ways)


def refuse_bytes(model: OnnxModel, nodes: Sequence[Node]) -> None:
    """Refuse to keep maps of bytes as float16. Raises ModelError."""
    if has_bytes(nodes):
        raise ModelError(f'{model.name}: expected a cache_dtype of "float32" for a quantised model, got "float16"')


def has_bytes(nodes: Sequence[Node]) -> bool:
    """Whether any map is one of bytes."""
    return any(node.op in QUANTISED_OPS for node in nodes)


def image_reach(steps: Sequence[PlannedStep], tile: int) -> int:
    """How many tiles away from a changed pixel of map 0 a step may read it again, recomputing whole blocks."""
    reach_px = 0
    for planned in steps:
        block = max(planned.block, planned.few_block)
        for read in planned.step.reads:
            for span in (read.rows, read.columns) if read.map == 0 else ():
                if len(span):
                    first, last = span.low.astype(np.int64), span.high.astype(np.int64)
                    ends = np.minimum(np.arange(len(span)) + block - 1, len(span) - 1)
                    reach_px = max(reach_px, int((np.maximum.accumulate(last)[ends] - first).max()))
    return -(-reach_px // tile)


def check_arena(model: OnnxModel, elements: int) -> None:
    """Refuse feature maps that no stream could hold: a file may ask for any padding. Raises ModelError."""
    if elements > MAX_ARENA_ELEMENTS:
        found, limit = elements * 4 / 2**30, MAX_ARENA_ELEMENTS * 4 / 2**30
        raise ModelError(f"{model.name}: expected at most {limit:.0f} GiB of feature maps, got {found:.1f} GiB")


def declare_input(builder: Builder, name: str, shape: Shape, nodes: Sequence[Node], handed: bool) -> str:
    """Declare map 0, the image: interleaved where only convolutions read it, else one of blocks.

    handed : whether it is an output, or an input of a tail. An interleaved image that is neither lies outside the
    arena: where it is read again it is made again, from the reference frame.
    """
    _, channels, height, width = shape
    readers = [n for n in nodes if name in n.inputs]
    direct = channels <= 4 and all(
        (n.op == "conv" and n.attrs["groups"] == 1) or (n.op == "quantise" and is_read_by_pixels(builder.graph, n))
        for n in readers
    )
    if direct:
        index = builder.arena.declare(name, 0, height, width, 1.0, channels)
        order = np.arange(channels, dtype=np.int64)
        builder.values[name] = Value(height, width, np.full(channels, index, np.int64), order)
        if not handed:
            builder.arena.put_outside(index)
    else:
        builder.new_value(name, channels, height, width)
    return name


def plan_step(
    step: Step, maps: Sequence[MapInfo], policy: Policy, live: Mapping[int, npt.NDArray[np.int64]]
) -> PlannedStep:
    """Give a step its threshold and block."""
    target = maps[step.target]
    level: Level = policy.level(step.name, target.stride, target.height * target.width == 1)
    wanted = policy.blocks.get(step.name, level.block)
    block = max(wanted, step.method.grain)
    few_block = max(wanted, step.few.grain) if step.few is not None else 0
    everything = every_pixel(target.height, target.width, step.method.grain)
    epsilon = level.epsilon * policy.factors.get(step.name, 1.0) if step.tested else 0.0
    return PlannedStep(step, epsilon, block, few_block, live[step.target], everything)


def list_capacity(height: int, width: int, block: int = 4) -> int:
    """Entries that a list of whole blocks over a map may have."""
    return -(-height // block) * -(-width // block) * block * block


def longest_list(maps: Sequence[MapInfo], steps: Sequence[PlannedStep]) -> int:
    """Entries that the list of any step may have, whichever its method."""
    blocks = {m.index: 4 for m in maps}
    for planned in steps:
        index = planned.step.target
        blocks[index] = max(blocks[index], planned.block, planned.few_block)
    return max((list_capacity(m.height, m.width, blocks[m.index]) for m in maps), default=1)


@lru_cache(maxsize=256)
def every_pixel(height: int, width: int, block: int) -> npt.NDArray[np.int32]:
    """int32[n, 2], the (y, x) of all blocks of a map; shared by steps of one shape, never written to."""
    blocks = -(-height // block) * -(-width // block)
    pixels = np.empty((blocks * block * block, 2), np.int32)
    list_pixels(np.ones((height, width), np.uint8), block, pixels)
    return pixels


def make_tap(name: str, value: Value, maps: Sequence[MapInfo], graph: Graph) -> Tap:
    """Where a cached tensor is found in the arena."""
    info = maps[int(value.maps[0])]
    touched = tuple(int(m) for m in np.unique(value.maps))
    shape = (1, len(value), value.height, value.width)
    known = graph.type_of(name)
    if known is not None and known.is_byte_map:
        return Tap(name, shape, touched, byte_offsets(maps, value), info.row, info.pixel, known.dtype)
    return Tap(name, shape, touched, element_offsets(maps, value), info.row, info.pixel, np.dtype(np.float32))


def make_tail(model: OnnxModel, graph: Graph, tail: Any) -> TailRunner:
    """Cut a tail out of the file and hand it to ONNX Runtime."""
    known = {name: graph.type_of(name) for name in tail.inputs}
    shapes = {name: None if kind is None else kind.shape for name, kind in known.items()}
    dtypes = {name: kind.dtype for name, kind in known.items() if kind is not None}
    piece = extract(model, shapes, tail.outputs, constants=graph.folded, dtypes=dtypes)
    return TailRunner(piece, tail.inputs, tail.outputs)
