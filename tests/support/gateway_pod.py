"""Servers with the fake engine, each a process of its own: `python gateway_pod.py KEYS_FILE PORT`.

For each line of stdin, an address to listen at, one is forked off, and its process id printed: they share the imports,
which take longer than all else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from service_fakes import FakeEngine, make_registry, make_settings

from service.serve import bind, make_server


def serve(host: str, port: int, keys_file: Path) -> None:
    """As a server in a cluster: with keys, behind a proxy."""
    settings = make_settings(host=host, port=port, keys_file=keys_file, trusted_proxies=["127.0.0.1"], metrics="open")
    server = make_server(settings, make_registry(FakeEngine().model()))
    asyncio.run(server.serve(sockets=[bind(host, port)]))


def main() -> None:
    keys_file, port = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that end are gone at once
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                serve(line.strip(), port, keys_file)
            finally:
                os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
