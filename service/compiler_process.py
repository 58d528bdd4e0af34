"""`python -m service.compiler_process ORDER`: compile what one model's frames need, within a bound on memory.

Run by `service.compiling`. Ends with `GO_ON` where it has taken what it may: what it has made lies on disk; with
`NO_MEMORY` where there is none for the model. Ends when its standard input does, so that none is left behind by a
server that was killed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.core import event

import kernels


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1 << 10):
        """Nobody writes there."""
    os._exit(1)


if __name__ == "__main__":  # before any kernel is made: they ask once where they are kept
    ORDER: dict[str, Any] = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    kernels.FOLDER = Path(ORDER["folder"])
    numba.config.CACHE_DIR = ORDER["folder"]

from service.compiling import COMPILING, GO_ON, NO_MEMORY, PASS  # noqa: E402
from service.exercise import DIFFERENT, pictures  # noqa: E402
from service.malloc import bound_pools  # noqa: E402
from service.registry import Engine, Model, NoMemory, Together, load  # noqa: E402
from service.settings import ModelSource  # noqa: E402

FIRST_PASS = "translate_bytecode"
"""Of the compiler over any function: nothing of it has been made by then."""


class Bound(event.Listener):  # type: ignore[misc]  # numba has no types
    """Ends the process before a kernel is begun, once it holds more than it may."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes

    def on_start(self, event: Any) -> None:
        """A kernel is about to be compiled; all that were before are on disk."""
        begins = event.kind == COMPILING or event.data["name"].startswith(FIRST_PASS)
        if begins and held_bytes() > self._nbytes:
            os._exit(GO_ON)

    def on_end(self, event: Any) -> None:
        """Nothing to do."""


def held_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Memory of this process's own; 0 where it cannot be read. Code and files that it has mapped are left out."""
    try:
        _, resident, shared, *_ = map(int, statm.read_text().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def exercise(model: Model) -> None:
    """Run what frames of a stream may need: new, changed, noisy, brighter and moved pictures, alone and together.

    One way after the other, so that no more streams are there at once than have to be.
    """
    _alone(model)
    if model.together is not None and model.together.limit > 1:
        _together(model, model.together)
    if model.auditable:
        model.open_dense().push(next(_pictures_of(model)))


def _alone(model: Model) -> None:
    session = model.open_session()
    for number, frame in enumerate(_pictures_of(model)):
        session.push(frame, number / 10)


def _together(model: Model, together: Together) -> None:
    sessions = [model.open_session() for _ in range(2)]
    for frame in itertools.islice(_pictures_of(model), DIFFERENT):
        together.push(sessions, [frame, frame.copy()], [None, None], [None, None])


def _pictures_of(model: Model) -> Iterator[npt.NDArray[np.uint8]]:
    return pictures(*model.size, model.spec.channels)


def main(order: dict[str, Any]) -> None:
    """Load the model, and run it until nothing is left to compile."""
    with contextlib.suppress(OSError):  # where memory ends all the same, it is this process that goes
        Path("/proc/self/oom_score_adj").write_text("1000")
    bound_pools()
    bound = Bound(order["bound_bytes"])
    for kind in (COMPILING, PASS):
        event.register(kind, bound)
    try:
        model = load(order["name"], ModelSource.model_validate(order["source"]), Engine(**order["engine"]))
        model.warm()
        exercise(model)
    except NoMemory as error:
        print(str(error).removeprefix(f"{order['name']}: "), file=sys.stderr, flush=True)
        os._exit(NO_MEMORY)


if __name__ == "__main__":
    main(ORDER)
    os._exit(0)  # all is on disk; taking the process apart takes time
