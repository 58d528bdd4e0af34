"""What is counted, and how it is told; the counting itself needs minutes under valgrind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import local_memory
from benchmarks.local_memory import Figure, cache_option, layer_name, pinned_cpu, subjects, table, totals
from benchmarks.local_memory_cases import CASES, checked, main, timed

PARTS = "part: 2\nevents: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\nfn=(1) totals\ntotals: 90 8 7 6 5 4 3 2 1\n"


def test_events_are_read_by_their_names(tmp_path):
    file = tmp_path / "out.2"
    file.write_text(PARTS)
    found = totals(file)
    assert (found["Ir"], found["D1mr"], found["DLmw"]) == (90, 5, 1)


def test_ratios_are_to_the_first_way_of_the_same_subject():
    rows = table(
        [
            Figure("bands", "a", "x", 100, 4_000_000, 1_000_000, 10.0),
            Figure("bands", "a", "y", 150, 2_000_000, 500_000, 5.0),
            Figure("bands", "b", "x", 7, 1, 1, 1.0),
        ]
    ).splitlines()
    assert rows[2:] == [
        "| a | x | 256.00 | 64.00 | 1 | 1 | 1 |", "| | y | 128.00 | 32.00 | 0.50 | 1.50 | 0.50 |",
        "| b | x | 0.00 | 0.00 | 1 | 1 | 1 |",
    ]  # fmt: skip


def test_caches_are_those_of_the_machine(tmp_path, monkeypatch):
    caches = (("1", "Data", "32K"), ("1", "Instruction", "64K"), ("2", "Unified", "512K"))
    for index, (level, kind, size) in enumerate(caches):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size), ("ways_of_associativity", "8")):
            (folder / name).write_text(value + "\n")
    monkeypatch.setattr(local_memory, "CACHES", tmp_path)
    assert (cache_option(1), cache_option(2)) == ("32768,8,64", "524288,8,64")
    with pytest.raises(SystemExit, match="expected a data cache of level 3"):
        cache_option(3)


def test_kernels_are_compiled_for_avx2_whatever_the_machine_has():
    features = pinned_cpu()["NUMBA_CPU_FEATURES"].split(",")
    assert {"+avx2", "+fma"} <= set(features)
    assert not any(name.startswith("+avx512") for name in features)


def test_every_subject_is_of_a_known_case(tmp_path, monkeypatch):
    monkeypatch.setattr(local_memory, "NETWORKS", dict.fromkeys(("mobilenet", "vgg16"), lambda size: b""))
    found = subjects(tmp_path)
    assert {case for _, (case, *_) in found} == set(CASES)
    assert {(case, name) for name, (case, *_) in found} > local_memory.TOO_LONG
    assert layer_name("56x28x64x128x3") == "3x3 64 to 128, 56x28"


def test_all_ways_of_a_layer_compute_it(capsys):
    ways = checked("layer", "8x8x32x32x3")
    matrix = ways["im2col and BLAS"]().reshape(32, 8, 8)
    for name in ("direct", "Winograd"):
        found = np.moveaxis(ways[name]()[0], 2, 0)
        assert np.abs(found - matrix[:16, :4]).max() < 1e-4 * np.abs(matrix).max(), name
    assert set(timed(ways, 1)) == set(ways)
    main(1, [["layer", "8x8x16x16x1"]])
    times = json.loads(capsys.readouterr().out)
    assert set(times) == {"im2col and BLAS", "direct"}


def test_counts_of_a_former_run_are_taken_and_times_are_new(monkeypatch, tmp_path):
    asked = []

    def run(cases, rounds, before=()):
        asked.append((list(cases), rounds))
        if before:
            out = before[-1].partition("=")[2]
            for number in (2, 4):
                Path(f"{out}.{number}").write_text(PARTS)
        return iter([{"a": 4.0, "b": 8.0}] * len(cases))

    monkeypatch.setattr(local_memory, "run", run)
    names, cases, caches = ["net", "layer"], [["streams", "net", "8x8"], ["layer", "8x8x16x16x1"]], ("1,1,64", "1,1,64")
    former = [Figure("streams", "net", way, 100, 7, 5, 9.0) for way in "ab"]
    known, new = local_memory.measure(names, cases, 3, caches, former)
    assert known == [Figure("streams", "net", "a", 100, 7, 5, 1.0), Figure("streams", "net", "b", 100, 7, 5, 2.0)]
    assert new == [Figure("layer", "layer", "a", 45, 4, 1, 4.0), Figure("layer", "layer", "b", 45, 4, 1, 8.0)]
    assert asked == [(cases, 3), ([cases[1]], 0)]
