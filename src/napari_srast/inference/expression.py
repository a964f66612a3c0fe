"""Compute the expression of a run's genes tile by tile, next to its counts.

The estimate combines the intensity field of the slide, the histology if it is used, the counts of the spots
(:mod:`napari_srast.calibration.expression`), and the ratios of the run where these differ from the field's own. It
depends on the spots and on the pixel only, so that neither tiles nor a region change a number.

Shape legend: N spots, Q pixels of the result, q pixels of a tile, S sample points, G genes of the run, E genes with
expression, P programs of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.calibration.expression import correction_width, fit_shapes, log_corrections, scale_to_counts
from napari_srast.core.expression_factors import ExpressionFactors
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.result import UpsampleMetadata
from napari_srast.core.sinks import ResultPlan, ResultSink
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import PixelImageEvidence
from napari_srast.histology.features import disk_offsets
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod
from napari_srast.inference.slide_intensity import fit_slide_intensity, measured_area
from napari_srast.interpolation.interpolator import gaussian_weights
from napari_srast.models.intensity import FittedIntensity, GeneLoadings, PixelIntensity

__all__ = ["ExpressionModel", "ExpressionSink", "fit_expression"]

_SPOT_SAMPLES = 7  # points that represent the measured area of a spot
_MAX_SHAPE_SPOTS = 2_000  # that the shapes of the genes are fitted to
_N_AROUND = 64  # nearest spots of a spot: more than any of its pixels reads
_VALUES_PER_BLOCK = 2_000_000  # points x genes that are computed together
_MAX_FACTOR_PIXELS = 4_000_000  # of a result that stores factors of the genes without expression


@dataclass(frozen=True, kw_only=True, eq=False)
class _Field:
    """The intensity field of the genes with expression, with the evidence of the histology.

    Parameters
    ----------
    fitted, loadings, counts
        Intensity of the slide, loadings of the genes, and their counts in all spots, float32, shape (N, E).
    image_loadings
        Loadings of the genes on the programs of the image, shape (P, E); None without.
    image_shift
        Log factor of each gene that gives the field with the image the level of the field without, shape (E,).
    """

    fitted: FittedIntensity
    loadings: GeneLoadings
    counts: np.ndarray
    image_loadings: np.ndarray | None = None
    image_shift: np.ndarray | None = None

    def log_values(self, layout: SpotPixelMap, spots: np.ndarray, image: PixelImageEvidence | None) -> np.ndarray:
        """Return the log field in pixels, minus infinity on bare glass, shape (q, E).

        Parameters
        ----------
        layout
            Some spots around the pixels, and the pixels.
        spots
            These spots as indices into the slide's.
        image
            Evidence of the histology in the pixels; None without.
        """
        pixels = PixelIntensity(self.fitted.model, layout, self.fitted.fields[spots])
        field = pixels.log_intensities(self.counts[spots], self.loadings)
        if image is None or self.image_loadings is None or self.image_shift is None:
            return field
        pooled = image.weights.others * field + image.log_rates(self.image_loadings) - self.image_shift
        field = np.where(image.covered(layout)[:, None], pooled, field)
        field[image.background] = -np.inf
        return field


class _SpotsAround:
    """Restricts a slide to the spots that some pixels need, so that the cost of a tile does not grow with the slide.

    Parameters
    ----------
    spots
        All spot centers, shape (N, 2).
    pitch
        Distance between neighboring spots.
    """

    def __init__(self, spots: np.ndarray, pitch: float) -> None:
        self._spots = spots
        self._pitch = pitch
        self._tree = cKDTree(spots)
        self._nearest = np.arange(1, min(_N_AROUND, len(spots)) + 1)

    def of_spots(self, spots: np.ndarray) -> np.ndarray:
        """Return some spots and those around them, sorted."""
        if len(spots) == len(self._spots):
            return np.arange(len(spots))
        return np.unique(self._tree.query(self._spots[spots], k=self._nearest)[1])

    def part(self, pixels: np.ndarray, parent: np.ndarray) -> tuple[SpotPixelMap, np.ndarray]:
        """Return the map of some pixels and the spots around them, and these spots as indices into all."""
        spots = self.of_spots(np.unique(parent))
        layout = SpotPixelMap(
            spots=self._spots[spots], pixels=pixels, parent=np.searchsorted(spots, parent), pitch=self._pitch
        )
        return layout, spots


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpressionModel:
    """Everything that the expression of a tile needs.

    Parameters
    ----------
    columns
        Genes with expression, as ascending indices into the run's genes, shape (E,).
    n_genes
        Number of genes of the run, G.
    field
        The field of these genes.
    log_scale
        Log factor of each gene that converts its field to counts of a pixel, shape (E,).
    corrections
        Log corrections of the spots around the result, 0 elsewhere, float32, shape (N, E).
    width
        Standard deviation of the kernel that smooths them, in pitches.
    layout
        All spots, and the pixels of the result.
    around
        Finds the spots around a tile.
    image
        Evidence of the histology in these pixels; None without.
    uses_ratios
        Whether the ratios of the run's counts refine the field: not if they are samples.
    loadings
        Names of all genes of the slide and their loadings on the programs, shape (P, all genes); then the last P fields
        are programs. None if all genes have expression.
    """

    columns: np.ndarray
    n_genes: int
    field: _Field
    log_scale: np.ndarray
    corrections: np.ndarray
    width: float
    layout: SpotPixelMap
    around: _SpotsAround
    image: PixelImageEvidence | None
    uses_ratios: bool
    loadings: tuple[np.ndarray, np.ndarray] | None = None

    def predict(self, rows: np.ndarray, counts: sparse.csr_matrix) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Compute the expression of a tile.

        Parameters
        ----------
        rows
            Rows of the result that the tile's pixels have; all pixels of each of their spots, shape (q,).
        counts
            Upsampled counts of the pixels, shape (q, G).

        Returns
        -------
        expression
            Expression in the unit of the counts, float32 CSR, shape (q, G), with entries for the genes with expression.
        activities
            Expected counts of the programs, float32, shape (q, P); P is 0 without ``loadings``.
        """
        layout, spots = self.around.part(self.layout.pixels[rows], self.layout.parent[rows])
        image = None if self.image is None else self.image.select_pixels(rows)
        log_field = self.field.log_values(layout, spots, image)
        smooth = gaussian_weights(layout, self.width)
        values = np.exp(log_field + self.log_scale + smooth @ self.corrections[spots])
        n_pixels, n_columns = len(rows), len(self.columns)
        of_genes = values[:, :n_columns]
        if self.uses_ratios:
            of_genes *= self._ratio_over_field(counts[:, self.columns].toarray(), log_field[:, :n_columns], layout)
        expression = sparse.csr_matrix(
            (
                of_genes.astype(np.float32).ravel(),
                np.tile(self.columns.astype(np.int32), n_pixels),
                np.arange(n_pixels + 1) * n_columns,
            ),
            shape=(n_pixels, self.n_genes),
        )
        return expression, values[:, n_columns:].astype(np.float32)

    def _ratio_over_field(self, counts: np.ndarray, log_field: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Return the ratios of the counts over those of the field, 1 where a spot has no counts, shape (q, E)."""
        of_field = layout.normalize(np.exp(log_field - log_field.max(axis=0, initial=-np.inf)))
        total = (layout.membership @ counts)[layout.parent]
        known = (total > 0) & (of_field > 0)
        return np.where(known, counts / np.where(known, total * of_field, 1.0), 1.0)


class ExpressionSink(ResultSink[UpsampleMetadata]):
    """Add the expression to every tile that goes to another sink.

    Parameters
    ----------
    sink
        The other sink.
    model
        Computes the expression.
    """

    def __init__(self, sink: ResultSink, model: ExpressionModel) -> None:
        self._sink = sink
        self._model = model
        n_programs = 0 if model.loadings is None else len(model.loadings[1])
        self._activities = np.zeros((model.layout.n_pixels, n_programs), dtype=np.float32)

    def begin(self, plan: ResultPlan) -> None:
        """Prepare the other sink."""
        self._sink.begin(plan)

    def add(
        self,
        rows: np.ndarray,
        counts: sparse.csr_matrix,
        std: sparse.csr_matrix | None,
        expression: sparse.csr_matrix | None = None,
        expression_std: sparse.csr_matrix | None = None,
    ) -> None:
        """Compute the expression of a tile and pass it on; counts that the other sink will refuse get none."""
        if counts.shape[0] == len(rows) and np.isfinite(counts.data).all():
            expression, self._activities[rows] = self._model.predict(rows, counts)
        else:
            expression = sparse.csr_matrix(counts.shape, dtype=np.float32)
        self._sink.add(rows, counts, std, expression, expression_std)

    def finish(self, metadata: UpsampleMetadata, monitor: RunMonitor = NO_MONITOR) -> UpsampleMetadata:
        """Complete the other sink."""
        return self._sink.finish(metadata, monitor)

    @property
    def factors(self) -> ExpressionFactors | None:
        """Factors of the other genes of the slide, after the last tile; None if the model has no loadings."""
        if self._model.loadings is None:
            return None
        genes, loadings = self._model.loadings
        return ExpressionFactors(genes=genes, loadings=loadings, activities=self._activities)


def fit_expression(job: UpsampleJob, method: PreparedMethod, columns: np.ndarray) -> ExpressionModel:
    """Fit the expression of some genes of a job.

    Parameters
    ----------
    job
        The job.
    method
        Its prepared method.
    columns
        Genes with expression, as ascending indices into the run's genes, shape (E,).
    """
    fitted = method.intensity or fit_slide_intensity(job)
    gene_counts = sparse.csc_matrix(job.counts[:, job.columns[columns]])
    loadings = None
    if len(columns) < job.counts.shape[1] and job.target_pixels.sum() <= _MAX_FACTOR_PIXELS:
        loadings = job.genes, fitted.program_loadings(job.counts)
        gene_counts = sparse.csc_matrix(sparse.hstack([gene_counts, sparse.csc_matrix(fitted.activity)]))
    field = _Field(
        fitted=fitted, loadings=fitted.loadings(gene_counts), counts=gene_counts.toarray().astype(np.float32)
    )
    around = _SpotsAround(job.layout.spots, job.layout.pitch)
    if method.image is not None and method.image_predictor is not None:
        field = _with_image(field, job, method, gene_counts)
    target = job.layout.parent[job.target_pixels]
    spots = np.union1d(around.of_spots(np.unique(target)), _shape_spots(len(job.centers)))
    area = measured_area(job.spot_area, job.lattice)
    means = _spot_means(field, job, method, around, spots)
    counts = field.counts[spots].astype(np.float64)
    sample = np.isin(spots, _shape_spots(len(job.centers)))
    scale = scale_to_counts(means[sample], counts[sample])
    means *= scale
    shapes = fit_shapes(means[sample], counts[sample])
    corrections = np.zeros(field.counts.shape, dtype=np.float32)
    corrections[spots] = log_corrections(means, counts, shapes)
    n_pixels = job.layout.n_pixels_per_spot
    return ExpressionModel(
        columns=columns,
        n_genes=len(job.columns),
        field=field,
        log_scale=np.log(np.maximum(scale, 1e-300) / np.median(n_pixels[n_pixels > 0])),
        corrections=corrections,
        width=correction_width(area / job.lattice.pitch**2),
        layout=SpotPixelMap(
            spots=job.layout.spots,
            pixels=job.layout.pixels[job.target_pixels],
            parent=target,
            pitch=job.layout.pitch,
        ),
        around=around,
        image=method.image,
        uses_ratios=job.settings.mode != "integer",
        loadings=loadings,
    )


def _with_image(field: _Field, job: UpsampleJob, method: PreparedMethod, gene_counts: sparse.csc_matrix) -> _Field:
    """Add the histology to a field, with the level that the field has without it at the spot centers."""
    assert method.image_predictor is not None
    sample = _shape_spots(len(job.centers))
    layout = SpotPixelMap(
        spots=job.layout.spots, pixels=job.layout.spots[sample], parent=sample, pitch=job.layout.pitch
    )
    image = method.image_predictor.predict(layout)
    loadings = method.image_predictor.field_loadings(gene_counts.tocsr()).astype(np.float64)
    used = image.covered(layout) & ~image.background
    all_spots = np.arange(layout.n_spots)
    change = (image.weights.others - 1) * field.log_values(layout, all_spots, None) + image.log_rates(loadings)
    shift = change[used].mean(axis=0) if used.any() else np.zeros(loadings.shape[1])
    return _Field(
        fitted=field.fitted,
        loadings=field.loadings,
        counts=field.counts,
        image_loadings=loadings,
        image_shift=shift,
    )


def _shape_spots(n_spots: int) -> np.ndarray:
    """Return the spots that the shapes of the genes are fitted to, spread over the slide."""
    return np.unique(np.linspace(0, n_spots - 1, min(n_spots, _MAX_SHAPE_SPOTS)).astype(np.int64))


def _spot_means(
    field: _Field, job: UpsampleJob, method: PreparedMethod, around: _SpotsAround, spots: np.ndarray
) -> np.ndarray:
    """Return the mean of the field over the measured area of some spots, shape (number of spots, E)."""
    offsets = disk_offsets(measured_area(job.spot_area, job.lattice), _SPOT_SAMPLES)
    n_genes = field.counts.shape[1]
    means = np.empty((len(spots), n_genes))
    size = max(1, _VALUES_PER_BLOCK // (_SPOT_SAMPLES * n_genes))
    predictor = None if method.image is None else method.image_predictor
    for start in range(0, len(spots), size):
        job.monitor.check_canceled()
        block = spots[start : start + size]
        points = (job.layout.spots[block][:, None] + offsets).reshape(-1, 2)
        parent = np.repeat(block, _SPOT_SAMPLES)
        image = None
        if predictor is not None:
            everywhere = SpotPixelMap(spots=job.layout.spots, pixels=points, parent=parent, pitch=job.layout.pitch)
            image = predictor.predict(everywhere)
        values = np.exp(field.log_values(*around.part(points, parent), image))
        means[start : start + size] = values.reshape(len(block), _SPOT_SAMPLES, n_genes).mean(axis=1)
    return means
