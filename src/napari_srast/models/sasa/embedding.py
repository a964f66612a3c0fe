"""Hold the embedding of a slide's spots, and derive gene loadings and denoised fields from it.

General features of spots are the paper's (SRast, arXiv 2602.10644); the denoiser, a ridge regression on them, is this
project's choice (docs/method.md).

Shape legend: N spots, n some of them, G genes, F fields, P components, D latent width, C = P + D features of the
denoiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS, add_up, row_blocks
from napari_srast.geometry.neighbors import expression_neighbors
from napari_srast.interpolation.denoising import N_SIMILAR, expression_mean_matrix, spatial_mean_matrix

if TYPE_CHECKING:
    from napari_srast.models.sasa.config import SasaConfig

__all__ = ["RidgeDenoiser", "SlideEmbedding", "SpotEmbedding", "log_normalize", "similar_spots", "spot_context"]

_N_LEADING = 10  # components for the search of expression neighbors: distances in more are mostly noise


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeDenoiser:
    """Denoise fields at any spot of the slide that the regression was fitted to.

    Denoised counts are ``expm1(m_i . beta_f) s_i c_f`` with the neighborhood mean m, the coefficients beta, the size
    factor s and the field scale c (this project's choice, docs/method.md).

    Parameters
    ----------
    coefficients
        Ridge coefficients beta of log-normalized counts, intercept first, shape (C + 1, F).
    field_scale
        Factor c that restores the total of each field over the slide, shape (F,).
    """

    coefficients: np.ndarray
    field_scale: np.ndarray

    def __getitem__(self, fields: slice) -> RidgeDenoiser:
        """Return the denoiser of some fields."""
        return RidgeDenoiser(coefficients=self.coefficients[:, fields], field_scale=self.field_scale[fields])

    @classmethod
    def join(cls, parts: Sequence[RidgeDenoiser]) -> RidgeDenoiser:
        """Concatenate the denoisers of blocks of fields."""
        return cls(
            coefficients=np.concatenate([p.coefficients for p in parts], axis=1),
            field_scale=np.concatenate([p.field_scale for p in parts]),
        )

    def denoise(self, neighborhood_mean: np.ndarray, size_factor: np.ndarray) -> np.ndarray:
        """Compute denoised counts of n spots.

        Parameters
        ----------
        neighborhood_mean
            Features averaged over the neighbors of each spot, intercept first, shape (n, C + 1).
        size_factor
            Total counts of each spot relative to the median total, shape (n,).

        Returns
        -------
        np.ndarray
            Shape (n, F), at least 0.
        """
        return _expected_counts(neighborhood_mean, self.coefficients, size_factor) * self.field_scale


@dataclass(frozen=True, kw_only=True, eq=False)
class SpotEmbedding:
    """Hold the embedding of n spots of a slide, as a tile needs it.

    Parameters
    ----------
    unit_scaled_latent
        Latents with a mean square length of at most 1 over the slide, shape (n, D).
    totals
        Total counts, shape (n,).
    neighborhood_mean
        Denoiser features averaged over the neighbors of each spot, shape (n, C + 1).
    size_factor
        Total counts relative to the slide's median total, shape (n,).
    """

    unit_scaled_latent: np.ndarray
    totals: np.ndarray
    neighborhood_mean: np.ndarray
    size_factor: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideEmbedding:
    """Hold the embedding of all spots of a slide: normalized latents and what is computed from them.

    Parameters
    ----------
    latent
        Latents after Latent Norm, shape (N, D): mean 0, the variance of a direction is its fraction of signal.
    totals
        Total counts of each spot, shape (N,).
    components
        Principal components of log-normalized counts, shape (N, P).
    raw_latent
        Posterior means before Latent Norm, shape (N, D).
    context
        Matrix that averages over the neighbors of a spot in space and in expression, shape (N, N); see
        :func:`spot_context`.
    config
        Configuration of the fit.
    """

    latent: np.ndarray
    totals: np.ndarray
    components: np.ndarray
    raw_latent: np.ndarray
    context: sparse.csr_matrix
    config: SasaConfig

    @property
    def median_total(self) -> float:
        """Median total counts of the spots with counts, to which counts are normalized; 1 for an empty slide."""
        positive = self.totals[self.totals > 0]
        return float(np.median(positive)) if len(positive) else 1.0

    @cached_property
    def unit_scaled_latent(self) -> np.ndarray:
        """Latents, shape (N, D), scaled down where their mean square length is above 1."""
        return self.latent / np.sqrt(max(1.0, float((self.latent**2).sum(axis=1).mean())))

    @cached_property
    def neighborhood_mean(self) -> np.ndarray:
        """Components and latents averaged over the neighbors of each spot, intercept first, shape (N, C + 1).

        Float32 on a large slide, where this is the largest array that a run holds besides the counts.
        """
        dtype = np.float32 if len(self.totals) > MAX_WHOLE_ROWS else np.float64
        return np.asarray(self.context @ _with_intercept(self.components, self.latent, dtype=dtype), dtype=dtype)

    @property
    def size_factor(self) -> np.ndarray:
        """Total counts relative to the median total, shape (N,)."""
        return self.totals / self.median_total

    def gene_loadings(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Fit the loading of each gene: ridge regression of log-normalized counts on the latents.

        Parameters
        ----------
        counts
            Raw counts, shape (N, G).

        Returns
        -------
        np.ndarray
            Intercept and loading ``w_g`` of each gene, shape (D + 1, G).
        """
        return self._ridge(counts, (self.latent,), np.arange(len(self.totals)))

    def select_spots(self, spots: np.ndarray) -> SpotEmbedding:
        """Return the embedding of some spots, given as indices or as a mask."""
        return SpotEmbedding(
            unit_scaled_latent=self.unit_scaled_latent[spots],
            totals=self.totals[spots],
            neighborhood_mean=self.neighborhood_mean[spots],
            size_factor=self.size_factor[spots],
        )

    def fit_denoiser(self, counts: sparse.csr_matrix, spots: np.ndarray | None = None) -> RidgeDenoiser:
        """Fit the denoiser of fields.

        Log-normalized counts are regressed (ridge) on components and latents. The regression is evaluated at the mean
        of these over the spot's neighbors in space and in expression (``context``), and scaled so that each field keeps
        its total (this project's choice, docs/method.md).

        Parameters
        ----------
        counts
            Counts of the fields, shape (N, F), or those of ``spots`` only.
        spots
            Indices of the spots to fit to, a sample of a large slide. Default: all.
        """
        spots = np.arange(len(self.totals)) if spots is None else spots
        coefficients = self._ridge(counts, (self.components, self.latent), spots)
        n_spots, size_factor = len(spots), self.size_factor
        sums = (
            _expected_counts(self.neighborhood_mean[spots[rows]], coefficients, size_factor[spots[rows]]).sum(axis=0)
            for rows in row_blocks(n_spots, n_spots * counts.shape[1])
        )
        expected = add_up(sums) / n_spots
        mean = np.asarray(counts.mean(axis=0)).ravel()
        return RidgeDenoiser(
            coefficients=coefficients,
            field_scale=np.divide(mean, expected, out=np.zeros_like(expected), where=expected > 0),
        )

    def _ridge(self, counts: sparse.csr_matrix, features: tuple[np.ndarray, ...], spots: np.ndarray) -> np.ndarray:
        """Return ridge coefficients (C + 1, F) of the log-normalized counts (n, F) of some spots on their features.

        The intercept has no penalty. Features are those of all spots, shape (N, C) in total.
        """
        counts, n_spots, scale = counts.tocsr(), len(spots), self.median_total
        products = []
        for rows in row_blocks(n_spots, counts.nnz + n_spots * sum(one.shape[1] for one in features)):
            x = _with_intercept(*(one[spots[rows]] for one in features))
            block = counts if len(x) == n_spots else counts[rows]
            logged = log_normalize(block, self.totals[spots[rows]], scale)
            products.append((x.T @ x, np.asarray(logged.T @ x).T))
        ridge = np.eye(products[0][0].shape[0])
        ridge[0, 0] = 1e-9
        gram, right = (add_up(part) for part in zip(*products, strict=True))
        return np.linalg.solve(gram + ridge, right)

    def denoise(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Fit the denoiser to the counts of fields and apply it to all spots, shape (N, F)."""
        return self.fit_denoiser(counts).denoise(self.neighborhood_mean, self.size_factor)


def _expected_counts(neighborhood_mean: np.ndarray, coefficients: np.ndarray, size_factor: np.ndarray) -> np.ndarray:
    values = neighborhood_mean @ coefficients
    np.expm1(np.clip(values, 0, 15, out=values), out=values)
    values *= size_factor[:, None]
    return values


def _with_intercept(*features: np.ndarray, dtype: type[np.floating] = np.float64) -> np.ndarray:
    """Concatenate features of N spots after a column of ones, shape (N, C + 1)."""
    return np.column_stack([np.ones(len(features[0]), dtype=dtype), *features]).astype(dtype, copy=False)


def similar_spots(components: np.ndarray, n_similar: int = N_SIMILAR) -> np.ndarray:
    """Find the spots with the most similar leading components.

    Parameters
    ----------
    components
        Principal components of the spots, shape (N, P).
    n_similar
        Number of spots to find, besides the spot itself.

    Returns
    -------
    np.ndarray
        Indices, shape (N, M) with M one more than ``n_similar``, or N if that is less.
    """
    return expression_neighbors(components[:, :_N_LEADING], min(n_similar + 1, len(components)))


def spot_context(
    components: np.ndarray, latent: np.ndarray, centers: np.ndarray, similar: np.ndarray | None = None
) -> sparse.csr_matrix:
    """Build the matrix that averages over a spot's neighbors: half in space, half in expression.

    Neighbors in expression are searched in the leading components and in the latents, with a quarter of the weight each
    (this project's choice, docs/method.md).

    Parameters
    ----------
    components
        Principal components of the spots, shape (N, P). With P = 0 only neighbors in space are used.
    latent
        Latents of the spots, shape (N, D).
    centers
        Spot centers in pitches, shape (N, 2).
    similar
        The :func:`similar_spots`, if they were found before.

    Returns
    -------
    scipy.sparse.csr_matrix
        Shape (N, N); rows sum to 1.
    """
    spatial = spatial_mean_matrix(centers)
    if components.shape[1] == 0:  # too few spots or genes to compare expression
        return spatial
    similar = similar_spots(components) if similar is None else similar
    expression = expression_mean_matrix(components, similar) + expression_mean_matrix(latent)
    return sparse.csr_matrix(expression / 4 + spatial / 2)


def log_normalize(counts: sparse.csr_matrix, totals: np.ndarray, scale: float) -> sparse.csr_matrix:
    """Compute ``log(1 + counts / total * scale)``, sparse.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).
    totals
        Total counts of each spot, shape (N,); spots without counts stay 0.
    scale
        Total counts to which every spot is normalized.

    Returns
    -------
    scipy.sparse.csr_matrix
        Float64, shape (N, G). It shares its indices with ``counts`` if these have a canonical format.
    """
    factor = np.divide(scale, totals, out=np.zeros(len(totals)), where=totals > 0)
    counts = sparse.csr_matrix(counts)
    if not counts.has_canonical_format:
        counts = counts.copy()
        counts.sum_duplicates()
    values = np.repeat(factor, np.diff(counts.indptr))
    values *= counts.data
    np.log1p(values, out=values)
    return sparse.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)
