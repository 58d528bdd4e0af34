"""How tolerant each node is, and in what blocks it decides: parameters of a plan.

Defaults: tight early, loose late (thresholds), coarse early, fine late (blocks), the best trade measured on real clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True)
class Level:
    """Rule for nodes up to a stride.

    stride : largest stride (input pixels per map pixel) it covers. epsilon : threshold on the root mean square over
    channels, in units of the node's own spread. block : decisions are taken for block x block pixels (1, 2 or 4).
    """

    stride: float
    epsilon: float
    block: int


DEFAULT_LEVELS = (
    Level(2, 0.03, 4),
    Level(4, 0.06, 4),
    Level(8, 0.12, 4),
    Level(16, 0.12, 2),
    Level(float("inf"), 0.12, 1),
)


@dataclass(frozen=True)
class Policy:
    """Thresholds and granularities of a whole plan.

    levels : by stride, ascending. global_epsilon : for pooled vectors (1 x 1 maps), whose change makes a whole map
    stale. nodes : a Level for a node by name, before any other rule. factors : factor on the threshold of a step, by
    its name in the plan; names that it does not have are passed over, as another precision joins other nodes. blocks :
    likewise, the block of a step, which decides more finely or more coarsely than its level does.
    tile : differencing tile, px (4, 8 or 16). tile_difference : mean absolute difference of a tile's values (0-255)
    above which it has changed, in a stream without noise; tile_noise : times the stream's own noise that is added to it
    (`cache.noise`; 0 for never). exposure : levels by which the exposure of a frame may differ on average from that of
    the pixels that the maps were made from, so that it is brought back instead of recomputed (`cache.exposure`; 0 for
    never).
    refresh_frames, refresh_s : a turn in which the image and then every map is looked at again, step after step, so
    that no error below a threshold outlives it by much: in frames, or in seconds where frames come with their times
    (see `cache.refresh.Turn`).
    motion : whether maps follow a picture that moves as a whole by a multiple of the network's stride. motion_room_px :
    how far it may go, px of the image either way, before maps are copied; takes memory with every stream.
    keyframe_fraction : share of changed tiles from which a frame is recomputed whole. precision : "fast" takes
    Winograd's method and Fourier transforms where they pay (a few 1e-6 of a layer's largest output); "strict" computes
    every product directly. fft_kept : share of the frequencies that transforms of large filters keep, those at which a
    filter holds most; below 1 an approximation that is not bounded, 0 for no transforms at all.
    cache_dtype : what feature maps are kept as; "float16" takes half the memory, and rounds every stored value to 11
    significant bits (what lies beyond 65504 becomes that). compute_dtype : "bfloat16" multiplies inputs and weights of
    8 significant bits, with float32 sums, in wide 1x1 and strided convolutions, on CPUs that have instructions for it
    and gain by them.
    separable_bytes : from this size on, the map between a depthwise convolution and the 1x1 convolution that alone
    reads it is not kept, and the two are one step.
    """

    levels: tuple[Level, ...] = DEFAULT_LEVELS
    global_epsilon: float = 0.05
    nodes: Mapping[str, Level] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    blocks: Mapping[str, int] = field(default_factory=dict)
    tile: int = 8
    tile_difference: float = 2.0
    tile_noise: float = 1.5
    exposure: float = 20.0
    keyframe_fraction: float = 0.95
    refresh_frames: int = 250
    refresh_s: float = 10.0
    motion: bool = True
    motion_room_px: int = 0
    precision: Literal["fast", "strict"] = "fast"
    fft_kept: float = 1.0
    cache_dtype: Literal["float32", "float16"] = "float32"
    separable_bytes: int = 1 << 21
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.tile not in (4, 8, 16):
            raise ValueError(f"expected a tile of 4, 8 or 16 px, got {self.tile}")
        for block in (*(level.block for level in (*self.levels, *self.nodes.values())), *self.blocks.values()):
            if block not in (1, 2, 4):
                raise ValueError(f"expected a block of 1, 2 or 4 px, got {block}")
        for level in (*self.levels, *self.nodes.values()):
            if not level.epsilon >= 0:
                raise ValueError(f"expected a threshold of 0 or more, got {level.epsilon}")
        for name, factor in self.factors.items():
            if not 0 <= factor < float("inf"):
                raise ValueError(f"expected a factor of 0 or more for {name}, got {factor}")
        for name, most in (("tile_difference", 255.0), ("tile_noise", 255.0), ("exposure", 255.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"expected {name} of 0 to {most:g}, got {getattr(self, name)}")
        if self.refresh_frames < 0:
            raise ValueError(f"expected refresh_frames of 0 or more, got {self.refresh_frames}")
        if not 0 <= self.refresh_s < float("inf"):
            raise ValueError(f"expected refresh_s of 0 seconds or more, got {self.refresh_s}")
        if self.motion_room_px < 0:
            raise ValueError(f"expected motion_room_px of 0 or more, got {self.motion_room_px}")
        if self.separable_bytes < 0:
            raise ValueError(f"expected separable_bytes of 0 or more, got {self.separable_bytes}")
        if not 0 <= self.fft_kept <= 1:
            raise ValueError(f"expected fft_kept of 0 to 1, got {self.fft_kept}")
        if self.precision not in ("fast", "strict"):
            raise ValueError(f'expected a precision of "fast" or "strict", got {self.precision!r}')
        if self.cache_dtype not in ("float32", "float16"):
            raise ValueError(f'expected a cache_dtype of "float32" or "float16", got {self.cache_dtype!r}')
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise ValueError(f'expected a compute_dtype of "float32" or "bfloat16", got {self.compute_dtype!r}')
        strides = [level.stride for level in self.levels]
        if strides != sorted(strides):
            raise ValueError(f"expected levels by ascending stride, got {strides}")
        if self.levels[-1].stride != float("inf"):
            raise ValueError("expected the last level to cover every stride")

    def scaled(self, factor: float) -> Policy:
        """The same policy with every threshold of a node times `factor`; tiles and blocks stay.

        Raises ValueError for a factor that is not above 0.
        """
        if not 0 < factor < float("inf"):
            raise ValueError(f"expected a factor above 0, got {factor}")
        return replace(
            self,
            levels=tuple(replace(level, epsilon=level.epsilon * factor) for level in self.levels),
            global_epsilon=self.global_epsilon * factor,
            nodes={name: replace(level, epsilon=level.epsilon * factor) for name, level in self.nodes.items()},
        )

    def level(self, node: str, stride: float, is_vector: bool) -> Level:
        """The rule for a node whose map has `stride`; `is_vector` for 1 x 1 maps."""
        if node in self.nodes:
            return self.nodes[node]
        if is_vector:
            return Level(stride, self.global_epsilon, 1)
        return next(level for level in self.levels if stride <= level.stride)
