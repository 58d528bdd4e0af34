"""The benchmark of light models on the smallest of them, and its table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import light_models
from benchmarks.light_models import HEAD, Figure, file_of, measure, row, section
from benchmarks.light_networks import light_model

FIGURE = Figure("net", 1.5, 40, 3, ("Reshape", "Gemm"), 2e-6, True, -0.1, 0.2, 0.6, 9.0, 1.25, 2.5)


def test_a_network_is_measured(monkeypatch):
    monkeypatch.setattr(light_models, "SIDE", 64)
    monkeypatch.setattr(light_models, "file_of", lambda name: light_model(name, 64))
    found = measure("squeezenet", 2)
    assert (found.name, found.tail, found.reasons, found.is_exact) == ("squeezenet", 0, (), True)
    assert found.error < 1e-4
    assert found.excess < 1e-4
    assert 0 < found.work < found.exact_work <= 1


def test_files_are_of_the_light_models_or_written(monkeypatch):
    monkeypatch.setattr(light_models, "NETWORKS", {"mobilenet": lambda size: str(size).encode()})
    monkeypatch.setattr(light_models, "light_model", lambda name: name.encode())
    assert (file_of("mobilenet"), file_of("vgg19")) == (b"(224, 224)", b"vgg19")


@pytest.mark.parametrize(
    ("figure", "cells"),
    [
        (FIGURE, "net | 1.50 | 40 / 3 | Reshape | 2.0e-06 | yes | 0 | 60.0% | 20.0% | 1.25 | 2.50"),
        (
            replace(FIGURE, reasons=(), is_exact=False, excess=0.02),
            "net | 1.50 | 40 / 3 | no tail | 2.0e-06 | **no** | 2e-02 | 60.0% | 20.0% | 1.25 | 2.50",
        ),
    ],
    ids=["good", "bad"],
)
def test_a_row_says_what_was_found(figure, cells):
    assert " | ".join(row(figure)) == cells
    assert len(row(figure)) == len(HEAD)


def test_a_section_names_the_machine(monkeypatch):
    monkeypatch.setattr(light_models, "machine", lambda: {"cpu": "some CPU"})
    lines = section([FIGURE]).splitlines()
    assert lines[0] == "Machine: some CPU."
    assert lines[-1] == "| " + " | ".join(row(FIGURE)) + " |"
