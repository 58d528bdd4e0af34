"""What this CPU has, and the blocking chosen from it.

The blocking is the number of output pixels a micro-kernel call holds in registers beside one to three lane
vectors of output channels: as many accumulators as fit with the weights and one broadcast, and no more (a
spill in the inner loop costs a third of the speed).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import llvmlite.binding as llvm
import numba


@dataclass(frozen=True)
class Blocking:
    """pixels: output pixels per call. vectors: most lane vectors (16 channels each) of outputs per call.

    half: pixels per call for half a lane vector of outputs (a divisor of a chunk's); 0 for none.
    fence: pixels between two barriers that stop LLVM from hoisting loads; 0 for none.
    wide: pixels of the larger calls for one and for two vectors of outputs, of runs of four neighbours; 0 for none.
    quads: runs of four neighbouring pixels that a depthwise call takes; 0 for none.
    aside: whether inputs of SiLU wait in memory while their sigmoids are computed: registers are few.
    estimates: whether the CPU estimates the reciprocals of 16 lanes (AVX-512), in the place of a division.
    """

    pixels: int
    vectors: int
    fence: int
    half: int = 0
    wide: tuple[int, int] = (0, 0)
    quads: int = 0
    aside: bool = False
    estimates: bool = False


# None of these spills on the CPUs of `tests/kernels/test_assembly.py`; neighbouring choices do.
BLOCKINGS = {
    "avx512": Blocking(8, 3, 1, wide=(16, 12), quads=4, estimates=True),  # 32 registers of 16 lanes
    "avx2": Blocking(6, 1, 0, half=8, aside=True),  # 16 registers of 8 lanes, two for a lane vector
    "neon": Blocking(pixels=4, vectors=1, fence=0, half=8),  # 32 registers of 4 lanes, four for a lane vector
    "generic": Blocking(pixels=1, vectors=1, fence=0, half=2),  # 16 registers of 4 lanes (SSE2)
}


def cpu_features() -> frozenset[str]:
    """Names of the CPU features that kernels are compiled for.

    Those that LLVM reports for this machine, unless `NUMBA_CPU_FEATURES` names others ("+avx2,+fma,-avx512f").
    """
    named = numba.config.CPU_FEATURES
    if named is not None:
        return frozenset(name[1:] for name in named.split(",") if name.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def unread_features(cpuinfo: str) -> list[str]:
    """LLVM's names of the products of bytes that Linux lists for an ARM CPU; LLVM itself does not look for them."""
    listed = {word for line in cpuinfo.splitlines() if line.startswith("Features") for word in line.split()}
    return [name for word, name in (("asimddp", "dotprod"), ("i8mm", "i8mm")) if word in listed]


def complete_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Tell numba what LLVM overlooks on an ARM CPU, before it compiles anything. `NUMBA_CPU_FEATURES` comes first."""
    if VARIANT != "neon" or numba.config.CPU_FEATURES is not None or not cpuinfo.exists():
        return
    unread = [f"+{name}" for name in unread_features(cpuinfo.read_text(encoding="utf-8", errors="replace"))]
    if unread:
        found = llvm.get_host_cpu_features().flatten()
        numba.config.CPU_FEATURES = ",".join([*filter(None, [found]), *unread])


def variant(features: frozenset[str], triple: str) -> str:
    """Name of the blocking for a machine with these LLVM features and target triple."""
    if triple.startswith(("aarch64", "arm64")):
        return "neon"
    if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= features:
        return "avx512"
    if {"avx2", "fma"} <= features:
        return "avx2"
    return "generic"


def _version_of(package: str) -> str:
    """Of an installed package; none where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def source_key() -> str:
    """Hash of the kernels' sources and of this CPU: names the folder of the on-disk kernel cache.

    numba's own key misses edits made in another file than the cached function's, and would run stale code. The version
    of the library of transforms counts too, where it is there.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    digest.update(_version_of("rocket-fft").encode())  # its layouts are compiled into ours
    digest.update((numba.config.CPU_NAME or llvm.get_host_cpu_name()).encode())
    digest.update(",".join(sorted(cpu_features())).encode())
    return digest.hexdigest()[:16]


VARIANT = variant(cpu_features(), llvm.get_default_triple())
complete_features()
HOST = BLOCKINGS[VARIANT]
PIXELS = HOST.pixels
HALF_PIXELS = HOST.half
MAX_VECTORS = HOST.vectors
