"""A tensor as matrices, and what they are made of: leading singular vectors, singular values. Arrays only."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def unfold(tensor: Array, mode: int) -> Array:
    """[size of the mode, all others]"""
    return np.asarray(np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1))


def leading(matrix: Array, rank: int) -> Array:
    """[rows, rank], the leading left singular vectors; from the Gram matrix, whose side is the number of channels."""
    _, vectors = np.linalg.eigh(matrix @ matrix.T)
    return np.asarray(vectors[:, ::-1][:, :rank])


def singular_values(matrix: Array) -> Array:
    """All of them, falling; from the smaller Gram matrix."""
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0)))
