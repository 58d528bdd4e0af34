"""Keeps the measured sections of a Markdown document: `python -m service.bench.document DOCUMENT REPORT...`.

What stands between <!-- bench:KIND --> and <!-- /bench:KIND --> is replaced with tables of the reports of that kind,
JSON files that `afterimage bench` wrote. The rest of the document is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from service.bench.report import NAMES, threads_said

KINDS = ("dense", "video", "techniques")
MIB = 1 << 20


class DocumentError(ValueError):
    """A document has not exactly one pair of markers of a kind; the message says what is wrong."""


def replaced(text: str, kind: str, body: str) -> str:
    """The document with `body` between the markers of `kind`. Raises DocumentError."""
    begin, end = f"<!-- bench:{kind} -->", f"<!-- /bench:{kind} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise DocumentError(f"expected {begin} and {end} once each, got {text.count(begin)} and {text.count(end)}")
    before, _, rest = text.partition(begin)
    if end not in rest:
        raise DocumentError(f"expected {begin} before {end}, got it after")
    return f"{before}{begin}\n\n{body.strip()}\n\n{end}{rest.partition(end)[2]}"


def update(text: str, reports: Sequence[Mapping[str, Any]]) -> str:
    """The document with a section for each kind that there are reports of; other kinds are left alone."""
    sections = {"dense": dense_section, "video": video_section, "techniques": techniques_section}
    for kind in KINDS:
        found = [report for report in reports if report["kind"] == kind]
        if found:
            text = replaced(text, kind, sections[kind](found))
    return text


def dense_section(reports: Sequence[Mapping[str, Any]]) -> str:
    """A table of whole frames, a row for each model and report, and each report's mean."""
    others = list(dict.fromkeys(name for report in reports for name in report["against"]))
    names = [NAMES.get(name, name) for name in others]
    rows = [
        [
            row["model"], row["size"], _number(row["gmacs"], 2), str(row["threads"]), _number(row["ours_ms"], 2),
            *(_number(row.get(f"{name}_ms"), 2) for name in others), _number(row["ratio_best"], 2),
            _number(row["ratio_best_tensor"], 2),
        ]
        for report in reports
        for row in report["models"]
    ]  # fmt: skip
    head = ["model", "size", "GMAC", "threads", "ours, ms", *(f"{n}, ms" for n in names), "ratio", "from tensor"]
    means = ", ".join(
        f"{_number(report['geometric_mean'], 2)} with {threads_said(report['threads'])}, {report['precision']}"
        for report in reports
    )
    missing = [
        f"{NAMES.get(name, name)} on {row['model']}: {row[f'{name}_reason']}."
        for report in reports
        for row in report["models"]
        for name in report["against"]
        if row[f"{name}_reason"]
    ]
    return "\n\n".join(
        [
            "## Whole frames, against other engines",
            "A frame computed in full, from uint8 pixels to output tensors. Ratio: the faster other engine's time over "
            "ours. How: `docs/benchmarks.md`.",
            _where(reports[0]), markdown_table(head, rows), f"Geometric mean of the ratio: {means}.",
            *dict.fromkeys(missing),
        ]
    )  # fmt: skip


def video_section(reports: Sequence[Mapping[str, Any]]) -> str:
    """A table of clips, a row for each report."""
    rows = []
    for report in reports:
        efficiency = report["conversion_efficiency"]
        ms, best = report["ms"], report["best"]
        rows.append(
            [
                f"{report['model']}, {report['size']}",
                f"{report['clip']} {report['start']}+{report['frames']}/{report['every']}",
                str(report["threads"]), _percent(report["compute_fraction"]["mean"]), boxes_said(report["agreement"]),
                _number(ms["ours_budget"]["frame"]["mean"], 2),
                "–" if best is None else f"{_number(ms[best]['frame']['mean'], 2)} ({NAMES.get(best, best)})",
                _number(report["ratio"], 2), _number(report["ratio_jpeg"], 2), _number(report["ratio_exact"], 2),
                _percent(efficiency["all"]["efficiency"]), "yes" if report["bit_identical"] else "no",
            ]
        )  # fmt: skip
    head = [
        "model", "clip", "threads", "work left", "agreement .5 / .75", "ours, ms", "best other, ms", "ratio",
        "from JPEG", "exact", "conversion", "exact bit for bit",
    ]  # fmt: skip
    said = (
        "Decoded frame to boxes, mean over the frames after the first. Ratio: the fastest other engine's time over "
        "ours; conversion: how much of the saved work becomes saved time. How: `docs/benchmarks.md`."
    )
    return "\n\n".join(["## Clips, against other engines", said, _where(reports[0]), markdown_table(head, rows)])


def techniques_section(reports: Sequence[Mapping[str, Any]]) -> str:
    """A table for each model and number of threads, a row for each technique."""
    head = [
        "technique", "p50, ms", "p99, ms", "fps", "times as fast", "work", "model + stream + workspace, MiB",
        "energy, mJ", "agreement .5 / .75", "error",
    ]  # fmt: skip
    parts: list[str] = []
    models = [model for report in reports for model in report["models"]]
    for model in models:
        title = f"### {model['model']}, {model['size']}, {threads_said(model['threads'])}"
        every = "" if model["every"] == 1 else f", one in {model['every']}"
        said = f"{model['frames']} frames of `{model['clip']}` from {model['start']} on{every}; {model['precision']}."
        if model["samples_apart"] is not None:
            seen = "other frames of the clip" if model["samples_apart"] else "frames that are measured"
            said += f" Decomposed after {seen}."
        over = {"all together": model["all_over_caching"], "without float16": model["float32_over_caching"]}
        ratios = [f"{what} {_number(ratio, 2)}" for what, ratio in over.items() if ratio is not None]
        if ratios:
            said += f" Times as fast as caching alone: {', '.join(ratios)}."
        notes = [
            f"{row['label']}: {row['reason'] or row['note']}." for row in model["rows"] if row["reason"] or row["note"]
        ]
        parts += [
            title,
            said,
            markdown_table(head, [_technique(row) for row in model["rows"] if row["reason"] is None]),
        ]
        parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    machine = models[0]["machine"]
    energies = dict.fromkeys(model["energy"] for model in models)
    return "\n\n".join(
        [f"Machine: {machine['cpu']}, {machine['cores']} cores.", *parts, f"Energy {'; '.join(energies)}."]
    )


def _technique(row: Mapping[str, Any]) -> list[str]:
    memory = [_number(row[f"{part}_bytes"] / MIB, 1) for part in ("model", "stream", "workspace")]
    return [
        row["label"], _number(row["p50_ms"], 2), _number(row["p99_ms"], 2), _number(row["fps"], 1),
        _number(row["speed"], 2), _percent(row["work"]), " + ".join(memory), millijoules(row),
        boxes_said(row["agreement"]), f"{row['error_mean']:.1e}",
    ]  # fmt: skip


def millijoules(row: Mapping[str, Any]) -> str:
    """Of a frame; an estimate is marked by a tilde."""
    if row["joules"] is None:
        return "–"
    return f"{'~' if row['energy'] == 'estimated' else ''}{1e3 * row['joules']:.3g}"


def main(
    document: Annotated[Path, typer.Argument(help="Markdown file with markers.")],
    reports: Annotated[list[Path], typer.Argument(help="JSON files of `afterimage bench`.")],
) -> None:
    """Write the reports' tables into the document."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in reports]
    document.write_text(update(document.read_text(encoding="utf-8"), found), encoding="utf-8")


def _where(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    versions = [f"{NAMES[name]} {machine['versions'][name]}" for name in report["against"] if machine["versions"][name]]
    return f"Machine: {machine['cpu']}, {machine['cores']} cores; {', '.join(versions) or 'no other engine'}."


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a document, a line for each row; bars in cells are kept from being borders."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def boxes_said(figures: Mapping[str, float] | None) -> str:
    """Agreement of boxes at both overlaps."""
    return "no boxes" if figures is None else f"{figures['iou50']:.3f} / {figures['iou75']:.3f}"


if __name__ == "__main__":
    typer.run(main)
