"""How long a DeepStack client waits: requests as Frigate sends them, to a server of its own on loopback.

    python -m benchmarks.deepstack 320x320 --requests 200

Frigate gives up after 0.1 s. Each request has a connection of its own, as `requests.post` makes one.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import time

import cv2
import numpy as np

from service.sources import open_source

BUDGET_MS = 100.0
BOUNDARY = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


def form(jpeg: bytes) -> bytes:
    """The body that `requests` makes of an empty key and an image."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="api_key"\r\n\r\n\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'
    )
    return head.encode() + jpeg + f"\r\n--{BOUNDARY}--\r\n".encode()


def start() -> tuple[subprocess.Popen[str], int]:
    """A server of the built-in model that is ready, and its port."""
    server = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    found = next(match for line in server.stderr if (match := re.search(r"127\.0\.0\.1:(\d+)", line)))
    port = int(found[1])
    while ask(port, "GET", "/readyz")[0] != 200:
        time.sleep(0.2)
    return server, port


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"} if body is not None else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", nargs="?", default="320x320", help="of the images, WxH")
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    with open_source("scene", frames=options.requests) as clip:
        bodies = [form(cv2.imencode(".jpg", cv2.resize(f.image, (width, height)))[1].tobytes()) for f in clip]
    server, port = start()
    try:
        times_ms, inference_ms = [], []
        for body in bodies:
            began = time.perf_counter()
            status, answer = ask(port, "POST", "/v1/vision/detection", body)
            times_ms.append(1e3 * (time.perf_counter() - began))
            assert status == 200, answer
            inference_ms.append(json.loads(answer)["inferenceMs"])
    finally:
        server.terminate()
        server.wait(30)
    over = sum(taken > BUDGET_MS for taken in times_ms)
    print(
        f"{options.size}: median {np.median(times_ms):.1f} ms, p99 {np.percentile(times_ms, 99):.1f} ms, first"
        f" {times_ms[0]:.1f} ms, of that inference {np.median(inference_ms):.0f} ms; {over} of {len(bodies)} over 0.1 s"
    )


if __name__ == "__main__":
    main()
