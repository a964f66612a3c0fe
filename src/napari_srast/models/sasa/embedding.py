"""General features of a slide's spots, and what follows from them: gene loadings, and fields denoised.

Shape legend: N spots, G genes, F fields, P components, D latent width, C features of the denoiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from napari_srast.interpolation.denoising import mean_of_alike, mean_of_near

if TYPE_CHECKING:
    from napari_srast.models.sasa.config import SasaConfig

__all__ = ["RidgeDenoiser", "SlideEmbedding", "SpotEmbedding", "log_normalize", "spot_context"]

_LEADING = 10  # components in which likeness is told: distances in more are mostly noise


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeDenoiser:
    """A denoiser of fields, fitted to a slide: enough to denoise them at any of its spots.

    Parameters
    ----------
    loading
        Ridge coefficients of log-normalized counts, intercept first, shape (C + 1, F).
    factor
        Brings each field to its total over the slide, shape (F,).
    """

    loading: np.ndarray
    factor: np.ndarray

    def __getitem__(self, fields: slice) -> RidgeDenoiser:
        """Return the denoiser of some fields."""
        return RidgeDenoiser(loading=self.loading[:, fields], factor=self.factor[fields])

    @classmethod
    def join(cls, parts: Sequence[RidgeDenoiser]) -> RidgeDenoiser:
        """Join the denoisers of blocks of fields."""
        return cls(
            loading=np.concatenate([p.loading for p in parts], axis=1), factor=np.concatenate([p.factor for p in parts])
        )

    def at(self, surroundings: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return denoised counts (n, F) of spots with given surroundings (n, C + 1) and depth (n,)."""
        return _expected(surroundings, self.loading, depth) * self.factor


@dataclass(frozen=True, kw_only=True, eq=False)
class SpotEmbedding:
    """The features of some of a slide's n spots.

    Parameters
    ----------
    comparable
        Latents of a common length, shape (n, D); see :attr:`SlideEmbedding.comparable`.
    totals
        Total counts, shape (n,).
    surroundings, depth
        What fields are denoised by, shape (n, C + 1) and (n,).
    """

    comparable: np.ndarray
    totals: np.ndarray
    surroundings: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideEmbedding:
    """General features of a slide's spots: the normalized latents and what follows from them.

    Parameters
    ----------
    latent
        Normalized latents, shape (N, D); mean 0, variance of a direction = the part of it that is signal.
    totals
        Total counts of each spot, shape (N,).
    components
        Principal components, shape (N, P).
    raw_latent
        Latent means before Latent Norm, shape (N, D).
    context
        Averages a spot's neighbors in space and in expression, shape (N, N); see :func:`spot_context`.
    config
        How it was made.
    """

    latent: np.ndarray
    totals: np.ndarray
    components: np.ndarray
    raw_latent: np.ndarray
    context: sparse.csr_matrix
    config: SasaConfig

    @property
    def scale(self) -> float:
        """Counts that a spot's expression is normalized to: the median total."""
        positive = self.totals[self.totals > 0]
        return float(np.median(positive)) if len(positive) else 1.0

    def loadings(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Return w_g with an intercept for each column of (N, F) counts: ridge on log-normalized counts, (D + 1, F)."""
        return _ridge(_with_intercept(self.latent), log_normalize(counts, self.totals, self.scale))

    @cached_property
    def comparable(self) -> np.ndarray:
        """Latents, shape (N, D), shortened where their mean square length is above 1."""
        return self.latent / np.sqrt(max(1.0, float((self.latent**2).sum(axis=1).mean())))

    @cached_property
    def surroundings(self) -> np.ndarray:
        """Components and latents, with an intercept, averaged over each spot's neighbors, shape (N, C + 1)."""
        return np.asarray(self.context @ _with_intercept(self.components, self.latent))

    @property
    def depth(self) -> np.ndarray:
        """Totals in units of the scale, shape (N,)."""
        return self.totals / self.scale

    def at(self, spots: np.ndarray) -> SpotEmbedding:
        """Return the features of some spots."""
        return SpotEmbedding(
            comparable=self.comparable[spots],
            totals=self.totals[spots],
            surroundings=self.surroundings[spots],
            depth=self.depth[spots],
        )

    def fit_denoising(self, counts: sparse.csr_matrix) -> RidgeDenoiser:
        """Fit the denoiser of fields (N, F).

        Log-normalized counts are regressed (ridge) on the components and latents, and the regression is evaluated on
        the mean of these over the spot's neighbors on both topologies (``context``). Each field keeps its total.
        """
        features = _with_intercept(self.components, self.latent)  # not kept: on a large slide they are all its memory
        loading = _ridge(features, log_normalize(counts, self.totals, self.scale))
        level = _expected(self.surroundings, loading, self.depth).mean(axis=0)
        mean = np.asarray(counts.mean(axis=0)).ravel()
        return RidgeDenoiser(loading=loading, factor=np.divide(mean, level, out=np.zeros_like(level), where=level > 0))

    def denoise(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Return denoised counts (N, F): what a spot's context expects, at the spot's own depth."""
        return self.fit_denoising(counts).at(self.surroundings, self.depth)


def _expected(surroundings: np.ndarray, loading: np.ndarray, depth: np.ndarray) -> np.ndarray:
    return np.expm1(np.clip(surroundings @ loading, 0, 15)) * depth[:, None]


def _with_intercept(*features: np.ndarray) -> np.ndarray:
    """Return features of N spots side by side, ones before them, shape (N, C + 1)."""
    return np.column_stack([np.ones(len(features[0])), *features]).astype(np.float64, copy=False)


def _ridge(x: np.ndarray, fields: sparse.csr_matrix) -> np.ndarray:
    """Return ridge coefficients (C + 1, F) of fields (N, F) on features (N, C + 1), the intercept all but free."""
    ridge = np.eye(x.shape[1])
    ridge[0, 0] = 1e-9
    return np.linalg.solve(x.T @ x + ridge, np.asarray(fields.T @ x).T)


def spot_context(components: np.ndarray, latent: np.ndarray, places: np.ndarray) -> sparse.csr_matrix:
    """Return the (N, N) matrix that averages a spot's neighbors: half in space, half in expression.

    Parameters
    ----------
    components, latent
        Features of the spots, shape (N, P) and (N, D): neighbors in expression are sought in the leading components
        and in the latent, a quarter of the weight each.
    places
        Spot centers in pitches, shape (N, 2).
    """
    near = mean_of_near(places)
    if components.shape[1] == 0:  # too few spots or genes to tell what is alike
        return near
    alike = mean_of_alike(components[:, :_LEADING]) + mean_of_alike(latent)
    return sparse.csr_matrix(alike / 4 + near / 2)


def log_normalize(counts: sparse.csr_matrix, totals: np.ndarray, scale: float) -> sparse.csr_matrix:
    """Return log(1 + counts / total * scale), sparse."""
    factor = np.divide(scale, totals, out=np.zeros(len(totals)), where=totals > 0)
    normalized = sparse.csr_matrix(sparse.diags(factor) @ counts, dtype=np.float64)
    return normalized.log1p()
