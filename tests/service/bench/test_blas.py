"""BLAS is told how many threads it may take, where it can be told."""

from __future__ import annotations

import pytest

from service.bench import blas


def test_it_takes_what_it_was_told():
    before = blas.threads_used()
    if before is None:
        pytest.skip("NumPy has no OpenBLAS here")
    try:
        assert blas.use_threads(1)
        assert blas.threads_used() == 1
    finally:
        blas.use_threads(before)


def test_another_blas_is_left_alone(monkeypatch):
    monkeypatch.setattr(blas, "_library", lambda: None)
    assert not blas.use_threads(1)
    assert blas.threads_used() is None
