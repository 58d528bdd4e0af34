"""Model files are untrusted: each hostile one ends with an error that says why, in little memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cache.model import ModelError
from cache.onnx_import import MAX_BYTES, load_model
from tests.cache.hostile_models import FILES

ROOT = Path(__file__).parents[2]
MOST_MIB = 300

EXPECTED = {
    "no_file": "not an ONNX model",
    "millions_of_empty_nodes": r"at most \d+ fields",
    "too_many_nodes": "at most 20000 nodes",
    "too_many_weights": "at most 50000 tensors",
    "too_many_inputs": "at most 50000 tensors",
    "a_billion_laughs": "at most 20000 nodes",
    "a_function_that_calls_itself": "at most 20000 nodes",
    "deep_branches": "model too deep",
    "weights_without_values": "not a valid ONNX model",
    "sizes_that_overflow": "not a valid ONNX model|expected values for shape",
    "negative_sizes": "not a valid ONNX model|expected values for shape",
    "a_type_that_is_none": "not a valid ONNX model|expected values for shape",
    "external_data_of_an_absolute_path": "external data",
    "external_data_above_the_folder": "external data",
    "external_data_within_a_branch": "external data",
    "ops_of_a_strangers_library": "unknown op in domain evil.example",
    "python_as_an_op": "unknown op in domain com.microsoft",
    "a_cycle": "not a valid ONNX model",
    "a_node_that_reads_itself": "not a valid ONNX model",
    "constant_of_eight_giga": "at most 268435456 elements",
    "twenty_constants_of_one_giga": "elements of constants",
    "an_expanded_image": "at most 268435456 elements",
    "a_tiled_constant": "at most 268435456 elements",
    "a_long_range": "at most 268435456 elements",
    "an_enormous_pad": "at most 268435456 elements",
    "an_enormous_pad_of_a_convolution": "GiB of feature maps",
    "an_enormous_resize": "at most 268435456 elements",
    "a_hundred_large_maps": "of other tensors",
}
AT_RUN_TIME = ("an_endless_range", "sizes_that_depend_on_pixels")
HARMLESS = ("an_expression_that_never_ends",)


@pytest.fixture(scope="module")
def reports() -> dict[str, dict]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.cache.hostile_models"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    return {report["name"]: report for report in map(json.loads, done.stdout.splitlines())}


def test_every_file_is_expected_to_end_somehow() -> None:
    assert set(FILES) == {*EXPECTED, *AT_RUN_TIME, *HARMLESS}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_hostile_file_is_refused(reports: dict[str, dict], name: str) -> None:
    report = reports[name]
    assert report["kind"] == "ModelError", report
    assert re.search(EXPECTED[name], report["message"]), report
    assert report["grown_mib"] < MOST_MIB, report


@pytest.mark.parametrize("name", AT_RUN_TIME)
def test_what_only_shows_at_run_time_is_stopped_by_the_memory_that_tails_may_take(
    reports: dict[str, dict], name: str
) -> None:
    report = reports[name]
    assert report["kind"] == "TailError", report
    assert report["grown_mib"] < MOST_MIB, report


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_never_tried_does_no_harm(reports: dict[str, dict], name: str) -> None:
    assert reports[name]["kind"] == "ran", reports[name]
    assert reports[name]["grown_mib"] < MOST_MIB


def test_a_file_that_is_too_large_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    with pytest.raises(ModelError, match="too large"):
        load_model(path)
