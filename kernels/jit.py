"""The one way kernels are compiled: no Python objects, no lock held, cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.extending import intrinsic as _intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile on first call for each set of argument types; runs without the interpreter lock."""
    compiled: F = numba.njit(nogil=True, cache=True)(function)
    return compiled


def jit_inlined(function: F) -> F:
    """The same for a function of many arguments that is called in an inner loop: LLVM must inline it."""
    compiled: F = numba.njit(nogil=True, cache=True, forceinline=True)(function)
    return compiled


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a numba intrinsic of a function that returns (signature, code generator)."""
    made: Callable[..., Any] = _intrinsic(function)
    return made
