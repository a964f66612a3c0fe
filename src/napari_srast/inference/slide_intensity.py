"""Fit the intensity of a job's slide, or return the fit of an earlier job on the same slide."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import numpy as np

from napari_srast.geometry.lattice import Lattice
from napari_srast.inference.job import UpsampleJob
from napari_srast.models.intensity import FittedIntensity, fit_intensity

__all__ = ["fit_slide_intensity", "measured_area"]

_MAX_CACHED = 2
_VISIUM_DIAMETER = 0.55  # pitches: measured disk of a hexagonal slide that does not state it
_COVERED = 0.9  # measured fraction from which on spots count as points: squares without gaps score better so
_lock = threading.Lock()
_cache: OrderedDict[str, FittedIntensity] = OrderedDict()


def measured_area(spot_area: float | None, lattice: Lattice) -> float:
    """Return the measured area of a spot, at most its cell; without a diameter, that of Visium or of square bins."""
    if spot_area is None:
        disk = np.pi / 4 * (_VISIUM_DIAMETER * lattice.pitch) ** 2
        spot_area = disk if lattice.kind == "hex" else lattice.pitch**2
    return float(min(spot_area, lattice.pitch**2))


def fit_slide_intensity(job: UpsampleJob) -> FittedIntensity:
    """Return the intensity of a job's slide; the last fits stay in memory."""
    area = measured_area(job.spot_area, job.lattice)
    if area > _COVERED * job.lattice.pitch**2:
        area = 0.0
    digest = hashlib.blake2b(digest_size=16)
    for array in (job.counts.indptr, job.counts.indices, job.counts.data, job.centers):
        digest.update(np.ascontiguousarray(array).data)
    digest.update(repr((area, job.lattice.pitch)).encode())
    key = digest.hexdigest()
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    fitted = fit_intensity(
        job.counts, job.layout.spots, job.lattice.pitch, area, check_canceled=job.monitor.check_canceled
    )
    with _lock:
        _cache[key] = fitted
        while len(_cache) > _MAX_CACHED:
            _cache.popitem(last=False)
    return fitted
