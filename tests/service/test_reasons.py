"""Every reason of the engine has a word of its own, and what is none has one too."""

from __future__ import annotations

import inspect
import re

from hypothesis import given
from hypothesis import strategies as st

from cache.opening import DECISIONS, Opening, reason_of
from service.reasons import REASONS, reason_label

COUNTS = st.integers(0, 100_000)


@given(st.sampled_from(DECISIONS), st.booleans(), COUNTS, COUNTS, COUNTS)
def test_no_reason_of_the_engine_is_other(decision, whole: bool, changed: int, tiles: int, limit: int) -> None:
    label = reason_label(reason_of(decision, whole, changed, tiles, limit))
    assert label in REASONS
    assert label != "other"
    assert not re.search(r"\d", label)


def test_what_the_engine_adds_to_a_reason_is_known() -> None:
    added = re.findall(r'f"(.*?)"', inspect.getsource(Opening.reason))
    assert len(added) == 3, "a new sentence needs a word"
    said = [reason_label(text.replace("{said}", "12 of 99 tiles changed")) for text in added]
    assert said == ["moved", "exposure", "exposure"]


def test_the_words() -> None:
    assert reason_label(reason_of("keyframe", True, 0, 9, 5)) == "no_stored_frame"
    assert reason_label(reason_of("reuse", False, 0, 9, 5)) == "nothing_changed"
    assert reason_label(reason_of("partial", False, 0, 9, 5)) == "refresh"
    assert reason_label(reason_of("partial", False, 3, 9, 5)) == "tiles_changed"
    assert reason_label(reason_of("keyframe", False, 7, 9, 5)) == "tiles_changed"
    assert reason_label(reason_of("keyframe", False, 3, 9, 5)) == "cheaper_whole"
    assert reason_label("picture moved by (8, 0) px, 3 of 9 tiles changed, exposure settled") == "moved"
    assert reason_label("fake") == "other"
    assert {word for word in REASONS if word != "other"} == {
        "no_stored_frame", "nothing_changed", "refresh", "tiles_changed", "cheaper_whole", "moved", "exposure",
    }  # fmt: skip
