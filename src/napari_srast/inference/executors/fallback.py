"""Predict tiles even where the device runs out of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast._utils.device_errors import is_device_memory_error, release_cached_memory
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.inference.methods.base import TileInput, TilePredictor

__all__ = ["OutOfMemoryFallback"]

_MAX_HALVINGS = 4


class OutOfMemoryFallback:
    """Predict tiles: whole, in halves where the device's memory is full, and on the CPU where halves are too large.

    Threads may share it.

    Attributes
    ----------
    warnings
        Warnings for the user, one sentence each.
    """

    def __init__(self, predictor: TilePredictor) -> None:
        self._predictor = predictor
        self._halvings = 0
        self.warnings: list[str] = []

    def predict(
        self,
        tile_input: TileInput,
        monitor: RunMonitor = NO_MONITOR,
        on_block: Callable[[], None] | None = None,
        n_halvings: int = 0,
    ) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
        """Predict all genes of a tile.

        Parameters
        ----------
        tile_input
            The tile with its counts and features.
        monitor
            Asked for cancellation before every block of genes.
        on_block
            Called after every block of genes.
        n_halvings
            How often the tile was halved before.

        Returns
        -------
        counts, std
            Counts and, in mode "sample", standard deviations, CSR (q, G).
        """
        predictor, can_be_halved = self._predictor, n_halvings < _MAX_HALVINGS and len(tile_input.tile.core_spots) > 1
        if n_halvings >= self._halvings or not can_be_halved:
            try:
                return _predict_tile(predictor, tile_input, monitor, on_block)
            except Exception as error:
                if not is_device_memory_error(error):
                    raise
            release_cached_memory()
            if can_be_halved:
                self._halvings = max(self._halvings, n_halvings + 1)
                self._warn("The device ran out of memory, so smaller parts of the slide were computed at once.")
            else:
                self._predictor = predictor.to_device("cpu")
                self._warn("The device ran out of memory, so the rest was computed on the CPU.")
                return _predict_tile(self._predictor, tile_input, monitor, on_block)
        halves = tile_input.halves(predictor.core_counts_only)
        parts = [self.predict(half, monitor, on_block, n_halvings + 1) for half in halves]
        rows = np.concatenate([half.tile.rows for half in halves])
        order = np.argsort(rows)
        order = order[np.searchsorted(rows[order], tile_input.tile.rows)]
        counts = sparse.vstack([counts for counts, _ in parts], format="csr")[order]
        deviations = [std for _, std in parts if std is not None]
        return counts, sparse.vstack(deviations, format="csr")[order] if deviations else None

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


def _predict_tile(
    predictor: TilePredictor, tile_input: TileInput, monitor: RunMonitor, on_block: Callable[[], None] | None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
    """Predict all genes of a tile, block by block; return counts and standard deviations, CSR (q, G)."""
    predict_block = predictor.bind(tile_input, monitor)
    counts, deviations = [], []
    for block in predictor.blocks(tile_input.tile.layout.n_pixels):
        monitor.check_canceled()
        block_counts, std = predict_block(block)
        counts.append(block_counts)
        if std is not None:
            deviations.append(std)
        if on_block is not None:
            on_block()
    return _stack_columns(counts), _stack_columns(deviations) if deviations else None


def _stack_columns(blocks: list[Any]) -> sparse.csr_matrix:
    if len(blocks) == 1:
        return sparse.csr_matrix(blocks[0], dtype=np.float32)
    return sparse.csr_matrix(sparse.hstack(blocks, format="csr", dtype=np.float32))
