"""Read written results as :class:`~napari_srast.core.result.UpsampleResult`, with slide and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_srast._utils.text import first_line
from napari_srast.core.expression_factors import ExpressionFactors
from napari_srast.core.mass_balance import MASS_TOLERANCE, relative_mass_error
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult, no_columns
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, SlideImage, SlideSource
from napari_srast.errors import InputError, is_memory_error, translate_memory_errors
from napari_srast.geometry.lattice import Lattice
from napari_srast.geometry.raster import Raster
from napari_srast.io.element_selection import RESULT_KEY, RESULT_PREFIX
from napari_srast.io.file_kinds import has_suffix
from napari_srast.io.provenance import FORMAT_VERSION, stored_mappings
from napari_srast.io.result_elements import FACTORS_KEY, PROGRAMS_KEY
from napari_srast.io.safety_limits import check_h5ad, check_store
from napari_srast.io.slide_reader import read_image, read_slide
from napari_srast.io.table_reader import read_table

if TYPE_CHECKING:
    import anndata

__all__ = ["list_runs", "read_result"]


def list_runs(path: str | Path) -> dict[str, str]:
    """List the runs whose results a store contains: name of the table by name of the run, oldest run first.

    Parameters
    ----------
    path
        The store.

    Raises
    ------
    InputError
        There is no store at the path.
    """
    import zarr

    path = Path(path)
    if not (path / "zarr.json").exists():
        raise InputError(f"'{path}' is not a SpatialData store with results; check the path.")
    tables = path / "tables"
    # Each table is opened separately, so that a half-written or damaged one does not prevent listing the others.
    runs = {}
    for folder in sorted(tables.iterdir()) if tables.is_dir() else []:
        mark = folder / "uns" / RESULT_KEY / "run"
        if mark.is_dir():
            try:
                name = str(zarr.open_array(mark, mode="r")[()])
            except Exception as error:
                if is_memory_error(error):
                    raise
                name = ""  # reading the result names the damage
            runs[name or folder.name.removeprefix(RESULT_PREFIX).removesuffix("_table")] = folder.name
    return runs


@translate_memory_errors("while reading the result", "write it again with fewer genes or a smaller region")
def read_result(
    path: str | Path, run: str | None = None, *, on_damage: Callable[[str], None] | None = None
) -> UpsampleResult:
    """Read a written result.

    Its slide is read from the path that the run used. If that slide was deleted or changed, it is rebuilt from the
    result: the spots that have pixels, the genes of the result, counts summed over the pixels, and no histology; the
    slide then has a notice.

    Parameters
    ----------
    path
        A ``.zarr`` store with results, or an ``.h5ad`` file.
    run
        Name of the run; None if there is only one.
    on_damage
        Called with a sentence for each column or note that was added to the table later and cannot be read. The result
        needs none of them.

    Raises
    ------
    InputError
        There is no result, there are several and none was named, or it was written by a newer version.

    Examples
    --------
    >>> import napari_srast as srast
    >>> result = srast.read_result("fine.zarr")  # doctest: +SKIP
    """
    path = Path(path)
    if has_suffix(path, ".zarr") or path.is_dir():
        runs = list_runs(path)
        if not runs:
            raise InputError(f"'{path}' holds no result of napari-srast; write one with 'napari-srast upsample'.")
        if run is None and len(runs) > 1:
            raise InputError(f"'{path}' holds several results; name one of the runs: {', '.join(runs)}.")
        if run is not None and run not in runs:
            raise InputError(f"'{path}' holds no run '{run}'; it has: {', '.join(runs)}.")
        name = runs[run] if run is not None else next(iter(runs.values()))

        def name_damage(part: str) -> None:
            if on_damage is not None:
                on_damage(f"'{part}' of table '{name}' is damaged and was left out; restore the store from a copy.")

        table = _read_table(path, name, name_damage)
    else:
        table = _read_table(path, None)
    if RESULT_KEY not in table.uns:
        raise InputError(f"'{path}' is not a result of napari-srast; open one that 'napari-srast upsample' wrote.")
    stored = dict(table.uns[RESULT_KEY])
    version = int(stored.get("format_version", 0))
    if version > FORMAT_VERSION:
        raise InputError(
            f"The result in '{path}' has format {version}, which this version cannot read; update napari-srast."
        )
    try:
        return _rebuild(table, stored, path)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"The result in '{path}' is damaged or incomplete ({first_line(error)}); restore it from a copy, or run "
            "again."
        ) from error


def _read_table(path: Path, name: str | None, on_damage: Callable[[str], None] | None = None) -> anndata.AnnData:
    import anndata

    if not path.exists():
        raise InputError(f"There is no result at '{path}'; check the path.")
    check_h5ad(path) if name is None else check_store(path)
    try:
        return anndata.read_h5ad(path) if name is None else read_table(path / "tables" / name, on_damage)
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(
            f"'{path}' cannot be read as a result ({first_line(error)}); open a .zarr or .h5ad written by napari-srast."
        ) from error


def _rebuild(table: anndata.AnnData, stored: dict[str, Any], path: Path) -> UpsampleResult:
    reopen, factors = stored.pop("reopen"), _factors(table, stored)
    if "calibration" in stored:
        stored["calibration"] = stored_mappings(stored["calibration"])
    counts = sparse.csr_matrix(table.X, dtype=np.float32)
    spot_ids = np.asarray(reopen["spot_ids"], dtype=object)
    positions = {spot: i for i, spot in enumerate(spot_ids)}
    categories = table.obs["spot"].cat
    position_of_category = np.array([positions[str(spot)] for spot in categories.categories])
    parent = position_of_category[categories.codes.to_numpy()]
    genes = table.var_names.to_numpy(dtype=object)
    stored_raster = reopen["raster"]
    shape = stored_raster["shape"]

    def raster(slide: Slide, index: np.ndarray) -> Raster:
        return Raster(
            row=table.obs["row"].to_numpy(),
            col=table.obs["col"].to_numpy(),
            parent=index[parent],
            shape=(int(shape[0]), int(shape[1])),
            pixel_size=float(stored_raster["pixel_size"]),
            affine=np.asarray(stored_raster["affine"]),
            n_spots=slide.n_spots,
            lattice=_lattice(stored_raster["lattice"]),
            footprint=stored_raster["footprint"],
        )

    slide, index = _source_slide(reopen, path, spot_ids)
    if slide is None or not _has_counts_of(slide, genes, counts, raster(slide, index)):
        slide = _slide_of_result(reopen, counts, genes, parent)
        slide = replace(slide, gene_ids=_gene_ids(table), image=_stored_histology(path, stored, slide))
        index = np.arange(len(spot_ids))
    region = reopen.get("region")
    return UpsampleResult(
        counts=counts,
        std=_layer(table, "std"),
        expression=_layer(table, "expression"),
        expression_std=_layer(table, "expression_std"),
        genes=genes,
        skill=table.var["skill"].to_numpy(dtype=float),
        method=table.var["method"].astype(str).to_numpy(dtype=object),
        raster=raster(slide, index),
        slide=slide,
        region=None if region is None else Region.from_wkt(str(region["wkt"]), str(region["coordinate_system"])),
        settings=UpsampleSettings(
            **{
                f.name: _to_setting(reopen["settings"][f.name])
                for f in fields(UpsampleSettings)
                if f.name in reopen["settings"]
            }
        ),
        run=str(stored["run"]),
        provenance=stored,
        expression_columns=_expression_columns(table),
        expression_factors=factors,
    )


def _expression_columns(table: anndata.AnnData) -> np.ndarray:
    """Return the genes that have expression; none if the layer was removed from the table."""
    is_stored = "expression" in table.layers and "expression" in table.var
    return np.flatnonzero(table.var["expression"]) if is_stored else no_columns()


def _factors(table: anndata.AnnData, stored: dict[str, Any]) -> ExpressionFactors | None:
    """Take the expression factors out of a stored result, or return None if it lacks them."""
    factors = stored.pop(FACTORS_KEY, None)
    if factors is None or PROGRAMS_KEY not in table.obsm:
        return None
    return ExpressionFactors(
        genes=np.asarray(factors["genes"], dtype=object),
        loadings=np.asarray(factors["loadings"], dtype=np.float32),
        activities=np.asarray(table.obsm[PROGRAMS_KEY], dtype=np.float32),
    )


def _layer(table: anndata.AnnData, name: str) -> sparse.csr_matrix | None:
    """Return a layer of a table as float32 CSR, or None if the table lacks it."""
    return sparse.csr_matrix(table.layers[name], dtype=np.float32) if name in table.layers else None


def _source_slide(reopen: Mapping[str, Any], path: Path, spot_ids: np.ndarray) -> tuple[Slide | None, np.ndarray]:
    """Read the slide of a result, if it still has the same spots at the same coordinates.

    Returns
    -------
    tuple
        The slide or None, and the index in the slide of each spot that has pixels.
    """
    source = reopen["source"]
    for candidate in dict.fromkeys(p for p in (source.get("path"), str(path)) if p is not None):
        if not Path(candidate).is_dir():
            continue
        try:
            slide = read_slide(
                candidate,
                spots=source.get("spots"),
                table=source.get("table"),
                image=source.get("image"),
                coordinate_system=str(reopen["coordinate_system"]),
                **{key: source.get(key) for key in ("library", "counts", "spot_shape")},
            )
        except InputError:
            continue
        positions = {spot: i for i, spot in enumerate(slide.spot_ids)}
        index = np.array([positions.get(spot, -1) for spot in spot_ids])
        if (index >= 0).all() and np.allclose(slide.centers[index], reopen["spot_centers"]):
            return slide, index
    return None, np.empty(0, dtype=int)


def _has_counts_of(slide: Slide, genes: np.ndarray, counts: sparse.csr_matrix, raster: Raster) -> bool:
    """Return whether the counts of a slide equal those of a result, summed over the pixels of each spot."""
    column = {str(gene): i for i, gene in enumerate(slide.genes)}
    columns = [column.get(str(gene), -1) for gene in genes]
    if min(columns, default=-1) < 0:
        return False
    return relative_mass_error(raster, counts, slide.select_counts(np.asarray(columns))) <= MASS_TOLERANCE


def _slide_of_result(
    reopen: Mapping[str, Any], counts: sparse.csr_matrix, genes: np.ndarray, parent: np.ndarray
) -> Slide:
    """Rebuild a slide from the counts of its result."""
    n_spots = len(reopen["spot_ids"])
    member = sparse.csr_matrix((np.ones(len(parent)), (parent, np.arange(len(parent)))), shape=(n_spots, len(parent)))
    sums = (member @ counts).tocsr()
    sums.data = np.rint(sums.data)
    source = {key: _to_scalar(value) for key, value in reopen["source"].items()}
    diameter = reopen.get("spot_diameter")
    return Slide(
        counts=sums,
        genes=genes,
        spot_ids=np.asarray(reopen["spot_ids"], dtype=object),
        centers=np.asarray(reopen["spot_centers"], dtype=float),
        spot_diameter=None if diameter is None else float(diameter),
        spot_shape=reopen["spot_shape"],
        unit=str(reopen["unit"]),
        transforms=dict(zip(map(str, reopen["systems"]), np.asarray(reopen["transforms"]), strict=True)),
        coordinate_system=str(reopen["coordinate_system"]),
        source=SlideSource(**source),
        notices=(
            "The slide of this result was not found, or holds other counts; its spots were rebuilt from the result.",
        ),
    )


def _gene_ids(table: anndata.AnnData) -> np.ndarray | None:
    """Return the ids of the genes of a result, shape (G,); None if it has none."""
    return table.var["gene_ids"].to_numpy(dtype=object) if "gene_ids" in table.var else None


def _stored_histology(path: Path, stored: Mapping[str, Any], slide: Slide) -> SlideImage | None:
    """Read the histology that was written with a result; None if there is none, or it is damaged."""
    name = stored.get("histology")
    if name is None or not (path / "images" / str(name)).is_dir():
        return None
    import spatialdata

    try:
        image = spatialdata.read_zarr(path, selection=("images",), on_bad_files="warn").images.get(str(name))
        return None if image is None else read_image(image, str(name), dict(slide.transforms), slide.coordinate_system)
    except Exception as error:  # the counts are readable
        if is_memory_error(error):
            raise
        return None


def _lattice(stored: Mapping[str, Any]) -> Lattice:
    center, extent = (np.asarray(stored[key], dtype=float) for key in ("center", "extent"))
    return Lattice(
        kind=stored["kind"],
        pitch=float(stored["pitch"]),
        angle=float(stored["angle"]),
        center=(float(center[0]), float(center[1])),
        extent=(float(extent[0]), float(extent[1])),
        misfit=float(stored["misfit"]),
    )


def _to_setting(value: Any) -> Any:
    """Convert a stored setting: arrays to tuples, NumPy scalars to Python scalars."""
    return tuple(value.tolist()) if isinstance(value, np.ndarray) and value.ndim else _to_scalar(value)


def _to_scalar(value: Any) -> Any:
    """Convert NumPy scalars to Python scalars; other values are returned unchanged."""
    return value.item() if isinstance(value, np.generic | np.ndarray) else value
