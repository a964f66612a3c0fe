"""Room on disk for results that are large beside a computer's memory: written as units come, mapped once all are there.

The file has no name, so it is gone with the process, however that ends. Where the disk has no room, memory is used.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from typing import BinaryIO, cast

import numpy as np

__all__ = ["ScratchFile", "ScratchSlice", "room_for"]

_ZEROS = 1 << 20
_ROOMY = "/var/tmp"  # noqa: S108  # nosec B108 - what is put there gets no name


class ScratchSlice:
    """Arrays that were written down one after the other, and can be read again.

    Parameters
    ----------
    file, place
        Where they lie.
    kinds
        Length and type of each.
    """

    def __init__(self, file: BinaryIO, place: int, kinds: list[tuple[int, np.dtype]]) -> None:
        self._file = file
        self._kinds = kinds
        self.place = place
        self.size = sum(length * dtype.itemsize for length, dtype in kinds)

    def read(self, first: int, last: int) -> list[np.ndarray]:
        """Return their values ``first`` to ``last``."""
        arrays, place = [], self.place
        for size, dtype in self._kinds:
            self._file.seek(place + first * dtype.itemsize)
            arrays.append(np.fromfile(self._file, dtype=dtype, count=last - first))
            place += size * dtype.itemsize
        return arrays


class ScratchFile:
    """A file for what is needed once more later; made when it is first written to."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._end = 0
        self._holes: list[tuple[int, int]] = []  # where what was forgotten begins and ends, in this order

    def keep(self, *arrays: np.ndarray) -> ScratchSlice | None:
        """Write arrays down; None where the disk takes no more."""
        size = sum(array.nbytes for array in arrays)
        hole = min(
            (one for one in self._holes if one[1] - one[0] >= size), key=lambda one: one[1] - one[0], default=None
        )
        place = self._end if hole is None else hole[0]
        try:
            if self._file is None:
                self._file = _unnamed()
            self._file.seek(place)
            for array in arrays:
                _write_all(self._file, np.ascontiguousarray(array).view(np.uint8).data)
        except OSError:
            return None
        if hole is None:
            self._end += size
        else:
            self._holes[self._holes.index(hole)] = (place + size, hole[1])
        return ScratchSlice(self._file, place, [(len(array), array.dtype) for array in arrays])

    def forget(self, kept: ScratchSlice) -> None:
        """Give the room of arrays to those that come."""
        holes: list[tuple[int, int]] = []
        for start, stop in sorted([*self._holes, (kept.place, kept.place + kept.size)]):
            if start < stop and holes and holes[-1][1] == start:
                holes[-1] = (holes[-1][0], stop)
            elif start < stop:
                holes.append((start, stop))
        self._holes = holes

    def close(self) -> None:
        """Give the room back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def room_for(sizes: list[tuple[int, type]]) -> list[np.ndarray] | None:
    """Return arrays of these lengths and types that lie on disk; None where it has no room for them.

    The system writes them out and reads them again as its memory allows.
    """
    n_bytes = [size * np.dtype(dtype).itemsize for size, dtype in sizes]
    starts = np.concatenate([[0], np.cumsum([-(-n // mmap.PAGESIZE) * mmap.PAGESIZE for n in n_bytes])]).tolist()
    try:
        with _unnamed() as file:
            _reserve(file, max(int(starts[-1]), 1))
            mapped = mmap.mmap(file.fileno(), max(int(starts[-1]), 1))
    except OSError:
        return None
    return [
        np.frombuffer(mapped, dtype=dtype, count=size, offset=start)
        for (size, dtype), start in zip(sizes, starts[:-1], strict=True)
    ]


def _reserve(file: BinaryIO, size: int) -> None:
    """Take the room at once: a disk that fills up under a mapped file ends the process.

    Raises
    ------
    OSError
        There is not enough.
    """
    with contextlib.suppress(AttributeError):  # the system has none
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for _ in range(size // _ZEROS):
        _write_all(file, memoryview(bytes(_ZEROS)))
    _write_all(file, memoryview(bytes(size % _ZEROS)))


def _write_all(file: BinaryIO, data: memoryview) -> None:
    """Write everything: a file without a buffer may take less at once, and one with a buffer would keep the rest."""
    while len(data):
        data = data[file.write(data) :]


def _unnamed() -> BinaryIO:
    """Open a file without a name where temporary files may be large: often /tmp is memory itself."""
    chosen = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    folder = _ROOMY if not chosen and os.access(_ROOMY, os.W_OK) else None
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder, buffering=0))
