"""The kernels as compiled for other CPUs than this one, in a process of their own: equal to their twins there too.

Lesser CPUs of this one's kind run here; `tests/emulated/aarch64.sh` runs code for aarch64.
"""

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
HERE = Path(__file__).parent
EMULATOR = HERE.parent / "emulated" / "aarch64.sh"
EMULATED = Path(os.environ.get("AFTERIMAGE_AARCH64", HERE.parents[1] / "build" / "aarch64"))
EMULATED_NAMES = ["convolve_depthwise", "resize"]  # `make test-aarch64` runs every kernel
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
@pytest.mark.timeout(600)
@pytest.mark.parametrize("variant", CPUS)
def test_twins_agree_on_lesser_cpus(variant: str, tmp_path: Path) -> None:
    name, features = CPUS[variant]
    env = {
        "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "AFTERIMAGE_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
    }  # fmt: skip
    expect_agreement([sys.executable], variant, NAMES, env, 600)


@pytest.mark.skipif(
    not (EMULATED / ".ready").exists(), reason="needs the emulated aarch64 that `make test-aarch64` makes"
)
@pytest.mark.timeout(1200)
def test_twins_agree_on_an_emulated_cpu() -> None:
    expect_agreement([str(EMULATOR), "cortex-a76"], "neon", EMULATED_NAMES, {"PYTHONPATH": str(HERE)}, 1200)


def expect_agreement(
    python: list[str], variant: str, names: list[str], environment: dict[str, str], limit_s: int
) -> None:
    """Run the script in another Python, where kernels are to be of this variant."""
    done = subprocess.run(
        [*python, "-W", "error", "-c", SCRIPT, variant, *names], env=os.environ | environment, capture_output=True,
        text=True, check=False, timeout=limit_s,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
