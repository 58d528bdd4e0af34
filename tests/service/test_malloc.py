from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, threading
from service.malloc import bound_pools
print(bound_pools())
libc, gate = ctypes.CDLL(None), threading.Barrier(13)
def work():
    libc.malloc(1000)
    gate.wait()
    gate.wait()
for _ in range(12):
    threading.Thread(target=work).start()
gate.wait()
libc.malloc_stats()
gate.wait()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="this C library is not glibc")
@pytest.mark.parametrize(("said", "bounded"), [(None, True), ("5", False)])
def test_threads_share_two_pools_unless_the_environment_says_otherwise(said: str | None, bounded: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    if said is not None:
        environment["MALLOC_ARENA_MAX"] = said
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(bounded)
    pools = len(re.findall(r"^Arena \d+", done.stderr, re.M))
    assert pools <= 2 if bounded else 2 < pools <= 5


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.malloc import bound_pools

    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not bound_pools()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="this C library is not glibc")
def test_what_was_freed_is_given_back() -> None:
    """In a process of its own, whose memory nobody else takes and frees."""
    code = (
        "from service.malloc import give_back\n"
        "kept = [bytes(100_000) for _ in range(300)]\n"
        "last = bytes(100_000)\n"  # so that what is freed is not at the end
        "del kept\n"
        "print(give_back())\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == "True\n"
