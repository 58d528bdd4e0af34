"""Networks small enough to be compressed in a test, whose weights have a spectrum that falls. Test code only."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import onnx

from tests.cache.onnx_models import build, node

SIZE = (32, 24)


def falling(c_out: int, c_in: int, kernel: int, *, seed: int = 0, power: float = 1.5) -> np.ndarray:
    """float32[c_out, c_in, k, k] of which the singular values of both channel modes fall quickly."""
    rng = np.random.default_rng(seed)
    into, out = (np.arange(1, n + 1) ** -power for n in (c_in, c_out))
    core = rng.standard_normal((c_out, c_in, kernel, kernel)) * out[:, None, None, None] * into[:, None, None]
    turns = [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (c_out, c_in)]
    found = np.einsum("oihw,ro,si->rshw", core, *turns, optimize=True)
    return (found / np.linalg.norm(found) * np.sqrt(c_out)).astype(np.float32)


def network(*, opset: int = 13, dtype: type = np.float32) -> bytes:
    """3x3, 3x3 with stride 2, 1x1, and a matrix: x float32[1, 3, 24, 32] to y float32[1, 10]."""
    weights = {
        "w0": falling(32, 3, 3, seed=1), "b0": np.linspace(-0.2, 0.2, 32), "w1": falling(48, 32, 3, seed=2),
        "w2": falling(48, 48, 1, seed=3), "b2": np.linspace(-0.2, 0.2, 48),
        "w3": falling(10, 48, 1, seed=4)[:, :, 0, 0], "b3": np.zeros(10),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w0 b0", "c0", "first", pads=[1] * 4), node("Relu", "c0", "a0"),
        node("Conv", "a0 w1", "c1", "second", pads=[1] * 4, strides=[2, 2]), node("Relu", "c1", "a1"),
        node("Conv", "a1 w2 b2", "c2", "third"), node("Relu", "c2", "a2"),
        node("GlobalAveragePool", "a2", "p"), node("Flatten", "p", "f"),
        node("Gemm", "f w3 b3", "y", "last", transB=1),
    ]  # fmt: skip
    constants = {name: np.asarray(value, dtype) for name, value in weights.items()}
    if dtype == np.float16:
        casts = [node("Cast", f"{name}h", name, to=onnx.TensorProto.FLOAT) for name in constants]
        nodes, constants = casts + nodes, {f"{name}h": value for name, value in constants.items()}
    return build(nodes, constants, shape=(1, 3, SIZE[1], SIZE[0]), opset=opset)


def maps(*, opset: int = 13) -> bytes:
    """The same without its end: y float32[1, 48, 12, 16]."""
    nodes = [
        node("Conv", "x w0 b0", "c0", "first", pads=[1] * 4), node("Relu", "c0", "a0"),
        node("Conv", "a0 w1", "c1", "second", pads=[1] * 4, strides=[2, 2]), node("Relu", "c1", "a1"),
        node("Conv", "a1 w2", "y", "third"),
    ]  # fmt: skip
    constants = {
        "w0": falling(32, 3, 3, seed=1), "b0": np.linspace(-0.2, 0.2, 32, dtype=np.float32),
        "w1": falling(48, 32, 3, seed=2), "w2": falling(48, 48, 1, seed=3),
    }  # fmt: skip
    return build(nodes, constants, shape=(1, 3, SIZE[1], SIZE[0]), opset=opset)


def frames(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> list[np.ndarray]:
    """Smooth pictures, uint8[H, W, 3]; each differs from the one before in a rectangle."""
    rng = np.random.default_rng(seed)
    found = [cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), size)]
    for _ in range(count - 1):
        frame = found[-1].copy()
        left, top = rng.integers(0, size[0] - 12), rng.integers(0, size[1] - 10)
        frame[top : top + 10, left : left + 12] = cv2.resize(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8), (12, 10))
        found.append(frame)
    return found


def spread(count: int) -> Sequence[np.ndarray]:
    """Pictures that have nothing to do with each other."""
    return [frames(1, seed=seed)[0] for seed in range(count)]
