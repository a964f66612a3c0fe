"""Chunks of a table that are missing on disk, which Zarr reads as zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_srast.errors import InputError
from napari_srast.io.missing_chunks import check_chunks


def _dense(folder: Path) -> None:
    zarr.create_array(folder, shape=(8, 3), chunks=(4, 3), dtype="f4")[:] = 1


def _sparse(folder: Path, data: np.ndarray) -> zarr.Group:
    group = zarr.open_group(folder, mode="w")
    group.attrs["shape"] = [4, 3]
    for name, values in (("data", data), ("indices", np.arange(6) % 3), ("indptr", np.array([0, 2, 3, 5, 6]))):
        group.create_array(name, shape=values.shape, chunks=(2,), dtype=values.dtype)[:] = values
    return group


def _remove_a_chunk(folder: Path) -> None:
    next(file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != "zarr.json").unlink()


def test_complete_tables_pass(tmp_path: Path) -> None:
    _dense(tmp_path / "tables" / "table" / "X")
    _sparse(tmp_path / "tables" / "table" / "layers" / "counts", np.ones(6, dtype=np.float32))
    assert check_chunks(tmp_path, "table") == ()


def test_missing_chunk_of_a_sparse_matrix_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "table" / "X"
    _sparse(folder, np.ones(6, dtype=np.float32))
    _remove_a_chunk(folder / "data")
    with pytest.raises(InputError, match="Part of X of table 'table' is missing on disk"):
        check_chunks(tmp_path, "table")


def test_missing_chunk_of_a_dense_matrix_is_a_notice(tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "table" / "X"
    _dense(folder)
    _remove_a_chunk(folder)
    (notice,) = check_chunks(tmp_path, "table")
    assert "1 of 2 parts of X of table 'table' are missing" in notice
