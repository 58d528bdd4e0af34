"""The frontier of a calibration as one self-contained page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from service.bench import plots
from service.bench.report import document, table


def page(name: str, report: Mapping[str, Any]) -> str:
    """HTML: work left against damage, with the default thresholds and with the ones found, and the figures."""
    sections = []
    for number, clip in enumerate(report["clips"]):
        key = "error" if report["calibrated"][number]["boxes"] is None else "boxes"
        axis = "error of outputs" if key == "error" else "damage of boxes"
        if plots.available():
            curves = {
                title: [(p["clips"][number][key], 100 * p["clips"][number]["fraction"]) for p in report[frontier]]
                for title, frontier in (("default thresholds", "frontier_default"), ("calibrated", "frontier"))
            }
            chosen = report["calibrated"][number]
            point = (chosen[key], 100 * chosen["fraction"])
            floor = report["noise_floor"][number][key]
            drawn = plots.frontier(curves, point, floor, axis, "work left, %")
            sections.append(f"<h2>{html.escape(clip['name'])}</h2><figure>{drawn}</figure>")
    rows = []
    for number, clip in enumerate(report["clips"]):
        for title, f in (("default", report["default"][number]), ("calibrated", report["calibrated"][number])):
            left, boxes, error = f"{100 * f['fraction']:.1f}%", f"{f['boxes'] or 0:.3f}", f"{f['error']:.4f}"
            rows.append([clip["name"], title, left, agreement(f), boxes, error])
    heads = ["clip", "thresholds", "work left", "agreement .5 / .75", "damage of boxes", "error of outputs"]
    intro = f"<p>Budget: {html.escape(report['budget'])}. Dashed: the noise floor. The dot: what was chosen.</p>"
    return document(f"Calibration of {name}", intro + "".join(sections) + table(heads, rows))


def agreement(f: Mapping[str, Any]) -> str:
    """Agreement at both IoUs, as it is shown."""
    return "no boxes" if f["iou50"] is None else f"{f['iou50']:.3f} / {f['iou75']:.3f}"
