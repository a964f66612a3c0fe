"""Compute the expression of a run's genes tile by tile, next to its counts.

The estimate combines the intensity field of the slide, the histology if it is used, the counts of the spots
(:mod:`napari_srast.calibration.expression_posterior`), and the ratios of the run where these differ from the field's
own. It depends on the spots and on the pixel only, so that neither tiles nor a region change a number.

Shape legend: N spots, Q pixels of the result, q pixels of a tile, S sample points, G genes of the run, E genes with
expression, P programs of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast._utils.row_blocks import row_blocks
from napari_srast.calibration.expression_posterior import correction_width, fit_shapes, log_corrections, scale_to_counts
from napari_srast.core.expression_factors import ExpressionFactors
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.result import UpsampleMetadata
from napari_srast.core.sinks import ResultPlan, ResultSink
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import PixelImageEvidence
from napari_srast.inference.expression_field import ExpressionField, SpotsAround, shape_spots, spot_means, with_image
from napari_srast.inference.expression_std import ExpressionScatter, corrected_spots, fit_expression_scatter
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod, TileInput
from napari_srast.inference.slide_intensity import fit_program_loadings, fit_slide_intensity, measured_area
from napari_srast.interpolation.interpolator import gaussian_weights

__all__ = ["ExpressionModel", "ExpressionSink", "fit_expression"]

_MAX_FACTOR_PIXELS = 4_000_000  # of a result that stores factors of the genes without expression


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpressionTile:
    """Expression of a tile.

    Parameters
    ----------
    expression, std
        Expression in the unit of the counts, and its standard deviation, float32 CSR, shape (q, G), with entries for
        the genes with expression; ``std`` is None if it is not computed.
    activities
        Expected counts of the programs, float32, shape (q, P); P is 0 without loadings of other genes.
    """

    expression: sparse.csr_matrix
    std: sparse.csr_matrix | None
    activities: np.ndarray


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
    scatter
        Standard deviations of the expression; None if they are not computed.
    """

    columns: np.ndarray
    n_genes: int
    field: ExpressionField
    log_scale: np.ndarray
    corrections: np.ndarray
    width: float
    layout: SpotPixelMap
    around: SpotsAround
    image: PixelImageEvidence | None
    uses_ratios: bool
    loadings: tuple[np.ndarray, np.ndarray] | None = None
    scatter: ExpressionScatter | None = None

    def predict(
        self, rows: np.ndarray, counts: sparse.csr_matrix, tile_input: TileInput | None = None
    ) -> ExpressionTile:
        """Compute the expression of a tile.

        Parameters
        ----------
        rows
            Rows of the result that the tile's pixels have; all pixels of each of their spots, shape (q,).
        counts
            Upsampled counts of the pixels, shape (q, G).
        tile_input
            Input of the tile's prediction, with the intensity that was computed for the counts; None if it must be
            computed.
        """
        layout, spots = self.around.part(self.layout.pixels[rows], self.layout.parent[rows])
        image = None if self.image is None else self.image.select_pixels(rows)
        log_field = self.field.log_values(layout, spots, image, tile_input=tile_input)
        smooth = gaussian_weights(layout, self.width)
        values = np.exp(log_field + self.log_scale + smooth @ self.corrections[spots])
        n_columns = len(self.columns)
        of_genes = values[:, :n_columns]
        if self.uses_ratios:
            ratio = self._ratio_over_field(counts[:, self.columns].toarray(), log_field[:, :n_columns], layout)
            of_genes *= ratio ** self.around.fade_at_borders(layout.pixels)[:, None]
        return ExpressionTile(
            expression=self._stored(of_genes),
            std=None if self.scatter is None else self._stored(self.scatter.std(layout.pixels, of_genes)),
            activities=values[:, n_columns:].astype(np.float32),
        )

    def _stored(self, values: np.ndarray) -> sparse.csr_matrix:
        """Return values (q, E) as a float32 matrix of all genes of the run, shape (q, G)."""
        n_pixels, n_columns = values.shape
        return sparse.csr_matrix(
            (
                values.astype(np.float32).ravel(),
                np.tile(self.columns.astype(np.int32), n_pixels),
                np.arange(n_pixels + 1) * n_columns,
            ),
            shape=(n_pixels, self.n_genes),
        )

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

    def derive(
        self, rows: np.ndarray, counts: sparse.csr_matrix, tile_input: TileInput | None = None
    ) -> tuple[sparse.csr_matrix | None, sparse.csr_matrix | None]:
        """Compute the expression of a tile; counts that the other sink will refuse get none."""
        if counts.shape[0] != len(rows) or not np.isfinite(counts.data).all():
            nothing = sparse.csr_matrix(counts.shape, dtype=np.float32)
            return nothing, None if self._model.scatter is None else nothing.copy()
        tile = self._model.predict(rows, counts, tile_input)
        self._activities[rows] = tile.activities
        return tile.expression, tile.std

    def add(
        self,
        rows: np.ndarray,
        counts: sparse.csr_matrix,
        std: sparse.csr_matrix | None,
        expression: sparse.csr_matrix | None = None,
        expression_std: sparse.csr_matrix | None = None,
    ) -> None:
        """Pass a tile on, with the expression of :meth:`derive`."""
        if expression is None:
            expression, expression_std = self.derive(rows, counts)
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
        loadings = job.genes, fit_program_loadings(job, fitted)
        gene_counts = sparse.csc_matrix(sparse.hstack([gene_counts, sparse.csc_matrix(fitted.activity)]))
    field = ExpressionField(
        fitted=fitted, loadings=fitted.loadings(gene_counts), counts=gene_counts.astype(np.float32).toarray()
    )
    around = SpotsAround(job.layout.spots, job.layout.pitch)
    if method.image is not None and method.image_predictor is not None:
        field = with_image(field, job, method, gene_counts)
    target = job.layout.parent[job.target_pixels]
    spots = np.union1d(around.of_spots(np.unique(target)), shape_spots(len(job.centers)))
    with_std = job.settings.mode == "sample"
    if with_std:
        spots = np.union1d(spots, corrected_spots(job.layout.spots))
    area = measured_area(job.spot_area, job.lattice)
    means = spot_means(field, job, method, around, spots)
    sample = np.isin(spots, shape_spots(len(job.centers)))
    counts = field.counts[spots[sample]].astype(np.float64)
    sampled = means[sample].astype(np.float64)
    scale = scale_to_counts(sampled, counts)
    means *= scale
    shapes = fit_shapes(sampled * scale, counts)
    corrections = np.zeros(field.counts.shape, dtype=np.float32)
    for rows in row_blocks(len(spots), means.size):
        counts = field.counts[spots[rows]].astype(np.float64)
        corrections[spots[rows]] = log_corrections(means[rows], counts, shapes)
    width = correction_width(area / job.lattice.pitch**2)
    n_pixels = job.layout.n_pixels_per_spot
    scatter = None
    if with_std:
        genes = slice(len(columns))
        scatter = fit_expression_scatter(field.select(genes), job, method, corrections[:, genes], width)
    return ExpressionModel(
        columns=columns,
        n_genes=len(job.columns),
        field=field,
        log_scale=np.log(np.maximum(scale, 1e-300) / np.median(n_pixels[n_pixels > 0])),
        corrections=corrections,
        width=width,
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
        scatter=scatter,
    )
