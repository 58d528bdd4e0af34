"""A report of `afterimage bench` as one HTML page that needs nothing else: tables, plots as SVG, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from service.bench import plots
from service.bench.engines import HOW_TO_INSTALL, OWN
from service.bench.variants import BUDGET, DENSE, EXACT

TITLES = {
    "dense": "Whole frames, against other engines",
    "video": "A clip, against other engines",
    "clips": "Clips, against other engines",
    "streams": "Cameras on one machine",
    "techniques": "Techniques, one at a time and together",
}
NAMES = {
    OWN: "Afterimage", BUDGET: "Afterimage", EXACT: "Afterimage, exact", DENSE: "Afterimage, every frame in full",
    "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO",
}  # fmt: skip
_MOST_NODES = 40

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #c9ced6; --page: #ffffff; --panel: #f5f6f8;
  --series-1: #0b62c4; --series-2: #c2410c; --series-3: #15803d; --series-4: #7e22ce; --series-5: #a16207; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --faint: #4a515c; --page: #14171b; --panel: #1f242a;
  --series-1: #6cb2ff; --series-2: #ff9a62; --series-3: #67d58b; --series-4: #c99bff; --series-5: #e6c04d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--faint); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 6rem; }
figure { margin: 1rem 0; padding: .5rem; background: var(--panel); border-radius: .4rem; }
figure svg { display: block; width: 100%; height: auto; max-width: 34rem; font-family: inherit; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
figcaption { font-size: .9rem; }
"""

Cell = str | float | int | None


def page(report: Mapping[str, Any]) -> str:
    """The whole document for a report of any kind."""
    kind = report["kind"]
    ways = {"dense": _dense, "video": _video, "clips": _clips, "streams": _streams, "techniques": _techniques}
    body = ways[kind](report)
    return document(f"Afterimage: {TITLES[kind]}", f"{body}\n{_machine(report['machine'])}")


def document(title: str, body: str) -> str:
    """A page that needs nothing else. title : text. body : HTML."""
    note = "" if plots.available() else f"<p>Without plots: matplotlib is not installed; {escape(HOW_TO_INSTALL)}.</p>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"{note}\n{body}\n</body>\n</html>\n"
    )


def threads_said(count: int) -> str:
    """As in "1 thread" and "2 threads"."""
    return f"{count} thread{'' if count == 1 else 's'}"


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table that scrolls by itself where the screen is too narrow."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(_text(cell))}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>\n{lines}</tbody></table></div>'


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.3g}" if 0 < abs(cell) < 0.1 else f"{cell:.2f}"
    return str(cell)


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def _dense(report: Mapping[str, Any]) -> str:
    rows, against = report["models"], report["against"]
    names = [NAMES.get(name, name) for name in against]
    # The ratio comes early: a phone shows the first columns.
    head = ["model", "ratio", "Afterimage, ms", *(f"{n}, ms" for n in names), "ratio from tensor", "size", "GMAC"]
    cells = [
        [
            row["model"], row["ratio_best"], row["ours_ms"], *(row[f"{name}_ms"] for name in against),
            row["ratio_best_tensor"], row["size"], row["gmacs"],
        ]
        for row in rows
    ]  # fmt: skip
    mean = report["geometric_mean"]
    parts = [
        f"<p>{threads_said(report['threads'])}, {escape(report['precision'])}, medians of {report['rounds']} rounds in "
        "turn. A frame is computed in full, from uint8 pixels to output tensors. Ratio: the faster other engine's "
        f"time over ours; above 1 we are faster. Geometric mean: <strong>{_text(mean)}</strong>.</p>",
        table(head, cells),
    ]
    if plots.available() and against:
        groups = {NAMES.get(name, name): [row[f"{name}_ratio"] for row in rows] for name in against}
        svg = plots.bars([row["model"] for row in rows], groups, "times as fast as", 1.0)
        parts.append(_figure(svg, "How many times as fast as each engine; the line is 1."))
    for row in rows:
        reasons = {name: row[f"{name}_reason"] for name in (OWN, *against) if row[f"{name}_reason"]}
        parts += [f"<p>{escape(row['model'])}: {escape(NAMES[n])}: {escape(why)}</p>" for n, why in reasons.items()]
    ingest = [
        [row["model"], *(row.get(f"{name}_ingest") for name in (OWN, *against))] for row in rows
    ]  # fmt: skip
    parts.append("<h2>How pixels become numbers</h2>" + table(["model", "Afterimage", *names], ingest))
    return "\n".join([*parts, *(_nodes(row) for row in rows if "nodes" in row)])


def _nodes(row: Mapping[str, Any]) -> str:
    """The nodes that take the most time."""
    slowest = sorted(row["nodes"], key=lambda node: -node["ms"])[:_MOST_NODES]
    cells = [
        [
            node["name"], node["op"], "x".join(map(str, node["shape"])), node["ms"], _percent(node["share_of_time"]),
            node["gflops"], _percent(node["share_of_peak"]),
        ]
        for node in slowest
    ]  # fmt: skip
    head = ["node", "op", "C x H x W", "ms", "of the time", "GFLOP/s", "of the peak"]
    title = f"{escape(row['model'])}, node by node: the {len(slowest)} that take the most time"
    return f"<details><summary>{title}</summary>\n{table(head, cells)}</details>"


def _clips(report: Mapping[str, Any]) -> str:
    """Every clip's own report, one after the other."""
    return "\n".join(
        f"<h2>{escape(found['clip'])}, from frame {found['start']}</h2>\n{_video(found)}" for found in report["clips"]
    )


def _video(report: Mapping[str, Any]) -> str:
    series, ms = report["series"], report["ms"]
    fraction = report["compute_fraction"]
    facts: list[list[Cell]] = [
        ["frames", report["frames"]],
        ["work left, mean / median", f"{fraction['mean']:.1%} / {fraction['median']:.1%}"],
        ["agreement with dense, IoU .5 / .75", _pair(report["agreement"])],
        ["noise floor, IoU .5 / .75", _pair(report["noise_floor"])],
        ["exact mode bit for bit the same", "yes" if report["bit_identical"] else "no"],
        ["ratio, from a decoded frame", report["ratio"]],
        ["ratio, from JPEG", report["ratio_jpeg"]],
        ["ratio, exact mode", report["ratio_exact"]],
    ]
    for name, found in report["conversion_efficiency"].items():
        which = "all frames" if name == "all" else f"frames at up to {found['limit']:.0%} of the work"
        facts.append([f"conversion efficiency, {which} ({found['frames']})", _percent(found["efficiency"])])
    cells = [
        [
            NAMES.get(name, name),
            *(ms[name][which][field] for which in ("frame", "jpeg") for field in ("mean", "p50", "p99")),
        ]
        for name in ms
    ]
    parts = [
        f"<p>{escape(report['model'])}, {escape(report['size'])}, {threads_said(report['threads'])}; to boxes. Ratio: "
        "mean time per frame of the fastest other engine over ours; the first frame, which computes everything, is "
        "left out.</p>",
        table(["", ""], facts),
        "<h2>Time of a frame, ms</h2>",
        table(["", "mean", "p50", "p99", "JPEG, mean", "p50", "p99"], cells),
    ]
    parts += [f"<p>{escape(NAMES[n])}: {escape(why)}</p>" for n, why in report["reasons"].items() if why]
    if plots.available():
        times = {NAMES.get(name, name): one["frame_ms"] for name, one in series.items()}
        svg = plots.lines(times, "frame", "ms", logarithmic=True)
        parts.append(_figure(svg, "Decoded frame to boxes, frame by frame."))
        shares = {NAMES[name]: [100 * v for v in series[name]["compute_fraction"]] for name in (BUDGET, EXACT)}
        parts.append(_figure(plots.lines(shares, "frame", "% of the work"), "Share of the network recomputed."))
    return "\n".join(parts)


def _pair(figures: Mapping[str, float] | None) -> str | None:
    return None if figures is None else f"{figures['iou50']:.3f} / {figures['iou75']:.3f}"


def _streams(report: Mapping[str, Any]) -> str:
    limit = report["limit_ms"]
    asked = "the most that fit" if report["searched"] else "as many as asked for"
    parts = [
        f"<p>{escape(report['model'])}, {escape(report['size'])}, {report['workers']} workers. "
        f"<strong>{report['streams']} cameras</strong> at {report['fps_asked']:g} frames a second ({asked}): a count "
        f"fits while 99% of all frames have their result within {limit:g} ms of the moment they were due.</p>",
        table(
            ["cameras", "fits", "age p50, ms", "p99, ms", "dropped", "frames/s", "cores busy", "work left"],
            [
                [
                    run["streams"], "yes" if run["fits"] else "no", run["age_ms"]["p50"], run["age_ms"]["p99"],
                    f"{run['dropped']} of {run['offered']}", run["fps"], run["cpu"], _percent(run["compute_fraction"]),
                ]
                for run in report["runs"]
            ],
        ),
    ]  # fmt: skip
    if plots.available() and report["ages_ms"]:
        svg = plots.distribution(report["ages_ms"], "age of a result, ms", limit)
        parts.append(_figure(svg, f"Ages of the results; the line is {limit:g} ms."))
    return "\n".join(parts)


def _techniques(report: Mapping[str, Any]) -> str:
    """A table and a plot for each model and number of threads."""
    head = [
        "", "p50, ms", "p99, ms", "frames/s", "times as fast", "work", "model, MiB", "stream", "workspace",
        "of it columns", "mJ", "agreement, IoU .5 / .75", "error", "drift",
    ]  # fmt: skip
    parts: list[str] = []
    for model in report["models"]:
        rows = [row for row in model["rows"] if row["reason"] is None]
        cells = [
            [
                row["label"], row["p50_ms"], row["p99_ms"], row["fps"], row["speed"], _percent(row["work"]),
                *(row[f"{part}_bytes"] / (1 << 20) for part in ("model", "stream", "workspace", "matrix")),
                None if row["joules"] is None else 1e3 * row["joules"], _pair(row["agreement"]), row["error_mean"],
                row["drift"],
            ]
            for row in rows
        ]  # fmt: skip
        title = f"{model['model']}, {model['size']}, {threads_said(model['threads'])}"
        parts += [
            f"<h2>{escape(title)}</h2>",
            f"<p>{model['frames']} frames of {escape(model['clip'])}, the first of which is left out; "
            f"{escape(model['precision'])}. From a decoded frame to boxes. Times as fast: as the first row. Error: "
            "root mean square of the difference from direct convolution of the whole frame, over that of its outputs. "
            f"Energy {escape(model['energy'])}.</p>",
            table(head, cells),
        ]
        said = [(row["label"], row["reason"] or row["note"]) for row in model["rows"] if row["reason"] or row["note"]]
        parts += [f"<p>{escape(label)}: {escape(why)}</p>" for label, why in said]
        if plots.available():
            svg = plots.bars([row["key"] for row in rows], {"p50": [row["p50_ms"] for row in rows]}, "ms", None)
            parts.append(_figure(svg, "Decoded frame to boxes, median."))
            errors = {row["key"]: row["series"]["error"] for row in rows if row["key"] in ("caching", "deepmon", "all")}
            if errors:
                parts.append(_figure(plots.lines(errors, "frame", "error"), "Error of the outputs, frame by frame."))
    return "\n".join(parts)


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number or 'not installed'}" for name, number in machine["versions"].items())
    said = f"{machine['cpu']}, {machine['cores']} core(s), {machine['system']}, Python {machine['python']}"
    load = f" Load average {machine['load_average']}." if machine["load_average"] is not None else ""
    others = machine.get("other_programs_cores")
    load += f" Meanwhile other programs kept {others:g} cores busy." if others is not None else ""
    return f"<h2>Machine</h2>\n<p>{escape(said)}. {escape(versions)}.{load}</p>"
