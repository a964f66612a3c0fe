"""Makes a job's method ready: an interpolation, or SASA + PCFM."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.inference.allocation import CountAllocator
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import Block, PreparedMethod, TileInput, TilePredictor
from napari_srast.inference.tiles import blocks
from napari_srast.interpolation import Interpolator
from napari_srast.interpolation.gaussian_process import FittedProcess, GaussianProcessGrid

__all__ = ["prepare"]

_FIT_VALUES = 2_000_000  # spots x genes whose processes are fitted at once


def prepare(job: UpsampleJob) -> Generator[tuple[str, int, int], None, PreparedMethod]:
    """Make the job's method ready; yields (stage, done, total)."""
    if job.settings.method == "srast":
        from napari_srast.inference.methods.srast import prepare_srast  # torch loads here, not when the program starts

        return (yield from prepare_srast(job))
    return _interpolated(job)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Interpolation(TilePredictor):
    """A plain interpolation of every gene."""

    name: str
    assembler: CountAllocator
    process: FittedProcess | None

    def blocks(self, n_pixels: int) -> list[slice]:
        return blocks(len(self.assembler.genes), n_pixels)

    def open(self, packed: TileInput, should_stop: Callable[[], bool] | None) -> Callable[[slice], Block]:
        unit = packed.unit
        interpolator = Interpolator(unit.layout, unit.surroundings)
        by_gene = packed.counts.tocsc()

        def split_block(block: slice) -> Block:
            fields = by_gene[:, block].toarray().astype(np.float64)
            process = None if self.process is None else self.process[block]
            ratios = interpolator.ratios(self.name, fields, process=process)
            return self.assembler.counts(ratios, fields, unit.layout, block, unit.spots), None

        return split_block


def _interpolated(job: UpsampleJob) -> PreparedMethod:
    """Return the method of a plain interpolation."""
    n_genes, name = len(job.columns), job.settings.method
    process = None
    if name == "gp":
        grid = GaussianProcessGrid(job.layout.spots, job.layout.pitch)
        by_gene, parts = sparse.csc_matrix(job.chosen()), []
        size = int(np.clip(_FIT_VALUES // len(job.centers), 1, 256))
        for start in range(0, n_genes, size):
            job.check_stop()
            parts.append(grid.fit(by_gene[:, start : start + size].toarray()))
        process = FittedProcess.join(parts)
    return PreparedMethod(
        splitter=_Interpolation(name=name, assembler=job.assembler, process=process),
        skill=np.full(n_genes, np.nan),
        method=np.array([name] * n_genes, dtype=object),
    )
