"""Max and average pooling of listed output pixels.

Windows are clipped to the map, since its border holds zeros that must not win a maximum. Taps are taken row
by row, whatever the list. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import CHUNK, Act, Map, Test, Window, finish_chunk
from kernels.simd import lane_divide, lane_fill, reduce_add, reduce_max

LOWEST = float(np.finfo(np.float32).min)

__all__ = ["pool_average", "pool_max"]


@jit
def _span(start: int, kernel: int, dilation: int, low: int, high: int) -> tuple[int, int]:
    """First tap of which start + tap * dilation is at least `low`, and the end of those below `high`."""
    first = 0 if start >= low else (low - start + dilation - 1) // dilation
    end = 0 if start >= high else (high - start + dilation - 1) // dilation
    return first, max(min(end, kernel), first)


@jit
def _pool(
    maximum: bool, include_pad: bool, arena: np.ndarray, source: Map, planes: np.ndarray, height: int,
    width: int, window: Window, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    blocks, total = planes.size, 0
    base, raw = arena.ctypes.data, scratch.ctypes.data
    step = window.dilation_x * source.pixel * 4
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            top = pixels[start + p, 0] * window.stride_y - window.top
            left = pixels[start + p, 1] * window.stride_x - window.left
            y0, y1 = _span(top, window.kernel_y, window.dilation_y, 0, height)
            x0, x1 = _span(left, window.kernel_x, window.dilation_x, 0, width)
            positions = (y1 - y0) * (x1 - x0)
            if include_pad:
                low_y, high_y = _span(top, window.kernel_y, window.dilation_y, -window.top, height + window.bottom)
                low_x, high_x = _span(left, window.kernel_x, window.dilation_x, -window.left, width + window.right)
                positions = (high_y - low_y) * (high_x - low_x)
            for b in range(blocks):
                result = raw + (p * blocks + b) * VECTOR_BYTES
                lane_fill(result, np.float32(LOWEST if maximum else 0.0))
                corner = source.origin + planes[b] + (left + x0 * window.dilation_x) * source.pixel
                for i in range(y0, y1):
                    at = base + (corner + (top + i * window.dilation_y) * source.row) * 4
                    if maximum:
                        reduce_max(result, at, step, x1 - x0)
                    else:
                        reduce_add(result, at, step, x1 - x0)
                if not maximum:
                    lane_divide(result, result, np.float32(max(positions, 1)))
        total += finish_chunk(arena, scratch, blocks, act, slope, target, pixels, start, count, test, written)
    return total


@jit
def pool_max(
    arena: np.ndarray, source: Map, planes: np.ndarray, height: int, width: int, window: Window,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Largest value of each window at the listed output pixels; activate, compare, write as `convolve` does.

    arena : float32[:]. source : its origin is the map's own (0, 0), not a padded corner.
    planes : int64[blocks], element offset of each input block from the source's origin.
    height, width : size of the source map in pixels. window : sizes and padding; bottom and right are not
        used.
    slope : float32[blocks * 16], read for PReLU alone. pixels : int32[n, 2], (y, x) in the target.
    scratch : float32[scratch_elements(blocks)]. written : uint8[H, W], set to 1 where the target changed.

    Returns the number of pixels written. A window wholly outside the map gives the lowest finite
    value, as ONNX Runtime does; NaN never wins.
    """
    return _pool(
        True, False, arena, source, planes, height, width, window, slope, target, pixels, act, test, scratch,
        written,
    )  # fmt: skip


@jit
def pool_average(
    arena: np.ndarray, source: Map, planes: np.ndarray, height: int, width: int, window: Window,
    include_pad: bool, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Mean of each window at the listed output pixels; arguments as in `pool_max`, but for

    include_pad : whether positions in the padding count in the divisor; positions beyond the padded map never
        do.

    A window wholly outside the map gives 0. Sums run row by row from 0, then one division.
    """
    return _pool(
        False, include_pad, arena, source, planes, height, width, window, slope, target, pixels, act, test,
        scratch, written,
    )  # fmt: skip
