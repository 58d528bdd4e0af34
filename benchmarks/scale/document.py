"""The measured sections of docs/scale.md, of a report of `benchmarks.scale`, between markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.scale.cluster import HEADROOM
from service.bench.document import replaced
from service.capacity import words
from service.capacity.box import Box
from service.capacity.plan import Demand, Terms, plan


def update(text: str, box: Box, report: Mapping[str, Any]) -> str:
    """The document with the box, a plan, the check against reality (where there is one) and the days."""
    text = replaced(text, "box", box_section(box))
    text = replaced(text, "plan", plan_section(box))
    if report["checks"]:
        text = replaced(text, "check", check_section(report["checks"]))
    return replaced(text, "days", days_section(report))


def box_section(box: Box) -> str:
    """What frames cost on the box."""
    shares = (0.01, 0.05, 0.1, 0.2)
    head = ["model, size", "still", *(f"{share:.0%}" for share in shares), "whole", "turn of refresh",
            f"{box.workers} at once", "outside, ms", "memory of a stream"]  # fmt: skip
    rows = [
        [
            f"{row.model}, {row.size}", f"{row.still_ms:.2f}", *(f"{row.ms(share):.2f}" for share in shares),
            f"{row.keyframe_ms:.2f}", f"{row.refresh_ms:.1f}", f"{row.slowdown(box.workers):.2f}x",
            "–" if row.outside_ms is None else f"{row.outside_ms:.2f}", f"{row.memory.stream / (1 << 20):.1f} MiB",
        ]
        for row in box.models
    ]  # fmt: skip
    start = "" if box.start is None else f" A server is ready {box.start.warm_s:.1f} s after its start" + (
        "" if box.start.cold_s is None else f", {box.start.cold_s:.0f} s where it has to compile its kernels first"
    ) + "."  # fmt: skip
    busy = box.machine.get("other_programs_cores")
    beside = "" if not busy else f" Other programs kept {busy:g} cores busy meanwhile."
    said = (
        f"{box.name}, {box.date}; milliseconds of a core for a frame from JPEG to boxes, by the share of tiles that"
        " changed."
    )
    return "\n\n".join([said, table(head, rows), f"{start.strip()}{beside}".strip()])


def plan_section(box: Box) -> str:
    """What `afterimage plan --streams 500 --fps 5 --activity 0.1` says of the box's first model."""
    row = box.models[0]
    found = plan(box, row.model, row.size, Demand(500, 5.0, 0.1), Terms(HEADROOM))
    rows = [*words.stream_rows(found), *words.box_rows(found)]
    told = "\n".join(f"- {line}" for line in words.assumptions(found))
    return f"**{words.headline(found)}**\n\n{table(['', ''], [list(each) for each in rows])}\n\nassumed:\n\n{told}"


def check(report: Mapping[str, Any], box: Box) -> dict[str, Any]:
    """What the plan says of a run of `afterimage bench streams`, beside what was measured there.

    ms : of a core for a frame, CPU time of the run over its results, and by the plan. cameras : the largest count whose
    frames were in time, and the plan's: by all of the workers' time, by admission, at most.
    """
    seen, fps = report["activity"], report["fps_asked"]
    demand = Demand(1, fps, seen["mean"], max(1.0, seen["peak"]), report["frame"], keyframe_every_s=1e9)
    found = plan(box, report["model"], report["size"], demand, Terms(HEADROOM, spare=0))
    largest = max((run for run in report["runs"] if run["fits"]), key=lambda run: run["streams"], default=None)
    chosen = largest or report["runs"][0]
    return {
        "clip": report["clip"], "fps": fps, "frame": report["frame"], "activity": seen["mean"], "peak": seen["peak"],
        "ms": chosen["cpu"] * chosen["seconds"] / chosen["results"] * 1e3, "ms_plan": found.stream.frame_ms,
        "cameras": report["streams"], "cameras_all": box.workers / found.stream.wanted,
        "cameras_admission": found.room["admission"], "cameras_full": found.full,
        "others": report["machine"]["other_programs_cores"],
    }  # fmt: skip


def check_section(checks: Sequence[Mapping[str, Any]]) -> str:
    """The plan against `afterimage bench streams`."""
    head = [
        "clip (frames)", "frames/s", "tiles changed (peak)", "ms a frame: measured", "plan", "error",
        "cameras in time: measured", "all of the workers' time, plan", "error", "plan, at most", "others' cores",
    ]  # fmt: skip
    rows = [
        [
            f"{row['clip']} ({row['frame']})", f"{row['fps']:g}", f"{row['activity']:.1%} ({row['peak']:.1f})",
            f"{row['ms']:.2f}", f"{row['ms_plan']:.2f}", f"{row['ms_plan'] / row['ms'] - 1:+.0%}",
            str(row["cameras"]), f"{row['cameras_all']:.1f}",
            "–" if not row["cameras"] else f"{row['cameras_all'] / row['cameras'] - 1:+.0%}", str(row["cameras_full"]),
            "–" if row["others"] is None else f"{row['others']:g}",
        ]
        for row in checks
    ]  # fmt: skip
    return table(head, rows)


def days_section(report: Mapping[str, Any]) -> str:
    """The days, a row for each cluster; then what incidents cost the one that was planned."""
    found = report["plan"]
    demand = found["demand"]
    said = (
        f"{demand['streams']:,} cameras at {demand['fps']:g} frames a second, {demand['activity']:.1%} of the tiles"
        f" changing at the busiest moment (peak {demand['peak']:.2f}), on {found['box']}: the plan says"
        f" {found['boxes']} boxes, {found['terms']['spare']} of them spare, {found['max_streams']} streams on each at"
        f" most ({found['binds']} binds), {found['full_utilisation']:.0%} of a full box's workers on average. Seed"
        f" {report['seed']}; {report['seconds']:.0f} s for all days."
    )
    head = ["cluster", "boxes", "load at the busiest minute: median box", "p99", "frames lost, no time", "worst minute",
            "unserved, no box", "refusals", "box time beyond its workers", "most streams on a box",
            "moves (those needed)"]  # fmt: skip
    rows = [
        [
            row["title"], str(row["boxes"]), f"{row['used_p50']:.0%}", f"{row['used_p99']:.0%}", _share(row["lost"]),
            _share(row["lost_worst_minute"]), _share(row["unserved"]), f"{row['refused']:,}", _share(row["over"]),
            str(row["most_streams"]), f"{row['moves']:,} ({row['ideal_moves']:,})",
        ]
        for row in report["days"]
    ]  # fmt: skip
    main = next(row for row in report["days"] if row["main"])
    again = [
        [what, str(each["count"]), f"{each['streams']:,}", _seconds(each["median_s"]), _seconds(each["most_s"])]
        for what, each in main["recovery"].items()
    ]
    return "\n\n".join(
        [
            said, table(head, rows),
            f"*{main['title']}*: until all streams of boxes that went were served at their rate again, detection"
            " included:",
            table(["what", "times", "streams", "median", "longest"], again),
        ]
    )  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _share(value: float) -> str:
    return f"{value:.4%}" if 0 < value < 1e-4 else f"{value:.2%}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
