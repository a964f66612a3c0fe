"""Chunks that a store lost: Zarr reads a missing chunk as zeros and says nothing, which here would be wrong counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_srast.errors import InputError
from napari_srast.io.counts import RAW_LAYERS

__all__ = ["check_chunks"]


def check_chunks(store: Path, table: str) -> tuple[str, ...]:
    """Look for lost chunks of a table's counts, and return notices where they may be lost or just zeros.

    Writers may leave out a chunk of zeros. In a sparse matrix no chunk of the stored values is zeros, and the row
    pointers must end at the number of values; a dense matrix cannot tell.

    Raises
    ------
    InputError
        Some counts of the table are certainly lost.
    """
    import zarr

    notices = []
    for place in ("X", *(f"layers/{layer}" for layer in RAW_LAYERS)):
        folder = store / "tables" / table / place
        if not folder.is_dir():
            continue
        lost = InputError(f"Table '{table}' has lost a part of {place} from the disk; restore the slide from a copy.")
        try:
            node: Any = zarr.open(folder, mode="r")
        except (KeyError, OSError, ValueError) as error:
            raise lost from error
        if isinstance(node, zarr.Group):
            if _sparse_is_torn(node):
                raise lost
        elif node.nchunks_initialized < node.nchunks:
            notices.append(
                f"{node.nchunks - node.nchunks_initialized} of {node.nchunks} parts of {place} of table '{table}' "
                "are not on the disk and count as zeros."
            )
    return tuple(notices)


def _sparse_is_torn(group: Any) -> bool:
    data, indices, pointers = (group[name] for name in ("data", "indices", "indptr"))
    if data.nchunks_initialized < data.nchunks or data.shape != indices.shape:
        return True
    if indices.nchunks_initialized < indices.nchunks and group.attrs["shape"][1] > 1:
        return True
    return pointers.nchunks_initialized < pointers.nchunks and int(pointers[-1]) != data.shape[0]
