"""Read tables of results, and stores that contain them, although a column that was added later is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_srast.errors import is_memory_error

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["RESULT_KEY", "read_store_without_damaged_results", "read_table"]

RESULT_KEY = "napari_srast"
"""Key in ``uns`` of a table that marks a result, and contains its provenance."""
_OWN = {"row", "col", "spot"}
"""Columns of ``obs`` without which there is no result."""


def read_table(folder: Path, on_damage: Callable[[str], None] | None = None) -> anndata.AnnData:
    """Read a table; columns and notes that cannot be read, and that the result does not need, are empty.

    Parameters
    ----------
    folder
        The table in its store.
    on_damage
        Called with the place of each of these, such as ``obs/cluster``. None: they are left out silently.

    Raises
    ------
    Exception
        Another part of the table cannot be read; the class depends on what is damaged.
    """
    import anndata

    try:
        return anndata.read_zarr(folder)
    except Exception as error:
        is_group = any((folder / name).exists() for name in ("zarr.json", ".zgroup"))  # anndata may write version 2
        if is_memory_error(error) or not is_group:
            raise
        return _without_damaged_columns(folder, on_damage or (lambda _: None))


def read_store_without_damaged_results(path: Path) -> tuple[spatialdata.SpatialData, tuple[str, ...]]:
    """Read a store, without the tables of results that are damaged, whose slide can be used all the same.

    Parameters
    ----------
    path
        The store.

    Returns
    -------
    tuple
        The store, and one notice for each table that was left out.

    Raises
    ------
    Exception
        Something else cannot be read; the class depends on what is damaged.
    """
    import anndata
    import spatialdata

    store = spatialdata.read_zarr(path, selection=("images", "labels", "points", "shapes"), on_bad_files="warn")
    notices = []
    for folder in sorted((path / "tables").glob("*/")):
        try:
            store.tables[folder.name] = anndata.read_zarr(folder)
        except Exception as error:
            if is_memory_error(error) or not (folder / "uns" / RESULT_KEY / "run").is_dir():
                raise
            notices.append(
                f"'tables/{folder.name}', the table of a saved result, is damaged; restore the store from a copy."
            )
    return store, tuple(notices)


def _without_damaged_columns(folder: Path, on_damage: Callable[[str], None]) -> anndata.AnnData:
    import pandas as pd
    import zarr
    from anndata.experimental import read_dispatched
    from anndata.io import read_elem

    def attempt(group: Any, part: str, key: str, *, is_needed: bool) -> Any:
        try:
            return read_elem(group[key])
        except Exception as error:
            if is_needed or is_memory_error(error):
                raise
            on_damage(f"{part}/{key}")
            return None

    def read(function: Callable[[Any], Any], name: str, element: Any, iospec: Any) -> Any:
        part, _, rest = name.strip("/").partition("/")
        if part == "obs" and not rest:
            columns = [str(column) for column in element.attrs["column-order"]]
            found = {column: attempt(element, "obs", column, is_needed=column in _OWN) for column in columns}
            return pd.DataFrame(found, index=read_elem(element[element.attrs["_index"]]), columns=columns)
        if part == "uns" and not rest:
            return {key: attempt(element, "uns", key, is_needed=key == RESULT_KEY) for key in element}
        return function(element)

    table: anndata.AnnData = read_dispatched(zarr.open_group(folder, mode="r", use_consolidated=False), callback=read)
    return table
