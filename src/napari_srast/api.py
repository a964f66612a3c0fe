"""From a slide and a region to upsampled counts, in few large steps that can be watched and stopped."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast._version import __version__
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.sinks import InMemorySink, ResultSink
from napari_srast.core.slide import Slide, columns_of
from napari_srast.errors import Cancelled, OutputError, SettingsError, translate_memory_errors
from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.estimate import Estimate, estimate
from napari_srast.inference.validation import StreamingValidator, validate_result

if TYPE_CHECKING:
    from napari_srast.inference.executors.base import Executor
    from napari_srast.inference.job import InferenceReport, UpsampleJob
    from napari_srast.io.streaming_writer import StreamingResultWriter

__all__ = ["Estimate", "estimate", "upsample", "upsample_steps", "upsample_to_store"]

EXACT_FLOAT32 = 2**24  # results are float32, whose whole numbers have no gaps up to here
_SHARES = {"raster": 0.02, "align": 0.35, "calibrate": 0.25, "split": 0.38}
_STOPS = tuple(_SHARES)
_LACKING = ("during the run", "choose fewer genes, a smaller region or a lower factor")
_Record = TypeVar("_Record", bound=UpsampleMetadata)


def upsample(
    slide: Slide,
    region: Region | None = None,
    genes: Sequence[str] | None = None,
    *,
    settings: UpsampleSettings | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    workers: Executor | None = None,
    **options: Any,
) -> UpsampleResult:
    """Split every spot's counts over finer pixels, conserving them exactly.

    Parameters
    ----------
    slide
        From :func:`napari_srast.read_slide`.
    region
        Spots whose centers lie in it are upsampled, with the whole slide as their context; None for all spots.
    genes
        Gene names; None for the whole panel.
    settings
        All settings at once; or give them as keywords, such as ``factor=2, mode="mean", seed=0`` (see
        :class:`UpsampleSettings`).
    progress
        Called after every step.
    should_stop
        Asked often; True stops the run.
    workers
        Who computes: by default all cores of this computer, or a cluster
        (:class:`napari_srast.inference.executors.dask.DaskExecutor`). It changes no byte of the result.

    Returns
    -------
    UpsampleResult
        Upsampled counts, shape (n_pixels, n_genes), with where they lie and how they were made.

    Raises
    ------
    SrastError
        The input or a setting cannot be used; the message says what to do.
    Cancelled
        ``should_stop`` said so.

    Examples
    --------
    >>> import napari_srast as srast
    >>> slide = srast.synthetic_colon()  # doctest: +SKIP
    >>> result = srast.upsample(slide, genes=["ERBB2"], factor=2)  # doctest: +SKIP
    """
    settings = _settings(settings, options)
    return _driven(upsample_steps(slide, region, genes, settings, should_stop=should_stop, workers=workers), progress)


def upsample_to_store(
    slide: Slide,
    path: str | Path,
    region: Region | None = None,
    genes: Sequence[str] | None = None,
    *,
    settings: UpsampleSettings | None = None,
    include_image: bool = True,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    workers: Executor | None = None,
    **options: Any,
) -> UpsampleMetadata:
    """Do what :func:`upsample` and :func:`napari_srast.write_result` do, without ever holding the result.

    Counts go to the store as they come. It has its name once all of them are there and have passed their checks; what
    stops before leaves nothing.

    Parameters
    ----------
    slide, region, genes, settings, progress, should_stop, workers
        As for :func:`upsample`; the settings may be given as keywords, too.
    path
        The new store; its name ends in ``.zarr``.
    include_image
        Whether it gets the image beside circles and table.

    Returns
    -------
    UpsampleRecord
        What :class:`UpsampleResult` has beside the counts.

    Raises
    ------
    SrastError
        The input, a setting or the output cannot be used; the message says what to do.
    Cancelled
        ``should_stop`` said so.

    Examples
    --------
    >>> import napari_srast as srast
    >>> slide = srast.synthetic_colon()  # doctest: +SKIP
    >>> record = srast.upsample_to_store(slide, "fine.zarr", factor=2)  # doctest: +SKIP
    """
    from napari_srast.io.atomic import WriteRefused, atomic_output, refuse_inside
    from napari_srast.io.streaming_writer import StreamingResultWriter

    path, settings = Path(path), _settings(settings, options)
    if path.suffix.casefold() != ".zarr":
        raise OutputError(f"'{path}' is no name of a store; let it end in .zarr.")
    if slide.source.path is not None:
        refuse_inside(path, Path(slide.source.path))

    def check_stop(_: float) -> None:
        if should_stop is not None and should_stop():
            raise Cancelled

    with (
        atomic_output(path, refusal=WriteRefused) as partial,
        StreamingResultWriter(partial, include_image=include_image) as stream,
    ):
        with translate_memory_errors(*_LACKING):
            record = _driven(_steps(slide, region, genes, settings, should_stop, workers, stream), progress)
        stream.finish(record, check_stop)
    return record


def _driven(steps: Generator[Progress, None, _Record], progress: Callable[[Progress], None] | None) -> _Record:
    """Run steps to their end, or to where ``progress`` raises: nothing computes on then."""
    with contextlib.closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as done:
                record: _Record = done.value
                return record
            if progress is not None:
                progress(step)


def _settings(settings: UpsampleSettings | None, options: dict[str, Any]) -> UpsampleSettings:
    if settings is not None and options:
        raise SettingsError("Give either settings or keywords, not both.")
    if settings is not None:
        return settings
    try:
        return UpsampleSettings(**options)
    except TypeError as error:
        known = ", ".join(UpsampleSettings.__dataclass_fields__)
        raise SettingsError(f"An option is not known ({error}); the options are: {known}.") from error


def upsample_steps(
    slide: Slide,
    region: Region | None,
    genes: Sequence[str] | None,
    settings: UpsampleSettings,
    *,
    should_stop: Callable[[], bool] | None = None,
    workers: Executor | None = None,
) -> Generator[Progress, None, UpsampleResult]:
    """Run :func:`upsample` as a generator that yields :class:`Progress` and returns the :class:`UpsampleResult`."""
    with translate_memory_errors(*_LACKING):
        result = yield from _steps(slide, region, genes, settings, should_stop, workers, None)
    assert isinstance(result, UpsampleResult)
    return result


def _steps(
    slide: Slide,
    region: Region | None,
    genes: Sequence[str] | None,
    settings: UpsampleSettings,
    should_stop: Callable[[], bool] | None,
    workers: Executor | None,
    stream: StreamingResultWriter | None,
) -> Generator[Progress, None, UpsampleMetadata]:
    """Run; the counts go to a stream, or into the result."""
    from napari_srast._utils.canonical_order import canonical_order
    from napari_srast.inference.job import UpsampleJob

    clock = _Clock()
    columns = slide.gene_indices(genes)
    selected = None if region is None else region.spots(slide)
    _check_whole(slide, columns, selected, settings)

    # Everything below sees the spots in an order that depends on what they hold alone: the same slide with its spots
    # permuted, shifted or turned gives the same numbers.
    order = canonical_order(slide.counts, slide.centers)
    counts, centers = slide.counts[order].tocsr(), slide.centers[order]
    wanted = np.ones(len(centers), dtype=bool) if selected is None else selected[order]
    around, lattice = _with_halo(slide, centers, wanted)
    wide = _raster(slide, centers, around, lattice, settings)
    inner = wanted[wide.parent]
    raster = wide if inner.all() else wide.restrict(inner)
    clock.lap("raster")
    yield Progress("raster", 1, 1, _SHARES["raster"])

    job = UpsampleJob(
        counts=counts,
        centers=centers,
        lattice=lattice,
        layout=SpotPixelMap.of_raster(centers, wide),
        inner=inner,
        columns=columns,
        genes=np.asarray(slide.genes),
        settings=settings,
        image=slide.image,
        should_stop=should_stop,
    )
    run = f"{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(2)}"
    own, whole = _in_slide_order(raster, order), settings.mode == "integer"
    matrices: dict[str, Any] = {}
    if stream is None:
        with InMemorySink(raster.n_pixels, len(columns)) as assembly:
            split = yield from _split(job, assembly, workers, clock)
            matrices["counts"], matrices["std"] = assembly.finish()
        clock.lap("split")
        figures = validate_result(matrices["counts"], columns_of(counts, columns), raster, run=run, whole=whole)
    else:
        checks = StreamingValidator(columns_of(counts, columns), raster, run=run, whole=whole)
        stream.begin(slide, own, columns, with_std=settings.mode == "sample" and settings.method == "srast")
        split = yield from _split(job, _Checked(stream, checks), workers, clock)
        clock.lap("split")
        figures = checks.figures()
    record = (UpsampleResult if stream is None else UpsampleMetadata)(
        **matrices,
        genes=np.asarray(slide.genes)[columns],
        skill=split.skill,
        method=split.method,
        raster=own,
        slide=slide,
        region=region,
        settings=settings,
        run=run,
        provenance=_provenance(slide, region, settings, raster, split, figures, clock.seconds),
    )
    yield Progress("split", 1, 1, 1.0)
    return record


def _split(
    job: UpsampleJob, collector: ResultSink, workers: Executor | None, clock: _Clock
) -> Generator[Progress, None, InferenceReport]:
    """Split, timed and stopped where it is asked for."""
    from napari_srast.inference.engine import split_steps

    with contextlib.closing(split_steps(job, collector, workers)) as steps:
        while True:
            try:
                stage, done, total = next(steps)
            except StopIteration as finished:
                split: InferenceReport = finished.value
                return split
            clock.lap(stage if done else None)
            before = sum(_SHARES[s] for s in _STOPS[: _STOPS.index(stage)])
            yield Progress(stage, done, total, before + _SHARES[stage] * done / max(total, 1))
            job.check_stop()


class _Checked(ResultSink):
    """Checks units before it hands them on: what fails is not written."""

    def __init__(self, to: ResultSink, checks: StreamingValidator) -> None:
        self._to = to
        self._checks = checks

    def add(self, rows: np.ndarray, counts: sparse.csr_matrix, spread: sparse.csr_matrix | None) -> None:
        self._checks.add(rows, counts)
        self._to.add(rows, counts, spread)


class _Clock:
    """Adds up seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, stage: str | None) -> None:
        now = time.perf_counter()
        if stage is not None:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
            self.last = now


def _check_whole(slide: Slide, columns: np.ndarray, selected: np.ndarray | None, settings: UpsampleSettings) -> None:
    """Whole counts can only come of whole counts."""
    if settings.mode != "integer":
        return
    used = slide.counts_of(columns) if selected is None else slide.counts[selected][:, columns]
    if np.any(used.data != np.rint(used.data)):
        raise SettingsError(
            f"mode 'integer' needs whole counts, but table '{slide.source.table}' holds fractions; use mode 'mean'."
        )
    if used.data.max(initial=0) > EXACT_FLOAT32:
        raise SettingsError(
            f"mode 'integer' keeps counts up to {EXACT_FLOAT32} exactly, but table '{slide.source.table}' holds "
            f"{used.data.max():.0f}; use mode 'mean'."
        )


def _with_halo(slide: Slide, centers: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, Lattice]:
    """Widen a selection of spots by a few pitches, so that a region gets the whole slide's numbers."""
    lattice = detect_lattice(centers, slide.spot_diameter)
    if wanted.all():
        return wanted, lattice
    from napari_srast.inference.tiles import HALO

    distance, _ = cKDTree(centers[wanted]).query(centers)
    return distance <= HALO * lattice.pitch, lattice


def _raster(
    slide: Slide, centers: np.ndarray, selected: np.ndarray, lattice: Lattice, settings: UpsampleSettings
) -> Raster:
    pixel_size = None if settings.pixel_size is None else settings.pixel_size / slide.cs_scale
    return make_raster(
        centers,
        factor=settings.factor,
        pixel_size=pixel_size,
        footprint=settings.footprint,
        selected=selected,
        spot_diameter=slide.spot_diameter,
        spot_shape=slide.spot_shape,
        lattice=lattice,
    )


def _in_slide_order(raster: Raster, order: np.ndarray) -> Raster:
    """Return the raster with parents that index the slide's own order of spots."""
    fields = {name: getattr(raster, name) for name in Raster.__dataclass_fields__}
    return Raster(**{**fields, "parent": order[raster.parent]})


def _provenance(
    slide: Slide,
    region: Region | None,
    settings: UpsampleSettings,
    raster: Raster,
    split: InferenceReport,
    figures: dict[str, float],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Collect what is needed to trust and repeat the run."""
    return {
        "version": __version__,
        **asdict(settings),
        "device": split.device,
        "model_sha256": split.model_sha256,
        "pixel_side": raster.pixel_size * slide.cs_scale,
        "pitch": raster.lattice.pitch * slide.cs_scale,
        "lattice": raster.lattice.kind,
        "unit": slide.cs_unit,
        "n_spots": len(raster.spots),
        "n_pixels": raster.n_pixels,
        "measured_fraction": measured_fraction(slide, raster),
        "input": {k: v for k, v in asdict(slide.source).items() if v is not None},
        "coordinate_system": slide.coordinate_system,
        "region": None if region is None else region.wkt,
        "region_coordinate_system": None if region is None else region.coordinate_system,
        "calibration": split.calibration,
        **({"notices": [*settings.unused, *split.notices]} if settings.unused or split.notices else {}),
        **figures,
        "seconds": {**{k: round(v, 3) for k, v in seconds.items()}, "total": round(sum(seconds.values()), 3)},
    }


def measured_fraction(slide: Slide, raster: Raster) -> float:
    """Return the fraction of the raster's area inside the spots' measured discs; NaN where their size is unknown."""
    if not slide.spot_diameter:
        return float("nan")
    side = slide.spot_diameter
    one = side**2 * (np.pi / 4 if slide.spot_shape == "circle" else 1.0)
    return float(min(1.0, one * len(raster.spots) / (raster.n_pixels * raster.pixel_size**2)))
