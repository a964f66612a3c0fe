"""Collect the tiles of a run into its result.

A run hands every tile to a :class:`ResultSink` as soon as it is computed. :class:`InMemorySink` assembles a result in
memory, and spills large ones to a scratch file; :class:`napari_srast.io.streaming_writer.StreamingResultWriter` writes
a store. Each sink validates the counts that it returns or writes: the former the assembled matrix, the latter every
tile before it reaches the disk.

Shape legend: Q pixels of the result, q pixels of a tile, G genes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

import numpy as np
from scipy import sparse

from napari_srast._utils.scratch_file import allocate_on_disk
from napari_srast._utils.spill import MEMORY_LIMIT, CsrArrays, SparseBlock, SpillBuffer
from napari_srast.arrays import GeneColumns, PixelCounts, PixelRows, PixelValues
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.result import UpsampleMetadata, UpsampleResult, no_columns
from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Raster

__all__ = ["InMemorySink", "ResultPlan", "ResultSink"]

Result_co = TypeVar("Result_co", bound=UpsampleMetadata, covariant=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultPlan:
    """Size and content of a result, known before its first tile is computed.

    Parameters
    ----------
    slide
        The slide that is upsampled.
    raster
        All pixels of the result; ``raster.parent`` indexes the slide's spots.
    columns
        The genes, as columns of the slide's counts, shape (G,).
    with_std
        Whether the run computes standard deviations.
    validate
        Validates some pixels, given their rows (q,) and counts (q, G), and raises
        :class:`~napari_srast.errors.InternalError` if they are invalid. Every pixel is validated exactly once.
    expression_columns
        Genes whose expression the run computes, as ascending indices into ``columns``; empty for none.
    with_expression_std
        Whether the run computes standard deviations of the expression.
    """

    slide: Slide
    raster: Raster
    columns: GeneColumns
    with_std: bool
    validate: Callable[[PixelRows, PixelCounts], None]
    expression_columns: GeneColumns = field(default_factory=no_columns)
    with_expression_std: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the result, (Q, G)."""
        return self.raster.n_pixels, len(self.columns)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the matrices that every tile has besides its counts."""
        has_expression = len(self.expression_columns) > 0
        computed = {
            "std": self.with_std,
            "expression": has_expression,
            "expression_std": has_expression and self.with_expression_std,
        }
        return tuple(name for name, is_computed in computed.items() if is_computed)


class ResultSink(ABC, Generic[Result_co]):
    """Destination of a run's tiles.

    A run calls :meth:`begin` once, :meth:`add` for every tile in any order, :meth:`assemble` after the last tile, and
    :meth:`finish` with the description of the result.
    """

    @abstractmethod
    def begin(self, plan: ResultPlan) -> None:
        """Prepare for the tiles of a result."""

    @abstractmethod
    def add(
        self,
        rows: PixelRows,
        counts: PixelCounts,
        std: PixelValues | None,
        expression: PixelValues | None = None,
        expression_std: PixelValues | None = None,
    ) -> None:
        """Take a tile.

        Parameters
        ----------
        rows
            Rows of the result that the tile's pixels have, shape (q,).
        counts, std
            Counts and, in mode "sample", standard deviations of the pixels, shape (q, G).
        expression, expression_std
            Expression and its standard deviations, shape (q, G), with entries in the columns
            :attr:`ResultPlan.expression_columns` only; None if the run does not compute them.
        """

    def derive(
        self, rows: PixelRows, counts: PixelCounts, tile_input: Any = None
    ) -> tuple[PixelValues | None, PixelValues | None]:
        """Compute the expression of a tile and its standard deviations, for :meth:`add`; None if the sink adds none.

        Threads that predict tiles may call it at the same time. A tile that comes without is completed by :meth:`add`.

        Parameters
        ----------
        rows, counts
            As for :meth:`add`.
        tile_input
            Input of the tile's prediction, with what was computed for the counts and need not be computed again. None
            (default): compute everything.
        """
        return None, None

    def assemble(self) -> None:
        """Assemble the tiles after the last one; a sink that writes tiles as they come has nothing to do."""

    @abstractmethod
    def finish(self, metadata: UpsampleMetadata, monitor: RunMonitor = NO_MONITOR) -> Result_co:
        """Complete the result and return it."""


class InMemorySink(ResultSink[UpsampleResult]):
    """Assemble a result in memory; used in a ``with`` block, it removes its scratch files.

    Parameters
    ----------
    memory_limit
        Bytes up to which the tiles, and up to which the assembled matrices, stay in memory; larger ones go to scratch
        files.

    Attributes
    ----------
    counts, std, expression, expression_std
        The assembled matrices, CSR (Q, G); all but ``counts`` stay None if no tile had them.
    """

    counts: PixelCounts
    std: PixelValues | None = None
    expression: PixelValues | None = None
    expression_std: PixelValues | None = None

    def __init__(self, memory_limit: int = MEMORY_LIMIT) -> None:
        self._memory_limit = memory_limit
        self._buffer = SpillBuffer(memory_limit)
        self._blocks: dict[str, list[SparseBlock]] = {}

    def __enter__(self) -> InMemorySink:
        return self

    def __exit__(self, *_: object) -> None:
        self._buffer.close()

    def begin(self, plan: ResultPlan) -> None:
        """Remember the shape of the result."""
        self._plan, self._shape = plan, plan.shape
        self._blocks = {"counts": []}

    def add(
        self,
        rows: PixelRows,
        counts: PixelCounts,
        std: PixelValues | None,
        expression: PixelValues | None = None,
        expression_std: PixelValues | None = None,
    ) -> None:
        """Take a tile."""
        matrices = {"counts": counts, "std": std, "expression": expression, "expression_std": expression_std}
        for name, matrix in matrices.items():
            if matrix is not None:
                self._blocks.setdefault(name, []).append(self._buffer.add(rows, matrix))

    def assemble(self) -> None:
        """Assemble the matrices, release the tiles, and validate the counts."""
        n_tiles = len(self._blocks["counts"])
        if any(len(blocks) != n_tiles for blocks in self._blocks.values()):
            raise ValueError("some tiles lack a layer that other tiles have")
        with self:
            while self._blocks:
                name, blocks = self._blocks.popitem()
                setattr(self, name, self._join(blocks))
        self._plan.validate(np.arange(self._shape[0]), self.counts)

    def finish(self, metadata: UpsampleMetadata, monitor: RunMonitor = NO_MONITOR) -> UpsampleResult:
        """Return the matrices with their description."""
        description = {one.name: getattr(metadata, one.name) for one in fields(UpsampleMetadata)}
        description["expression_columns"] = self._plan.expression_columns
        return UpsampleResult(
            **description,
            counts=self.counts,
            std=self.std,
            expression=self.expression,
            expression_std=self.expression_std,
        )

    def _join(self, blocks: list[SparseBlock]) -> sparse.csr_matrix:
        per_row = np.zeros(self._shape[0], dtype=np.int64)
        for block in blocks:
            per_row[block.rows] = np.diff(block.pointer)
        pointer = np.concatenate([[0], np.cumsum(per_row)])
        n_entries = int(pointer[-1])
        index_type = np.int32 if max(n_entries, *self._shape) < 2**31 else np.int64
        if len(blocks) == 1 and len(blocks[0].rows) == self._shape[0]:
            columns, data = blocks.pop().read_entries()
        else:
            columns, data = self._allocate(n_entries, index_type)
            while blocks:  # each block is released once it is copied
                block = blocks.pop()
                block.copy_rows(0, len(block.rows), CsrArrays(columns, data, pointer))
                del block
        return sparse.csr_matrix(
            (data, columns.astype(index_type, copy=False), pointer.astype(index_type)), shape=self._shape
        )

    def _allocate(self, n_entries: int, index_type: type) -> tuple[np.ndarray, np.ndarray]:
        """Allocate column indices and values, in memory or in a scratch file."""
        sizes = [(n_entries, index_type), (n_entries, np.float32)]
        on_disk = None
        if n_entries * (np.dtype(index_type).itemsize + 4) > self._memory_limit:
            on_disk = allocate_on_disk(sizes)
        columns, data = on_disk or [np.empty(size, dtype=dtype) for size, dtype in sizes]
        return columns, data
