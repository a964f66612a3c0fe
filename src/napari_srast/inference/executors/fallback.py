"""TODO docstring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast._utils.device_errors import free_device, out_of_memory
from napari_srast.errors import Cancelled
from napari_srast.inference.executors.base import Stop
from napari_srast.inference.methods.base import TileInput, TilePredictor

__all__ = ["OutOfMemoryFallback"]

_MOST_HALVINGS = 4


class OutOfMemoryFallback:
    """Splits units also where the device runs out of memory: in halves, and at last on the CPU.

    Attributes
    ----------
    notices
        What the user is to know of it, one sentence each.
    """

    def __init__(self, splitter: TilePredictor) -> None:
        self._splitter = splitter
        self._halvings = 0
        self.notices: list[str] = []

    def split(
        self, packed: TileInput, should_stop: Stop = None, report: Callable[[], None] | None = None, halved: int = 0
    ) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
        """Split all genes of a unit; returns counts and standard deviations, CSR (Q, G)."""
        splitter, can_be_halved = self._splitter, halved < _MOST_HALVINGS and len(packed.unit.own) > 1
        if halved >= self._halvings or not can_be_halved:
            try:
                return _split_unit(splitter, packed, should_stop, report)
            except Exception as error:
                if not out_of_memory(error):
                    raise
            free_device()
            if can_be_halved:
                self._halvings = max(self._halvings, halved + 1)
                self._tell("The device ran out of memory, so smaller parts of the slide were computed at once.")
            else:
                self._splitter = splitter.on("cpu")
                self._tell("The device ran out of memory, so the rest was computed on the CPU.")
                return _split_unit(self._splitter, packed, should_stop, report)
        halves = packed.halves(splitter.own_counts_only)
        parts = [self.split(half, should_stop, report, halved + 1) for half in halves]
        rows = np.concatenate([half.unit.rows for half in halves])
        order = np.argsort(rows)
        order = order[np.searchsorted(rows[order], packed.unit.rows)]
        counts = sparse.vstack([counts for counts, _ in parts], format="csr")[order]
        spreads = [spread for _, spread in parts if spread is not None]
        return counts, sparse.vstack(spreads, format="csr")[order] if spreads else None

    def _tell(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)


def _split_unit(
    splitter: TilePredictor, packed: TileInput, should_stop: Stop, report: Callable[[], None] | None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
    """Split all genes of a unit, block by block; returns counts and standard deviations, CSR (Q, G)."""
    split_block = splitter.open(packed, should_stop)
    counts, spreads = [], []
    for block in splitter.blocks(packed.unit.layout.n_pixels):
        if should_stop is not None and should_stop():
            raise Cancelled
        of_block, spread = split_block(block)
        counts.append(of_block)
        if spread is not None:
            spreads.append(spread)
        if report is not None:
            report()
    return _side_by_side(counts), _side_by_side(spreads) if spreads else None


def _side_by_side(blocks: list[Any]) -> sparse.csr_matrix:
    if len(blocks) == 1:
        return sparse.csr_matrix(blocks[0], dtype=np.float32)
    return sparse.csr_matrix(sparse.hstack(blocks, format="csr", dtype=np.float32))
