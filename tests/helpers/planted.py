"""A slide of three planted domains, in stripes that cut through the spots."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.core.slide import Slide

__all__ = ["planted_domain", "planted_slide"]

_PITCH = 100.0
_STRIPE = 3.3 * _PITCH


def planted_domain(centers: np.ndarray) -> np.ndarray:
    """Return the domain, 0 to 2, at positions (n, 2)."""
    return np.floor((centers[:, 0] + 0.6 * centers[:, 1]) / _STRIPE).astype(int) % 3


def planted_slide(n: int = 12, n_genes: int = 40, depth: float = 1500.0) -> Slide:
    """Build a slide of n x n square spots, whose counts are sums over 4 x 4 pixels with the rates of their domains."""
    rng = np.random.default_rng(0)
    row, col = np.mgrid[: 4 * n, : 4 * n] + 0.5
    domain = planted_domain(np.column_stack([col.ravel(), row.ravel()]) * _PITCH / 4).reshape(4 * n, 4 * n)
    profiles = rng.gamma(0.6, 1.0, (3, n_genes)) + 0.05
    profiles /= profiles.sum(axis=1, keepdims=True)
    pixels = rng.poisson(profiles[domain] * depth / 16)
    counts = pixels.reshape(n, 4, n, 4, n_genes).sum(axis=(1, 3)).reshape(n * n, n_genes)
    y, x = (np.mgrid[:n, :n] + 0.5) * _PITCH
    return Slide(
        counts=sparse.csr_matrix(counts, dtype=np.float32),
        genes=np.array([f"G{i}" for i in range(n_genes)], dtype=object),
        spot_ids=np.array([f"s{i}" for i in range(n * n)], dtype=object),
        centers=np.column_stack([x.ravel(), y.ravel()]),
        spot_diameter=_PITCH,
        spot_shape="square",
        unit="um",
    )
