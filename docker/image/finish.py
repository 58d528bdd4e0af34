"""Finishes the root of the image: packages in Python's environment, modules compiled, a bill of materials, one date.

    finish.py ROOT PACKAGES ARCHITECTURE PREFIX

The standard library and packages that are nothing but modules lie in two zip files, compiled: Python imports from
those, and they take a quarter of the room. PREFIX is that of the target's binary tools.
"""

from __future__ import annotations

import json
import os
import py_compile
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from bill import complete

PRODUCT = ("cache", "clients", "kernels", "models", "service")
"""Whose kernels numba looks up by their sources' dates, and whose pages are files."""
BARE = {".py", ".typed", ".md", ".txt"}
ON_DISK = ("os.py", "encodings", "lib-dynload")
"""What Python needs before it can read a zip file, and what it finds its library by."""
SOURCELESS = (
    "av", "charset_normalizer", "cryptography", "google", "llvmlite", "numba", "numpy", "onnx", "websockets", "yaml",
)  # fmt: skip
"""Packages that no zip file can hold, for their native parts, and whose sources nobody reads in a container."""
DATE_S = 1_700_000_000
"""Of every file: kernels in the volume are looked up by it, and outlive an image that is built anew."""
VERSION = "3.11"


def compile_file(source: Path, target: Path, shown: str) -> None:
    """Compile a module; what comes of it is never compared with its source, which nobody can change."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), str(target), dfile=shown, doraise=True, invalidation_mode=mode)


def compile_tree(folder: Path, root: Path) -> None:
    """Compile all modules below a folder, each beside its source."""
    for source in folder.rglob("*.py"):
        target = source.parent / "__pycache__" / f"{source.stem}.cpython-{VERSION.replace('.', '')}.pyc"
        compile_file(source, target, f"/{source.relative_to(root)}")


def leave_sources_out(package: Path, root: Path) -> None:
    """Compile a package's modules, each in the place of its source."""
    for source in package.rglob("*.py"):
        compile_file(source, source.with_suffix(".pyc"), f"/{source.relative_to(root)}")
        source.unlink()


def zip_modules(items: list[Path], archive: Path, root: Path) -> None:
    """Move modules and packages into an archive, compiled."""
    with (
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped,
        tempfile.TemporaryDirectory() as folder,
    ):
        compiled = Path(folder, "module.pyc")
        for item in items:
            for path in namespaces(item):
                write(zipped, f"{path.relative_to(item.parent).as_posix()}/", b"")
            for path in sorted([item] if item.is_file() else item.rglob("*")):
                if path.is_dir():
                    continue
                name = path.relative_to(item.parent).as_posix()
                if path.suffix != ".py":
                    write(zipped, name, path.read_bytes())
                else:
                    compile_file(path, compiled, f"/{archive.relative_to(root)}/{name}")
                    write(zipped, f"{name}c", compiled.read_bytes())
                path.unlink()
    for item in items:
        for path in sorted(item.rglob("*"), reverse=True) if item.is_dir() else ():
            path.rmdir()
        if item.is_dir():
            item.rmdir()


def namespaces(item: Path) -> list[Path]:
    """Folders that are packages though nothing says so: an archive has to name them."""
    folders = [path for path in [item, *sorted(item.rglob("*"))] if path.is_dir()]
    return [path for path in folders if not (path / "__init__.py").exists()]


def write(zipped: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a file; of no date, so that the same files make the same archive."""
    zipped.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def is_bare(item: Path) -> bool:
    """Whether a module or package is nothing but Python."""
    if item.is_file():
        return item.suffix == ".py"
    return all(path.suffix in BARE for path in item.rglob("*") if path.is_file())


def install(root: Path, packages: Path) -> Path:
    """Packages into the environment; returns where they are."""
    site = root / f"opt/afterimage/lib/python{VERSION}/site-packages"
    site.parent.mkdir(parents=True)
    subprocess.run(["mv", packages, site], check=True)
    return site


def describe(site: Path) -> dict[str, object]:
    """The bill of Python's packages: of an environment that has nothing but those of the image."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        (own,) = Path(folder).glob("lib/python*/site-packages")
        (own / "image.pth").write_text(f"{site}\n")
        bill = Path(folder, "packages.json")
        command = [
            "cyclonedx-py",
            "environment",
            "--output-reproducible",
            "--spec-version",
            "1.6",
            "--output-file",
            bill,
            folder,
        ]
        subprocess.run(command, check=True)
        told: dict[str, object] = json.loads(bill.read_text(encoding="utf-8"))
    return told


def strip(root: Path, prefix: str) -> None:
    """Take symbols that only debuggers read out of Python."""
    for folder in (root / "usr").rglob("*"):
        if folder.is_file() and not folder.is_symlink() and "python" in folder.as_posix():
            with folder.open("rb") as file:
                program = file.read(4) == b"\x7fELF"
            if program:
                subprocess.run([f"{prefix}-strip", "--strip-unneeded", folder], check=True)


def main(root: Path, packages: Path, architecture: str, prefix: str) -> None:
    """All of it."""
    strip(root, prefix)
    site = install(root, packages)
    bill = complete(describe(site), root, architecture)
    target = root / "usr/share/afterimage/sbom.cdx.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps(bill, indent=1), encoding="utf-8")

    (library,) = (path.parent for path in root.glob(f"usr/**/python{VERSION}/os.py"))
    modules = [item for item in sorted(library.iterdir()) if item.name not in ON_DISK and is_bare(item)]
    zip_modules(modules, library.parent / f"python{VERSION.replace('.', '')}.zip", root)
    bare = [item for item in sorted(site.iterdir()) if item.name not in PRODUCT and ".dist-info" not in item.name]
    zip_modules([item for item in bare if is_bare(item)], site.parent / "bare.zip", root)
    (site / "bare.pth").write_text("../bare.zip\n")
    for name in SOURCELESS:
        leave_sources_out(site / name, root)
    compile_tree(root, root)
    for path in [root, *root.rglob("*")]:
        os.utime(path, (DATE_S, DATE_S), follow_symlinks=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
