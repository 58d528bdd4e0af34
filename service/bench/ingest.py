"""From pixels to the float tensor that other engines want, by every sensible way, and which is the fastest here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from service.bench.rounds import milliseconds

Frame: TypeAlias = NDArray[np.uint8]
Tensor: TypeAlias = NDArray[np.float32]
Ingest: TypeAlias = Callable[[Frame, Tensor], None]
"""Writes a frame uint8[H, W, C] into a tensor float32[1, C, H, W], normalised."""

T = TypeVar("T")

BLOB = "cv2.dnn.blobFromImageWithParams"
LOOKUP = "cv2.split, cv2.LUT per plane"
CAST = "cv2.split, numpy cast per plane"
_AFFINE_ERROR = 1e-6
_TRIES = 5


def affine(table: NDArray[np.float32]) -> tuple[list[float], list[float]] | None:
    """(mean, factor) per channel such that row v of the table float32[256, C] is (v - mean) * factor.

    None where the table is no such line to within 1e-6 of its largest value.
    """
    exact = table.astype(np.float64)
    factor = (exact[255] - exact[0]) / 255
    if not factor.all():
        return None
    mean = -exact[0] / factor
    line = (np.arange(256)[:, None] - mean) * factor
    if np.abs(line - exact).max() > _AFFINE_ERROR * np.abs(exact).max():
        return None
    return (mean + 0.0).tolist(), factor.tolist()


def ways(table: NDArray[np.float32]) -> dict[str, Ingest]:
    """Every way that gives this table's values, by name; the look-up always does, bit for bit."""
    found: dict[str, Ingest] = {LOOKUP: _lookup(table)}
    line = affine(table)
    if line is not None:
        found[BLOB] = _blob(*line)
    if np.array_equal(table, np.repeat(np.arange(256, dtype=np.float32)[:, None], table.shape[1], axis=1)):
        found[CAST] = _cast
    return found


def fastest(candidates: Iterable[tuple[T, Callable[[], object]]]) -> T:
    """The one whose call takes the least time: the lowest of five, taken in turn, after one that is not timed."""
    tried = list(candidates)
    best = {number: milliseconds(call) for number, (_, call) in enumerate(tried)}
    best = dict.fromkeys(best, float("inf"))
    for _ in range(_TRIES):
        for number, (_, call) in enumerate(tried):
            best[number] = min(best[number], milliseconds(call))
    return tried[min(best, key=lambda number: best[number])][0]


def _planes(frame: Frame) -> list[Frame]:
    if frame.shape[2] == 1:
        return [frame[:, :, 0]]
    return list(cv2.split(frame))


def _lookup(table: NDArray[np.float32]) -> Ingest:
    columns = [np.ascontiguousarray(table[:, channel]) for channel in range(table.shape[1])]

    def run(frame: Frame, tensor: Tensor) -> None:
        for plane, column, target in zip(_planes(frame), columns, tensor[0], strict=True):
            cv2.LUT(plane, column, dst=target)

    return run


def _cast(frame: Frame, tensor: Tensor) -> None:
    for plane, target in zip(_planes(frame), tensor[0], strict=True):
        np.copyto(target, plane)


def _blob(mean: list[float], factor: list[float]) -> Ingest:
    parameters = cv2.dnn.Image2BlobParams()
    parameters.mean = mean
    parameters.scalefactor = factor
    parameters.ddepth = cv2.CV_32F

    def run(frame: Frame, tensor: Tensor) -> None:
        cv2.dnn.blobFromImageWithParams(frame, tensor, parameters)

    return run
