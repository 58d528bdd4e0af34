"""Writes the image's two lock files; `make lock-image` runs it after `make lock`.

`requirements.lock`: those of the checkout's lock file that the server needs with the extras in `EXTRAS`, so that the
image has what the tests ran with. `build.lock`: what `build.in` names, as pip resolves it for each architecture.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("mqtt", "telemetry")
ARCHITECTURES = ("x86_64", "aarch64")
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_26", "manylinux_2_27", "manylinux_2_28", "manylinux_2_34")
_NAME = re.compile(r"^([A-Za-z0-9][\w.-]*)==", re.MULTILINE)
_HEAD = "# Made by docker/image/lock.py; `make lock-image` makes it anew.\n"


def blocks(text: str) -> dict[str, str]:
    """Requirements of a lock file, with their hashes and without comments, by canonical name."""
    lines = [line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#")]
    bare = "".join(lines)
    starts = [match.start() for match in _NAME.finditer(bare)]
    found = [bare[start:end] for start, end in zip(starts, [*starts[1:], len(bare)], strict=True)]
    return {canonicalize_name(block.partition("==")[0]): block for block in found}


def needed(extras: tuple[str, ...] = EXTRAS) -> set[str]:
    """Names of all that the product imports with these extras, by what is installed. The product itself is left out."""
    waiting, seen = [("afterimage", frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while waiting:
        name, chosen = waiting.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        for text in requires(name) or ():
            found = Requirement(text)
            if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in ("", *chosen)):
                waiting.append((canonicalize_name(found.name), frozenset(found.extras)))
    return {name for name, _ in seen} - {"afterimage"}


def service_lock() -> str:
    """The lock file of what is in the image."""
    known = blocks((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    return _HEAD + "".join(known[name] for name in sorted(needed()))


def build_lock() -> str:
    """The lock file of what makes the image, with the hashes of one file for each architecture."""
    found: dict[str, set[str]] = {}
    for architecture in ARCHITECTURES:
        platforms = [f"--platform={tag}_{architecture}" for tag in PLATFORMS]
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
            command += ["--only-binary=:all:", "--python-version=3.11", *platforms, f"--target={folder}", "--report=-"]
            command += [f"--requirement={ROOT / 'docker/build.in'}", f"--constraint={_versions(Path(folder))}"]
            report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for item in report["install"]:
            name = f"{canonicalize_name(item['metadata']['name'])}=={item['metadata']['version']}"
            found.setdefault(name, set()).add(item["download_info"]["archive_info"]["hashes"]["sha256"])
    return _HEAD + "".join(
        name + "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(found[name])) + "\n"
        for name in sorted(found)
    )


def _versions(folder: Path) -> Path:
    """A file of the versions in the checkout's lock file: what is in both is one."""
    known = blocks((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    path = folder / "versions.txt"
    path.write_text("".join(block.split()[0] + "\n" for block in known.values()), encoding="utf-8")
    return path


def main() -> None:
    """Write both."""
    (ROOT / "docker/requirements.lock").write_text(service_lock(), encoding="utf-8")
    (ROOT / "docker/build.lock").write_text(build_lock(), encoding="utf-8")


if __name__ == "__main__":
    main()
