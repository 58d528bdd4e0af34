"""The kernels as compiled for lesser CPUs than this one, in a process of their own: equal to their twins there too."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.target import VARIANT

CPUS = {
    "avx2": ("haswell", "+sse2,+sse4.1,+sse4.2,+ssse3,+popcnt,+avx,+avx2,+fma"),
    "generic": ("x86-64", "+sse2"),
}
NAMES = [
    "convolve", "convolve_depthwise", "convolve_winograd", "pool_max", "combine", "resize", "pack_channels",
    "unpack_rows", "list_cells", "sort_by_phase", "convolve_cells",
]  # fmt: skip
SCRIPT = """
import importlib, inspect, random, sys
import numpy as np
import kernel_cases, test_twins
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from kernels.target import VARIANT
assert VARIANT == sys.argv[1], VARIANT
PAIRS = {name: module for module, name in test_twins.KERNELS}

@settings(max_examples=40, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
          suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from(sys.argv[2:]))
def agree(name, data):
    kernel, twin = test_twins.pair(PAIRS[name], name)
    case = data.draw(kernel_cases.CASES[name])
    test_twins.with_stored_results(twin, case, np.random.default_rng(0))
    ours, theirs = test_twins.copied(case), test_twins.copied(case)
    assert kernel(*[ours[p] for p in inspect.signature(twin).parameters]) == twin(**theirs)
    for key, expected in theirs.items():
        if isinstance(expected, np.ndarray) and key not in ("scratch", "work"):
            np.testing.assert_allclose(ours[key], expected, rtol=2e-6, atol=2e-6)

agree()
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or VARIANT == "generic", reason="needs an x86-64 CPU with AVX2"
)
@pytest.mark.parametrize("variant", CPUS)
def test_twins_agree_on_lesser_cpus(variant: str, tmp_path: Path) -> None:
    name, features = CPUS[variant]
    here = Path(__file__).parent
    env = os.environ | {
        "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "AFTERIMAGE_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(here.parent.parent), str(here)]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, variant, *NAMES], env=env, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
