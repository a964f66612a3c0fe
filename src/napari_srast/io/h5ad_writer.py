"""Write AnnData tables as ``.h5ad`` files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast.io.store import quiet_writing

if TYPE_CHECKING:
    import anndata

__all__ = ["write_h5ad"]


def write_h5ad(table: anndata.AnnData, path: Path) -> None:
    """Write a table to a new file.

    It is written in memory first, because the process crashes if a disk fills up while HDF5 writes to it.

    Parameters
    ----------
    table
        The table.
    path
        The file, such as a partial output of :func:`napari_srast.io.atomic.atomic_output`.
    """
    import h5py
    from anndata.io import write_elem

    buffer = io.BytesIO()
    with quiet_writing(), h5py.File(buffer, "w") as file:
        write_elem(file, "/", table, dataset_kwargs={"compression": "gzip"})
    with path.open("wb") as target:
        target.write(buffer.getbuffer())
