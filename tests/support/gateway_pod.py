"""A server with the fake engine, as a process of its own: `python gateway_pod.py HOST PORT KEYS_FILE`.

Stands for a pod: it listens beyond one address of loopback like a server in a cluster, with keys.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from service_fakes import FakeEngine, make_registry, make_settings

from service.serve import bind, make_server


def main() -> None:
    host, port, keys_file = sys.argv[1:]
    settings = make_settings(
        host=host, port=int(port), keys_file=Path(keys_file), trusted_proxies=["127.0.0.1"], metrics="open"
    )
    server = make_server(settings, make_registry(FakeEngine().model()))
    asyncio.run(server.serve(sockets=[bind(settings.host, settings.port)]))


if __name__ == "__main__":
    main()
