"""Has the C library keep few pools of memory, and give back what lies in them.

glibc gives threads pools of their own, eight for each core, and keeps what was freed in each of them. A server in which
clients come and go has short-lived threads and sessions of some MiB: over an hour those pools grow by hundreds of MiB.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

M_ARENA_MAX = -8  # of glibc's malloc.h
POOLS = 2
"""Frames are computed in memory that is there already, so that threads do not wait for each other here."""


def give_back() -> bool:
    """Give memory that was freed, and is kept for what comes, back to the machine; whether there was any."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        return bool(ctypes.CDLL(None).malloc_trim(0))
    return False


def bound_pools() -> bool:
    """Bound them, before threads are started; whether that was done. Left as it is where MALLOC_ARENA_MAX says."""
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, POOLS))
    return False
