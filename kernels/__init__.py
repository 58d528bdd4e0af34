"""CNN kernels for CPUs: arrays and ints in, arrays out; NumPy and numba only.

Importing this package points numba's on-disk cache at a folder named after the kernels' sources and this CPU.
`AFTERIMAGE_CACHE_DIR` moves it (default: `afterimage` in the user's cache folder). Where that folder cannot be written,
a temporary one is used: kernels are then compiled anew at every start.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import numba

from kernels.target import source_key


def cache_folder() -> Path:
    """Folder for compiled kernels; honours `AFTERIMAGE_CACHE_DIR`, then `XDG_CACHE_HOME`."""
    root = os.environ.get("AFTERIMAGE_CACHE_DIR")
    if root:
        return Path(root)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home directory; nothing can be made below this, see `writable`
        base = os.devnull
    return Path(base) / "afterimage"


def writable(folder: Path) -> Path:
    """The folder, made if need be; a temporary one, with a warning, where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        other = Path(tempfile.mkdtemp(prefix="afterimage-kernels-"))
        reason = f"{folder} cannot be written ({error.strerror}): kernels are compiled at every start, into {other}"
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
        return other


FOLDER = writable(cache_folder() / "kernels" / source_key())
"""Where compiled kernels lie, and what else is known of them on this CPU."""
numba.config.CACHE_DIR = str(FOLDER)
