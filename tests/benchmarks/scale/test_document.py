"""Reports become tables between markers, and a run of cameras is set beside the plan."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from measured_box import make_box, model_row

from benchmarks.scale import document
from benchmarks.scale.cluster import Scenario, summary
from service.bench.document import DocumentError

MARKERS = "".join(
    f"<!-- bench:{kind} -->\nold\n<!-- /bench:{kind} -->\n" for kind in ("box", "plan", "check", "days")
)  # fmt: skip


@pytest.fixture(scope="module")
def report() -> dict:
    scenario = Scenario.of(make_box(), "people", None, streams=60, boxes=4, spare=1)
    day = scenario.day(4, length_s=600.0).run()
    row = summary(day, 4, "as planned") | {"main": True} | day.as_dict()
    return {"plan": scenario.found.as_dict(), "days": [row], "checks": [], "seed": 1, "seconds": 2.0}


def cameras(fits: bool = True) -> dict:
    """A report of `afterimage bench streams`: 4 ms a frame, as the box has it."""
    runs = [
        {"streams": 40, "fits": fits, "cpu": 1.6, "seconds": 5.0, "results": 2000},
        {"streams": 48, "fits": False, "cpu": 2.0, "seconds": 5.0, "results": 2000},
    ]
    return {
        "clip": "clip.mp4", "model": "people", "size": "640x384", "frame": "640x384", "fps_asked": 10.0, "runs": runs,
        "streams": 40 if fits else 0, "activity": {"mean": 0.1, "peak": 1.0}, "machine": {"other_programs_cores": 0.1},
    }  # fmt: skip


def test_all_sections_are_replaced(report: dict) -> None:
    found = document.update(MARKERS, make_box(), report)
    assert found.count("\nold\n") == 1, "no check was made: its section stays"
    assert "| people, 640x384 | 2.00 |" in found
    assert "boxes of two cores, 1 of them may be lost: 500 streams" in found
    assert "| as planned | 4 |" in found
    checked = document.update(MARKERS, make_box(), report | {"checks": [document.check(cameras(), make_box())]})
    assert "\nold\n" not in checked
    with pytest.raises(DocumentError, match="bench:days"):
        document.update(MARKERS.replace("<!-- /bench:days -->", ""), make_box(), report)


def test_a_run_is_set_beside_the_plan() -> None:
    found = document.check(cameras(), make_box())
    assert found["ms"] == pytest.approx(4.0)
    assert found["ms_plan"] == pytest.approx(4.0, rel=1e-3)
    assert (found["cameras"], found["cameras_full"], found["cameras_admission"]) == (40, 42, 42)
    assert found["cameras_all"] == pytest.approx(50, rel=1e-3)
    assert "| 4.00 | 4.00 | +0% | 40 | 50.0 | +25% | 42 |" in document.check_section([found])


def test_a_run_in_which_no_count_fits_is_shown_without_an_error() -> None:
    assert "| 0 | 50.0 | – | 42 |" in document.check_section([document.check(cameras(fits=False), make_box())])


def test_starts_and_busy_machines_are_told() -> None:
    box = make_box(
        start={"warm_s": 3.0, "cold_s": 80.0}, machine={"other_programs_cores": 1.5},
        models=[model_row(outside_ms=0.4)],
    )  # fmt: skip
    said = document.box_section(box)
    assert "ready 3.0 s after its start, 80 s where it has to compile its kernels first." in said
    assert "Other programs kept 1.5 cores busy" in said
    assert "| 0.40 |" in said
