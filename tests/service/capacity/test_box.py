"""A box's file: what is read, what is refused and in which words, and costs between what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measured_box import box_fields, make_box, model_row

from service.capacity.box import BoxError, default_path, read_box


def test_what_is_written_is_read(tmp_path: Path) -> None:
    box = make_box()
    box.write(tmp_path / "new" / "box.json")
    assert read_box(tmp_path / "new" / "box.json") == box


@pytest.mark.parametrize(
    ("share", "ms", "tiles_ms"),
    [(0.0, 2.0, 1.0), (0.05, 3.0, 2.0), (0.1, 4.0, 3.0), (0.3, 6.0, 5.0), (0.75, 14.0, 13.5), (1.0, 20.0, 20.0)],
)
def test_costs_lie_on_lines_between_what_was_measured(share: float, ms: float, tiles_ms: float) -> None:
    (cost,) = make_box().models
    assert cost.ms(share) == pytest.approx(ms)
    assert cost.ms(share, tiles=True) == pytest.approx(tiles_ms)


def test_messages_of_tiles_grow_with_what_changed() -> None:
    (cost,) = make_box().models
    assert [cost.message_bytes(share, tiles=True) for share in (0.0, 0.1, 0.3, 1.0)] == [0, 4000, 12_000, 50_000]
    assert [cost.message_bytes(share) for share in (0.0, 0.1, 0.5, 1.0)] == [40_000, 40_000, 50_000, 50_000]


@pytest.mark.parametrize(
    ("size", "ms", "nbytes"),
    [("640x384", 1.0, 40_000), ("1280x768", 5.0, 120_000), ("960x640", 3.0, 80_000), ("2560x1536", 20.0, 480_000)],
)
def test_decoding_goes_by_the_pixels(size: str, ms: float, nbytes: int) -> None:
    found = make_box().models[0].picture(size)
    assert found.ms == pytest.approx(ms, rel=0.01)
    assert found.bytes == pytest.approx(nbytes, rel=0.01)


def test_slowdown_is_that_of_the_most_threads_measured_beyond_them() -> None:
    rows = [{"threads": 4, "slowdown": 1.6}, {"threads": 1, "slowdown": 1.0}]
    (cost,) = make_box(models=[model_row(scaling=rows)]).models
    assert [cost.slowdown(threads) for threads in (1, 2, 4, 9)] == pytest.approx([1.0, 1.2, 1.6, 1.6])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "dense"}, "kind: expected 'box', got 'dense'"),
        ({"cores": 0}, "cores: expected more than 0, got 0"),
        ({"memory_bytes": -5}, "memory_bytes: expected more than 0, got -5"),
        ({"models": []}, "models: expected at least 1 of them, got []"),
        ({"wokers": 2}, "unknown key 'wokers'; did you mean 'workers'?"),
        ({"models": [model_row(), model_row()]}, "expected each model at a size once"),
        ({"models": [model_row(still_ms=30.0)]}, "a still frame to cost less than a whole one, got 30 and 20 ms"),
        ({"models": [model_row(size="640")]}, "models.0.size: expected text that matches"),
        ({"models": [model_row(keyframe_ms=float("nan"))]}, "models.0.keyframe_ms"),
        ({"models": [model_row(partial=model_row()["partial"][::-1])]}, "partial frames by rising share"),
        ({"models": [model_row(scaling=[{"threads": 1, "slowdown": 1.0}] * 2)]}, "each number of threads once"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words(tmp_path: Path, fields: dict, said: str) -> None:
    file = tmp_path / "box.json"
    file.write_text(json.dumps(box_fields(**fields)))
    with pytest.raises(BoxError, match="not a measured box: ") as error:
        read_box(file)
    assert said in str(error.value)


def test_a_file_that_is_no_json_and_one_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BoxError, match=r"not a measured box: invalid JSON"):
        read_box(tmp_path / "text")
    with pytest.raises(BoxError, match=r"no such file$"):
        read_box(tmp_path / "missing.json")
    monkeypatch.setenv("AFTERIMAGE_CACHE_DIR", str(tmp_path))
    assert default_path() == tmp_path / "box.json"
    with pytest.raises(BoxError, match="measure this machine with: afterimage bench box MODEL"):
        read_box()


def test_a_model_that_was_not_measured_is_told_with_how_to_measure_it() -> None:
    box = make_box(models=[model_row(), model_row(size="320x192")])
    assert box.cost("people", "320x192").size == "320x192"
    with pytest.raises(BoxError, match="choose with --size"):
        box.cost("people", None)
    with pytest.raises(BoxError, match="afterimage bench box yolox-nano --size 416x416"):
        box.cost("yolox-nano", "416x416")


def test_a_model_that_is_measured_again_takes_its_old_place() -> None:
    fresh = make_box(models=[model_row(keyframe_ms=30.0)]).models
    box = make_box(models=[model_row(), model_row(model="other")]).with_models(fresh)
    assert [(row.model, row.keyframe_ms) for row in box.models] == [("people", 30.0), ("other", 20.0)]
