"""Baselines that do not change with the product: an exact Gaussian process per gene, and a Gamma-Poisson posterior.

``log1p(counts) - mean ~ N(0, v (K_w + s I))`` with the Matern 3/2 kernel ``K_w`` of width w in pitches and noise s,
both by marginal likelihood on a grid, and the scale v profiled out. Unlike the interpolation "gp" of a run, all spots
predict every pixel. Shape legend: N spots, Q pixels, G genes, F genes with the same width and noise.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import gammaln

__all__ = ["MAX_SPOTS", "NOISES", "WIDTHS", "ExactProcess", "shrink_counts"]

WIDTHS = (0.7, 1.0, 1.5, 2.5, 4.0, 8.0)
"""Widths of the grid, in pitches."""
NOISES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Noise variances of the grid, relative to the variance of the signal."""
MAX_SPOTS = 4000
"""Largest number of spots; time grows with its third power."""

_DISPERSIONS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 200.0)
_FLOOR = 1e-3  # counts: predictions are above 0
_PIXELS_PER_CHUNK = 5000


class ExactProcess:
    """Gaussian process of every gene over the spots.

    Parameters
    ----------
    spots
        Spot centers, shape (N, 2).
    counts
        Counts of the spots, shape (N, G).
    pitch
        Distance between neighboring spots, in the units of ``spots``.
    """

    def __init__(self, spots: np.ndarray, counts: np.ndarray, pitch: float) -> None:
        logs = np.log1p(counts)
        self._spots, self._pitch, self._mean = np.asarray(spots, dtype=float), pitch, logs.mean(axis=0)
        self._centered = logs - self._mean
        distance = cdist(self._spots, self._spots)
        n_spots, n_genes = logs.shape
        best = np.full(n_genes, -np.inf)
        self._choice = np.zeros((n_genes, 2), dtype=np.int64)
        self._spectra = []
        for w, width in enumerate(WIDTHS):
            values, vectors = np.linalg.eigh(_matern(distance, width * pitch))
            self._spectra.append((np.maximum(values, 0.0), vectors))
            power = (vectors.T @ self._centered) ** 2
            for s, noise in enumerate(NOISES):
                variance = self._spectra[w][0] + noise
                scale = (power / variance[:, None]).sum(axis=0) / n_spots + 1e-12
                likelihood = -0.5 * n_spots * np.log(scale) - 0.5 * np.log(variance).sum()
                self._choice[likelihood > best] = w, s
                best = np.maximum(best, likelihood)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the predicted counts at points (Q, 2), above 0, shape (Q, G)."""
        field = np.empty((len(points), len(self._mean)))
        for w, noise, genes in self._groups():
            values, vectors = self._spectra[w]
            weights = vectors @ ((vectors.T @ self._centered[:, genes]) / (values + noise)[:, None])
            for start in range(0, len(points), _PIXELS_PER_CHUNK):
                chunk = slice(start, start + _PIXELS_PER_CHUNK)
                field[chunk, genes] = _matern(cdist(points[chunk], self._spots), WIDTHS[w] * self._pitch) @ weights
        return self._to_counts(field)

    def left_out(self) -> np.ndarray:
        """Return the counts of every spot as predicted from all other spots, above 0, shape (N, G)."""
        field = np.empty_like(self._centered)
        for w, noise, genes in self._groups():
            values, vectors = self._spectra[w]
            inverse = 1 / (values + noise)
            weights = vectors @ ((vectors.T @ self._centered[:, genes]) * inverse[:, None])
            diagonal = (vectors**2 * inverse).sum(axis=1)
            field[:, genes] = self._centered[:, genes] - weights / diagonal[:, None]
        return self._to_counts(field)

    def _groups(self) -> list[tuple[int, float, np.ndarray]]:
        """Return index of the width, noise and genes (F,) of each choice in use."""
        pairs = np.unique(self._choice, axis=0)
        return [(int(w), NOISES[s], np.flatnonzero((self._choice == (w, s)).all(axis=1))) for w, s in pairs]

    def _to_counts(self, field: np.ndarray) -> np.ndarray:
        return np.maximum(np.expm1(field + self._mean), 0.0) + _FLOOR


def shrink_counts(prior: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the posterior mean ``m (N + r) / (m + r)`` of Gamma-Poisson rates, shape (N, G).

    Parameters
    ----------
    prior
        Prior mean of each spot, scaled here to the counts of each gene, shape (N, G).
    counts
        Counts N of the spots, shape (N, G). The dispersion r of each gene has the largest marginal likelihood on a
        grid.
    """
    m = np.maximum(prior * counts.sum(axis=0) / prior.sum(axis=0), 1e-3)
    likelihood = np.stack(
        [
            (gammaln(counts + r) - gammaln(r) + r * np.log(r / (r + m)) + counts * np.log(m / (r + m))).sum(axis=0)
            for r in _DISPERSIONS
        ]
    )
    r = np.array(_DISPERSIONS)[likelihood.argmax(axis=0)]
    return m * (counts + r) / (m + r)


def _matern(distance: np.ndarray, width: float) -> np.ndarray:
    scaled = np.sqrt(3) * distance / width
    return (1 + scaled) * np.exp(-scaled)
