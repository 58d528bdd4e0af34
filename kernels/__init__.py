"""CNN kernels for CPUs: arrays and ints in, arrays out; NumPy and numba only.

Importing this package points numba's on-disk cache at a folder named after the kernels' sources and this CPU.
`AFTERIMAGE_CACHE_DIR` moves it (default: `afterimage` in the user's cache folder).
"""

from __future__ import annotations

import os
from pathlib import Path

import numba

from kernels.target import source_key


def cache_folder() -> Path:
    """Folder for compiled kernels; honours `AFTERIMAGE_CACHE_DIR`, then `XDG_CACHE_HOME`."""
    root = os.environ.get("AFTERIMAGE_CACHE_DIR")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "afterimage"


numba.config.CACHE_DIR = str(cache_folder() / "kernels" / source_key())
