"""`afterimage serve --lan` on a machine and Chromium on a phone, each in a network namespace of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import CAMERA, CHROMIUM, launched, until
from namespaces import MACHINE, MACHINE6, Network, network, why_not

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

ROOT = Path(__file__).parents[3]
PORT = 8443
CUT_S = 5.0
SEQ = "Number(document.getElementById('picture').dataset.seq)"

# The real command around the fake engine.
SERVE = """
import sys
sys.path.insert(0, "tests/support")
from service_fakes import FakeEngine, make_registry
from service import registry
registry.ModelRegistry.from_settings = lambda settings: make_registry(FakeEngine().model())
from service.cli import main
sys.argv = ["afterimage", *sys.argv[1:]]
main()
"""

# Whether any connection of the page was ever opened anew, and with what it came back.
LISTEN = """
  window.sockets = 0; window.readies = [];
  const Real = WebSocket;
  window.WebSocket = class extends Real {
    constructor(...given) {
      super(...given);
      window.sockets += 1;
      this.addEventListener("message", ({ data }) => {
        const message = typeof data === "string" ? JSON.parse(data) : {};
        if (message.type === "ready") readies.push(message);
      });
    }
  };
"""


class Machine:
    """A server in the machine's namespace; `said` is all that it printed."""

    def __init__(self, lan: Network, folder: Path, *options: str, port: int = PORT) -> None:
        command = [*lan.inside(lan.machine), sys.executable, "-c", SERVE, "serve", "--port", str(port), *options]
        command += ["--set", f"state_folder={folder}", "--set", "retry_after_ms=200"]
        self._log = (folder / f"server-{time.monotonic_ns()}.log").open("w+")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT)

    @property
    def said(self) -> str:
        return Path(self._log.name).read_text()

    def wait_for(self, pattern: str, timeout_s: float = 60.0) -> str:
        """The first group of what the pattern finds, or all of it."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.said)) is None:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        return found.group(found.lastindex or 0)

    def stop(self) -> None:
        """As systemd and Ctrl-C do."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) in (0, -signal.SIGTERM), self.said

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._log.close()


@pytest.fixture(scope="module")
def lan() -> Iterator[Network]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def phone(lan: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    wrapper = lan.wrapper(str(CHROMIUM), tmp_path_factory.mktemp("phone"))
    with launched(*CAMERA, program=str(wrapper)) as opened:
        yield opened


@contextmanager
def machine(lan: Network, folder: Path, *options: str, port: int = PORT) -> Iterator[Machine]:
    server = Machine(lan, folder, *options, port=port)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def visiting(phone: Any, url: str) -> Iterator[Any]:
    context = phone.browser.new_context(**phone.devices["Pixel 5"], ignore_https_errors=True)
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.add_init_script(LISTEN)
    page.goto(url)
    yield page
    context.close()


def says(page: Any, text: str, where: str = "#status") -> None:
    until(page, "([where, text]) => document.querySelector(where).textContent.includes(text)", [where, text])


def goes_on(page: Any, timeout_s: float = 40.0) -> None:
    """Wait for results of frames that were sent from now on; nobody touches the page."""
    before = page.evaluate(SEQ)
    until(page, f"seq => {SEQ} !== seq && {SEQ} > 0", before, timeout_s)
    before = page.evaluate(SEQ)
    until(page, f"seq => {SEQ} >= seq + 3", before, timeout_s)
    says(page, "Running")


def test_a_phone_joins_and_is_cut_off_and_the_server_starts_again(lan: Network, phone: Any, tmp_path: Path) -> None:
    with machine(lan, tmp_path, "--lan") as first:
        url = first.wait_for(r"(https://\S+#join=\S+)")
        assert url.startswith(f"https://{MACHINE}:{PORT}/#join=")
        with visiting(phone, f"http://{MACHINE}:{PORT}/") as page:  # as it is typed by hand
            assert page.url == f"https://{MACHINE}:{PORT}/"
            says(page, "needs a key", "#problem")
            page.goto(first.wait_for(rf"or at (https://\[{MACHINE6}\]:{PORT}/)"))
            says(page, "needs a key", "#problem")

        with visiting(phone, url) as page:
            says(page, "Ready to start")
            assert page.url == f"https://{MACHINE}:{PORT}/", "the code is out of the address"
            assert page.evaluate("[isSecureContext, location.protocol, typeof navigator.mediaDevices]") == [
                True, "https:", "object",
            ]  # fmt: skip
            page.get_by_role("button", name="Start").click()
            goes_on(page)
            assert page.locator("#objects").text_content() == "1"

            lan.plug(False)
            page.wait_for_timeout(CUT_S * 1000)
            lan.plug(True)
            goes_on(page)
            readies = page.evaluate("readies.map(ready => [ready.stream_id, ready.resumed])")
            assert len({stream for stream, _ in readies}) == 1, "it is the same stream"
            assert all(resumed for _, resumed in readies[1:]), "with what it had cached"

            first.stop()
            with machine(lan, tmp_path, "--lan") as second:
                second.wait_for("listening on")
                goes_on(page, 60)
                assert page.get_by_role("alert").count() == 0
                page.reload()
                says(page, "Ready to start")

                with visiting(phone, url) as late:  # the code was taken, and by a server that is gone
                    says(late, "used before", "#problem")
                assert url.partition("#join=")[2] not in second.said
                second.stop()
        code = url.partition("=")[2]
        assert first.said.count(code) == 1, "printed, and never logged"
        assert "Traceback" not in first.said


def test_plain_http_at_the_same_place_says_what_to_do(lan: Network, phone: Any, tmp_path: Path) -> None:
    options = ("--host", MACHINE, "--set", "anonymous_streams=true")
    with machine(lan, tmp_path, *options, port=PORT + 1) as server:
        server.wait_for("ready: model")
        with visiting(phone, f"http://{MACHINE}:{PORT + 1}/") as page:
            assert page.evaluate("[isSecureContext, typeof navigator.mediaDevices]") == [False, "undefined"]
            says(page, "Ready to start")
            page.get_by_role("button", name="Start").click()
            says(page, "not secure, so the browser keeps the camera from it", "#problem")
            says(page, "--lan", "#problem")
