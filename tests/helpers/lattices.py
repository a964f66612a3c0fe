"""Spot lattices and counts for tests of geometry and interpolation."""

from __future__ import annotations

import numpy as np
from scipy import sparse

__all__ = ["lattice_points", "random_counts"]


def lattice_points(
    kind: str,
    rows: int,
    cols: int,
    angle: float = 0.0,
    *,
    pitch: float = 100.0,
    stretch: float = 1.0,
    keep: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Return the points of a lattice, (x, y).

    Parameters
    ----------
    kind
        "square" or "hex".
    rows, cols
        Number of rows and columns.
    angle
        Rotation in radians.
    pitch
        Distance between neighbors.
    stretch
        Factor of the x axis, before the rotation.
    keep
        Share of the points that are kept, chosen by ``seed``.
    """
    row, col = (a.ravel().astype(float) for a in np.mgrid[:rows, :cols])
    points = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(0.75)] if kind == "hex" else [col, row])
    points = points[np.random.default_rng(seed).random(len(points)) < keep]
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return pitch * (points * [stretch, 1]) @ rotation


def random_counts(n: int, n_genes: int = 4, seed: int = 0) -> sparse.csr_matrix:
    """Return Poisson counts with mean 2, CSR, shape (n, n_genes)."""
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(2.0, (n, n_genes)).astype(np.float32))
