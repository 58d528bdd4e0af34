"""No test fails for being slow; and processes that run the suite together fill one cache of kernels, one at a time.

numba keeps an index for each kernel, which it reads, changes and writes without a lock: two processes that compile a
kernel for different types at the same moment may give both results the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("any machine")
    if hasattr(config, "workerinput"):  # a process of pytest-xdist
        from numba.core.caching import IndexDataCacheFile

        from kernels import FOLDER

        IndexDataCacheFile.save = one_at_a_time(IndexDataCacheFile.save, FOLDER / "tests.lock")


def one_at_a_time(save: Callable[..., None], lock: Path) -> Callable[..., None]:
    import fcntl

    def locked(*arguments: Any) -> None:
        with open(lock, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            save(*arguments)

    return locked
