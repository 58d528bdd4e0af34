"""Takes out of a folder of packages what no server reads: tests, headers, symbols, and encoders that PyAV brings along.

    trim.py FOLDER PREFIX

PREFIX is that of the target's binary tools, such as aarch64-linux-gnu. Says how much it took.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDERS = (
    "bin", "**/tests", "numba/cuda", "numba/pycc", "numpy/f2py", "numpy/distutils", "numpy/_pyinstaller",
    "numpy/random/_examples",
    "onnx/backend", "onnx/reference", "onnxruntime/tools", "onnxruntime/transformers", "onnxruntime/quantization",
    "onnxruntime/datasets", "onnxruntime/backend", "cv2/typing", "cv2/data", "urllib3/contrib/emscripten",
)  # fmt: skip
FILES = (
    "**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.pxi", "**/*.h", "**/*.hpp", "**/*.c", "**/*.cc", "**/*.cpp", "**/*.a",
    "**/*.proto", "markdown_it/port.yaml", "pycparser/_c_ast.cfg", "*.dist-info/RECORD", "*.dist-info/direct_url.json",
    "numpy/_core/_simd.*.so", "numpy/_core/_*tests.*.so",
    "numba/np/ufunc/tbbpool.*.so",  # threads of TBB, which is not there
    "onnxruntime/capi/libonnxruntime.so.*",  # for C programs; the Python module has all of it in itself
)  # fmt: skip
LOAD = 1
"""Segments that are mapped, in ELF files."""
LEXERS = {"__init__.py", "_mapping.py", "python.py", "special.py"}
STUBS = {"libx265": "0", "libSvtAv1Enc": "0x80001000L", "libvpx": "0", "libmp3lame": "0", "libavfilter": "0"}
"""Encoders and filters of PyAV's FFmpeg, which nothing here uses, and what all their functions answer in their place:
that there is no such thing. FFmpeg's own decoders of VP8 and VP9 come before libvpx."""
TEXTS = ("_configuration", "_license")
EMPTY = '(long)""'
"""Functions whose names end so give a text, and give an empty one."""


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def remove(folder: Path) -> None:
    """Take out what is never read."""
    for pattern in FOLDERS:
        for path in list(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
    for pattern in FILES:
        for path in list(folder.glob(pattern)):
            path.unlink()
    for path in (folder / "pygments/lexers").glob("*.py"):
        if path.name not in LEXERS:
            path.unlink()


def stub(library: Path, answer: str, users: list[Path], prefix: str) -> None:
    """Put a library in the place of another whose functions all give one answer. Raises ValueError if none is used."""
    wanted: set[str] = set()
    for user in users:
        wanted |= symbols(user, "--undefined-only", prefix).keys()
    offered = {name: version for name, version in symbols(library, "--defined-only", prefix).items() if name in wanted}
    if not offered:
        raise ValueError(f"{library}: expected that something uses it")
    source = "".join(
        f"long {name}(void) {{ return {EMPTY if name.endswith(TEXTS) else answer}; }}\n" for name in sorted(offered)
    )
    versions = {version for version in offered.values() if version}
    script = "".join(
        f"{version} {{ global: {' '.join(f'{name};' for name in sorted(offered) if offered[name] == version)} }};\n"
        for version in sorted(versions)
    )
    with tempfile.NamedTemporaryFile("w", suffix=".map") as file:
        file.write(script)
        file.flush()
        command = [f"{prefix}-gcc", "-shared", "-fPIC", "-s", "-nostdlib", f"-Wl,-soname,{library.name}", "-xc", "-"]
        command += [f"-Wl,--version-script,{file.name}"] if versions else []
        library.unlink()
        subprocess.run([*command, "-o", library], input=source.encode(), check=True)


def symbols(library: Path, which: str, prefix: str) -> dict[str, str]:
    """Names in its dynamic symbol table, with their versions; "" for those without."""
    listed = subprocess.run([f"{prefix}-nm", "-D", "-j", which, library], check=True, capture_output=True, text=True)
    return {name: version.lstrip("@") for name, _, version in (line.partition("@") for line in listed.stdout.split())}


def strip(folder: Path, prefix: str) -> None:
    """Take symbols that only debuggers read out of all libraries.

    Those that were edited after they were linked, to find others, may not outlive it: they are left as they are.
    """
    libraries = [path for path in folder.rglob("*.so*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    for library in libraries:
        stripped = library.with_name(f"{library.name}.stripped")
        subprocess.run([f"{prefix}-strip", "--strip-unneeded", "-o", stripped, library], check=True)
        if is_loadable(stripped.read_bytes()):
            stripped.replace(library)
        else:
            stripped.unlink()


def is_loadable(elf: bytes) -> bool:
    """Whether the segments of a 64-bit ELF file lie where they can be mapped."""
    (start,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for at in range(start, start + size * count, size):
        kind, _, offset, address, _, _, _, align = struct.unpack_from("<IIQQQQQQ", elf, at)
        if kind == LOAD and align > 1 and (address - offset) % align:
            return False
    return True


def main(folder: Path, prefix: str) -> None:
    """All of it."""
    before = size_of(folder)
    remove(folder)
    for name, answer in STUBS.items():
        for library in folder.glob(f"av.libs/{name}-*"):
            users = [*library.parent.iterdir(), *folder.glob("av/**/*.so")]
            stub(library, answer, [path for path in users if path != library], prefix)
    strip(folder, prefix)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not os.listdir(path):
            path.rmdir()
    print(f"{before / 1e6:.0f} MB before, {size_of(folder) / 1e6:.0f} MB after")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
