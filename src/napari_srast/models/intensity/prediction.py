"""Predict the intensity of genes in pixels from three views of the spots' counts.

Each view is a Gaussian process whose spots measure the mean over their disks
(:class:`~napari_srast.interpolation.gaussian_process.CovarianceGrid`):

- *genes*: the log1p counts of the gene itself;
- *components*: the leading components of the noise-whitened log1p counts of many genes, which support each other;
- *programs*: the activities of Poisson gene programs, at two resolutions.

Totals and composition are combined separately. With ``g``, ``c`` and ``p`` the log intensities of the views, ``T_gc``
and ``T_p`` the log totals over the reference genes that ``(g + c) / 2`` and ``p`` imply, and ``d`` a process of the
spots' total counts,

``log F = 0.6 T_gc + 0.2 T_p + 0.2 d + 1.1 ((g + c) / 2 - T_gc + p - T_p) / 2``.

The weights were chosen on 28 cases of 13 studies, where scores change little around them (docs/results/fine_truth.md).

Shape legend: N spots, n spots around some pixels, Q pixels, R reference genes, C components, P programs, F genes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation.gaussian_process import CovarianceGrid, FittedProcess
from napari_srast.interpolation.local_kriging import LocalKriging

__all__ = ["GeneLoadings", "IntensityModel", "PixelIntensity", "SharedViews"]

_TOTAL_WEIGHTS = {"genes and components": 0.6, "programs": 0.2, "total": 0.2}
_COMPOSITION_WEIGHT = 0.55  # of each of the two views of the composition
_MIN_INTENSITY = 1e-3  # counts, before the logarithm
_CACHE_BYTES = 1 << 27  # of kriging weights


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneLoadings:
    """What the views need of some genes besides their counts in the spots around.

    Parameters
    ----------
    process
        Process of the log1p counts of each gene, shape (F,).
    components
        Loadings on the components, shape (C, F).
    programs
        Loadings on the programs, shape (P, F).
    """

    process: FittedProcess
    components: np.ndarray
    programs: np.ndarray

    def __getitem__(self, genes: slice | np.ndarray) -> GeneLoadings:
        """Return the loadings of some genes."""
        return GeneLoadings(
            process=self.process[genes], components=self.components[:, genes], programs=self.programs[:, genes]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class IntensityModel:
    """The part of the fitted intensity that all pixels share; see :mod:`napari_srast.models.intensity.fitting`.

    Parameters
    ----------
    grid
        Covariances, from which ``process`` selects.
    reference
        Loadings of the reference genes, which represent all genes in the totals, shape (R,).
    process
        Processes of the fields: log1p counts of the reference genes, scores of the components, log1p activities of the
        programs, and the log1p total, shape (R + C + P + 1,).
    in_single_precision
        Whether intensities are computed in float32, which takes less time: on large slides. Small slides keep
        their bytes.
    """

    grid: CovarianceGrid
    reference: GeneLoadings
    process: FittedProcess
    in_single_precision: bool = False

    @property
    def n_reference(self) -> int:
        """Number of reference genes, R."""
        return self.reference.components.shape[1]

    @property
    def n_components(self) -> int:
        """Number of components, C."""
        return self.reference.components.shape[0]

    @property
    def dtype(self) -> type[np.floating]:
        """Type in which intensities are computed."""
        return np.float32 if self.in_single_precision else np.float64


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedViews:
    """What all genes share in some pixels: the part of the intensity that takes time to compute.

    Parameters
    ----------
    components
        Predicted scores of the components, shape (Q, C).
    programs
        Predicted activities of the programs, shape (Q, P).
    totals
        Log total, less the totals of both views of the composition, shape (Q,).
    """

    components: np.ndarray
    programs: np.ndarray
    totals: np.ndarray


class PixelIntensity:
    """Intensities in the pixels of one layout.

    Parameters
    ----------
    model
        The model of the slide.
    layout
        Spots around the pixels, and the pixels.
    fields
        Centered fields of these spots, shape (n, R + C + P + 1), or the ``shared`` views of the same pixels.
    """

    def __init__(self, model: IntensityModel, layout: SpotPixelMap, fields: np.ndarray | SharedViews) -> None:
        self._model = model
        self._dtype = model.dtype
        self._kriging = LocalKriging(layout)
        self._weights: dict[int, sparse.csr_matrix] = {}
        self.shared = fields if isinstance(fields, SharedViews) else self._predict_shared(fields)

    def _predict_shared(self, fields: np.ndarray) -> SharedViews:
        """Predict the shared views from the fields of the spots."""
        model = self._model
        n_reference, n_components = model.n_reference, model.n_components
        predicted = self._krige(fields, model.process.point)
        own = predicted[:, :n_reference]
        # A copy, so that later products do not depend on whether the views were stored in a file.
        components = np.ascontiguousarray(predicted[:, n_reference : n_reference + n_components])
        activity = predicted[:, n_reference + n_components : -1] + model.process.mean[n_reference + n_components : -1]
        programs = np.maximum(np.expm1(activity), 0.0) + _MIN_INTENSITY
        mixed = self._mix_genes_and_components(own, components, model.reference)
        log_total = np.log(np.exp(mixed).sum(axis=1))
        log_total_programs = np.log(programs @ model.reference.programs.sum(axis=1).astype(self._dtype))
        totals = (
            _TOTAL_WEIGHTS["genes and components"] * log_total
            + _TOTAL_WEIGHTS["programs"] * log_total_programs
            + _TOTAL_WEIGHTS["total"] * predicted[:, -1]
            - _COMPOSITION_WEIGHT * (log_total + log_total_programs)
        )
        return SharedViews(components=components, programs=programs, totals=totals)

    def without_weights(self) -> PixelIntensity:
        """Return a copy that has computed no kriging weights: it is small, and threads do not share its weights."""
        other = copy.copy(self)
        other._weights = {}
        return other

    def log_intensities(self, counts: np.ndarray, genes: GeneLoadings) -> np.ndarray:
        """Predict log intensities, up to a constant for each gene.

        Parameters
        ----------
        counts
            Counts of the genes in the layout's spots, shape (n, F).
        genes
            Loadings of the same genes.

        Returns
        -------
        np.ndarray
            Float64, or float32 if the model is in single precision, shape (Q, F).
        """
        centered = np.log1p(counts.astype(np.float32)) - genes.process.mean
        own = self._krige(centered, genes.process.point)
        mixed = self._mix_genes_and_components(own, self.shared.components, genes)
        programs = np.log(self.shared.programs @ genes.programs.astype(self._dtype, copy=False) + 1e-9)
        return np.asarray(self.shared.totals[:, None] + _COMPOSITION_WEIGHT * (mixed + programs))

    def _mix_genes_and_components(self, own: np.ndarray, components: np.ndarray, genes: GeneLoadings) -> np.ndarray:
        """Return the mean log intensity of both views, given the logs (Q, F) that the genes' own processes predict."""
        mean = genes.process.mean
        views = (own + mean, components @ genes.components.astype(self._dtype, copy=False) + mean)
        if self._dtype == np.float32:
            return np.asarray(sum(map(_log_counts_in_place, views)) / np.float32(2))
        return np.asarray(sum(np.log(np.maximum(np.expm1(view), 0.0) + _MIN_INTENSITY) for view in views) / 2)

    def _krige(self, fields: np.ndarray, point: np.ndarray) -> np.ndarray:
        """Predict centered fields (n, F) by their points of the grid, shape (Q, F)."""
        fields = np.asarray(fields, dtype=np.float32)
        values: np.ndarray | None = None
        for index in np.unique(point):
            of_point = point == index
            weights = self._weights_at(int(index))
            if values is None:
                values = np.empty((weights.shape[0], fields.shape[1]), dtype=self._dtype)
            values[:, of_point] = weights @ fields[:, of_point]
        assert values is not None
        return values

    def _weights_at(self, point: int) -> sparse.csr_matrix:
        """Return the kriging weights of a point of the grid, from a cache of limited size."""
        if point not in self._weights:
            grid = self._model.grid
            width, noise = grid.parameters(point)
            weights = self._kriging.weights(grid.between_spots(width), noise, to_pixels=grid.to_pixels(width))
            capacity = _CACHE_BYTES // max(1, weights.data.nbytes + weights.indices.nbytes)
            while self._weights and len(self._weights) >= capacity:
                self._weights.pop(next(iter(self._weights)))
            self._weights[point] = weights
        return self._weights[point]


def _log_counts_in_place(log1p_counts: np.ndarray) -> np.ndarray:
    """Return the log intensities of a view, given float32 log1p counts, which are overwritten.

    Processors compute exp and log of float32 many times as fast as expm1; the difference is far below the smallest
    intensity.
    """
    counts = np.exp(log1p_counts, out=log1p_counts)
    counts -= np.float32(1 - _MIN_INTENSITY)
    return np.log(np.maximum(counts, np.float32(_MIN_INTENSITY), out=counts), out=counts)
