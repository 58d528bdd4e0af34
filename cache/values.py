"""Tensors as views: which lane of which map holds each channel.

Concatenation, split, channel slices and shuffles move no data: they make another view. Only a reader that would pay
for a scattered view has it packed first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import LANES

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Value:
    """A (1, C, height, width) tensor: channel c is channel `channels[c]` of map `maps[c]`."""

    height: int
    width: int
    maps: Ints
    channels: Ints

    def __len__(self) -> int:
        return int(self.maps.size)

    def select(self, index: Ints) -> Value:
        """The view of some of the channels, in a new order."""
        return Value(self.height, self.width, self.maps[index], self.channels[index])

    def blocks(self) -> Blocks:
        """The 16-channel blocks this view touches, in order of first use, and where each channel lies in them."""
        keys: dict[tuple[int, int], int] = {}
        position = np.empty(len(self), np.int64)
        for c, (m, channel) in enumerate(zip(self.maps.tolist(), self.channels.tolist(), strict=True)):
            block = keys.setdefault((m, channel // LANES), len(keys))
            position[c] = block * LANES + channel % LANES
        maps = np.array([m for m, _ in keys], np.int64)
        numbers = np.array([b for _, b in keys], np.int64)
        return Blocks(maps, numbers, position)


def concatenate(values: list[Value]) -> Value:
    """Values of one size side by side along the channel axis."""
    first = values[0]
    return Value(
        first.height,
        first.width,
        np.concatenate([v.maps for v in values]),
        np.concatenate([v.channels for v in values]),
    )


@dataclass(frozen=True, eq=False)
class Blocks:
    """maps, numbers : int64[n], map and block number of each touched block.
    position : int64[C], touched block * 16 + lane of each channel."""

    maps: Ints
    numbers: Ints
    position: Ints

    def __len__(self) -> int:
        return int(self.maps.size)

    @property
    def is_injective(self) -> bool:
        """Whether no two channels of the view are the same stored channel."""
        return bool(np.unique(self.position).size == self.position.size)

    @property
    def is_scattered(self) -> bool:
        """Whether reading the view block by block would touch a third more lanes than its channels need."""
        return len(self) > 1 + (4 * self.position.size + 3 * LANES - 1) // (3 * LANES)
