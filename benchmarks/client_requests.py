"""Start, stop and dump valgrind's callgrind from inside the process that it runs, without a compiler or its headers.

A client request is a sequence of instructions that does nothing on a CPU and that valgrind recognises (valgrind.h). It
is written here as bytes for x86-64. Outside valgrind every request does nothing.
"""

from __future__ import annotations

import ctypes
import mmap
from enum import IntEnum

_CODE = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
"""rax = arguments, rdx = 0; rdi is turned by 128 bits in all; exchange of rbx with itself; rax = rdx; return."""
_TOOL = ord("C") << 24 | ord("T") << 16
_WORDS = 6


class Request(IntEnum):
    """What callgrind understands (callgrind.h)."""

    DUMP = _TOOL
    ZERO = _TOOL + 1
    START = _TOOL + 4
    STOP = _TOOL + 5


class Requests:
    """Sends requests; keeps the page that holds the code."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(address)
        self._words = (ctypes.c_uint64 * _WORDS)()

    def send(self, request: Request) -> int:
        """What valgrind answers; 0 where there is none."""
        self._words[0] = request
        return int(self._call(ctypes.addressof(self._words)))
