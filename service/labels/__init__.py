"""Class names of well-known data sets, one text file each, a name per line in class order."""

from __future__ import annotations

from importlib import resources


def names() -> tuple[str, ...]:
    """The lists that exist, for `load`."""
    folder = resources.files(__name__)
    return tuple(sorted(f.name.removesuffix(".txt") for f in folder.iterdir() if f.name.endswith(".txt")))


def load(name: str) -> tuple[str, ...]:
    """The class names of list `name`. Raises KeyError with the lists that exist."""
    file = resources.files(__name__).joinpath(f"{name}.txt")
    if name not in names():
        raise KeyError(f"no label list {name!r}; there are {', '.join(names())}")
    return tuple(line for line in file.read_text(encoding="utf-8").splitlines() if line)
