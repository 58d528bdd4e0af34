"""Models made smaller, with and without correction: `python -m benchmarks.compression`; rewrites the table in the docs.

    python -m benchmarks.compression --models ../shared/data/models --clips ../shared/data/videos
    python -m benchmarks.compression --quick    # few frames of one model, to see that it runs; the docs stay

Work halved by each method where it can be, and the most work saved at an output error below 5%. With `--keep FOLDER`
what was made is taken again: half an hour without times (`--timed 0`), then minutes on a quiet machine. The text
detector sees lines of text drawn on the clip, since without text its output is zero everywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from service.bench.machine import machine
from service.bench.synthetic import is_synthetic, open_synthetic
from service.catalogue import find_model
from service.compression.compress import compress
from service.compression.errors import CompressionError
from service.compression.timing import opened_as, time_both
from service.opened import open_model
from service.sources import open_source

Image = NDArray[np.uint8]

TARGETS = ("energy", "macs", "budget")
BEGIN, END = "<!-- compression:begin -->", "<!-- compression:end -->"
PAGE = Path("docs/techniques/decomposition.md")
Run: TypeAlias = tuple[str, bool, dict[str, float | str]]
"""Method, whether corrected, target."""
HALF: dict[str, float | str] = {"macs": 0.5}
RUNS: tuple[Run, ...] = (
    ("tucker2", True, {"budget": 0.05}), ("tucker2", True, HALF), ("tucker2", False, HALF), ("svd", True, HALF),
    ("cp", True, HALF),
)  # fmt: skip
RANKS: tuple[Run, ...] = (("tucker2", True, {"energy": 0.9}), ("tucker2", True, {"energy": "vbmf"}))


@dataclass(frozen=True)
class Case:
    """A model on a clip. every : frames of the sample lie so far apart. written : whether text is drawn on them."""

    model: str
    clip: str
    start: int
    every: int
    size: tuple[int, int] | None = None
    written: bool = False
    runs: tuple[Run, ...] = RUNS


WALK, JUGGLE = "intel_one-by-one-person-detection.mp4", "sam2_05_default_juggle.mp4"
CASES = (
    Case("people", WALK, 200, 10, runs=RUNS + RANKS),
    Case("people", JUGGLE, 0, 8),
    Case("yolox_nano", WALK, 200, 10, runs=(*RUNS, ("tucker2", True, {"macs": 0.8}))),
    Case("ppocrv3_det", "carnd_solidWhiteRight.mp4", 0, 8, (480, 288), True),
    Case("ultraface_version-RFB-640", "sam2_bedroom.mp4", 0, 6),
    Case("nanodet_m_320", "ahm_vehicle_survaillance.mp4", 0, 8),
    Case("FastestDet", "ahm_vehicle_survaillance.mp4", 0, 8),
    Case("synthetic:vgg16", JUGGLE, 0, 8, (224, 224)),
    Case("synthetic:vgg16-whole", JUGGLE, 0, 8, (96, 96), runs=(("svd", True, {"energy": 0.8}),)),
)


@dataclass(frozen=True)
class Options:
    """Folders, and how many frames. keep : where what is made is put and looked for; None: nowhere."""

    models: Path
    clips: Path
    samples: int
    timed: int
    keep: Path | None = None


def drawn(frame: Image, number: int) -> Image:
    """A frame with lines of text."""
    found, rng = frame.copy(), np.random.default_rng(number)
    for line, words in enumerate(("Platform 9", "EXIT 24 North", "Open daily 8-20", "No parking")):
        place = int(rng.integers(10, 200)), 60 + 110 * line
        cv2.putText(found, words, place, cv2.FONT_HERSHEY_SIMPLEX, 1.6, (255, 255, 255), 3, cv2.LINE_AA)
    return found


def frames_of(case: Case, clips: Path, count: int, every: int) -> list[Image]:
    """So many frames of a case's clip."""
    with open_source(clips / case.clip, start=case.start, frames=count, every=every) as source:
        found = [frame.image for frame in source]
    return [drawn(frame, number) for number, frame in enumerate(found)] if case.written else found


def measured(case: Case, options: Options) -> list[dict[str, Any]]:
    """A row of figures for each run; where a target cannot be reached the reason."""
    given = options.models / f"{case.model}.onnx"
    source: str | Path = given if given.is_file() else case.model
    synthetic = is_synthetic(case.model)
    path = source if synthetic else find_model(str(source))
    opened = open_synthetic(case.model, case.size) if synthetic else open_model(path, case.size, profile="")
    spread = frames_of(case, options.clips, options.samples, case.every)
    row = frames_of(case, options.clips, options.timed, 1) if options.timed else []
    rows: list[dict[str, Any]] = []
    for method, correct, target in case.runs:
        about = {"model": case.model, "clip": case.clip, "method": method, "correct": correct, **target}
        print(json.dumps(about), file=sys.stderr, flush=True)
        name = "-".join(f"{key} {value}" for key, value in about.items()).replace(":", "-")
        kept = None if options.keep is None else (options.keep / f"{name}.json", options.keep / f"{name}.onnx")
        try:
            if kept is not None and kept[0].is_file():
                report, data = json.loads(kept[0].read_text()), kept[1].read_bytes()
            else:
                made = compress(path, spread, method=method, correct=correct, size=case.size, **target)  # type: ignore[arg-type]
                report, data = made.report.as_json(), made.data
                if kept is not None:
                    kept[1].write_bytes(data)
                    kept[0].write_text(json.dumps(report))
        except CompressionError as error:
            rows.append({**about, "reason": str(error)})
            continue
        times = time_both(opened, opened_as(opened, data), row)
        rows.append({**about, "report": report, "times": None if times is None else times.as_json()})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| model at size, clip | frames | method, target | corrected | work left | file | output error | agreement "
        "| dense, ms | cached, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target = next(f"{key} {row[key]}" for key in TARGETS if key in row)
        asked = f"{row['method']}, {target} | {'yes' if row['correct'] else 'no'} |"
        clip = Path(row["clip"]).stem
        if "reason" in row:
            lines.append(f"| {row['model']}, {clip} | - | {asked} {row['reason']} | | | | | |")
            continue
        report, times = row["report"], row["times"]
        size = "x".join(map(str, report["size"]))
        head = f"| {row['model']} at {size}, {clip} | {report['frames'][0]} + {report['frames'][1]} | {asked}"
        agreed = report["agreement"]
        shown = "-" if agreed is None else ", ".join(f"{key} {value:.3f}" for key, value in agreed.items())
        file = report["bytes_after"] / report["bytes_before"]
        pairs = ("-", "-") if times is None else tuple(
            f"{times[f'{kind}_before_ms']:.2f} to {times[f'{kind}_after_ms']:.2f}" for kind in ("dense", "cached")
        )  # fmt: skip
        lines.append(
            f"{head} {report['macs_share']:.1%} | {file:.1%} | {report['output_error']:.2%} | {shown} | {pairs[0]} | "
            f"{pairs[1]} |"
        )
    return "\n".join(lines)


def rewritten(page: str, found: str) -> str:
    """The page with what lies between its markers replaced. Raises ValueError for a page without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected a page with {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{found}\n{END}{after}"


def main() -> None:
    """Measure, print JSON, and rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("../shared/data/models"))
    parser.add_argument("--clips", type=Path, default=Path("../shared/data/videos"))
    parser.add_argument("--samples", type=int, default=16, help="frames that are looked at, every second one fitted to")
    parser.add_argument("--timed", type=int, default=60, help="frames in a row that are timed; 0: none")
    parser.add_argument("--keep", type=Path, help="a folder for models that were made, which are then taken again")
    parser.add_argument("--only", help="of the cases those whose model has this in its name")
    parser.add_argument("--quick", action="store_true", help="the first case, few frames, not timed, page left alone")
    parser.add_argument("--doc", type=Path, default=PAGE)
    given = parser.parse_args()
    options = Options(given.models, given.clips, given.samples, given.timed, given.keep)
    cases = [case for case in CASES if not given.only or given.only in case.model]
    if given.quick:
        cases, options = [replace(cases[0], runs=RUNS[1:3])], replace(options, samples=6, timed=0)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for case in cases:  # the page is written after each, as they take minutes
        rows += measured(case, options)
        found = f"{table(rows)}\n\nFrames: fitted to + held back. On {machine()['cpu']}."
        if given.quick:
            print(found, file=sys.stderr)
        else:
            given.doc.write_text(rewritten(given.doc.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(json.dumps({"rows": rows, "machine": machine()}))


if __name__ == "__main__":
    main()
