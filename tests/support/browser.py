"""A headless Chromium that talks to loopback only, with a camera that shows a test pattern."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-quic")
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


@contextmanager
def launched(*extra: str, program: str | None = CHROMIUM) -> Iterator[Any]:
    """playwright with its browser as `browser`; closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*QUIET, *extra])
        playwright.browser = browser
        yield playwright
        browser.close()


def until(page: Any, condition: str, given: Any = None, timeout_s: float = 15.0) -> None:
    """Poll until a page's expression, or function of `given`, is true; AssertionError if it never is.

    playwright's own wait evaluates text inside the page, which the server's Content-Security-Policy forbids.
    """
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition, given):
        assert time.monotonic() < deadline, f"never true: {condition}"
        page.wait_for_timeout(20)
