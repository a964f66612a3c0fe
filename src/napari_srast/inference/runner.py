"""Run an upsampling: prepare the raster and the method, predict every tile, and fill a result sink."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from scipy import sparse

from napari_srast._utils.canonical_order import canonical_order
from napari_srast._utils.device_errors import translate_device_errors
from napari_srast._utils.free_memory import release_free_memory, separate_large_blocks
from napari_srast._utils.matrix_on_disk import take_rows
from napari_srast._utils.threads import single_threaded
from napari_srast.core.progress import NO_MONITOR, Progress, RunMonitor
from napari_srast.core.result import UpsampleMetadata
from napari_srast.core.sinks import ResultPlan, ResultSink
from napari_srast.core.slide import Slide
from napari_srast.errors import SettingsError, translate_memory_errors
from napari_srast.geometry.raster import Raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.executors.base import Executor
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.expected_information import ExpectedInformation
from napari_srast.inference.expression_tiles import ExpressionSink, fit_expression
from napari_srast.inference.job import InferenceReport, UpsampleJob, UpsampleRequest
from napari_srast.inference.provenance import RunDescription
from napari_srast.inference.rasters import make_rasters
from napari_srast.inference.run_estimate import require_memory
from napari_srast.inference.tiles import Tiling
from napari_srast.inference.validation import ResultValidator
from napari_srast.io.result_images import expression_columns

__all__ = ["MAX_EXACT_INTEGER", "run_job", "run_upsampling"]

MAX_EXACT_INTEGER = 2**24
"""Results are float32, which holds every integer up to this one."""
Result = TypeVar("Result", bound=UpsampleMetadata)


@translate_memory_errors("during the run", "choose fewer genes, a smaller region or a lower factor")
def run_upsampling(
    request: UpsampleRequest,
    sink: ResultSink[Result],
    executor: Executor | None = None,
    monitor: RunMonitor = NO_MONITOR,
) -> Result:
    """Upsample a slide into a sink, and return what the sink makes of it.

    Parameters
    ----------
    request
        What to upsample.
    sink
        Receives the tiles and completes the result.
    executor
        Prepares the method and predicts the tiles; None: the cores of this computer. It changes no byte of the result.
    monitor
        Receives progress and asks for cancellation.

    Raises
    ------
    SrastError
        The input or a setting cannot be used, the device or memory failed, or the run needs more memory than there is.
    Cancelled
        The monitor canceled the run.
    """
    clock = _StageClock()
    monitor = monitor.listening(clock.observe)
    slide, settings = request.slide, request.settings
    columns = slide.gene_indices(request.genes)
    n_threads = None
    if executor is None or executor.is_local:
        n_threads = require_memory(slide, request.region, request.genes, settings)
    job, raster, order = _make_job(request, columns, monitor, n_threads)
    run = request.name or f"{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(2)}"
    spot_counts = job.select_counts()
    result_raster = replace(raster, parent=order[raster.parent])  # indexes the spots in the slide's own order
    # All genes are in the slide already, in an order in which a tile reads fewer pages.
    measured = (slide.counts, result_raster) if spot_counts is job.counts else (spot_counts, raster)
    validator = ResultValidator(*measured, run=run, integer=settings.mode == "integer")
    information = ExpectedInformation(spot_counts, raster)

    def observe(rows: np.ndarray, tile_counts: sparse.csr_matrix) -> None:
        validator.add(rows, tile_counts)
        information.add(tile_counts)

    with_expression = expression_columns(slide, result_raster, columns, settings.expression)
    sink.begin(
        ResultPlan(
            slide=slide,
            raster=result_raster,
            columns=columns,
            with_std=settings.mode == "sample" and settings.method == "srast",
            validate=observe,
            expression_columns=with_expression,
            with_expression_std=settings.mode == "sample",
        )
    )
    job.release_counts()
    report = run_job(job, sink, executor, with_expression)
    sink.assemble()
    clock.finish_lap("split")
    description = RunDescription(
        slide=slide,
        region=request.region,
        settings=settings,
        raster=raster,
        report=report,
        mass_balance=validator.figures(),
        seconds=clock.seconds,
    )
    metadata = UpsampleMetadata(
        genes=np.asarray(slide.genes)[columns],
        skill=information.nats_per_count() if report.skill_is_expected else report.skill,
        method=report.method,
        raster=result_raster,
        slide=slide,
        region=request.region,
        settings=settings,
        run=run,
        provenance=description.to_dict(),
        expression_columns=with_expression,
        expression_factors=report.expression_factors,
    )
    monitor.report("split", 1, 1)
    job.release_counts()
    release_free_memory()
    return sink.finish(metadata, monitor)


def _make_job(
    request: UpsampleRequest, columns: np.ndarray, monitor: RunMonitor, n_threads: int | None
) -> tuple[UpsampleJob, Raster, np.ndarray]:
    """Return what is computed, the raster of the result, and the order of the job's spots as indices into the slide's.

    Computing starts from an order of the spots that depends on their content alone: the same slide with its spots
    permuted, shifted or rotated gives the same numbers.
    """
    slide, settings = request.slide, request.settings
    selected = np.ones(slide.n_spots, dtype=bool) if request.region is None else request.region.spots(slide)
    if settings.mode == "integer":
        _require_integer_counts(slide, columns, selected)
    order = canonical_order(slide.counts, slide.centers)
    counts, centers = take_rows(slide.counts, order), slide.centers[order]
    separate_large_blocks()
    release_free_memory()  # of reading the slide
    context, target_pixels = make_rasters(slide, centers, selected[order], settings)
    monitor.report("raster", 1, 1)
    job = UpsampleJob(
        counts=counts,
        centers=centers,
        lattice=context.lattice,
        layout=SpotPixelMap.of_raster(centers, context),
        target_pixels=target_pixels,
        columns=columns,
        genes=np.asarray(slide.genes),
        settings=settings,
        image=slide.image,
        spot_area=slide.spot_area,
        pixel_size=context.pixel_size,
        monitor=monitor,
        n_threads=n_threads,
        stored=(slide.counts, order),
    )
    return job, context if target_pixels.all() else context.restrict(target_pixels), order


def run_job(
    job: UpsampleJob,
    sink: ResultSink,
    executor: Executor | None = None,
    with_expression: np.ndarray | None = None,
) -> InferenceReport:
    """Prepare the method of a job and predict its tiles.

    Parameters
    ----------
    job
        What to compute.
    sink
        Receives every tile.
    executor
        Prepares the method and predicts the tiles; None: the cores of this computer.
    with_expression
        Genes whose expression is computed, as ascending indices into the run's genes. Default: none.

    Raises
    ------
    DeviceError
        The device failed, or its memory or that of this computer is full.
    """
    executor = ThreadExecutor() if executor is None else executor
    job = replace(job, cache=executor.cache)
    with translate_device_errors(job.settings.device), single_threaded():
        method = executor.prepare(job)
        tiling, factors = Tiling(job.layout, job.target_pixels), None
        if with_expression is None or len(with_expression) == 0:
            warnings = executor.predict_tiles(job, method, tiling, sink)
        else:
            extended = ExpressionSink(sink, fit_expression(job, method, with_expression))
            warnings = executor.predict_tiles(job, method, tiling, extended)
            factors = extended.factors
    return InferenceReport(
        skill=method.skill,
        method=method.method,
        model=method.model,
        warnings=(*method.warnings, *warnings),
        skill_is_expected=method.skill_is_expected,
        expression_factors=factors,
    )


class _StageClock:
    """Sum up the seconds of each stage, from its progress reports."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def observe(self, step: Progress) -> None:
        """Count the time since the last completed step for the stage of a completed step."""
        if step.done:
            self.finish_lap(step.stage)

    def finish_lap(self, stage: str) -> None:
        """Count the time since the last lap for a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _require_integer_counts(slide: Slide, columns: np.ndarray, selected: np.ndarray) -> None:
    """Raise SettingsError unless the chosen counts are integers that float32 can hold."""
    counts = slide.select_counts(columns) if selected.all() else slide.counts[selected][:, columns]
    table = slide.source.table
    if np.any(counts.data != np.rint(counts.data)):
        raise SettingsError(
            f"mode 'integer' needs integer counts, but table '{table}' holds fractions; use mode 'mean'."
        )
    if counts.data.max(initial=0) > MAX_EXACT_INTEGER:
        raise SettingsError(
            f"mode 'integer' keeps counts up to {MAX_EXACT_INTEGER} exactly, but table '{table}' holds "
            f"{counts.data.max():.0f}; use mode 'mean'."
        )
