"""Segmented cells or nuclei, as polygons or as the runs of a label image, and their counts.

Coordinates are (x, y) in the intrinsic frame of a slide. Shape legend: C cells, R runs, Q pixels, G genes.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_srast._utils.text import count
from napari_srast._version import __version__
from napari_srast.core.result import UpsampleMetadata

if TYPE_CHECKING:
    import anndata
    import pandas as pd

__all__ = ["CellCounts", "CellLabels", "CellPolygons", "Cells"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CellPolygons:
    """Cells as polygons.

    Parameters
    ----------
    name
        Name of the element or file.
    ids
        Unique id of each cell, integers or texts, shape (C,).
    polygons
        Valid shapely polygons or multipolygons with an area, in the intrinsic frame, shape (C,).
    notices
        What the reader left out or repaired, one sentence each.
    """

    name: str
    ids: np.ndarray
    polygons: np.ndarray
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class CellLabels:
    """Cells as a label image: runs of equal labels along its rows, without the background 0.

    Parameters
    ----------
    name
        Name of the element or file.
    ids
        Labels, ascending, shape (C,).
    owner
        Index of the cell of each run, shape (R,).
    row, start, stop
        Row, first column and column after the last of each run, shape (R,).
    shape
        Rows and columns of the label image.
    to_intrinsic
        Transformation from its pixel coordinates (column, row), where the center of pixel [0, 0] is at (0.5, 0.5), to
        the intrinsic frame, shape (3, 3).
    notices
        What the reader left out or repaired, one sentence each.
    """

    name: str
    ids: np.ndarray
    owner: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    shape: tuple[int, int]
    to_intrinsic: np.ndarray
    notices: tuple[str, ...] = ()


Cells = CellPolygons | CellLabels
"""Segmented cells or nuclei."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CellCounts:
    """Counts of the cells of a result, and of what is outside them.

    Parameters
    ----------
    result
        The result whose counts are shared.
    cells
        The cells that overlap its pixels, C.
    counts
        Expected counts of each cell, float32 CSR, shape (C, G).
    std
        Their standard deviations, float32 CSR, shape (C, G); None if the result has none.
    outside
        Expected counts outside every cell, float32 CSR, a row per spot of ``result.raster.spots``. ``counts`` and
        ``outside`` together sum to the counts of the result.
    shares
        Fraction of the counts of each pixel that each cell gets, float64 CSR, shape (C, Q).
    obs
        A row per cell: ``n_pixels`` and ``n_spots`` that it touches, ``n_sharing`` (other cells that touch one of these
        spots), ``area`` in squared units of the slide, ``covered`` (fraction of its area in the pixels).
    centroids
        Centroids of the cells in the intrinsic frame, (x, y), shape (C, 2).
    expression
        Expression of each cell, float32 CSR, shape (C, G), with entries for the genes of ``result.expression_columns``
        only; None if the result has none. It does not sum to the counts of the result.
    density_ratio
        Density of counts inside the cells over that outside that was assumed.
    notices
        What differs from a plain reading, one sentence each.
    """

    result: UpsampleMetadata
    cells: Cells
    counts: sparse.csr_matrix
    std: sparse.csr_matrix | None
    outside: sparse.csr_matrix
    shares: sparse.csr_matrix
    obs: pd.DataFrame
    centroids: np.ndarray
    expression: sparse.csr_matrix | None = None
    density_ratio: float = 1.0
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Counts of {count(len(self.obs), 'cell')} of '{self.cells.name}' in '{self.result.run}', "
            f"{1 - self.fraction_outside:.1%} of the counts"
        )

    @property
    def fraction_outside(self) -> float:
        """Fraction of the counts that is outside every cell; NaN without counts."""
        inside, outside = (float(np.sum(part.data, dtype=np.float64)) for part in (self.counts, self.outside))
        return outside / (inside + outside) if inside + outside > 0 else float("nan")

    def settings(self) -> dict[str, Any]:
        """Return how the counts were computed, for ``uns["cells"]``."""
        return {
            "run": self.result.run,
            "cells": self.cells.name,
            "density_ratio": self.density_ratio,
            "fraction_outside": self.fraction_outside,
            "version": __version__,
            "notices": list(self.notices),
        }

    def to_anndata(self) -> anndata.AnnData:
        """Convert to a table of cells, and of the spots for what is outside every cell.

        Returns
        -------
        anndata.AnnData
            X: expected counts, float32 CSR. obs: ``kind`` ("cell" or "outside"), ``id`` of the cell or spot, and the
            columns of ``obs``, NaN for the rows "outside". layers["std"] and layers["expression"], if the
            result has them, without values in these rows. obsm["spatial"]: centroid of
            the cell, or center of the spot. uns["cells"]: settings.
        """
        return _writer("to_anndata")(self)

    def write(self, path: str | Path, name: str = "cells") -> Path:
        """Write the counts of the cells.

        Parameters
        ----------
        path
            The ``.zarr`` store that contains the result, to which the elements are added; a new ``.zarr`` store, or a
            new ``.h5ad`` or ``.csv`` file.
        name
            In a store, last part of the names: the cells are ``srast_<run>_<name>``, the tables of the cells and of
            what is outside them ``srast_<run>_<name>_table`` and ``srast_<run>_<name>_outside``.

        Raises
        ------
        InputError
            The existing store does not contain the result.
        OutputError
            The name is invalid or exists already, or the path cannot be written.
        """
        return _writer("write_cells")(self, Path(path), name)


def _writer(name: str) -> Callable[..., Any]:
    """Look up a function of :mod:`napari_srast.io.cell_writer` by name, because ``io`` depends on this module."""
    function: Callable[..., Any] = pkgutil.resolve_name(f"napari_srast.io.cell_writer:{name}")
    return function
