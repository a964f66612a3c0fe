"""Fit the intensity of a slide: processes, components and programs of its reference genes.

Shape legend: N spots, n spots around some pixels, G genes, R reference genes, C components, P programs, F genes of a
block.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS, row_blocks, spread_sample
from napari_srast._utils.threads import map_on_cores
from napari_srast.core.limits import MAX_REFERENCE_GENES, MAX_REFERENCE_VALUES
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation.gaussian_process import CovarianceGrid, FittedProcess, GaussianProcessGrid
from napari_srast.models.intensity.prediction import GeneLoadings, IntensityModel, PixelIntensity
from napari_srast.models.programs.factorization import fit_activities

__all__ = ["FittedIntensity", "fit_intensity"]

_WIDTHS = (0.7, 1.0, 1.5, 2.5, 4.0, 8.0)
_NOISES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_MAX_COMPONENTS = 64
_PROGRAMS = (8, 20)  # of the two factorizations
_MAX_PROGRAM_SPOTS = 2_000  # that a factorization is fitted to; the activities of other spots are fitted afterwards
_ITERATIONS = 100
_LOADING_ITERATIONS = 30
_PSEUDOCOUNT = 0.05  # of each loading
_MAX_LOADING_SPOTS = 2_000  # that the loadings of all genes of a slide are fitted to
_ALL_GENES_ITERATIONS = 10
_VALUES_PER_BLOCK = 4_000_000  # spots x genes


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedIntensity:
    """Intensity of a slide.

    Parameters
    ----------
    model
        The part that all pixels share.
    fields
        Centered fields of the spots, float32, shape (N, R + C + P + 1); see
        :class:`~napari_srast.models.intensity.prediction.IntensityModel`.
    activity
        Activities of the programs in the spots, in counts, shape (N, P).
    selector
        Selects the process of a gene.
    """

    model: IntensityModel
    fields: np.ndarray
    activity: np.ndarray
    selector: GaussianProcessGrid

    def loadings(self, counts: sparse.spmatrix) -> GeneLoadings:
        """Fit the loadings of some genes.

        Parameters
        ----------
        counts
            Counts of the genes in all spots, shape (N, F).
        """
        first, n_components = self.model.n_reference, self.model.n_components
        scores = self.fields[:, first : first + n_components].astype(np.float64)
        scale = np.maximum((scores**2).sum(axis=0), 1e-12)[:, None]
        by_gene = sparse.csc_matrix(counts)
        size = int(np.clip(_VALUES_PER_BLOCK // max(by_gene.shape[0], 1), 1, 512))
        processes, components = [], []
        for start in range(0, by_gene.shape[1], size):
            block = np.log1p(by_gene[:, start : start + size].toarray().astype(np.float32))
            mean = block.mean(axis=0, dtype=np.float64).astype(np.float32)
            block -= mean
            processes.append(FittedProcess(point=self.selector.select(block), mean=mean))
            components.append(scores.T @ block / scale)
        return GeneLoadings(
            process=FittedProcess.join(processes),
            components=np.concatenate(components, axis=1),
            programs=_fit_loadings(by_gene, self.activity),
        )

    def in_pixels(self, layout: SpotPixelMap, fields: np.ndarray) -> PixelIntensity:
        """Return the intensity in some pixels.

        Parameters
        ----------
        layout
            Spots around the pixels, and the pixels.
        fields
            The fields of these spots, shape (n, R + C + P + 1).
        """
        return PixelIntensity(self.model, layout, fields)

    def program_loadings(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Fit the loadings of all genes of the slide to the programs in some of the spots; float32, shape (P, G).

        Parameters
        ----------
        counts
            Counts of all spots, shape (N, G).
        """
        n_spots = counts.shape[0]
        sample = np.linspace(0, n_spots - 1, min(n_spots, _MAX_LOADING_SPOTS)).astype(int)
        by_gene = sparse.csr_matrix(counts[sample].T)
        return fit_activities(by_gene, self.activity[sample].T, _ALL_GENES_ITERATIONS).T.astype(np.float32)


def fit_intensity(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    pitch: float,
    measured_area: float,
    *,
    monitor: RunMonitor = NO_MONITOR,
) -> FittedIntensity:
    """Fit the intensity of a slide.

    Parameters
    ----------
    counts, centers
        Counts and centers of all spots, shape (N, G) and (N, 2).
    pitch
        Distance between neighboring spots, in units of ``centers``.
    measured_area
        Area that a spot measures, in squared units of ``centers``.
    monitor
        Asked for cancellation between the steps.
    """
    n_spots = counts.shape[0]
    diameter = 2 * np.sqrt(measured_area / np.pi) / pitch
    grid = CovarianceGrid(widths=_WIDTHS, noises=_NOISES, diameter=float(diameter))
    selector = GaussianProcessGrid(centers, pitch, grid)
    totals = np.asarray(counts.sum(axis=0)).ravel()
    n_reference = int(np.clip(MAX_REFERENCE_VALUES // max(n_spots, 1), 1, MAX_REFERENCE_GENES))
    n_reference = min(n_reference, max(int((totals > 0).sum()), 1))
    reference = np.sort(np.argsort(-totals, kind="stable")[:n_reference])
    reference_counts = counts[:, reference].tocsr()

    logs = np.log1p(reference_counts.toarray().astype(np.float32))
    mean = logs.mean(axis=0, dtype=np.float64).astype(np.float32)
    logs -= mean
    point = selector.select(logs)
    monitor.check_canceled()
    scores = _component_scores(logs, selector.noise_variances(logs, point))
    monitor.check_canceled()
    with warnings.catch_warnings():  # once for all threads, which share the filters
        warnings.simplefilter("ignore", ConvergenceWarning)
        activity = np.concatenate(map_on_cores(lambda n: _fit_activity(reference_counts, n), _PROGRAMS), axis=1)
    monitor.check_canceled()
    others = _other_fields(scores, activity, np.asarray(counts.sum(axis=1), dtype=np.float64).ravel())
    mean_others = others.mean(axis=0, dtype=np.float64).astype(np.float32)
    others -= mean_others
    process = FittedProcess.join(
        [FittedProcess(point=point, mean=mean), FittedProcess(point=selector.select(others), mean=mean_others)]
    )
    scores = others[:, : scores.shape[1]].astype(np.float64)
    model = IntensityModel(
        grid=grid,
        reference=GeneLoadings(
            process=process[:n_reference],
            components=scores.T @ logs / np.maximum((scores**2).sum(axis=0), 1e-12)[:, None],
            programs=_fit_reference_loadings(reference_counts, activity),
        ),
        process=process,
        in_single_precision=n_spots > MAX_WHOLE_ROWS,
    )
    return FittedIntensity(
        model=model,
        fields=np.hstack([logs, others]).astype(np.float32, copy=False),
        activity=activity,
        selector=selector,
    )


def _other_fields(scores: np.ndarray, activity: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return scores (N, C), log1p activities (N, P) and log1p totals (N,) as float32 fields, shape (N, C + P + 1)."""
    fields = np.empty((len(totals), scores.shape[1] + activity.shape[1] + 1), dtype=np.float32)
    fields[:, : scores.shape[1]] = scores
    fields[:, -1] = np.log1p(totals)
    for rows in row_blocks(len(totals), activity.size):
        fields[rows, scores.shape[1] : -1] = np.log1p(activity[rows])
    return fields


def _component_scores(logs: np.ndarray, noise_variances: np.ndarray) -> np.ndarray:
    """Return the scores of the leading components of noise-whitened fields (N, R), shape (N, C)."""
    whitened = logs / np.sqrt(np.maximum(noise_variances, 1e-6)).astype(np.float32)
    gram = (whitened.T @ whitened).astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    n_components = min(_MAX_COMPONENTS, *logs.shape)
    leading = vectors[:, np.argsort(-values, kind="stable")[:n_components]]
    # The sign of an eigenvector is arbitrary; the same slide must give the same bytes.
    leading *= np.where(leading[np.abs(leading).argmax(axis=0), np.arange(n_components)] < 0, -1.0, 1.0)
    return np.asarray(whitened @ leading)


def _fit_activity(counts: sparse.csr_matrix, n_programs: int) -> np.ndarray:
    """Factorize counts (N, R) into Poisson programs and return their activities in counts, shape (N, programs)."""
    n_spots = counts.shape[0]
    sample = np.linspace(0, n_spots - 1, min(n_spots, _MAX_PROGRAM_SPOTS)).astype(int)
    rank = int(min(n_programs, len(sample), counts.shape[1]))
    solver = NMF(
        n_components=rank,
        init="random",
        solver="mu",
        beta_loss="kullback-leibler",
        max_iter=_ITERATIONS,
        tol=0.0,
        random_state=0,
    )
    activity = solver.fit_transform(counts[sample].toarray().astype(np.float64))
    loading = solver.components_
    scale = loading.sum(axis=1)
    if n_spots > len(sample):
        activity = fit_activities(counts, loading, _LOADING_ITERATIONS)
    return np.asarray(activity * scale)


def _fit_reference_loadings(counts: sparse.csr_matrix, activity: np.ndarray) -> np.ndarray:
    """Fit loadings of the reference genes, which have many counts: on a large slide to a sample of its spots."""
    if counts.shape[0] > MAX_WHOLE_ROWS:
        sample = spread_sample(counts.shape[0])
        counts, activity = counts[sample], activity[sample]
    return _fit_loadings(sparse.csc_matrix(counts), activity)


def _fit_loadings(counts: sparse.csc_matrix, activity: np.ndarray) -> np.ndarray:
    """Fit loadings of genes, given their counts (N, F), to activities (N, P); shape (P, F)."""
    fitted = fit_activities(sparse.csr_matrix(counts.T), activity.T, _LOADING_ITERATIONS).T
    return np.asarray(fitted + _PSEUDOCOUNT / np.maximum(activity.sum(axis=0), 1e-12)[:, None])
