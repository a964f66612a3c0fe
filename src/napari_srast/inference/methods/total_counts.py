"""Predict how the pool's map of the total counts moves the maps of all genes.

Shape legend: N spots of the slide, n spots of a tile and around it, q pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from napari_srast.calibration.experts import Experts
from napari_srast.calibration.pooling import POOL_SHARE, TOTALS_SHARE, PoolWeights, pool_ratios, totals_shift
from napari_srast.core.progress import RunMonitor
from napari_srast.inference.fitted_slide import FittedSlide
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import TileInput
from napari_srast.inference.methods.loaded_intensity import LoadedIntensity
from napari_srast.inference.slide_intensity import support_of_spots
from napari_srast.models.intensity import FittedIntensity
from napari_srast.models.pcfm.field_statistics import FieldStatistics, summarize_fields

__all__ = ["TotalCountsPredictor", "pool_shares"]

_MAX_TRAINED_FACTOR = 4.0  # pixels per pitch that the network was trained for


@dataclass(frozen=True, kw_only=True, eq=False)
class TotalCountsPredictor:
    """Predict the shift in the pixels of a tile.

    Parameters
    ----------
    statistics
        Statistics of the total counts over the whole slide.
    intensity
        The intensity field and the loadings of the total counts.
    """

    statistics: FieldStatistics
    intensity: LoadedIntensity

    @classmethod
    def of_job(cls, job: UpsampleJob, fitted: FittedSlide, intensity: FittedIntensity) -> TotalCountsPredictor | None:
        """Summarize the total counts of a job's slide; None where the totals have no weight of their own."""
        if not _network_knows_totals(job):
            return None
        totals = sparse.csr_matrix(job.counts.sum(axis=1), dtype=np.float32)
        return cls(
            statistics=summarize_fields(job.layout, fitted.embedding, totals),
            intensity=LoadedIntensity.of_fields(intensity, totals),
        )

    def add_shift(
        self, tile_input: TileInput, experts: Experts, weights: PoolWeights, monitor: RunMonitor
    ) -> TileInput:
        """Return a tile's input with the shift, predicted from the total counts (n, 1), which are its fields."""
        counts = tile_input.fields
        assert counts is not None
        tile_input = replace(tile_input, pixel_intensity=self.intensity.in_pixels(tile_input))
        _, log_experts = experts.predict(sparse.csr_matrix(counts), monitor, self.statistics)
        log_pool = pool_ratios(log_experts, counts, tile_input.tile.layout, weights)
        log_intensity = self.intensity.bind(tile_input)(counts, slice(None))
        return replace(tile_input, shift=totals_shift(log_pool[:, 0], log_intensity[:, 0]))


def pool_shares(job: UpsampleJob) -> dict[str, float]:
    """Return the shares of the pool in the totals and in the composition of a job's map, for the provenance."""
    return {"totals": TOTALS_SHARE if _network_knows_totals(job) else POOL_SHARE, "composition": POOL_SHARE}


def _network_knows_totals(job: UpsampleJob) -> bool:
    """Return whether the network was trained for the pixels of a job, so that its totals get more weight.

    It was trained on spots that measure their whole cells, at up to four pixels per pitch. There it predicts the
    density of counts better than the intensity field; elsewhere it was found to be over-confident.
    """
    if job.pixel_size is None or support_of_spots(job) is not None:
        return False
    return job.lattice.pitch / job.pixel_size <= _MAX_TRAINED_FACTOR * (1 + 1e-6)
