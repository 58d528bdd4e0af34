"""A plan in words names its figures and every assumption."""

from __future__ import annotations

from measured_box import make_box, model_row

from service.capacity import words
from service.capacity.plan import Demand, Terms, plan

DEMAND = Demand(streams=500, fps=5.0, activity=0.1)


def test_the_answer_and_what_binds() -> None:
    found = plan(make_box(), "people", None, DEMAND, Terms(0.15, spare=2))
    assert words.headline(found).startswith(f"{found.boxes} boxes of two cores, 2 of them may be lost: 500 streams")
    rows = words.box_rows(found)
    assert [value for _, value in rows if "binds" in value] == [f"{found.full} streams  <- binds"]
    assert dict(rows)["boxes"].endswith(f"2 spare: {found.boxes}")
    assert dict(words.stream_rows(found))["memory"] == "10.0 MiB"


def test_every_assumption_is_told() -> None:
    found = plan(make_box(), "people", None, DEMAND, Terms(0.15))
    said = " ".join(words.assumptions(found))
    for part in (
        "Measured on 2026-01-02", "busiest hour: 10.0%", "busy 33% of the time, with 30.0% of its tiles",
        "Once in 10 s",
        "beyond 85% of 2 workers' time", "99% of the time", f"AFTERIMAGE_MAX_STREAMS={found.full}", "up to 1 lost",
        "4.0 of 8.0 GiB", "80% of 1000 Mbit/s", "whole JPEGs of 640x384", "were not measured and are not counted",
    ):  # fmt: skip
        assert part in said


def test_estimates_and_what_lies_outside_are_said() -> None:
    box = make_box(estimate="half of another's", models=[model_row(outside_ms=0.5)])
    said = " ".join(words.assumptions(plan(box, "people", None, DEMAND, Terms(0.15))))
    assert "Estimated, not measured: half of another's" in said
    assert "take 0.50 ms of a core" in said


def test_a_cluster_of_one_says_that_nobody_takes_over() -> None:
    found = plan(make_box(), "people", None, Demand(5, 5.0, 0.1), Terms(0.15, spare=0))
    assert words.recovery(found) == "the others have no time for its streams"
