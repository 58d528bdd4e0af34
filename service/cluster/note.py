"""What `afterimage cluster up` started on this machine, noted in a file; knows processes and files, and no Ray.

Ray's own ports take whatever comes: one that is started here asks for a token, kept among its files. It has to be in
the environment before Ray is imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from kernels import cache_folder
from service.cluster.plan import ClusterError
from service.private_file import write_private

VARIABLE = "AFTERIMAGE_CLUSTER"
END_S = 30.0
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # `down` has drained members by then
}
"""For Ray's processes: nothing is told to anybody."""


@dataclass(frozen=True)
class Note:
    """A Ray that was started here.

    address : of its head. pid : of the process that it ends with. began : when that was started, in clock ticks since
    boot. folder : of its files
    """

    address: str
    pid: int
    began: int
    folder: str

    @property
    def runs(self) -> bool:
        """Whether that very process is there."""
        return began(self.pid) == self.began

    @property
    def token_file(self) -> Path:
        """Whoever can read it can do anything with that Ray."""
        return Path(self.folder) / "token"

    def write(self) -> None:
        """Keep it. Raises OSError."""
        write_private(note_path(), json.dumps(asdict(self)).encode())

    def end(self) -> None:
        """End the process, and remove its files. Raises ClusterError where it does not end."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + END_S
        while self.runs:
            if time.monotonic() > until:
                raise ClusterError(f"Ray (process {self.pid}) does not end")
            time.sleep(0.05)
        shutil.rmtree(self.folder, ignore_errors=True)
        note_path().unlink(missing_ok=True)


def read_note() -> Note | None:
    """What was started here and runs."""
    try:
        note = Note(**json.loads(note_path().read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return note if note.runs else None


def note_path() -> Path:
    """Where it is kept."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else cache_folder() / "cluster.json"


def make_token(folder: Path) -> None:
    """A new one for a Ray whose files are in a folder. Raises OSError."""
    write_private(folder / "token", secrets.token_hex(32).encode())


def environment(token_file: Path | None) -> dict[str, str]:
    """Of Ray's processes and of whoever talks to them. token_file : of a Ray that was started here; None: another's"""
    token = {} if token_file is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    return {**QUIET, **token}


def began(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None where there is none, or only its exit status."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
