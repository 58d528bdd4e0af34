"""The benchmark of Fourier transforms on layers of a few pixels, and its tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks import fft as benchmark
from benchmarks.fft import Approximation, Figure, approximate, layers_table, measure, section, shares_table
from cache import fft

BY_ITSELF, ALL = benchmark.MAPS
FIGURE = Figure(
    BY_ITSELF, 31, 56, 128, 64, {1: 17.7, 2: 13.6}, {1: 7.4, 2: 7.5}, {1: 45.0, 2: 23.0}, 2.82, 3.24, 5.5, 0.59, 2.8,
    1e-6, 0.0,
)  # fmt: skip


@pytest.fixture
def everywhere(monkeypatch):
    pytest.importorskip("rocket_fft", reason="needs the extra `fft`")
    monkeypatch.setattr(fft, "direct_ns", lambda made: float("inf"))


@pytest.mark.parametrize("kind", [BY_ITSELF, ALL])
def test_a_layer_is_measured_both_ways(kind, everywhere):
    found = measure(kind, 7, 12, 16, 1, (1,))
    assert (found.kind, found.kernel, found.size, found.channels) == (kind, 7, 12, 16)
    assert found.tile in fft.TILES
    assert list(found.direct_ms) == list(found.fft_ms) == list(found.onnxruntime_ms) == [1]
    assert 0 < found.error < 1e-4, "another method than the direct one"
    assert found.onnxruntime_error < 1e-4
    assert min(found.ratio, found.listed_ratio, found.weights_mb) > 0


def test_shares_of_the_spectrum_lose_more_the_fewer_they_are(everywhere, monkeypatch):
    monkeypatch.setattr(benchmark, "SHARES", (1.0, 0.5))
    found = approximate(BY_ITSELF, 9, 12, 16, 1)
    assert [(a.filters, a.kept) for a in found] == [("random", 1), ("random", 0.5), ("smooth", 1), ("smooth", 0.5)]
    whole, half, smooth, smooth_half = found
    assert whole.error < 1e-5 < smooth_half.error < half.error
    assert smooth.error < 1e-5
    assert half.weights_mb < whole.weights_mb


def test_tables_have_a_cell_for_each_head():
    rows = layers_table([FIGURE, replace(FIGURE, kernel=7)])
    assert [len(row) for row in rows] == [15] * 3
    layer = "each channel by itself, 31x31, 56x56x128 | 64"
    assert " | ".join(rows[1]) == (
        f"{layer} | 17.70 | 7.40 | 45.00 | 13.60 | 7.50 | 23.00 | 2.82 | 3.240 | 5.500 | 0.59 | 2.8 | 1e-06 | 0e+00"
    )
    shares = shares_table([Approximation(ALL, 15, "smooth", 0.75, 8.7, 49.5, 0.013)])
    assert [len(row) for row in shares] == [6, 6]
    assert " | ".join(shares[1]) == "all with all, 15x15 | smooth | 75% | 8.70 | 49.5 | 1.3e-02"


def test_a_section_names_the_machine(monkeypatch):
    monkeypatch.setattr(benchmark, "machine", lambda: {"cpu": "some CPU"})
    assert section([["a", "b"], ["1", "2"]]) == "Machine: some CPU.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_command_writes_both_tables(tmp_path, everywhere, monkeypatch):
    monkeypatch.setattr(benchmark, "MAPS", {BY_ITSELF: ((7,), ((12, 16),))})
    monkeypatch.setattr(benchmark, "SHARES", (1.0,))
    document, report = tmp_path / "page.md", tmp_path / "figures.json"
    document.write_text("".join(f"<!-- bench:{kind} -->\n<!-- /bench:{kind} -->\n" for kind in ("fft", "fft-kept")))
    app = Typer()
    app.command()(benchmark.command)
    asked = ["--rounds", "1", "--threads", "1", "--doc", str(document), "--json", str(report)]
    result = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    assert (len(found["layers"]), len(found["shares"])) == (1, 2)
    text = document.read_text()
    assert "| each channel by itself, 7x7, 12x12x16 |" in text
    assert text.count("Machine: ") == 2
