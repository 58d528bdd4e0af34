"""Completes the image's bill of materials: to Python's packages come the product, Python itself and Debian's packages.

bill.py ROOT PACKAGES.cdx.json ARCHITECTURE
"""

from __future__ import annotations

import json
import re
import sys
from email.parser import Parser
from pathlib import Path
from typing import Any

PRODUCT = "afterimage"


def debian(root: Path, architecture: str) -> list[dict[str, Any]]:
    """Packages of the distribution that files came from, by what `assemble.py` has kept of them."""
    found = []
    for path in sorted((root / "var/lib/dpkg/status.d").iterdir()):
        said = Parser().parsestr(path.read_text(encoding="utf-8"))
        name, version = said["Package"], said["Version"]
        quoted = version.replace(":", "%3A").replace("+", "%2B")
        purl = f"pkg:deb/debian/{name}@{quoted}?arch={architecture}&distro=bookworm"
        found.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return found


def python(root: Path) -> dict[str, Any]:
    """The interpreter."""
    said = (root / "opt/afterimage/pyvenv.cfg").read_text(encoding="utf-8")
    version = re.findall(r"^version = (\S+)", said, re.MULTILINE)[0]
    purl = f"pkg:generic/python@{version}"
    return {"type": "platform", "bom-ref": purl, "name": "python", "version": version, "purl": purl}


def normal(name: str) -> str:
    """A package's name as all spell it alike, however its wheel does. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def complete(bill: dict[str, Any], root: Path, architecture: str) -> dict[str, Any]:
    """The bill with all of it; the product is what it is of, not a part."""
    own = [item for item in bill["components"] if item["name"] == PRODUCT]
    if len(own) != 1:
        raise ValueError(f"expected {PRODUCT} among the packages once, got it {len(own)} times")
    bill["metadata"]["component"] = {**own[0], "type": "container"}
    packages = [item for item in bill["components"] if item["name"] != PRODUCT]
    bill["components"] = [item | {"name": normal(item["name"])} for item in packages]
    bill["components"] += [python(root), *debian(root, architecture)]
    return bill


if __name__ == "__main__":
    folder, packages, target = sys.argv[1:]
    json.dump(
        complete(json.loads(Path(packages).read_text(encoding="utf-8")), Path(folder), target), sys.stdout, indent=1
    )
