"""The report as JSON."""

from __future__ import annotations

import json

from service.compression.report import LayerReport, Report


def test_a_report_is_json_and_tells_what_is_left():
    layers = (LayerReport("a", "tucker2", (8, 8, 3, 3), (2, 2), 100, 40, 0.1), LayerReport("b", reason="why"))
    report = Report(
        "m", "tucker2", "macs 0.5", True, (64, 32), (2, 2), layers, 200, 140, 1000, 700, 0.02, {"iou50": 1.0}
    )
    found = json.loads(json.dumps(report.as_json()))
    assert found["macs_share"] == 0.7
    assert [layer["name"] for layer in found["layers"]] == ["a", "b"]
    assert [layer.name for layer in report.replaced] == ["a"]
