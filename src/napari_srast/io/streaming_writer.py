"""Write the store of a result while it is computed.

Tiles arrive in any order, but roughly in the order of their first pixels. Their rows are appended to the matrices of
the store in order, as soon as all preceding rows are there; rows that have to wait are buffered as sparse blocks, in
memory or on disk (:class:`napari_srast._utils.spill.SpillBuffer`). A thread compresses and writes. Everything is
written to the hidden path of :func:`napari_srast.io.atomic.atomic_output`, so that a store becomes visible after its
result is complete and validated.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast._utils.spill import CsrArrays, SparseBlock, SpillBuffer
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.core.sinks import ResultPlan, ResultSink
from napari_srast.errors import translate_memory_errors
from napari_srast.io.atomic import WriteRefused, remove
from napari_srast.io.result_elements import (
    StoreContent,
    build_store_without_counts,
    image_sources,
    matrix_image_sources,
    result_names,
)
from napari_srast.io.result_images import DeferredErrors, ImageBuffer, channel_columns, image_columns
from napari_srast.io.store import quiet_writing, write_store
from napari_srast.io.zarr_writes import settle_zarr_writes

__all__ = ["MEMORY_ERROR_TEXTS", "StreamingResultWriter", "write_result_store"]

MEMORY_ERROR_TEXTS = (
    "while writing the result, and nothing was left behind",
    "write .csv, fewer genes or a smaller region",
)
"""Arguments of :func:`napari_srast.errors.translate_memory_errors` while a result is written."""
_KEYS = {"counts": "X", **{name: f"layers/{name}" for name in ("std", "expression", "expression_std")}}
"""Path of each matrix of a result in its table."""
_MEMORY_LIMIT = 1 << 26  # bytes of waiting rows
_CHUNK_VALUES = 1 << 19  # values of a chunk of the store
_DEFAULT_CONTENT = StoreContent()
_PORTION_ENTRIES = 1 << 21  # counts that are written together


class _AppendableCsr:
    """Sparse matrix of a store to which rows are appended.

    Parameters
    ----------
    path
        Path of the matrix in the store.
    n_rows, n_genes
        Final shape of the matrix.
    max_entries
        Upper limit of the number of nonzero counts.
    """

    def __init__(self, path: Path, n_rows: int, n_genes: int, max_entries: int) -> None:
        import zarr
        from anndata.io import sparse_dataset, write_elem

        chunk = int(np.clip(max(max_entries, n_rows + 1), 1, _CHUNK_VALUES))
        pointer_type = np.dtype(np.int32 if max_entries < np.iinfo(np.int32).max else np.int64)
        with quiet_writing():
            group = zarr.open_group(path.parent, mode="a", zarr_format=3)
            write_elem(
                group,
                path.name,
                sparse.csr_matrix((0, n_genes), dtype=np.float32),
                dataset_kwargs={"chunks": (chunk,), "indptr_dtype": pointer_type},
            )
            self._dataset: Any = sparse_dataset(group[path.name])

    def append(self, rows: sparse.csr_matrix) -> None:
        """Append rows, shape (n, G)."""
        self._dataset.append(rows)


class _RowReorderBuffer:
    """Buffer that receives the rows of a matrix in any order, and appends them in order.

    Parameters
    ----------
    matrix
        The matrix to which the rows are appended.
    n_rows, n_genes
        Final shape of the matrix.
    buffer
        Stores the blocks of rows that have to wait.
    writer
        The thread that writes.
    """

    def __init__(
        self, matrix: _AppendableCsr, n_rows: int, n_genes: int, buffer: SpillBuffer, writer: ThreadPoolExecutor
    ) -> None:
        self._matrix = matrix
        self._n_genes = n_genes
        self._buffer = buffer
        self._writer = writer
        self._pending_write: Future[None] | None = None
        self._blocks: list[SparseBlock] = []
        self._n_entries = np.zeros(n_rows, dtype=np.int32)
        self._missing = np.ones(n_rows, dtype=bool)
        self._n_written = 0  # rows that are in the store
        self._n_complete = 0  # rows without a missing row before them
        self._n_ready_entries = 0  # entries of the rows that are complete, but not written

    def add(self, rows: np.ndarray, counts: sparse.csr_matrix) -> None:
        """Add rows, and write the complete ones if they have enough entries for a portion."""
        block = self._buffer.add(rows, counts)
        self._blocks.append(block)
        self._n_entries[block.rows] = np.diff(block.pointer)
        self._missing[block.rows] = False
        before, missing = self._n_complete, self._missing[self._n_complete :]
        self._n_complete += int(missing.argmax()) if missing.any() else len(missing)
        self._n_ready_entries += int(self._n_entries[before : self._n_complete].sum(dtype=np.int64))
        self._write(_PORTION_ENTRIES)

    def finish(self, monitor: RunMonitor = NO_MONITOR) -> None:
        """Write the remaining rows; the monitor is asked for cancellation before each portion."""
        if self._missing.any():
            raise ValueError("some rows are missing")
        self._write(0, monitor)
        self._wait()

    def _write(self, min_entries: int, monitor: RunMonitor = NO_MONITOR) -> None:
        """Write complete rows in portions, as long as they have at least ``min_entries`` entries."""
        if self._n_written == self._n_complete or self._n_ready_entries < min_entries:
            return
        start, pointer = self._n_written, _row_pointer(self._n_entries[self._n_written : self._n_complete])
        for first, last in _portions(pointer):
            if self._n_ready_entries < min_entries:
                break
            monitor.check_canceled()
            n_entries = int(pointer[last] - pointer[first])
            portion = self._take_rows(start + first, start + last, n_entries)
            self._wait()
            self._pending_write = self._writer.submit(self._append, portion)
            self._n_written += last - first
            self._n_ready_entries -= n_entries

    def _append(self, portion: sparse.csr_matrix) -> None:
        with _mark_refused_writes():
            self._matrix.append(portion)

    def _take_rows(self, start: int, stop: int, n_entries: int) -> sparse.csr_matrix:
        """Return some rows, and release the blocks whose rows have all been returned."""
        pointer = _row_pointer(self._n_entries[start:stop]).astype(np.int32)
        columns, data = np.empty(n_entries, dtype=np.int32), np.empty(n_entries, dtype=np.float32)
        remaining = []
        for block in self._blocks:
            first, last = np.searchsorted(block.rows, (start, stop))
            if first < last:
                block.copy_rows(first, last, CsrArrays(columns, data, pointer), start)
            if last < len(block.rows):
                remaining.append(block)
            else:
                self._buffer.release(block)
        self._blocks = remaining
        return sparse.csr_matrix((data, columns, pointer), shape=(stop - start, self._n_genes))

    def _wait(self) -> None:
        """Wait until the pending portion is written, and raise the error if it failed."""
        if self._pending_write is not None:
            self._pending_write.result()
            self._pending_write = None


class StreamingResultWriter(ResultSink[UpsampleMetadata]):
    """Write tiles to a store as they arrive; used in a ``with`` block, it leaves only the store.

    Parameters
    ----------
    path
        Path of the store: a hidden path of :func:`napari_srast.io.atomic.atomic_output`. A second folder next to it
        holds the matrices until the result is complete.
    content
        Optional content of the store; it always contains labels, circles and table.
    memory_limit
        Bytes of waiting rows that stay in memory; more go to a scratch file.

    Raises
    ------
    WriteRefused
        The system refuses to write: raised by :meth:`begin`, :meth:`add` and :meth:`finish`.
    """

    def __init__(
        self, path: Path, content: StoreContent = _DEFAULT_CONTENT, *, memory_limit: int = _MEMORY_LIMIT
    ) -> None:
        self._path = path
        self._content = content
        self._matrix_folder = path.with_name(f"{path.name}.parts")
        self._buffer = SpillBuffer(memory_limit)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="napari-srast-writer")
        self._matrices: dict[str, _RowReorderBuffer] = {}
        self._images: dict[str, ImageBuffer] = {}

    def __enter__(self) -> StreamingResultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(wait=True, cancel_futures=True)
        settle_zarr_writes()  # a chunk that is still being written would create the folder again
        self._buffer.close()
        remove(self._matrix_folder)

    def begin(self, plan: ResultPlan) -> None:
        """Create the matrices of the store."""
        self._plan = plan
        n_pixels, n_genes = plan.shape
        with _mark_refused_writes():
            for key, limit in _max_entries(plan).items():
                matrix = _AppendableCsr(self._matrix_folder / key, n_pixels, n_genes, limit)
                self._matrices[key] = _RowReorderBuffer(matrix, n_pixels, n_genes, self._buffer, self._writer)
        if self._content.include_image:
            shown = image_columns(plan.slide, plan.raster, plan.columns)
            for layer, columns in channel_columns(shown, plan.expression_columns).items():
                self._images[layer] = ImageBuffer(columns, n_pixels)

    def add(
        self,
        rows: np.ndarray,
        counts: sparse.csr_matrix,
        std: sparse.csr_matrix | None,
        expression: sparse.csr_matrix | None = None,
        expression_std: sparse.csr_matrix | None = None,
    ) -> None:
        """Validate a tile, and write the rows that are complete so far."""
        self._plan.validate(rows, counts)
        matrices = {"counts": counts, "std": std, "expression": expression, "expression_std": expression_std}
        for name, matrix in matrices.items():
            if matrix is None:
                continue
            if name in self._images:
                self._images[name].add(rows, matrix)
            self._matrices[_KEYS[name]].add(rows, matrix)

    def finish(self, metadata: UpsampleMetadata, monitor: RunMonitor = NO_MONITOR) -> UpsampleMetadata:
        """Write the remaining rows and all other elements of the store.

        Parameters
        ----------
        metadata
            The result without its counts.
        monitor
            Asked for cancellation before each portion of counts and each gene of the images. It receives no reports:
            the progress of the run is complete.
        """
        metadata = replace(metadata, expression_columns=self._plan.expression_columns)
        progress = DeferredErrors(replace(monitor, on_progress=None))
        with translate_memory_errors(*MEMORY_ERROR_TEXTS):
            for matrix in self._matrices.values():
                matrix.finish(monitor)
        with _mark_refused_writes(), translate_memory_errors(*MEMORY_ERROR_TEXTS):
            images = image_sources(metadata, lambda layer, _: self._images[layer].read) if self._images else []
            store = build_store_without_counts(
                metadata, layers=self._plan.layers, images=images, content=self._content, progress=progress
            )
            table = self._path / "tables" / result_names(metadata).table

            def move_matrices() -> None:
                for key in self._matrices:
                    remove(table / key)
                    os.rename(self._matrix_folder / key, table / key)

            write_store(store, self._path, move_matrices)
            progress.raise_pending()
        return metadata


def write_result_store(
    result: UpsampleResult, path: Path, content: StoreContent, monitor: RunMonitor = NO_MONITOR
) -> None:
    """Write a result that is in memory to a new store, with the same bytes as :class:`StreamingResultWriter`.

    Parameters
    ----------
    result
        The result.
    path
        Path of the new store.
    content
        Optional content of the store.
    monitor
        Receives progress, from any thread, and is asked for cancellation, which takes effect after all threads have
        ended.
    """
    progress = DeferredErrors(monitor)
    matrices = {_KEYS[name]: matrix for name, matrix in {"counts": result.counts, **result.layers}.items()}
    limits = _max_entries(_plan_of(result))
    max_entries = {key: max(limits[key], matrix.nnz) for key, matrix in matrices.items()}
    images = matrix_image_sources(result) if content.include_image else []
    store = build_store_without_counts(
        result, layers=tuple(result.layers), images=images, content=content, progress=progress
    )
    table = path / "tables" / result_names(result).table

    def write_matrices() -> None:
        n_entries = max(sum(matrix.nnz for matrix in matrices.values()), 1)
        n_done, progress.span = 0, (0.5 if images else 0.0, 1.0)
        for key, matrix in matrices.items():
            progress.raise_pending()
            remove(table / key)
            target = _AppendableCsr(table / key, matrix.shape[0], matrix.shape[1], max_entries[key])
            for first, last in _portions(matrix.indptr.astype(np.int64, copy=False)):
                if not progress.report(n_done / n_entries):
                    break
                portion = matrix[first:last].astype(np.float32, copy=False)
                target.append(portion)
                n_done += portion.nnz

    progress.span = 0.0, 0.5
    write_store(store, path, write_matrices)
    progress.raise_pending()


def _plan_of(result: UpsampleResult) -> ResultPlan:
    """Return the plan by which a result would be written while it is computed."""
    return ResultPlan(
        slide=result.slide,
        raster=result.raster,
        columns=result.slide.gene_indices([str(gene) for gene in result.genes]),
        with_std=result.std is not None,
        validate=lambda *_: None,
        expression_columns=result.expression_columns,
        with_expression_std=result.expression_std is not None,
    )


@contextlib.contextmanager
def _mark_refused_writes() -> Iterator[None]:
    """Convert ``OSError`` to :class:`WriteRefused`, to distinguish it from other system errors of a run."""
    try:
        yield
    except OSError as error:
        raise WriteRefused(*error.args) from error


def _max_entries(plan: ResultPlan) -> dict[str, int]:
    """Return the largest possible number of entries of each matrix of a result, by its path in the table.

    A pixel has at most the genes that its spot counts, but an expression above 0 for every gene that has one.
    """
    spots = plan.slide.select_counts(plan.columns)
    n_counts = int(np.diff(spots.indptr) @ plan.raster.n_pixels_per_spot)
    n_expression = plan.raster.n_pixels * len(plan.expression_columns)
    return {_KEYS[name]: n_expression if "expression" in name else n_counts for name in ("counts", *plan.layers)}


def _row_pointer(n_entries: np.ndarray) -> np.ndarray:
    """Return the row pointer (n + 1,) of a CSR matrix, int64, given the number of entries of each row (n,)."""
    return np.concatenate([[0], np.cumsum(n_entries, dtype=np.int64)])


def _portions(pointer: np.ndarray) -> Iterator[tuple[int, int]]:
    """Split rows into portions of at most :data:`_PORTION_ENTRIES` entries or one row; yield first row and end."""
    first = 0
    while first < len(pointer) - 1:
        last = int(np.searchsorted(pointer, pointer[first] + _PORTION_ENTRIES, side="right")) - 1
        last = max(first + 1, last)
        yield first, last
        first = last
