"""`python -m tests.support.quiet_server`: a server from its start to its end; prints what it tried to reach.

Run in a network that is loopback alone it tells of what the kernel found no way for as well, whoever asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.soak.server import ServerProcess
from clients.python import StreamClient

RECORDER = Path(__file__).parent / "traffic"


def watch(environment: dict[str, str], record: Path) -> dict[str, str]:
    """An environment in which processes of Python's note what they try to reach."""
    path = os.pathsep.join([str(RECORDER), *filter(None, [environment.get("PYTHONPATH")])])
    return environment | {"PYTHONPATH": path, "WATCHED_TRAFFIC": str(record)}


def read(record: Path) -> list[list[Any]]:
    """Process, event and other end of all that was noted."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def unrouted() -> int:
    """How often the kernel found no way to where somebody wanted to in this network, ever."""
    heads, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    six = Path("/proc/net/snmp6")  # not there where IPv6 is off
    counts = dict(line.split() for line in six.read_text().splitlines()) if six.exists() else {}
    return int(values[heads.index("OutNoRoutes")]) + int(counts.get("Ip6OutNoRoutes", 0))


def serve(folder: Path) -> None:
    """Start, answer a request and a frame, and stop."""
    picture = np.random.default_rng(1).integers(0, 255, (96, 160, 3), np.uint8)
    jpeg = simplejpeg.encode_jpeg(picture, colorspace="BGR")
    with ServerProcess(folder, {}) as server:
        request = urllib.request.Request(f"{server.url}/v1/detect", jpeg, {"content-type": "image/jpeg"})
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 200
        with StreamClient(server.url, "quiet") as client:
            assert [result.seq for result in client.results([jpeg, jpeg])] == [1, 2]
        server.stop()


def main() -> None:
    """As above; with further words, those are run in place of a server."""
    before = unrouted()
    with tempfile.TemporaryDirectory() as name:
        record = Path(name) / "record"
        if sys.argv[1:]:
            subprocess.run(sys.argv[1:], env=watch(dict(os.environ), record), check=False)
        else:
            os.environ.update(watch(dict(os.environ), record))  # of what is started from here on
            serve(Path(name))
        print(json.dumps({"tried": read(record), "unrouted": unrouted() - before}))


if __name__ == "__main__":
    main()
