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

__all__ = ["Kept", "Scratch", "room_for"]

_ZEROS = 1 << 20
_ROOMY = "/var/tmp"  # noqa: S108  # nosec B108 - what is put there gets no name


class Kept:
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
        self._place = place
        self._kinds = kinds

    def read(self, first: int, last: int) -> list[np.ndarray]:
        """Return their values ``first`` to ``last``."""
        arrays, place = [], self._place
        for size, dtype in self._kinds:
            self._file.seek(place + first * dtype.itemsize)
            arrays.append(np.fromfile(self._file, dtype=dtype, count=last - first))
            place += size * dtype.itemsize
        return arrays


class Scratch:
    """A file for what is needed once more later; made when it is first written to."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None

    def keep(self, *arrays: np.ndarray) -> Kept | None:
        """Write arrays down; None where the disk takes no more."""
        try:
            if self._file is None:
                self._file = _unnamed()
            place = self._file.seek(0, os.SEEK_END)
            for array in arrays:
                self._file.write(np.ascontiguousarray(array).view(np.uint8).data)
            self._file.flush()
        except OSError:
            return None
        return Kept(self._file, place, [(len(array), array.dtype) for array in arrays])

    def close(self) -> None:
        """Give the room back."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take is still to be written
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
        file.write(bytes(_ZEROS))
    file.write(bytes(size % _ZEROS))
    file.flush()


def _unnamed() -> BinaryIO:
    """Open a file without a name where temporary files may be large: often /tmp is memory itself."""
    chosen = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    folder = _ROOMY if not chosen and os.access(_ROOMY, os.W_OK) else None
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))
