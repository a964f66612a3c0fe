"""Share the counts of pixels among segmented cells.

Shape legend: C cells, Q pixels, G genes, N spots.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from scipy import sparse

from napari_srast._utils.text import count
from napari_srast.analysis.cell_overlap import Overlap, overlap_of_polygons, overlap_of_runs
from napari_srast.analysis.cell_variance import cell_std
from napari_srast.core.cells import CellCounts, CellLabels, CellPolygons, Cells
from napari_srast.core.mass_balance import MASS_TOLERANCE
from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.errors import InputError, InternalError, translate_memory_errors, value_out_of_range
from napari_srast.geometry.affine import apply_affine

__all__ = ["cells", "share_counts"]

_N_STEPS = 3  # overlap, counts, standard deviations
_MAX_DENSITY_RATIO = 1000.0


@translate_memory_errors("while sharing the counts", "take fewer cells or genes")
def cells(
    result: UpsampleResult,
    shapes: str | Path | Cells,
    *,
    slide: str | Path | None = None,
    coordinate_system: str | None = None,
    density_ratio: float = 1.0,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> CellCounts:
    """Share the counts of each pixel among the cells that cover it, by area.

    A cell gets the fraction of a pixel's counts that is its fraction of the pixel's area, or more where counts are
    denser in cells than outside; an area that several cells cover is divided equally among them. What no cell covers is
    kept by spot, so that all counts sum to those of the result. The expression of the cells, if the result has it, is
    its sum over their area, and is not conserved.

    Parameters
    ----------
    result
        The result.
    shapes
        Name of the labels or shapes of the slide; a GeoJSON file of polygons; a label image (.tif) with the pixels of
        the slide's image; or cells that :func:`napari_srast.io.cell_reader.read_cells` returned.
    slide
        The store that contains the cells; None for that of the slide of the result.
    coordinate_system
        Coordinate system of a GeoJSON file that names none; None if the slide has only one. Space Ranger writes pixels
        of the full-resolution image.
    density_ratio
        Density of counts inside the cells over that outside, in a pixel, between 0.001 and 1000; 1 shares by area.
    progress
        Called after each step.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    CellCounts
        Expected counts of the cells, and of what is outside.

    Raises
    ------
    InputError
        There are no such cells, their polygons are invalid, none of them overlaps the pixels, or they have no
        coordinate system of the slide.
    SettingsError
        The ratio of densities is out of its range.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> found = srast.cells(result, "nuclei", slide="slide.zarr")  # doctest: +SKIP
    >>> found.write("cells.h5ad")  # doctest: +SKIP
    """
    if not 1 / _MAX_DENSITY_RATIO <= density_ratio <= _MAX_DENSITY_RATIO:
        limits = f"between {1 / _MAX_DENSITY_RATIO:g} and {_MAX_DENSITY_RATIO:g}"
        raise value_out_of_range("ratio of densities", float(density_ratio), limits)
    if slide is not None and not Path(slide).is_dir():
        raise InputError(f"There is no store with cells at '{slide}'; check the path.")
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    if not isinstance(shapes, CellPolygons | CellLabels):
        from napari_srast.io.cell_reader import read_cells

        shapes = read_cells(shapes, result.slide, slide, result.slide.source.path, coordinate_system=coordinate_system)
    monitor.check_canceled()
    raster = result.raster
    if isinstance(shapes, CellPolygons):
        if not (shapely.is_valid(shapes.polygons) & (shapely.area(shapes.polygons) > 0)).all():
            raise InputError(f"'{shapes.name}' has invalid polygons; repair them by shapely.make_valid.")
        overlap = overlap_of_polygons(raster, shapes.polygons, monitor)
    else:
        runs = np.column_stack([shapes.row, shapes.start, shapes.stop])
        overlap = overlap_of_runs(raster, runs, shapes.owner, shapes.to_intrinsic, monitor)
    monitor.report("cells", 1, _N_STEPS)
    return share_counts(result, shapes, overlap, density_ratio, monitor)


def share_counts(
    result: UpsampleResult, shapes: Cells, overlap: Overlap, density_ratio: float, monitor: RunMonitor
) -> CellCounts:
    """Share the counts of pixels by the areas that cells have in common with them; see :func:`cells`.

    Parameters
    ----------
    result
        The result.
    shapes
        All cells.
    overlap
        Their overlap with the pixels.
    density_ratio
        Density of counts inside the cells over that outside.
    monitor
        Receives progress and is asked for cancellation.
    """
    raster = result.raster
    touched = np.diff(overlap.shares.indptr) > 0
    if not touched.any():
        raise InputError(
            f"No cell of '{shapes.name}' overlaps the pixels of the result; check its coordinate system, or run again "
            "on a region that contains the cells."
        )
    areas = overlap.shares[touched]
    covered = np.asarray(areas.sum(axis=0)).ravel()
    shares = sparse.csr_matrix(areas @ sparse.diags_array(density_ratio / (1 + (density_ratio - 1) * covered)))
    notices = list(shapes.notices)
    if not touched.all():
        notices.append(f"Left out {count(int((~touched).sum()), 'cell')} outside the pixels of the result.")
    if overlap.n_overlapping:
        notices.append(
            f"{count(overlap.n_overlapping, 'cell')} overlap others; the area in common is divided equally among them."
        )
    monitor.check_canceled()
    counts = sparse.csr_matrix(shares @ result.counts, dtype=np.float32)
    free = np.clip(1 - np.asarray(shares.sum(axis=0)).ravel(), 0, 1)
    outside = raster.membership[raster.spots] @ sparse.diags_array(free) @ result.counts
    outside = sparse.csr_matrix(outside, dtype=np.float32)
    for matrix in (counts, outside):
        matrix.eliminate_zeros()
        matrix.sort_indices()
    _check_sums(result.counts, counts, outside)
    monitor.report("cells", 2, _N_STEPS)
    return CellCounts(
        result=result,
        cells=_select(shapes, touched),
        counts=counts,
        std=None if result.std is None else cell_std(shares, raster, result.counts, result.std, monitor),
        outside=outside,
        shares=shares,
        expression=None
        if result.expression is None
        else sparse.csr_matrix(shares @ result.expression, dtype=np.float32),
        density_ratio=density_ratio,
        obs=_describe(result, shapes.ids[touched], areas, overlap.area[touched]),
        centroids=apply_affine(raster.affine, overlap.centroid[touched]),
        notices=tuple(notices),
    )


def _select(shapes: Cells, chosen: np.ndarray) -> Cells:
    """Return the chosen cells."""
    if isinstance(shapes, CellPolygons):
        return replace(shapes, ids=shapes.ids[chosen], polygons=shapes.polygons[chosen])
    kept = chosen[shapes.owner]
    return replace(
        shapes,
        ids=shapes.ids[chosen],
        owner=(np.cumsum(chosen) - 1)[shapes.owner[kept]],
        row=shapes.row[kept],
        start=shapes.start[kept],
        stop=shapes.stop[kept],
    )


def _describe(result: UpsampleMetadata, ids: np.ndarray, areas: sparse.csr_matrix, area: np.ndarray) -> pd.DataFrame:
    raster = result.raster
    touches = sparse.csr_matrix(areas @ raster.membership.T)  # (C, N)
    touches.data[:] = 1
    n_sharing = np.diff(sparse.csr_matrix(touches @ touches.T).indptr) - 1
    return pd.DataFrame(
        {
            "n_pixels": np.diff(areas.indptr),
            "n_spots": np.diff(touches.indptr),
            "n_sharing": n_sharing,
            "area": area * raster.pixel_size**2,
            "covered": np.minimum(np.asarray(areas.sum(axis=1)).ravel() / area, 1),
        },
        index=pd.Index([f"{result.run}_{one}" for one in ids], dtype=object),
    )


def _check_sums(total: sparse.csr_matrix, counts: sparse.csr_matrix, outside: sparse.csr_matrix) -> None:
    """Check that cells and outside sum to the result, per gene."""
    # SciPy adds in the type of the matrix, and float32 is not exact enough.
    expected, inside, rest = (np.asarray(part.astype(np.float64).sum(axis=0)) for part in (total, counts, outside))
    if not np.allclose(inside + rest, expected, rtol=MASS_TOLERANCE, atol=0):
        raise InternalError("The counts of the cells and outside them do not sum to those of the result.")
