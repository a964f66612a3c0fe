"""Prepare the interpolations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.core.progress import RunMonitor
from napari_srast.inference.allocation import CountAllocator
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import Block, PreparedMethod, TileInput, TilePredictor
from napari_srast.inference.tiles import gene_blocks
from napari_srast.interpolation import Interpolator
from napari_srast.interpolation.gaussian_process import FittedProcess, GaussianProcessGrid

__all__ = ["prepare_interpolation"]

_VALUES_PER_FIT = 2_000_000  # spots x genes whose Gaussian processes are fitted at once


@dataclass(frozen=True, kw_only=True, eq=False)
class _InterpolationPredictor(TilePredictor):
    """Predict every gene by interpolation."""

    name: str
    allocator: CountAllocator
    process: FittedProcess | None

    def blocks(self, n_pixels: int) -> list[slice]:
        return gene_blocks(len(self.allocator.genes), n_pixels)

    def bind(self, tile_input: TileInput, monitor: RunMonitor) -> Callable[[slice], Block]:
        tile = tile_input.tile
        interpolator = Interpolator(tile.layout, tile.halo)
        by_gene = tile_input.counts.tocsc()

        def predict_block(block: slice) -> Block:
            counts = by_gene[:, block].toarray().astype(np.float64)
            process = None if self.process is None else self.process[block]
            ratios = interpolator.ratios(self.name, counts, process=process)
            return self.allocator.allocate(ratios, counts, tile.layout, block, tile.spots), None

        return predict_block


def prepare_interpolation(job: UpsampleJob) -> PreparedMethod:
    """Prepare the interpolation of a job; fit the Gaussian process of each gene if it needs one."""
    n_genes, name = len(job.columns), job.settings.method
    process = None
    if name == "gp":
        grid = GaussianProcessGrid(job.layout.spots, job.layout.pitch)
        by_gene, parts = sparse.csc_matrix(job.select_counts()), []
        size = int(np.clip(_VALUES_PER_FIT // len(job.centers), 1, 256))
        for start in range(0, n_genes, size):
            job.monitor.check_canceled()
            parts.append(grid.fit(by_gene[:, start : start + size].toarray()))
        process = FittedProcess.join(parts)
    return PreparedMethod(
        predictor=_InterpolationPredictor(name=name, allocator=job.allocator, process=process),
        skill=np.full(n_genes, np.nan),
        method=np.array([name] * n_genes, dtype=object),
    )
