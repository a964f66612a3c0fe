"""Writing a store while its result is computed: rows go to disk in their order, once all before them are there.

Units come in any order, but nearly in that of their first pixels, so that little has to wait for its turn. What waits
is kept sparse, in memory or on disk (:class:`napari_srast._utils.spill.SpillBuffer`); a thread compresses and writes
what need not wait. All of it happens in the hidden place that :func:`napari_srast.io.atomic.atomic_output` gives: a
store is seen once its result is whole and has passed its checks.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast._utils.scratch_file import room_for
from napari_srast._utils.spill import IN_MEMORY, SparseBlock, SpillBuffer
from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.core.sinks import ResultSink
from napari_srast.core.slide import Slide
from napari_srast.errors import translate_memory_errors
from napari_srast.geometry.raster import Raster
from napari_srast.io.atomic import WriteRefused, remove
from napari_srast.io.result_elements import (
    DeferredErrors,
    ProgressHook,
    as_store,
    column_reader,
    image_columns,
    image_genes,
    result_names,
)
from napari_srast.io.store import quiet_writing, write_store
from napari_srast.io.zarr_writes import settle_zarr_writes

__all__ = ["LACKING", "StreamingResultWriter", "write_whole"]

LACKING = ("while writing the result, and nothing was left behind", "write .csv, fewer genes or a smaller region")
"""What is told where memory is full, and what to do."""
_CHUNK = 1 << 19  # values of a chunk of the store
_AT_ONCE = 1 << 21  # counts that are written at once
_MAPPED = 1 << 26  # bytes of the image's genes from which on they lie on disk


class _AppendableCsr:
    """A sparse matrix of a store, to which rows are appended.

    Parameters
    ----------
    folder
        Where the matrix goes.
    n_rows, n_genes
        Its shape, at last.
    most_entries
        Counts above 0 that it may have, at most.
    """

    def __init__(self, folder: Path, n_rows: int, n_genes: int, most_entries: int) -> None:
        import zarr
        from anndata.io import sparse_dataset, write_elem

        chunk = int(np.clip(max(most_entries, n_rows + 1), 1, _CHUNK))
        wide = np.dtype(np.int32 if most_entries < np.iinfo(np.int32).max else np.int64)
        with quiet_writing():
            group = zarr.open_group(folder.parent, mode="a", zarr_format=3)
            write_elem(
                group,
                folder.name,
                sparse.csr_matrix((0, n_genes), dtype=np.float32),
                dataset_kwargs={"chunks": (chunk,), "indptr_dtype": wide},
            )
            self._rows: Any = sparse_dataset(group[folder.name])

    def append(self, rows: sparse.csr_matrix) -> None:
        """Append rows (n, G)."""
        self._rows.append(rows)


class _RowReorderBuffer:
    """Puts the rows of units in their order and appends them, as they come.

    Parameters
    ----------
    rows
        Where they go.
    n_rows, n_genes
        Shape of the whole.
    parts
        Keeps what has to wait.
    writer
        The thread that writes.
    """

    def __init__(
        self, rows: _AppendableCsr, n_rows: int, n_genes: int, parts: SpillBuffer, writer: ThreadPoolExecutor
    ) -> None:
        self._rows = rows
        self._n_genes = n_genes
        self._parts = parts
        self._writer = writer
        self._writing: Future[None] | None = None
        self._waiting: list[SparseBlock] = []
        self._n_entries = np.zeros(n_rows, dtype=np.int32)
        self._missing = np.ones(n_rows, dtype=bool)
        self._written = self._ready = 0  # rows: those that are in the store, and those that may go there
        self._n_ready = 0  # entries of the rows between

    def add(self, rows: np.ndarray, part: sparse.csr_matrix) -> None:
        """Take rows, and write what has become ready if it is much."""
        kept = self._parts.keep(rows, part)
        self._waiting.append(kept)
        self._n_entries[kept.rows] = np.diff(kept.pointer)
        self._missing[kept.rows] = False
        before, after = self._ready, self._missing[self._ready :]
        self._ready += int(after.argmax()) if after.any() else len(after)
        self._n_ready += int(self._n_entries[before : self._ready].sum(dtype=np.int64))
        self._write(_AT_ONCE)

    def finish(self, check_stop: Callable[[], object] = lambda: None) -> None:
        """Write the rest; ``check_stop`` is called before each portion, and may raise."""
        if self._missing.any():
            raise ValueError("not all rows came")
        self._write(0, check_stop)
        self._wait()

    def _write(self, at_least: int, check_stop: Callable[[], object] = lambda: None) -> None:
        """Write what is ready in portions, as long as it is at least so many entries."""
        if self._written == self._ready or self._n_ready < at_least:
            return
        begin, pointer = self._written, _pointer(self._n_entries[self._written : self._ready])
        for first, last in _portions(pointer):
            if self._n_ready < at_least:
                break
            check_stop()
            n_entries = int(pointer[last] - pointer[first])
            band = self._band(begin + first, begin + last, n_entries)
            self._wait()
            self._writing = self._writer.submit(self._append, band)
            self._written += last - first
            self._n_ready -= n_entries

    def _append(self, band: sparse.csr_matrix) -> None:
        with _refusing():
            self._rows.append(band)

    def _band(self, start: int, stop: int, n_entries: int) -> sparse.csr_matrix:
        """Return some rows, and forget the units that are written to their end."""
        pointer = _pointer(self._n_entries[start:stop]).astype(np.int32)
        columns, data = np.empty(n_entries, dtype=np.int32), np.empty(n_entries, dtype=np.float32)
        waiting = []
        for part in self._waiting:
            first, last = np.searchsorted(part.rows, (start, stop))
            if first < last:
                part.copy(first, last, columns, data, pointer, start)
            if last < len(part.rows):
                waiting.append(part)
            else:
                self._parts.forget(part)
        self._waiting = waiting
        return sparse.csr_matrix((data, columns, pointer), shape=(stop - start, self._n_genes))

    def _wait(self) -> None:
        """Wait until the thread has written what it was given, and raise what it raised."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None


class StreamingResultWriter(ResultSink):
    """Writes units to a store as they come; used in a ``with`` block, it leaves only the store.

    Parameters
    ----------
    path
        Where the store goes: a hidden place, beside which there may be others.
    include_image
        Whether the store gets the image beside circles and table.
    in_memory
        Bytes of units that wait for their turn in memory.

    Raises
    ------
    Refused
        The system refuses to write: raised by :meth:`begin`, :meth:`add` and :meth:`prepare_for_display`.
    """

    def __init__(self, path: Path, *, include_image: bool = True, in_memory: int = IN_MEMORY) -> None:
        self._path = path
        self._include_image = include_image
        self._folder = path.with_name(f"{path.name}.parts")
        self._parts = SpillBuffer(in_memory)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="napari-srast-writer")
        self._matrices: dict[str, _RowReorderBuffer] = {}
        self._shown = np.empty(0, dtype=np.int64)
        self._images = np.empty((0, 0), dtype=np.float32)

    def __enter__(self) -> StreamingResultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(wait=True, cancel_futures=True)
        settle_zarr_writes()  # a chunk that is still being written would create the folder again
        self._parts.close()
        remove(self._folder)

    def begin(self, slide: Slide, raster: Raster, columns: np.ndarray, *, with_std: bool) -> None:
        """Say what will come.

        Parameters
        ----------
        slide, raster
            The slide and all pixels; ``raster.parent`` indexes its spots.
        columns
            The genes, as columns of the slide's counts, shape (G,).
        with_std
            Whether standard deviations come beside the counts.
        """
        n_pixels, n_genes = raster.n_pixels, len(columns)
        most = most_entries(slide.counts_of(columns), raster)
        with _refusing():
            for key in ("X", "layers/std") if with_std else ("X",):
                rows = _AppendableCsr(self._folder / key, n_pixels, n_genes, most)
                self._matrices[key] = _RowReorderBuffer(rows, n_pixels, n_genes, self._parts, self._writer)
        if self._include_image:
            self._shown = image_columns(slide, raster, columns)
            size = len(self._shown) * n_pixels
            mapped = room_for([(size, np.float32)]) if 4 * size > _MAPPED else None
            images = np.zeros(size, dtype=np.float32) if mapped is None else mapped[0]
            self._images = images.reshape(len(self._shown), n_pixels)

    def add(self, rows: np.ndarray, counts: sparse.csr_matrix, spread: sparse.csr_matrix | None) -> None:
        """Take the pixels (Q, G) of a unit, which are ``rows`` of the result, and write what need not wait."""
        if len(self._shown):
            shown = counts if len(self._shown) == counts.shape[1] else counts[:, self._shown]
            self._images[:, rows] = shown.toarray().T
        self._matrices["X"].add(rows, counts)
        if spread is not None:
            self._matrices["layers/std"].add(rows, spread)

    def finish(self, record: UpsampleMetadata, watch: ProgressHook | None = None) -> None:
        """Write all the rest, once all units have come and passed their checks.

        Parameters
        ----------
        record
            The run.
        watch
            Called before each portion of counts and each gene's image, with the share of these that is done, 0 to 1;
            what it raises stops the writing.
        """
        deferred = DeferredErrors(watch)
        with translate_memory_errors(*LACKING):
            for matrix in self._matrices.values():
                matrix.finish(lambda: None if watch is None else watch(0.0))
        with _refusing(), translate_memory_errors(*LACKING):
            store = as_store(
                record,
                with_std="layers/std" in self._matrices,
                column=self._images.__getitem__ if self._include_image else None,
                watch=deferred,
            )
            table = self._path / "tables" / result_names(record).table

            def fill() -> None:
                for key in self._matrices:
                    remove(table / key)
                    os.rename(self._folder / key, table / key)

            write_store(store, self._path, fill)
            deferred.settle()


def most_entries(counts: sparse.csr_matrix, raster: Raster) -> int:
    """Return how many counts above 0 the pixels can have at most, given those of the spots (N, G)."""
    return int(np.diff(counts.indptr) @ raster.counts_per_spot)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Mark what the system refuses to write as such: a run may meet other errors of the system."""
    try:
        yield
    except OSError as error:
        raise WriteRefused(*error.args) from error


def write_whole(result: UpsampleResult, path: Path, include_image: bool, watch: ProgressHook | None) -> None:
    """Write a result that lies in memory to a new store, the same bytes that a stream writes.

    A watcher that raises is heard once nothing writes any more.
    """
    deferred = DeferredErrors(watch)
    column = column_reader(result.counts, image_genes(result)) if include_image else None
    matrices = {"X": result.counts} | ({} if result.std is None else {"layers/std": result.std})
    columns = result.slide.gene_indices([str(gene) for gene in result.genes])
    most = max(most_entries(result.slide.counts_of(columns), result.raster), *(m.nnz for m in matrices.values()))
    store = as_store(result, with_std=result.std is not None, column=column, watch=deferred)
    table = path / "tables" / result_names(result).table

    def fill() -> None:
        total = max(sum(matrix.nnz for matrix in matrices.values()), 1)
        done, deferred.span = 0, (0.5 if include_image else 0.0, 1.0)
        for key, matrix in matrices.items():
            deferred.settle()
            remove(table / key)
            rows = _AppendableCsr(table / key, matrix.shape[0], matrix.shape[1], most)
            for first, last in _portions(matrix.indptr.astype(np.int64, copy=False)):
                if not deferred.goes_on(done / total):
                    break
                portion = matrix[first:last].astype(np.float32, copy=False)
                rows.append(portion)
                done += portion.nnz

    deferred.span = 0.0, 0.5
    write_store(store, path, fill)
    deferred.settle()


def _pointer(n_entries: np.ndarray) -> np.ndarray:
    """Return where the entries of each row begin, and the last end, int64."""
    return np.concatenate([[0], np.cumsum(n_entries, dtype=np.int64)])


def _portions(pointer: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut rows into portions of a few million entries, at least one row each; yields where each begins and ends."""
    first = 0
    while first < len(pointer) - 1:
        last = int(np.searchsorted(pointer, pointer[first] + _AT_ONCE, side="right")) - 1
        last = max(first + 1, last)
        yield first, last
        first = last
