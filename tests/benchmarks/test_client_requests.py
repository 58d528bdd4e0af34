"""Requests to callgrind: the same to a CPU as nothing, and understood where valgrind is."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys

import pytest

from benchmarks.client_requests import Request, Requests

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="requests are written for x86-64")
WORK = """
from benchmarks.client_requests import Request, Requests
requests = Requests()
for count in (10, 1000):
    requests.send(Request.START)
    for _ in range(count):
        requests.send(Request.ZERO + 10)  # one that nobody knows
    requests.send(Request.DUMP)
    requests.send(Request.STOP)
"""


def test_outside_valgrind_nothing_happens():
    requests = Requests()
    assert [requests.send(request) for request in Request] == [0] * len(Request)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_callgrind_counts_what_lies_between(tmp_path):
    command = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={tmp_path}/out"]
    subprocess.run([*command, sys.executable, "-S", "-c", WORK], check=True, stderr=subprocess.DEVNULL)
    counts = []
    for part in (1, 2):
        lines = (tmp_path / f"out.{part}").read_text().splitlines()
        counts.append(int(next(line for line in lines if line.startswith("totals: ")).split()[1]))
    assert counts[1] > 20 * counts[0] > 0
