"""Whether the server on this machine is ready: for health checks of containers.

Knows the standard library alone, so that it costs little however often it is asked.

    python -m service.probe

The server is looked for where `AFTERIMAGE_HOST` and `AFTERIMAGE_PORT` say, with TLS where it speaks that. Exit status
0: ready; 1: not, with the reason on stderr.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys

TIMEOUT_S = 5.0
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def not_ready_because(host: str, port: int) -> str | None:
    """Why a server is not ready, in its own words if it has some; None if it is."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # nothing is told to it, and it is this machine's
    reason = None
    for connection in (
        http.client.HTTPConnection(host, port, timeout=TIMEOUT_S),
        http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=unverified),
    ):
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            body = answer.read(4096).decode("utf-8", "replace")
            if answer.status == 200:
                return None
            said = f"{answer.status}: {body}"
            if not 300 <= answer.status < 400:
                return said
            reason = reason or said  # a port that speaks TLS sends plain requests there
        except (http.client.HTTPException, OSError) as error:  # such as TLS where none is spoken
            reason = reason or f"{host}:{port}: {error or type(error).__name__}"
        finally:
            connection.close()
    return reason


def main() -> int:
    """Ask the server of the environment. Returns the exit status."""
    host = os.environ.get("AFTERIMAGE_HOST", "").strip("[]")
    reason = not_ready_because(_EVERYWHERE.get(host, host), int(os.environ.get("AFTERIMAGE_PORT") or 8000))
    if reason is not None:
        print(reason, file=sys.stderr)
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(main())
