"""What a measurement ran on, and keeping everything else of the process still while it runs."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2

from kernels.target import VARIANT

PACKAGES = ("afterimage", "numba", "numpy", "onnxruntime", "openvino", "opencv-python-headless")
_IDLE, _WAITING = 3, 4  # fields of the first line of /proc/stat, see proc(5)
_IDLE_SHARE = 0.2
_LOOK_S = 0.002
_PATIENCE_S = 0.5


def machine() -> dict[str, Any]:
    """CPU, cores that this process may use, vector variant of the kernels, system, versions, load; ready for JSON."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "vectors": VARIANT,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


class Bystanders:
    """How much of the machine other programs used since this was made: figures of a busy machine are worth little."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._begun = self._look()

    def cores(self) -> float | None:
        """Cores that other programs kept busy on average; None where the system does not tell."""
        now = self._look()
        if now is None or self._begun is None or now[1] <= self._begun[1]:
            return None
        busy, wall = (later - earlier for later, earlier in zip(now, self._begun, strict=True))
        return round(max(0.0, busy / wall), 2)

    def _look(self) -> tuple[float, float] | None:
        """Seconds of CPU time of all other programs so far, and the time now."""
        try:
            fields = self._stat.read_text(encoding="ascii").split(maxsplit=9)[1:9]
            ticks = [int(field) for field in fields]
        except (OSError, ValueError):
            return None
        busy = sum(ticks) - ticks[_IDLE] - ticks[_WAITING]
        return busy / os.sysconf("SC_CLK_TCK") - time.process_time(), time.perf_counter()


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's own name; family and model are added, as many clouds give one name to several CPUs."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    known = [f"{name} {fields[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in fields]
    return fields["model name"] + (f" ({', '.join(known)})" if known else "")


def use_threads(threads: int) -> None:
    """Let OpenCV, which scales frames on both sides, use as many threads as the engines."""
    cv2.setNumThreads(threads)


def settle() -> None:
    """Wait until no other thread of this process runs: worker pools spin for a while after their last call.

    Gives up after half a second, as something may be meant to run.
    """
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        used, begun = time.process_time(), time.perf_counter()
        time.sleep(_LOOK_S)
        if time.process_time() - used < _IDLE_SHARE * (time.perf_counter() - begun):
            return
