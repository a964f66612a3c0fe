"""Detect missing chunks of a table: Zarr silently reads them as zeros, which would be wrong counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_srast.errors import InputError
from napari_srast.io.counts import RAW_LAYERS

__all__ = ["check_chunks"]


def check_chunks(store: Path, table: str) -> tuple[str, ...]:
    """Check that no chunk of a table's counts is missing on disk.

    Writers may omit a chunk of zeros. The stored values of a sparse matrix contain no such chunk, and its row pointers
    end at the number of values, so a missing chunk is an error. In a dense matrix it may be zeros, so it is a notice.

    Parameters
    ----------
    store
        Path of the store.
    table
        Name of the table.

    Returns
    -------
    tuple of str
        One notice for each dense matrix with missing chunks.

    Raises
    ------
    InputError
        Counts of a sparse matrix are missing.
    """
    import zarr

    notices = []
    for element in ("X", "raw/X", *(f"layers/{layer}" for layer in RAW_LAYERS)):
        folder = store / "tables" / table / element
        if not folder.is_dir():
            continue
        damaged = InputError(f"Part of {element} of table '{table}' is missing on disk; restore the slide from a copy.")
        try:
            node: Any = zarr.open(folder, mode="r")
        except (KeyError, OSError, ValueError) as error:
            raise damaged from error
        if isinstance(node, zarr.Group):
            if _is_incomplete(node):
                raise damaged
        elif node.nchunks_initialized < node.nchunks:
            notices.append(
                f"{node.nchunks - node.nchunks_initialized} of {node.nchunks} parts of {element} of table '{table}' "
                "are missing on disk and are read as zeros."
            )
    return tuple(notices)


def _is_incomplete(group: Any) -> bool:
    """Return whether a sparse matrix lacks a chunk that cannot be zeros."""
    data, indices, pointers = (group[name] for name in ("data", "indices", "indptr"))
    if data.nchunks_initialized < data.nchunks or data.shape != indices.shape:
        return True
    if indices.nchunks_initialized < indices.nchunks and group.attrs["shape"][1] > 1:
        return True
    return pointers.nchunks_initialized < pointers.nchunks and int(pointers[-1]) != data.shape[0]
