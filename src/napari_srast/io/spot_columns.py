"""Read columns that the table of a slide has for its spots, to keep them in a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from napari_srast._utils.text import first_line
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, SettingsError, is_memory_error

__all__ = ["SpotColumns", "read_spot_columns"]

SpotColumns = Sequence[str] | Literal["all"]
"""Names of columns of the spots in the slide's table, or "all"."""
_MAX_NAMED = 8  # columns that a message lists


def read_spot_columns(slide: Slide, names: SpotColumns) -> pd.DataFrame | None:
    """Read columns of the spots from the table of a slide.

    Parameters
    ----------
    slide
        The slide, which was read from a store.
    names
        Names of the columns. "all" stands for all columns but those that link the table to the spots.

    Returns
    -------
    pandas.DataFrame or None
        The columns, one row per spot of the slide, in its order; None if ``names`` is empty.

    Raises
    ------
    InputError
        The table lacks a column, or no longer has the spots of the slide.
    SettingsError
        The slide was not read from a store, so that its table is not available.
    """
    if len(names) == 0:
        return None
    source = slide.source
    if source.path is None or source.table is None:
        raise SettingsError(
            "The slide was not read from a store, so its table has no columns to keep; leave out --keep-obs."
        )
    table, link = _read_obs(Path(source.path) / "tables" / source.table, source.table)
    available = [name for name in table.columns if name not in link]
    wanted = available if isinstance(names, str) and names == "all" else list(dict.fromkeys(names))
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        listed = ", ".join(map(str, available[:_MAX_NAMED])) + (", ..." if len(available) > _MAX_NAMED else "")
        raise InputError(
            f"Table '{source.table}' has no column '{missing[0]}' to keep; "
            + (f"it has: {listed}." if listed else "it has none.")
        )
    rows = table.index.astype(str).get_indexer(pd.Index(slide.spot_ids.astype(str))) if table.index.is_unique else None
    if rows is None or (rows < 0).any():
        raise InputError(
            f"The rows of table '{source.table}' have other names than the spots of the slide, so its columns cannot "
            "be kept; give every spot a name of its own, or leave out --keep-obs."
        )
    return table[wanted].iloc[rows].reset_index(drop=True)


def _read_obs(path: Path, name: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read ``obs`` of a table, and the names of the columns that link it to the spots."""
    import zarr
    from anndata.io import read_elem

    try:
        group: Any = zarr.open_group(path, mode="r")
        table: Any = read_elem(group["obs"])
        link: Any = read_elem(group["uns/spatialdata_attrs"]) if "uns/spatialdata_attrs" in group else {}
        keys = tuple(str(link[key]) for key in ("region_key", "instance_key") if key in link)
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(
            f"The columns of table '{name}' cannot be read ({first_line(error)}); check that the slide is still there."
        ) from error
    return table, keys
