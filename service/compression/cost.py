"""What convolutions take in this engine, guessed: which layers are worth replacing where time is what counts.

Multiply-accumulates do not tell: Winograd's method needs a fraction of those of a 3x3 convolution, channels are
computed in blocks of 16 whether or not each lane holds one, and a map that is made has to be written. Numbers alone.
"""

from __future__ import annotations

from service.compression.decompose import Piece
from service.compression.ranks import BLOCK

MACS_PER_NS = 34.0
"""Of direct convolution on one core with AVX2; only what it is beside the other two counts."""
WINOGRAD = 0.4
"""Of that time, with Winograd's method."""
NS_PER_VALUE = 0.3
"""To write a value of a map."""
_FEW = 4
"""Channels of pictures, which are computed as they are."""


def time_ns(piece: Piece, size_in: tuple[int, int], size_out: tuple[int, int]) -> float:
    """Of one convolution. size_in, size_out : height and width of what it reads and makes."""
    c_out, c_in, kh, kw = piece.shape
    pixels, lanes = size_out[0] * size_out[1], blocks(c_out)
    if piece.groups > 1:
        products, share = lanes * kh * kw, 1.0
    else:
        products = lanes * (c_in if c_in <= _FEW else blocks(c_in)) * kh * kw
        share = WINOGRAD if (kh, kw) == (3, 3) and size_in == size_out and c_in > _FEW else 1.0
    return pixels * (products * share / MACS_PER_NS + lanes * NS_PER_VALUE)


def blocks(channels: int) -> int:
    """Lanes that so many channels take."""
    return -(-channels // BLOCK) * BLOCK
