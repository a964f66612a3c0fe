"""Bayesian regression of what spots hold on what the image shows there, beyond what neighboring spots tell.

For each component y of the slide (its log totals, its principal components),

    y = mean + s + F b + noise,    s ~ GP(0, a K_w),  b ~ N(0, a r / D I),  noise ~ N(0, a v I),

with the Matern 3/2 kernel K_w of width w (pitches). The field s takes up everything smooth, so that b only learns from
contrasts between neighboring spots: an image that merely has the same outline as the counts, or one that was turned,
earns nothing. The scale a and the mean are integrated out in closed form; w, v and r run over a grid, and b is
averaged over the grid by the evidence, r = 0 included. Nothing is chosen, so nothing can be over-fitted by choice.

The covariance K_w + v I is whitened by Vecchia's approximation (1988, doi:10.1111/j.2517-6161.1988.tb01729.x): each
spot given the nearest of those before it. What is left is ridge regression on whitened rows, D x D per grid point,
whatever the number of spots.

Shape legend: N spots, D features, P components, M neighbors, g grid points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.interpolation.local_kriging import matern32

__all__ = ["ContrastRegression", "Fit"]

WIDTHS = (1.0, 2.0, 4.0, 8.0)  # pitches
NOISES = tuple(np.geomspace(0.05, 20.0, 7))  # of the field's variance
RATIOS = tuple(np.geomspace(0.03, 10.0, 6))  # variance of F b over that of the field
AGAINST = np.log(10.0)  # odds against the image in the average, for each component
_NEIGHBOURS = 20
_SEARCH = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """What the image tells of each component.

    Parameters
    ----------
    coefficients
        Posterior mean of b, shape (D, P).
    log_bayes
        Log Bayes factor of the image for each component, at even odds, shape (P,): e.g. 3 is 20 to 1 in favor.
    """

    coefficients: np.ndarray
    log_bayes: np.ndarray

    @property
    def evidence(self) -> float:
        """Log odds that the image tells of the counts at all, each component being told of or not, 1 to 10 beforehand.

        The sum over components of ``log((10 + exp(log_bayes)) / 11)``.
        """
        return float(np.sum(np.logaddexp(AGAINST, self.log_bayes) - np.logaddexp(AGAINST, 0.0)))


class ContrastRegression:
    """The regression of a slide's components, ready for any features: those of the image, or of the image moved.

    Parameters
    ----------
    spots
        Spot centers, shape (N, 2).
    pitch
        Distance between neighboring spots.
    components
        What is to be told, shape (N, P).
    """

    def __init__(self, spots: np.ndarray, pitch: float, components: np.ndarray) -> None:
        self._places = np.asarray(spots, dtype=np.float64) / pitch
        self._components = np.asarray(components, dtype=np.float64)

    def fit(self, features: np.ndarray) -> Fit:
        """Regress on features, shape (N, D), standardized by the caller."""
        n_spots, n_features = features.shape
        scores, coefficients = [], []
        for grid in self._grid:
            f = grid.whiten(features)
            cross = f.T @ grid.components
            eigenvalues, vectors = np.linalg.eigh(f.T @ f)
            eigenvalues, turned = np.maximum(eigenvalues, 0.0), vectors.T @ cross
            for ratio in RATIOS:
                prior = ratio / n_features
                gain = prior / (1 + prior * eigenvalues)
                rest = grid.squares - (gain[:, None] * turned**2).sum(axis=0)
                scores.append(_evidence(rest, n_spots, grid.log_det + np.log1p(prior * eigenvalues).sum()))
                coefficients.append(vectors @ (gain[:, None] * turned))
        with_image = np.stack(scores) - np.log(len(RATIOS))
        log_bayes = _log_sum(with_image) - _log_sum(self._without)
        weight = np.exp(with_image - _log_sum(with_image)) / (1 + np.exp(AGAINST - log_bayes))
        return Fit(coefficients=np.einsum("gp,gdp->dp", weight, np.stack(coefficients)), log_bayes=log_bayes)

    @cached_property
    def _without(self) -> np.ndarray:
        """Log evidence of each grid point without the image, shape (g, P)."""
        return np.stack([_evidence(grid.squares, len(self._places), grid.log_det) for grid in self._grid])

    @cached_property
    def _grid(self) -> list[_Whitened]:
        before, absent = _earlier_neighbors(self._places)
        near = np.where(absent[..., None], 0.0, self._places[before])
        among = np.linalg.norm(near[:, :, None] - near[:, None], axis=-1)
        away = np.linalg.norm(near - self._places[:, None], axis=-1)
        grid = []
        for width in WIDTHS:
            kernel = matern32(width)
            system = np.where(absent[:, :, None] | absent[:, None, :], 0.0, kernel(among))
            right = np.where(absent, 0.0, kernel(away))
            grid += [_Whitened.of(self._components, before, absent, system, right, noise) for noise in NOISES]
        return grid


@dataclass(frozen=True, kw_only=True, eq=False)
class _Whitened:
    """One grid point: the whitening matrix (N, N), the whitened mean and components, and determinants."""

    matrix: sparse.csr_matrix
    mean: np.ndarray
    components: np.ndarray
    squares: np.ndarray
    log_det: float

    @classmethod
    def of(
        cls,
        components: np.ndarray,
        before: np.ndarray,
        absent: np.ndarray,
        system: np.ndarray,
        right: np.ndarray,
        noise: float,
    ) -> _Whitened:
        """Whiten by the covariances among earlier neighbors (N, M, M) and with them (N, M)."""
        n_spots, n_near = before.shape
        diagonal = np.arange(n_near)
        system = system.copy()
        system[:, diagonal, diagonal] = np.where(absent, 1.0, 1.0 + noise)
        weights = np.linalg.solve(system, right[..., None])[..., 0]
        variance = np.maximum(1.0 + noise - (weights * right).sum(axis=1), 1e-9)
        row = np.repeat(np.arange(n_spots), n_near)[~absent.ravel()]
        lower = sparse.csr_matrix((weights[~absent], (row, before[~absent])), shape=(n_spots, n_spots))
        matrix = sparse.csr_matrix(sparse.diags_array(1 / np.sqrt(variance)) @ (sparse.eye_array(n_spots) - lower))
        one = matrix @ np.ones(n_spots)
        whitened = _without_mean(matrix @ components, one)
        return cls(
            matrix=matrix,
            mean=one,
            components=whitened,
            squares=(whitened**2).sum(axis=0),
            log_det=float(np.log(variance).sum() + np.log(one @ one)),
        )

    def whiten(self, features: np.ndarray) -> np.ndarray:
        return _without_mean(self.matrix @ features, self.mean)


def _without_mean(values: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Take the generalized mean out of whitened columns."""
    return np.asarray(values - np.outer(one, one @ values) / (one @ one))


def _evidence(rest: np.ndarray, n_spots: int, log_det: float) -> np.ndarray:
    """Log evidence up to a constant, scale and mean integrated out, shape (P,)."""
    return -0.5 * ((n_spots - 1) * np.log(np.maximum(rest, 1e-12)) + log_det)


def _log_sum(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp.reduce(values, axis=0))


def _earlier_neighbors(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each spot the nearest of those before it, (N, M), and which of these places are empty."""
    n_spots = len(places)
    _, near = cKDTree(places).query(places, k=np.arange(1, min(_SEARCH, n_spots) + 1))
    earlier = near < np.arange(n_spots)[:, None]
    rank = np.where(earlier, np.cumsum(earlier, axis=1) - 1, _NEIGHBOURS)
    before = np.zeros((n_spots, _NEIGHBOURS), dtype=np.int64)
    absent = np.ones((n_spots, _NEIGHBOURS), dtype=bool)
    row, column = np.nonzero(rank < _NEIGHBOURS)
    before[row, rank[row, column]] = near[row, column]
    absent[row, rank[row, column]] = False
    return before, absent
