"""Temporary storage on disk for slides and results that are large compared with main memory.

The files have no name, so the operating system deletes them when the process ends, whatever ends it. Where the disk has
no space left, callers fall back to memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from typing import BinaryIO, cast

import numpy as np

__all__ = ["ScratchFile", "ScratchSlice", "allocate_on_disk", "release_pages"]

_ZEROS_PER_WRITE = 1 << 20
_LARGE_TEMPORARY_FOLDER = "/var/tmp"  # noqa: S108  # nosec B108 - files there get no name


class ScratchSlice:
    """Arrays that are stored one after the other in a scratch file.

    Parameters
    ----------
    file
        The scratch file.
    offset
        Position of the first array in the file, in bytes.
    arrays
        Length and dtype of each array.
    """

    def __init__(self, file: BinaryIO, offset: int, arrays: list[tuple[int, np.dtype]]) -> None:
        self._file = file
        self._arrays = arrays
        self.offset = offset
        self.size = sum(length * dtype.itemsize for length, dtype in arrays)

    def read(self, first: int, last: int) -> list[np.ndarray]:
        """Read the elements from ``first`` up to, but without, ``last`` of each array."""
        arrays, offset = [], self.offset
        for length, dtype in self._arrays:
            self._file.seek(offset + first * dtype.itemsize)
            arrays.append(np.fromfile(self._file, dtype=dtype, count=last - first))
            offset += length * dtype.itemsize
        return arrays


class ScratchFile:
    """Temporary file for arrays that are read again later; the first write creates it."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._end = 0
        self._holes: list[tuple[int, int]] = []  # start and end of released space, sorted

    def write(self, *arrays: np.ndarray) -> ScratchSlice | None:
        """Store arrays in the smallest hole that fits them, or else at the end; return None if the disk is full."""
        size = sum(array.nbytes for array in arrays)
        fitting = [(start, stop) for start, stop in self._holes if stop - start >= size]
        hole = min(fitting, key=lambda hole: hole[1] - hole[0], default=None)
        offset = self._end if hole is None else hole[0]
        try:
            if self._file is None:
                self._file = _open_unnamed()
            self._file.seek(offset)
            for array in arrays:
                _write_all(self._file, np.ascontiguousarray(array).view(np.uint8).data)
        except OSError:
            return None
        if hole is None:
            self._end += size
        else:
            self._holes[self._holes.index(hole)] = (offset + size, hole[1])
        return ScratchSlice(self._file, offset, [(len(array), array.dtype) for array in arrays])

    def release(self, stored: ScratchSlice) -> None:
        """Free the space of stored arrays for later ones, merging adjacent holes."""
        holes: list[tuple[int, int]] = []
        for start, stop in sorted([*self._holes, (stored.offset, stored.offset + stored.size)]):
            if start < stop and holes and holes[-1][1] == start:
                holes[-1] = (holes[-1][0], stop)
            elif start < stop:
                holes.append((start, stop))
        self._holes = holes

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def allocate_on_disk(sizes: list[tuple[int, type]]) -> list[np.ndarray] | None:
    """Allocate arrays in a memory-mapped temporary file.

    The operating system writes their pages to disk, and reads them again, as its memory allows.

    Parameters
    ----------
    sizes
        Length and dtype of each array.

    Returns
    -------
    list of np.ndarray or None
        The arrays, one-dimensional; None if the disk has no space for them.
    """
    n_bytes = [size * np.dtype(dtype).itemsize for size, dtype in sizes]
    starts = np.concatenate([[0], np.cumsum([-(-n // mmap.PAGESIZE) * mmap.PAGESIZE for n in n_bytes])]).tolist()
    try:
        with _open_unnamed() as file:
            _reserve(file, max(int(starts[-1]), 1))
            mapped = mmap.mmap(file.fileno(), max(int(starts[-1]), 1))
    except OSError:
        return None
    return [
        np.frombuffer(mapped, dtype=dtype, count=size, offset=start)
        for (size, dtype), start in zip(sizes, starts[:-1], strict=True)
    ]


def release_pages(array: np.ndarray) -> None:
    """Remove the pages of an array of :func:`allocate_on_disk` from the memory of this process.

    Their values stay in the file, and are read again when they are needed. Without this the system counts every page
    that was touched as memory of the process, until it runs short of memory. Other arrays, and systems that cannot do
    this, keep their pages.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _reserve(file: BinaryIO, size: int) -> None:
    """Allocate disk space in advance, because a disk that fills up under a mapped file ends the process.

    Raises
    ------
    OSError
        The disk has not enough space.
    """
    with contextlib.suppress(AttributeError):  # not every operating system has posix_fallocate
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for _ in range(size // _ZEROS_PER_WRITE):
        _write_all(file, memoryview(bytes(_ZEROS_PER_WRITE)))
    _write_all(file, memoryview(bytes(size % _ZEROS_PER_WRITE)))


def _write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all bytes to an unbuffered file, whose ``write`` may write only a part of them.

    A buffered file would keep bytes that the disk refused, and try to write them again at every later access.
    """
    while len(data):
        data = data[file.write(data) :]


def _open_unnamed() -> BinaryIO:
    """Open an unnamed temporary file in a folder for large files, because /tmp is often held in memory."""
    folder_is_set = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    use_large = not folder_is_set and os.access(_LARGE_TEMPORARY_FOLDER, os.W_OK)
    folder = _LARGE_TEMPORARY_FOLDER if use_large else None
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder, buffering=0))
