"""Fit the intensity of a job's slide, or return the fit of an earlier job on the same slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_srast.geometry.disc_support import DiscSupport
from napari_srast.geometry.lattice import Lattice
from napari_srast.inference.fit_cache import FitMemory, digest_of
from napari_srast.inference.job import UpsampleJob
from napari_srast.interpolation.gaussian_process import CovarianceGrid, FittedProcess, GaussianProcessGrid
from napari_srast.models.intensity import FittedIntensity, GeneLoadings, IntensityModel, fit_intensity

__all__ = ["fit_program_loadings", "fit_slide_intensity", "intensity_key", "measured_area", "support_of_spots"]

_MAX_CACHED = 2
_VISIUM_DIAMETER = 0.55  # pitches: measured disk of a hexagonal slide that does not state it
_COVERED = 0.9  # measured fraction from which on spots count as points: squares without gaps score better so


def measured_area(spot_area: float | None, lattice: Lattice) -> float:
    """Return the measured area of a spot, at most its cell; without a diameter, that of Visium or of square bins."""
    if spot_area is None:
        disk = np.pi / 4 * (_VISIUM_DIAMETER * lattice.pitch) ** 2
        spot_area = disk if lattice.kind == "hex" else lattice.pitch**2
    return float(min(spot_area, lattice.pitch**2))


def support_of_spots(job: UpsampleJob) -> DiscSupport | None:
    """Return the discs that a job's spots measure; None if they measure their whole cells, or without pixels."""
    if job.pixel_size is None:
        return None
    return DiscSupport.of_area(measured_area(job.spot_area, job.lattice), job.lattice.pitch, job.pixel_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class _StoredIntensity:
    """What takes time to compute of a :class:`FittedIntensity`."""

    model: IntensityModel
    fields: np.ndarray
    activity: np.ndarray


_cache: FitMemory[FittedIntensity] = FitMemory(
    (_StoredIntensity, IntensityModel, GeneLoadings, CovarianceGrid, FittedProcess), max_fits=_MAX_CACHED
)


def fit_slide_intensity(job: UpsampleJob) -> FittedIntensity:
    """Return the intensity of a job's slide; the last fits stay in memory."""
    area = _disk_area(job)
    spots, pitch = job.layout.spots, job.lattice.pitch

    def fit() -> _StoredIntensity:
        fitted = fit_intensity(job.counts, spots, pitch, area, monitor=job.monitor)
        return _StoredIntensity(model=fitted.model, fields=fitted.fields, activity=fitted.activity)

    def assemble(stored: _StoredIntensity) -> FittedIntensity:
        selector = GaussianProcessGrid(spots, pitch, stored.model.grid)
        return FittedIntensity(model=stored.model, fields=stored.fields, activity=stored.activity, selector=selector)

    key = intensity_key(job)
    return _cache.get(
        key,
        fit,
        assemble,
        file_key=lambda: (job.slide_digest, key),
        cache=job.cache,
        monitor=job.monitor,
    )


_loadings: FitMemory[np.ndarray] = FitMemory((), max_fits=_MAX_CACHED)


def fit_program_loadings(job: UpsampleJob, fitted: FittedIntensity) -> np.ndarray:
    """Return the loadings of all genes of a job's slide on the programs of its intensity; float32, shape (P, G).

    They depend on the slide only, so they are fitted once, and stored in the job's cache.
    """

    def fit() -> np.ndarray:
        return fitted.program_loadings(job.counts)

    def assemble(loadings: np.ndarray) -> np.ndarray:
        loadings.flags.writeable = False  # all results of the slide share it
        return loadings

    key = digest_of("program loadings", intensity_key(job))
    return _loadings.get(
        key,
        fit,
        assemble,
        file_key=lambda: (job.slide_digest, key),
        cache=job.cache,
        monitor=job.monitor,
    )


def intensity_key(job: UpsampleJob) -> str:
    """Return a hash of everything that the intensity of a job's slide depends on."""
    return digest_of("intensity", job.slide_digest, _disk_area(job))


def _disk_area(job: UpsampleJob) -> float:
    """Return the area of the disks that the spots measure; 0 if they count as points."""
    area = measured_area(job.spot_area, job.lattice)
    return 0.0 if area > _COVERED * job.lattice.pitch**2 else area
