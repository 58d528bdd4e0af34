"""docs/observability.md lists the metrics of a real scrape, all of them and no others, and the figures of a stream."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
from scrapes import scraped_families

from cache.opening import DECISIONS
from service.metrics import REFUSALS, Cause, Ending, Outcome
from service.reasons import REASONS
from service.registry import ModelState
from service.streams import Stream

TEXT = (Path(__file__).parents[1] / "docs/observability.md").read_text()
ROWS = {
    name: (kind, labels, said)
    for name, kind, labels, said in re.findall(
        r"^\| `(afterimage_\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", TEXT, re.MULTILINE
    )
}


def test_every_metric_is_in_the_table_and_the_other_way_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name: kind for name, (kind, _, _) in ROWS.items()} == scraped_families(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("afterimage_frames_total", Outcome.__args__),
        ("afterimage_drops_total", Cause.__args__),
        ("afterimage_streams_ended_total", Ending.__args__),
        ("afterimage_decisions_total", (*DECISIONS, *REASONS)),
        ("afterimage_connections_refused_total", REFUSALS),
        ("afterimage_models", [state.value for state in ModelState]),
    ],
)
def test_the_words_of_labels_are_all_there(metric: str, words: list[str]) -> None:
    said = set(re.findall(r"`(\w+)`", ROWS[metric][2]))
    assert set(words) <= said, set(words) - said


def test_every_figure_of_a_stream_is_in_the_table() -> None:
    fields = set(Stream("door", "m", None).describe())
    known = set(re.findall(r"`(\w+)`", TEXT))
    plain = {"stream_id", "model", "connected", "anonymous", "created_at", "frames"}
    assert fields - plain <= known, fields - plain - known
