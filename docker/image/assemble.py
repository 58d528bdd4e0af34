"""Puts together the root of the image: Python with its standard library, shared libraries, certificates, users.

    assemble.py ROOT PACKAGES

Runs on the target's architecture, in the image that Python comes from. ROOT is made; PACKAGES are read, for the
libraries that they need. Each file of Debian's is accounted for: `var/lib/dpkg/status.d`, `usr/share/doc/*/copyright`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

HOME = "data"
OWNER = 10001
LEFT_OUT = (
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "_test*.so", "_ctypes_test*.so", "_xxtestfuzz*",
    "xxlimited*",
    "idlelib", "tkinter", "_tkinter*.so", "turtledemo", "turtle.py", "ensurepip", "lib2to3", "distutils", "pydoc_data",
    "config-*", "curses", "_curses*.so", "readline*.so", "dbm", "_dbm*.so", "_gdbm*.so", "sqlite3", "_sqlite3*.so",
    "nis*.so", "ossaudiodev*.so",
)  # fmt: skip
"""Parts of the standard library that no server reads: tests, windows, terminals, data bases."""
LOADED = ("libgomp.so.1", "libgcc_s.so.1")
"""Libraries that are opened by name: numba's threads need the first."""
PASSWD = f"root:x:0:0:root:/root:/sbin/nologin\nafterimage:x:{OWNER}:{OWNER}:Afterimage:/{HOME}:/sbin/nologin\n"
GROUP = f"root:x:0:\nafterimage:x:{OWNER}:\n"
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"


def copy_python(root: Path) -> None:
    """The interpreter and its standard library, where they are; an environment in opt/afterimage."""
    program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    copy(program, root)
    shutil.copytree(library, root / library.relative_to("/"), ignore=shutil.ignore_patterns(*LEFT_OUT))
    environment = root / "opt/afterimage"
    (environment / "bin").mkdir(parents=True)
    for name in ("python", "python3"):
        (environment / "bin" / name).symlink_to(program)
    version = ".".join(map(str, sys.version_info[:3]))
    (environment / "pyvenv.cfg").write_text(
        f"home = {program.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    )
    script = environment / "bin/afterimage"
    script.write_text("#!/opt/afterimage/bin/python\nfrom service.cli import main\n\nmain()\n")
    script.chmod(0o755)


def copy(path: Path, root: Path) -> None:
    """A file or a link at the same place below `root`; what a link leads to as well."""
    target = root / path.parent.resolve().relative_to("/") / path.name
    if target.exists() or target.is_symlink():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target, follow_symlinks=False)
    if path.is_symlink():
        copy(path.parent / path.readlink(), root)


def needed(binaries: Iterable[Path]) -> set[Path]:
    """Shared libraries that programs and libraries load, and what those load. Raises ValueError if one is missing."""
    found = set[Path]()
    for binary in binaries:
        said = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False)
        if said.returncode and "not a dynamic executable" not in said.stderr:
            raise ValueError(f"{binary}: cannot be loaded: {said.stdout}{said.stderr}")
        for line in said.stdout.splitlines():
            name, arrow, rest = line.strip().partition(" => ")
            where = (rest if arrow else name).rsplit(" (", 1)[0]
            if where == "not found":
                raise ValueError(f"{binary}: needs {name}, which is not there")
            if where.startswith("/"):
                found.add(Path(where))
    return found


def binaries(*folders: Path) -> list[Path]:
    """Files that are programs or libraries."""
    found = []
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    found.append(path)
    return found


def copy_libraries(root: Path, packages: Path) -> None:
    """All that is loaded by anything in the image, out of Debian's folders and Python's."""
    cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    known: dict[str, str] = {}
    for line in cache.splitlines():
        name, arrow, where = line.strip().partition(" => ")
        if arrow:
            known.setdefault(name.split(" (")[0], where)
    wanted = {Path(known[name]) for name in LOADED}
    wanted |= needed([*binaries(root, packages), *wanted])
    for path in sorted(wanted):
        if not path.is_relative_to(packages):
            copy(path, root)
    (root / "etc/ld.so.conf").write_text("/usr/local/lib\n")
    subprocess.run(["ldconfig", "-r", root], check=True)


def copy_system(root: Path) -> None:
    """What the C library and TLS look for, and the folders that a container expects."""
    for name in ("lib", "lib64"):  # where programs say that their loader is
        if Path("/", name).is_symlink():
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")
    for name in ("etc/ssl/certs/ca-certificates.crt", "etc/os-release", "etc/services", "etc/protocols"):
        source = Path("/", name)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, root / name)
    for name, text in (("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", NSSWITCH)):
        (root / "etc" / name).write_text(text)
    for name in ("dev", "proc", "sys", "run", "tmp", "root"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / HOME).mkdir(mode=0o700)
    os.chown(root / HOME, OWNER, OWNER)


def account(root: Path) -> None:
    """What each package that a file came from is, as scanners of images read it, and its licence."""
    files = [f"/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    files = [
        name for path in files for name in (path, path.removeprefix("/usr"))
    ]  # as it was packed before /usr was merged
    owners = subprocess.run(["dpkg", "-S", *files], capture_output=True, text=True, check=False).stdout
    packages = {line.rpartition(": ")[0].split(",")[0].strip() for line in owners.splitlines() if ": /" in line}
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True)
    for package in sorted(packages):
        name = package.partition(":")[0]
        told = subprocess.run(["dpkg", "-s", package], capture_output=True, text=True, check=True)
        (folder / name).write_text(told.stdout)
        copyright_file = Path("/usr/share/doc", name, "copyright")
        if copyright_file.exists():
            target = root / copyright_file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(copyright_file, target)


def main(root: Path, packages: Path) -> None:
    """All of it."""
    root.mkdir()
    copy_system(root)
    copy_python(root)
    copy_libraries(root, packages)
    account(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
