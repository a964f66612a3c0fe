"""Evaluate methods: coarsen a high-resolution slide, upsample it by every method, compare with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from napari_srast._utils.serialize import to_json_values
from napari_srast.api import upsample
from napari_srast.core.progress import NO_MONITOR, CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, SettingsError
from napari_srast.evaluation.metrics import Scores, fraction_better, gain_over, score_ratios
from napari_srast.geometry.binning import bin_points, coarsen_points
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import INTERPOLATIONS, Denoiser, Interpolator

if TYPE_CHECKING:
    import anndata

__all__ = ["ALL_METHODS", "BASELINES", "DENOISED", "Evaluation", "evaluate", "score_result"]

DENOISED = "+denoised"
BASELINES = (*INTERPOLATIONS, *(name + DENOISED for name in ("gaussian", "pycnophylactic", "gp")))
ALL_METHODS = ("srast", *BASELINES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Scores of each method on one high-resolution slide.

    Parameters
    ----------
    name
        Name of the slide.
    genes
        Names of the scored genes, shape (G,).
    scores
        Scores by method.
    seconds
        Wall time of each method for all genes.
    settings
        Pitch, lattice, factor, model, seed and whether the truth was thinned.
    n_spots, n_pixels
        Numbers of spots of the coarse slide and of pixels of its raster.
    """

    name: str
    genes: np.ndarray
    scores: Mapping[str, Scores]
    seconds: Mapping[str, float]
    settings: Mapping[str, Any]
    n_spots: int
    n_pixels: int

    @property
    def best_baseline(self) -> str | None:
        """The baseline with the most nats per count, chosen on the truth; None if no baseline was run."""
        baselines = [method for method in self.scores if method != "srast"]
        return max(baselines, key=lambda method: self.scores[method].nats_per_count, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as JSON values; undefined and infinite values are None."""
        best = self.best_baseline
        methods = {}
        for method, scores in self.scores.items():
            summary: dict[str, Any] = scores.summary() | {"seconds": self.seconds[method]}
            if best is not None:
                summary["fraction_better_than_best_baseline"] = fraction_better(scores, self.scores[best])
                summary["gain_over_best_baseline"], summary["gain_over_best_baseline_se"] = gain_over(
                    scores, self.scores[best]
                )
            methods[method] = summary | {"strata": [asdict(stratum) for stratum in scores.strata()]}
        return to_json_values(
            {
                "name": self.name,
                "settings": dict(self.settings),
                "n_spots": self.n_spots,
                "n_pixels": self.n_pixels,
                "n_genes": len(self.genes),
                "best_baseline": best,
                "methods": methods,
            }
        )


def evaluate(
    path_or_adata: str | Path | anndata.AnnData,
    *,
    pitch: float,
    lattice: Literal["square", "hex"] = "square",
    factor: float = 2,
    model: str = "default",
    genes: Sequence[str] | None = None,
    seed: int = 0,
    methods: Sequence[str] | None = None,
    thinned: bool = False,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> Evaluation:
    """Measure how well each method recovers a high-resolution slide from a coarse version of it.

    Parameters
    ----------
    path_or_adata
        A high-resolution slide or its .h5ad file: counts in ``X``, coordinates of cells or bins in ``obsm["spatial"]``.
    pitch
        Distance between the coarse spots, in the units of ``obsm["spatial"]``.
    lattice
        "square" or "hex".
    factor
        Pixels per pitch.
    model
        Checkpoint of the srast method: the name of a shipped checkpoint or a file.
    genes
        Genes to score; None for all genes with counts. All genes are input.
    seed
        Random seed of the model and of the thinning.
    methods
        Names from :data:`ALL_METHODS`; None for all. "+denoised" interpolates denoised counts.
    thinned
        Whether to split the counts at random into two halves, one as input and one as truth. Then no method gains by
        repeating the noise of its input.
    progress
        Called before each method runs.
    should_stop
        Returns True once the evaluation should end.

    Raises
    ------
    InputError
        The table has no coordinates, no counts, or lacks a gene.
    SettingsError
        A method, the pitch or the lattice is not valid.
    Cancelled
        ``should_stop`` returned True.
    """
    methods = tuple(ALL_METHODS if methods is None else dict.fromkeys(methods))
    for method in methods:
        if method not in ALL_METHODS:
            raise SettingsError(f"method is '{method}', but must be one of: {', '.join(ALL_METHODS)}.")
    name, points, counts, panel = _read(path_or_adata)
    columns = _columns(panel, genes, counts, name)
    rebinned = coarsen_points(points, counts, pitch=pitch, lattice=lattice, factor=factor)
    layout, low, truth = rebinned.layout, rebinned.counts, rebinned.truth
    if thinned:
        low, truth = _thin(truth, layout, seed)
    slide = Slide(
        counts=low,
        genes=panel,
        spot_ids=np.array([f"spot_{i}" for i in range(len(rebinned.centers))]),
        centers=rebinned.centers,
        spot_diameter=pitch,
        spot_shape="square" if lattice == "square" else "circle",
    )
    truth = sparse.csr_matrix(truth[:, columns])
    settings = UpsampleSettings(factor=factor, model=model, seed=seed)
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    runner = _MethodRunner(slide, layout, rebinned.raster.parent, columns, settings, monitor)
    scores, seconds = {}, {}
    for i, method in enumerate(methods):
        monitor.check_canceled()
        monitor.report(f"evaluate {method}", i, len(methods))
        start = time.perf_counter()
        predict = runner.predictor(method)
        timed = _TimedPredictor(predict, time.perf_counter() - start)
        scores[method] = score_ratios(truth, timed, layout, raster=rebinned.raster, seed=seed)
        seconds[method] = timed.seconds
    monitor.report("evaluate", len(methods), len(methods))
    return Evaluation(
        name=name,
        genes=panel[columns],
        scores=scores,
        seconds=seconds,
        settings={
            "pitch": pitch,
            "lattice": lattice,
            "factor": factor,
            "model": model,
            "seed": seed,
            "thinned": thinned,
        },
        n_spots=layout.n_spots,
        n_pixels=layout.n_pixels,
    )


def score_result(
    result: UpsampleResult,
    truth_adata: anndata.AnnData,
    methods: Sequence[str] = ("uniform", "bilinear", "pycnophylactic", "gp"),
) -> dict[str, dict[str, float]]:
    """Score a result, and baselines on its raster, against cells or points with known counts.

    Parameters
    ----------
    result
        The result. Genes that the truth lacks are not scored.
    truth_adata
        Cells or points: counts in ``X``, coordinates in ``obsm["spatial"]``, in the coordinate system of the spots.
    methods
        Baselines to score, names from :data:`BASELINES`.

    Returns
    -------
    dict
        For the result (key "srast", or the name of its method) and each baseline: "within_spot_pcc",
        "nats_per_count", "totals" and "composition". Only the distribution within spots is scored, so the truth may
        have another depth than the slide.

    Raises
    ------
    InputError
        The truth has no coordinates, or no gene of the result.
    """
    _, points, counts, panel = _read(truth_adata)
    column_of_gene = {str(gene): i for i, gene in enumerate(panel)}
    shared = np.flatnonzero([str(gene) in column_of_gene for gene in result.genes])
    if len(shared) == 0:
        raise InputError("The truth has none of the result's genes; give the cells that the slide was made from.")
    truth = bin_points(result.raster, points, counts[:, [column_of_gene[str(gene)] for gene in result.genes[shared]]])
    layout = SpotPixelMap.of_raster(result.slide.centers, result.raster)
    columns = result.slide.gene_indices([str(gene) for gene in result.genes[shared]])
    runner = _MethodRunner(result.slide, layout, result.raster.parent, columns, result.settings)
    result_counts = sparse.csc_matrix(result.counts)[:, shared]
    predictors: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        result.settings.method: lambda columns: layout.normalize(result_counts[:, columns].toarray())
    }
    for method in methods:
        predictors.setdefault(method, runner.predictor(method))
    summary = {}
    for method, predict in predictors.items():
        scores = score_ratios(truth, predict, layout)
        summary[method] = {
            "within_spot_pcc": scores.within_spot_pcc,
            "nats_per_count": scores.nats_per_count,
            "totals": scores.totals,
            "composition": scores.composition,
        }
    return summary


class _MethodRunner:
    """Predict ratios by each method; the methods share neighbors and denoised counts."""

    def __init__(
        self,
        slide: Slide,
        layout: SpotPixelMap,
        parent: np.ndarray,
        columns: np.ndarray,
        settings: UpsampleSettings,
        monitor: RunMonitor = NO_MONITOR,
    ) -> None:
        self._slide, self._layout, self._parent = slide, layout, parent
        self._columns, self._settings = columns, settings
        self._monitor = monitor
        self._interpolator = Interpolator(layout)
        self._counts = sparse.csc_matrix(slide.counts)[:, columns]
        self._denoiser: Denoiser | None = None

    def predictor(self, method: str) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function from columns (F,) to ratios (Q, F)."""
        if method == "srast":
            return self._upsampled()
        return partial(self._interpolated, method.removesuffix(DENOISED), method.endswith(DENOISED))

    def _interpolated(self, name: str, denoised: bool, columns: np.ndarray) -> np.ndarray:
        if not denoised:
            return self._interpolator.ratios(name, self._counts[:, columns].toarray())
        if self._denoiser is None:
            self._denoiser = Denoiser(self._slide.counts, self._layout.spots, self._layout.pitch)
        return self._interpolator.ratios(name, self._denoiser.fields(self._columns[columns]))

    def _upsampled(self) -> Callable[[np.ndarray], np.ndarray]:
        names = [str(gene) for gene in self._slide.genes[self._columns]]
        result = upsample(self._slide, genes=names, settings=self._settings, should_stop=self._monitor.should_stop)
        assert np.array_equal(result.raster.parent, self._parent), "the run used another raster"
        counts = sparse.csc_matrix(result.counts)
        return lambda columns: self._layout.normalize(counts[:, columns].toarray())


class _TimedPredictor:
    """Add up the time of predictions, without the time of scoring them."""

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], seconds: float) -> None:
        self._predict, self.seconds = predict, seconds

    def __call__(self, columns: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        ratios = self._predict(columns)
        self.seconds += time.perf_counter() - start
        return ratios


def _read(source: str | Path | anndata.AnnData) -> tuple[str, np.ndarray, sparse.csr_matrix, np.ndarray]:
    """Return name, coordinates (n, 2), counts (n, G) and gene names of a high-resolution slide."""
    import anndata

    if isinstance(source, anndata.AnnData):
        name, table = "slide", source
    else:
        from napari_srast.io.safety_limits import check_h5ad

        name = Path(source).stem
        check_h5ad(Path(source))
        try:
            table = anndata.read_h5ad(source)
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"'{source}' cannot be read as .h5ad ({error}); give a file written by anndata."
            ) from error
    if "spatial" not in table.obsm:
        raise InputError(f"'{name}' has no obsm['spatial']; add the coordinates of its observations there.")
    points = np.asarray(table.obsm["spatial"], dtype=float)
    if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points[:, :2]).all():
        raise InputError(
            f"obsm['spatial'] of '{name}' must hold a finite x and y for every observation; correct the table."
        )
    counts = sparse.csr_matrix(table.X, dtype=np.float64)
    if counts.nnz == 0:
        raise InputError(f"'{name}' has no counts in X; put the raw counts there.")
    if not np.isfinite(counts.data).all() or counts.data.min() < 0:
        raise InputError(f"X of '{name}' holds negative or undefined values; put the raw counts there.")
    return name, points[:, :2], counts, np.asarray(table.var_names, dtype=str)


def _columns(panel: np.ndarray, genes: Sequence[str] | None, counts: sparse.csr_matrix, name: str) -> np.ndarray:
    if genes is None:
        return np.flatnonzero(np.asarray(counts.sum(axis=0)).ravel() > 0)
    index = {str(gene): i for i, gene in enumerate(panel)}
    missing = [gene for gene in genes if gene not in index]
    if missing or not genes:
        named = ", ".join(repr(gene) for gene in missing[:5])
        raise InputError(
            f"'{name}' has no gene {named}; choose genes of its panel." if missing else "The list of genes is empty."
        )
    return np.array([index[gene] for gene in dict.fromkeys(genes)])


def _thin(truth: sparse.csr_matrix, layout: SpotPixelMap, seed: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split pixel counts at random into two halves; return the spot counts of one and the pixel counts of the other."""
    integers = np.rint(truth.data).astype(np.int64)
    if not np.allclose(integers, truth.data):
        raise InputError("Thinning requires integer counts; put the raw counts in X.")
    half = np.random.default_rng(seed).binomial(integers, 0.5)

    def to_matrix(data: np.ndarray) -> sparse.csr_matrix:
        matrix = sparse.csr_matrix((data.astype(np.float32), truth.indices, truth.indptr), shape=truth.shape, copy=True)
        matrix.eliminate_zeros()
        return matrix

    return sparse.csr_matrix(layout.membership @ to_matrix(half), dtype=np.float32), to_matrix(integers - half)
