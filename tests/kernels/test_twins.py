"""Every kernel does what its NumPy twin says, on drawn cases; a kernel without a twin or a case fails."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import bfloat16_cases  # noqa: F401  # registers its cases
import byte_cases  # noqa: F401
import cell_cases  # noqa: F401
import fft_cases  # noqa: F401
import half_cases  # noqa: F401
import kernel_cases
import motion_cases  # noqa: F401
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kernels
from kernels.constants import STORE
from kernels.layout import CHUNK

EXTRAS = set() if find_spec("rocket_fft") else {"fft"}
"""Kernels that need a library which is not there."""
MODULES = [m.name for m in pkgutil.iter_modules(kernels.__path__) if not m.ispkg and m.name not in EXTRAS]
KERNELS = [
    (module, name)
    for module in MODULES
    for name in getattr(importlib.import_module(f"kernels.{module}"), "__all__", ())
]
TRANSFORMED = {"convolve_fft", "convolve_fft_depthwise"}
"""Kernels whose every value is rounded as the sum of all that a tile sees is, which may be hundreds."""
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def pair(module: str, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The kernel and its twin."""
    twin = importlib.import_module(f"kernels.reference.{module}")
    return getattr(importlib.import_module(f"kernels.{module}"), name), getattr(twin, name)


def copied(case: kernel_cases.Case) -> kernel_cases.Case:
    """The case with arrays of its own."""
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in case.items()}


def with_stored_results(twin: Callable[..., Any], case: kernel_cases.Case, rng: np.random.Generator) -> None:
    """Where a case compares with stored values, store the right ones, then spoil a few."""
    if "test" not in case or case["test"].mode == STORE:
        return
    twin(**case | {"test": case["test"]._replace(mode=STORE), "written": case["written"].copy()})
    arena, target = case["arena"], case["target"]
    start = target.origin
    spoiled = start + np.flatnonzero(rng.random(arena.size - start) < 0.003)
    with np.errstate(invalid="ignore"):  # bytes may look like any float
        arena[spoiled] += rng.integers(1, 3, spoiled.size).astype(np.float32)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_kernels_are_discovered() -> None:
    names = [name for _, name in KERNELS]
    assert {"convolve", "pool_max", "project_packed", "take_tiles"} <= set(names)
    assert len(names) == len(set(names))
    assert set(names) == {n for n in kernel_cases.CASES if not (EXTRAS and n in TRANSFORMED)}


@pytest.mark.parametrize(("module", "name"), KERNELS)
def test_twin_has_the_same_signature(module: str, name: str) -> None:
    kernel, twin = pair(module, name)
    assert inspect.signature(kernel.py_func) == inspect.signature(twin)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("module", "name"), KERNELS)
@SETTINGS
@given(data=st.data())
def test_twin_agrees(module: str, name: str, data: st.DataObject) -> None:
    kernel, twin = pair(module, name)
    case = data.draw(kernel_cases.CASES[name])
    assert list(inspect.signature(twin).parameters.keys() - case.keys()) == []
    with_stored_results(twin, case, np.random.default_rng(0))
    ours, theirs = copied(case), copied(case)
    arguments = [ours[p] for p in inspect.signature(twin).parameters]
    assert kernel(*arguments) == twin(**theirs)
    rounded = kernel_cases.is_rounded(case) or name in kernel_cases.ALWAYS_ROUNDED
    for key, expected in theirs.items():
        if key in ("scratch", "work") or not isinstance(expected, np.ndarray):
            continue
        if key == "arena" and rounded:
            tolerance = 1e-4 if name in TRANSFORMED else 2e-6
            np.testing.assert_allclose(ours[key], expected, rtol=2e-6, atol=tolerance)
        else:
            assert same(ours[key], expected), key


LISTED = [(m, n) for m, n in KERNELS if "pixels" in inspect.signature(pair(m, n)[1]).parameters and m != "masks"]


@pytest.mark.parametrize(("module", "name"), LISTED)
@SETTINGS
@given(data=st.data())
def test_bits_of_a_pixel_do_not_depend_on_the_list(module: str, name: str, data: st.DataObject) -> None:
    """Random floats: one pixel alone has the bits that it has in a full list and in a shuffled one."""
    kernel, twin = pair(module, name)
    case = data.draw(kernel_cases.CASES[name])
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    for key in ("arena", "weights", "bias", "scale", "shift", "slope"):
        if isinstance(case.get(key), np.ndarray) and case[key].dtype == np.float32:
            case[key] = rng.normal(size=case[key].shape).astype(np.float32)
    height, width = case["written"].shape
    block = case["grid"].tile if "grid" in case else 4 if name == "convolve_winograd" else 1
    every = whole_blocks(height, width, block)
    case["test"] = case["test"]._replace(mode=STORE, block=block)
    results = []
    for blocks in (every, rng.permutation(every), rng.permutation(every)[: CHUNK // 2 // block**2 + 1]):
        pixels = blocks.reshape(-1, 2)
        ours = copied(case | {"pixels": pixels})
        kernel(*[ours[p] for p in inspect.signature(twin).parameters])
        target = case["target"]
        lanes = np.arange(blocks_of(case))[:, None] * target.plane + np.arange(min(16, target.pixel))
        results.append({
            (y, x): ours["arena"][target.origin + y * target.row + x * target.pixel + lanes].tobytes()
            for y, x in pixels.tolist()
        })  # fmt: skip
    dense, shuffled, few = results
    assert dense == shuffled
    assert all(dense[p] == bits for p, bits in few.items())


def whole_blocks(height: int, width: int, block: int) -> np.ndarray:
    """int32[n, block * block, 2]: every block of a map, clamped at its end."""
    corners = np.stack(np.mgrid[:height:block, :width:block], -1).reshape(-1, 1, 2)
    inner = np.stack(np.mgrid[:block, :block], -1).reshape(1, -1, 2)
    return np.minimum(corners + inner, [height - 1, width - 1]).astype(np.int32)


def blocks_of(case: kernel_cases.Case) -> int:
    """Output blocks of a case, from the size of its scratch."""
    return int(case["scratch"].size // (CHUNK * 16) - 1)
