"""Regress components of the counts on image features by Bayesian regression, with a smooth field as nuisance.

For each component y of the slide (its log totals, its principal components), the model is

    y = mean + s + F b + noise,    s ~ GP(0, a K_w),  b ~ N(0, a r / D I),  noise ~ N(0, a v I),

with the Matern 3/2 kernel K_w of width w (pitches). The field s absorbs everything smooth, so b is learned only from
contrasts between neighboring spots: an image that has the same outline as the counts but different details, or a
rotated image, gains no evidence. The scale a and the mean are integrated out in closed form. The parameters w, v and r
run over a grid, and b is averaged over the grid with weights by the evidence, including r = 0 (no image). No
hyperparameter is selected, so selection cannot overfit.

The covariance K_w + v I is whitened by Vecchia's approximation (1988, doi:10.1111/j.2517-6161.1988.tb01729.x): each
spot is conditioned on the nearest of the preceding spots. The rest is ridge regression on whitened rows, with D x D
matrices per grid point for any number of spots.

Shape legend: N spots, D features, P components, M neighbors, g grid points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.interpolation.local_kriging import matern32

__all__ = ["ContrastFit", "ContrastRegression"]

WIDTHS = (1.0, 2.0, 4.0, 8.0)  # pitches
NOISES = tuple(np.geomspace(0.05, 20.0, 7))  # relative to the variance of the field s
RATIOS = tuple(np.geomspace(0.03, 10.0, 6))  # variance of F b relative to that of the field s
LOG_ODDS_AGAINST = np.log(10.0)  # of each component, in the average over the grid
_N_NEIGHBORS = 20
_N_CANDIDATES = 100  # nearest spots among which the preceding ones are searched


@dataclass(frozen=True, kw_only=True, eq=False)
class ContrastFit:
    """Hold the fit of a regression on image features.

    Parameters
    ----------
    coefficients
        Posterior mean of b, shape (D, P).
    log_bayes
        Log Bayes factor of the model with the image against that without, for each component, shape (P,); for example,
        3 means 20 to 1 in favor of the image.
    """

    coefficients: np.ndarray
    log_bayes: np.ndarray

    @property
    def evidence(self) -> float:
        """Log odds that the image predicts the counts: the sum over components of ``log((10 + exp(log_bayes)) / 11)``.

        Each component depends on the image or not, with prior odds of 1 to 10.
        """
        return float(np.sum(np.logaddexp(LOG_ODDS_AGAINST, self.log_bayes) - np.logaddexp(LOG_ODDS_AGAINST, 0.0)))


class ContrastRegression:
    """Regress the components of a slide on any features: those of the image, or of the shifted image.

    Parameters
    ----------
    spots
        Spot centers, shape (N, 2).
    pitch
        Distance between neighboring spots, in the same unit.
    components
        Components to predict, shape (N, P).
    """

    def __init__(self, spots: np.ndarray, pitch: float, components: np.ndarray) -> None:
        self._spots = np.asarray(spots, dtype=np.float64) / pitch
        self._components = np.asarray(components, dtype=np.float64)

    def fit(self, features: np.ndarray) -> ContrastFit:
        """Fit the regression on features.

        Parameters
        ----------
        features
            Image features of the spots, standardized, shape (N, D).
        """
        n_spots, n_features = features.shape
        scores, coefficients = [], []
        for grid in self._grid:
            f = grid.whiten(features)
            cross = f.T @ grid.components
            eigenvalues, vectors = np.linalg.eigh(f.T @ f)
            eigenvalues, rotated = np.maximum(eigenvalues, 0.0), vectors.T @ cross
            for ratio in RATIOS:
                prior = ratio / n_features
                gain = prior / (1 + prior * eigenvalues)
                residual = grid.squares - (gain[:, None] * rotated**2).sum(axis=0)
                scores.append(_evidence(residual, n_spots, grid.log_det + np.log1p(prior * eigenvalues).sum()))
                coefficients.append(vectors @ (gain[:, None] * rotated))
        with_image = np.stack(scores) - np.log(len(RATIOS))
        log_bayes = _log_sum(with_image) - _log_sum(self._evidence_without_image)
        weight = np.exp(with_image - _log_sum(with_image)) / (1 + np.exp(LOG_ODDS_AGAINST - log_bayes))
        return ContrastFit(coefficients=np.einsum("gp,gdp->dp", weight, np.stack(coefficients)), log_bayes=log_bayes)

    @cached_property
    def _evidence_without_image(self) -> np.ndarray:
        """Log evidence of each grid point without the image, shape (g, P)."""
        return np.stack([_evidence(grid.squares, len(self._spots), grid.log_det) for grid in self._grid])

    @cached_property
    def _grid(self) -> list[_Whitened]:
        """Whiten the components at every width and noise."""
        preceding, absent = _preceding_neighbors(self._spots)
        near = np.where(absent[..., None], 0.0, self._spots[preceding])
        among = np.linalg.norm(near[:, :, None] - near[:, None], axis=-1)
        away = np.linalg.norm(near - self._spots[:, None], axis=-1)
        grid = []
        for width in WIDTHS:
            kernel = matern32(width)
            system = np.where(absent[:, :, None] | absent[:, None, :], 0.0, kernel(among))
            right = np.where(absent, 0.0, kernel(away))
            grid += [
                _Whitened.from_covariances(self._components, preceding, absent, system, right, noise)
                for noise in NOISES
            ]
        return grid


@dataclass(frozen=True, kw_only=True, eq=False)
class _Whitened:
    """Hold one grid point: whitening matrix (N, N), whitened mean and components, their squares, log determinant."""

    matrix: sparse.csr_matrix
    mean: np.ndarray
    components: np.ndarray
    squares: np.ndarray
    log_det: float

    @classmethod
    def from_covariances(
        cls,
        components: np.ndarray,
        preceding: np.ndarray,
        absent: np.ndarray,
        system: np.ndarray,
        right: np.ndarray,
        noise: float,
    ) -> _Whitened:
        """Whiten by the covariances among preceding neighbors (N, M, M) and with them (N, M)."""
        n_spots, n_near = preceding.shape
        diagonal = np.arange(n_near)
        system = system.copy()
        system[:, diagonal, diagonal] = np.where(absent, 1.0, 1.0 + noise)
        weights = np.linalg.solve(system, right[..., None])[..., 0]
        variance = np.maximum(1.0 + noise - (weights * right).sum(axis=1), 1e-9)
        row = np.repeat(np.arange(n_spots), n_near)[~absent.ravel()]
        lower = sparse.csr_matrix((weights[~absent], (row, preceding[~absent])), shape=(n_spots, n_spots))
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
        """Whiten features (N, D) and subtract their generalized mean."""
        return _without_mean(self.matrix @ features, self.mean)


def _without_mean(values: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Subtract the generalized mean of whitened columns."""
    return np.asarray(values - np.outer(one, one @ values) / (one @ one))


def _evidence(residual: np.ndarray, n_spots: int, log_det: float) -> np.ndarray:
    """Return the log evidence up to a constant, with scale and mean integrated out, shape (P,)."""
    return -0.5 * ((n_spots - 1) * np.log(np.maximum(residual, 1e-12)) + log_det)


def _log_sum(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp.reduce(values, axis=0))


def _preceding_neighbors(spots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest preceding spots of each spot, (N, M), and a mask of the missing ones, (N, M)."""
    n_spots = len(spots)
    _, near = cKDTree(spots).query(spots, k=np.arange(1, min(_N_CANDIDATES, n_spots) + 1))
    is_preceding = near < np.arange(n_spots)[:, None]
    rank = np.where(is_preceding, np.cumsum(is_preceding, axis=1) - 1, _N_NEIGHBORS)
    preceding = np.zeros((n_spots, _N_NEIGHBORS), dtype=np.int64)
    absent = np.ones((n_spots, _N_NEIGHBORS), dtype=bool)
    row, column = np.nonzero(rank < _N_NEIGHBORS)
    preceding[row, rank[row, column]] = near[row, column]
    absent[row, rank[row, column]] = False
    return preceding, absent
