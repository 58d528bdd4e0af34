"""Simulate a day, draw it, and keep docs/scale.md: `python -m benchmarks.scale BOX` (`make scale` measures before).

Six clusters: as many boxes as the plan says, a tenth fewer and a tenth more, each box bounded as the plan says; and as
many, a tenth and a fifth fewer with nothing but admission as a bound. Eleven minutes on two cores.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.scale import document, plot
from benchmarks.scale.cluster import Scenario, summary
from service.capacity.box import Box, read_box


def main(
    box: Annotated[Path, typer.Argument(help="File of `afterimage bench box`.")],
    model: Annotated[str, typer.Option()] = "people",
    size: Annotated[str | None, typer.Option()] = "640x384",
    streams: Annotated[int, typer.Option(min=10)] = 10_000,
    boxes: Annotated[int, typer.Option(min=3)] = 500,
    spare: Annotated[int, typer.Option(min=0)] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    check: Annotated[list[Path] | None, typer.Option(help="Files of `afterimage bench streams --json`.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    svg: Annotated[Path | None, typer.Option(help="Where to draw.")] = None,
    doc: Annotated[Path | None, typer.Option(help="A Markdown file with markers.")] = None,
) -> None:
    """Plan for so many streams that they fill so many boxes, then live through the day."""
    measured = read_box(box)
    scenario = Scenario.of(measured, model, size, streams=streams, boxes=boxes, spare=spare, seed=seed)
    report = simulate(measured, scenario)
    report["checks"] = [document.check(json.loads(path.read_text(encoding="utf-8")), measured) for path in check or ()]
    if json_file is not None:
        json_file.write_text(json.dumps(report) + "\n", encoding="utf-8")
    if svg is not None:
        plot.draw(report, svg)
    if doc is not None:
        doc.write_text(document.update(doc.read_text(encoding="utf-8"), measured, report), encoding="utf-8")
    print(document.days_section(report))


def simulate(box: Box, scenario: Scenario) -> dict[str, Any]:
    """All days of a scenario; {"plan", "days", "seed", "seconds"}, ready for JSON."""
    begun, count = time.monotonic(), scenario.found.boxes
    clusters = [
        ("as planned", count, True),
        ("a tenth fewer boxes", round(count * 0.9), True),
        ("a tenth more boxes", round(count * 1.1), True),
        ("as planned, admission alone", count, False),
        ("a tenth fewer, admission alone", round(count * 0.9), False),
        ("a fifth fewer, admission alone", round(count * 0.8), False),
    ]
    days = []
    for title, boxes, bounded in clusters:
        print(title, file=sys.stderr, flush=True)
        day = scenario.day(boxes, bounded=bounded).run()
        days.append(summary(day, boxes, title) | {"main": title == "as planned"} | day.as_dict())
    return {
        "box": box.name, "plan": scenario.found.as_dict(), "seed": scenario.seed, "days": days,
        "busiest_hour": scenario.cameras.busiest_s() / 3600, "seconds": time.monotonic() - begun,
    }  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
