"""Runs a job: prepare the method, then tile by tile and block by block of genes."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from scipy import sparse

from napari_srast.interpolation import Interpolator
from napari_srast.splitting.job import Job, Split, Tile, blocks, make_tiles
from napari_srast.splitting.method import Block, Method

__all__ = ["Steps", "split_steps"]

Steps = Generator[tuple[str, int, int], None, Split]


def split_steps(job: Job) -> Steps:
    """Split the chosen genes; yields (stage, done, total) and returns the :class:`Split`."""
    if job.settings.method == "srast":
        from napari_srast.splitting.srast import prepare_srast  # torch loads here, not when the program starts

        method = yield from prepare_srast(job)
    else:
        method = _interpolated(job)
    tiles = make_tiles(job)
    plan = [(tile, blocks(len(job.columns), method.values_per_pixel * tile.layout.n_pixels)) for tile in tiles]
    total = sum(len(of_tile) for _, of_tile in plan)
    done = 0
    counts, spreads = [], []
    for tile, of_tile in plan:
        job.check_stop()
        split_block = method.open_tile(tile)
        parts: list[Block] = []
        for block in of_tile:
            job.check_stop()
            parts.append(split_block(block))
            done += 1
            yield "split", done, total
        counts.append(sparse.hstack([c for c, _ in parts], format="csr", dtype=np.float32))
        if parts[0][1] is not None:
            spreads.append(sparse.hstack([s for _, s in parts], format="csr", dtype=np.float32))
    rows = np.concatenate([tile.rows for tile in tiles])
    return Split(
        counts=_in_order(counts, rows),
        std=_in_order(spreads, rows) if spreads else None,
        skill=method.skill,
        method=method.method,
        **method.record,
    )


def _in_order(parts: list[sparse.csr_matrix], rows: np.ndarray) -> sparse.csr_matrix:
    """Stack the tiles' pixels in the order of the result."""
    if len(parts) == 1:
        return parts[0]
    return sparse.vstack(parts, format="csr", dtype=np.float32)[np.argsort(rows)]


def _interpolated(job: Job) -> Method:
    """Return the method of a plain interpolation."""

    def open_tile(tile: Tile) -> Callable[[slice], Block]:
        interpolator = Interpolator(tile.layout)

        def split_block(block: slice) -> Block:
            fields = job.dense(block)
            return job.assemble(tile, interpolator.ratios(job.settings.method, fields), fields, block), None

        return split_block

    n_genes = len(job.columns)
    return Method(
        open_tile=open_tile,
        skill=np.full(n_genes, np.nan),
        method=np.array([job.settings.method] * n_genes, dtype=object),
    )
