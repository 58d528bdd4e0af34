"""Streams of real models on two CPUs: `write FILE MODEL...` on the one, `compare FILE` on the other.

Each runs an exact session of two threads over the same frames, and every output must have the bits of a full recompute
by one. The file holds the frames and the outputs; those of the two CPUs must be equal within rounding, frame by frame.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator

import numpy as np

from cache.plan import Plan
from cache.session import Session
from kernels.emit_int8 import BYTE_VARIANT
from kernels.target import VARIANT
from service.catalogue import find_model
from service.evaluate import Outputs, relative_error
from service.opened import open_model
from service.scene import Scene

SIZE = (160, 96)
FIRST, FRAMES = 350, 6
LIMIT = 2e-5


def frames() -> np.ndarray:
    """uint8[n, H, W, 3] of the built-in scene: part of the picture goes on, the rest of it stands still.

    The third is the second again, the last a cut.
    """
    scene = Scene(0, SIZE)
    shown = np.stack([scene.frame(FIRST)] * FRAMES)
    for i in (1, 3, 4):
        shown[i, 30:60, 20 * i : 20 * i + 40] = scene.frame(FIRST + 5 * i)[30:60, 20 * i : 20 * i + 40]
    shown[2], shown[-1] = shown[1], scene.frame(FIRST + 100)
    return shown


def exact(model: str, shown: np.ndarray) -> Iterator[Outputs]:
    """The outputs of every frame, of an exact session; raises AssertionError where a full recompute has other bits."""
    opened = open_model(find_model(model), (shown.shape[2], shown.shape[1]))
    shape = (1, opened.spec.channels, *shown.shape[1:3])
    # Not tuned: both CPUs shall take the same methods.
    plan = Plan.compile(opened.model, shape, opened.outputs, opened.spec.normalisation(), opened.policy)
    session, dense = Session(plan, exact=True, threads=2), Session(plan, exact=True)
    decisions = []
    for index, frame in enumerate(shown):
        found = session.push(frame)
        dense.reset()
        full = dense.push(frame).outputs
        assert found.outputs.keys() == full.keys()
        for name, values in full.items():
            assert np.isfinite(values).all(), name
            assert found.outputs[name].tobytes() == values.tobytes(), name
        decisions.append(found.decision)
        print(f"{model}, frame {index}: {found.decision}, {found.compute_fraction:.3f} of the work, bits of all of it")
        yield {name: values.copy() for name, values in full.items()}
    assert set(decisions) == {"keyframe", "reuse", "partial"}, decisions


def write(file: str, models: list[str]) -> None:
    """Run the models and keep what they gave."""
    shown = frames()
    arrays: dict[str, np.ndarray] = {"frames": shown, "models": np.array(models)}
    for place, model in enumerate(models):
        for index, outputs in enumerate(exact(model, shown)):
            arrays |= {f"{place} {index} {name}": values for name, values in outputs.items()}
    np.savez(file, **arrays)  # type: ignore[arg-type]


def compare(file: str) -> None:
    """Run the models of a file; raises AssertionError where an output is further away than rounding takes it."""
    with np.load(file) as kept:
        shown = kept["frames"]
        for place, model in enumerate(kept["models"].tolist()):
            worst = 0.0
            for index, outputs in enumerate(exact(model, shown)):
                worst = max(worst, relative_error(outputs, {name: kept[f"{place} {index} {name}"] for name in outputs}))
            print(f"{model}: largest difference {worst:.1e} of an output's largest magnitude")
            assert worst <= LIMIT, model


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["write", "compare"])
    parser.add_argument("file")
    parser.add_argument("models", nargs="*")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, kernels for {VARIANT}, products of bytes by {BYTE_VARIANT}")
    if arguments.action == "write":
        write(arguments.file, arguments.models)
    else:
        compare(arguments.file)


if __name__ == "__main__":
    main()
