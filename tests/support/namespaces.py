"""Two network namespaces joined by a cable: a machine and a phone in a network that reaches nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MACHINE, PHONE = "10.77.0.1", "10.77.0.2"
MACHINE6, PHONE6 = "fd77::1", "fd77::2"


@dataclass(frozen=True)
class Network:
    """Names of the namespaces; `inside` is how a command is run in one of them."""

    machine: str
    phone: str

    def inside(self, namespace: str) -> list[str]:
        return ["ip", "netns", "exec", namespace]

    def plug(self, in_: bool) -> None:
        """Pull the phone's cable out, or put it in again."""
        _ip("-n", self.phone, "link", "set", "cable", "up" if in_ else "down")

    def wrapper(self, program: str, folder: Path) -> Path:
        """A script that runs a program in the phone's namespace."""
        script = folder / "in-the-namespace"
        script.write_text(f'#!/bin/sh\nexec {" ".join(self.inside(self.phone))} {program} "$@"\n')
        script.chmod(0o755)
        return script


def why_not() -> str | None:
    """Why namespaces cannot be made here; None if they can."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"afterimage-try-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"no network namespace can be made: {tried.stderr.strip()}"
    _ip("netns", "delete", name)
    return None


@contextmanager
def alone() -> Iterator[str]:
    """The name of a namespace that is loopback alone; gone at the end."""
    name = f"afterimage-alone-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@contextmanager
def network() -> Iterator[Network]:
    """Both namespaces with loopback and the cable up; gone at the end."""
    made = Network(f"afterimage-machine-{os.getpid()}", f"afterimage-phone-{os.getpid()}")
    names = (made.machine, made.phone)
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", made.machine, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", made.phone)
        for name, address, address6 in zip(names, (MACHINE, PHONE), (MACHINE6, PHONE6), strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "address", "add", f"{address6}/64", "dev", "cable", "nodad")
            _ip("-n", name, "link", "set", "cable", "up")
        yield made
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
