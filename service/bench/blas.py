"""How many threads NumPy's BLAS takes: OpenBLAS is told by a call of its own, as its variables are read but once."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np

_PREFIXES = ("scipy_openblas", "openblas")
_SUFFIXES = ("64_", "")


@cache
def _library() -> ctypes.CDLL | None:
    """The OpenBLAS that came with NumPy; None where NumPy has another BLAS."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for file in sorted(folder.glob("*openblas*")):
            try:
                return ctypes.CDLL(str(file))
            except OSError:
                continue
    return None


def _function(names: Iterable[str]) -> Callable[..., int] | None:
    library = _library()
    found = (getattr(library, name, None) for name in names) if library is not None else iter(())
    return next((one for one in found if one is not None), None)


def _names(verb: str) -> list[str]:
    return [f"{prefix}_{verb}_num_threads{suffix}" for prefix in _PREFIXES for suffix in _SUFFIXES]


def use_threads(threads: int) -> bool:
    """From now on, matrix products take so many threads. False where this BLAS cannot be told."""
    function = _function(_names("set"))
    if function is None:
        return False
    function(ctypes.c_int(threads))
    return True


def threads_used() -> int | None:
    """What it has been told, or takes by itself; None where it does not say."""
    function = _function(_names("get"))
    return None if function is None else int(function())
