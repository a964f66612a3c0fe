"""From a slide and a region to upsampled counts, in few large steps that can be watched and stopped."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast import __version__
from napari_srast.errors import Cancelled, FaultError, SettingsError, telling_lack_of_memory
from napari_srast.forecast import Estimate, estimate
from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.geometry.layout import Layout
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.slide import Progress, Region, Slide, UpsampleResult, UpsampleSettings
from napari_srast.summary import MASS_TOLERANCE, relative_mass_error

if TYPE_CHECKING:
    from napari_srast.splitting import Split, Workers

__all__ = ["Estimate", "estimate", "upsample", "upsample_steps"]

EXACT_FLOAT32 = 2**24  # results are float32, whose whole numbers have no gaps up to here
_SHARES = {"raster": 0.02, "align": 0.35, "calibrate": 0.25, "split": 0.38}
_STOPS = tuple(_SHARES)


def upsample(
    slide: Slide,
    region: Region | None = None,
    genes: Sequence[str] | None = None,
    *,
    settings: UpsampleSettings | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    workers: Workers | None = None,
    **options: Any,
) -> UpsampleResult:
    """Split every spot's counts over finer pixels, conserving them exactly.

    Parameters
    ----------
    slide
        From :func:`napari_srast.read_slide`.
    region
        Spots whose centres lie in it are upsampled, with the whole slide as their context; None for all spots.
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
        (:class:`napari_srast.splitting.dask.DaskWorkers`). It changes no byte of the result.

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
    >>> slide = srast.sample_slide()  # doctest: +SKIP
    >>> result = srast.upsample(slide, genes=["ERBB2"], factor=2)  # doctest: +SKIP
    """
    if settings is not None and options:
        raise SettingsError("Give either settings or keywords, not both.")
    if settings is None:
        settings = _settings(options)
    steps = upsample_steps(slide, region, genes, settings, should_stop=should_stop, workers=workers)
    while True:
        try:
            step = next(steps)
        except StopIteration as done:
            return done.value
        if progress is not None:
            progress(step)


def _settings(options: dict[str, Any]) -> UpsampleSettings:
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
    workers: Workers | None = None,
) -> Generator[Progress, None, UpsampleResult]:
    """Run :func:`upsample` as a generator that yields :class:`Progress` and returns the :class:`UpsampleResult`."""
    with telling_lack_of_memory("during the run", "choose fewer genes, a smaller region or a lower factor"):
        return (yield from _steps(slide, region, genes, settings, should_stop, workers))


def _steps(
    slide: Slide,
    region: Region | None,
    genes: Sequence[str] | None,
    settings: UpsampleSettings,
    should_stop: Callable[[], bool] | None,
    workers: Workers | None,
) -> Generator[Progress, None, UpsampleResult]:
    from napari_srast.models.spot_order import canonical_order
    from napari_srast.splitting import Job, split_steps

    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
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

    job = Job(
        counts=counts,
        centers=centers,
        lattice=lattice,
        layout=Layout.of_raster(centers, wide),
        inner=inner,
        columns=columns,
        genes=np.asarray(slide.genes),
        settings=settings,
        image=slide.image,
        should_stop=should_stop,
    )
    steps = split_steps(job, workers)
    while True:
        try:
            stage, done, total = next(steps)
        except StopIteration as finished:
            split: Split = finished.value
            break
        clock.lap(stage if done else None)
        before = sum(_SHARES[s] for s in _STOPS[: _STOPS.index(stage)])
        yield Progress(stage, done, total, before + _SHARES[stage] * done / max(total, 1))
        if should_stop is not None and should_stop():
            raise Cancelled
    clock.lap("split")

    run = f"{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(2)}"
    whole = settings.mode == "integer"
    figures = check_result(split.counts, counts[:, columns], raster, run=run, whole=whole)
    result = UpsampleResult(
        counts=split.counts,
        std=split.std,
        genes=np.asarray(slide.genes)[columns],
        skill=split.skill,
        method=split.method,
        raster=_in_slide_order(raster, order),
        slide=slide,
        region=region,
        settings=settings,
        run=run,
        provenance=_provenance(slide, region, settings, raster, split, figures, seconds),
    )
    yield Progress("split", 1, 1, 1.0)
    return result


class _Clock:
    """Adds up seconds per stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
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
    used = slide.counts[:, columns] if selected is None else slide.counts[selected][:, columns]
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
    from napari_srast.splitting.units import HALO

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


def check_result(
    counts: sparse.csr_matrix, spot_counts: sparse.csr_matrix, raster: Raster, *, run: str, whole: bool = False
) -> dict[str, float]:
    """Check the invariants on the result itself.

    Parameters
    ----------
    counts
        Counts of the pixels, shape (Q, G).
    spot_counts
        Counts of all spots that ``raster.parent`` indexes, shape (N, G).
    raster
        The pixels and their parents.
    run
        Name of the run, for the report of a fault.
    whole
        Whether every count must be a whole number and every sum exact (mode "integer").

    Returns
    -------
    dict
        ``max_relative_mass_error`` and ``negative_pixels``.

    Raises
    ------
    FaultError
        A count was lost, a value is negative or not finite, or a pixel has no known parent: a fault of this package,
        never of the input.
    """
    broken = []
    if counts.shape != (raster.n_pixels, spot_counts.shape[1]):
        broken.append(f"it has shape {counts.shape} for {raster.n_pixels} pixels and {spot_counts.shape[1]} genes")
    if raster.n_pixels and not (0 <= raster.parent.min() and raster.parent.max() < spot_counts.shape[0]):
        broken.append("a pixel belongs to no spot")
    negative = int((counts.data < 0).sum())
    if negative:
        broken.append(f"{negative} values are negative")
    if not np.isfinite(counts.data).all():
        broken.append("a value is not finite")
    if whole and np.any(counts.data != np.rint(counts.data)):
        broken.append("a count is not whole")
    worst = 0.0
    if not broken:
        worst = relative_mass_error(raster, counts, spot_counts)
        if not worst <= MASS_TOLERANCE:
            broken.append(f"its sums differ from the counts of the spots by {worst:.2g} of them")
        elif whole and ((raster.membership @ counts.astype(np.float64) - spot_counts)[raster.spots]).count_nonzero():
            broken.append("its sums are not exactly the counts of the spots")
    if broken:
        raise FaultError(
            f"The result of run {run} failed its own checks ({', '.join(broken)}), so it was thrown away and nothing "
            "was written; this is a fault of napari-srast: please report it with this sentence."
        )
    return {"max_relative_mass_error": worst, "negative_pixels": negative}


def _provenance(
    slide: Slide,
    region: Region | None,
    settings: UpsampleSettings,
    raster: Raster,
    split: Split,
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
