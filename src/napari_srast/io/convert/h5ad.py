"""Read ``.h5ad`` tables with spot centers as SpatialData."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api import types

from napari_srast._utils.text import first_line
from napari_srast.errors import InputError, is_memory_error
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.convert.images import check_spots_on_image, multiscale_image, read_image_file
from napari_srast.io.counts import raw_counts, unique_names
from napari_srast.io.element_selection import SLIDE_KEY
from napari_srast.io.safety_limits import check_h5ad
from napari_srast.io.spots import is_valid_length
from napari_srast.io.store import element_name
from napari_srast.io.transforms import fit_affine, to_affine, to_affines

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["read_h5ad"]

_SPOTS, _TABLE, _REGION_KEY, _INSTANCE_KEY = "spots", "table", "region", "instance_id"
_DEFAULT_DIAMETER = 0.55  # in pitches: that of Visium, 55 um of 100 um
_UNITS = {"um": "um", "µm": "um", "micron": "um", "microns": "um", "px": "px", "array units": "array units"}
_MAX_MISFIT = 1.0  # of the spots on the image, in pitches
_NOTABLE_MISFIT = 0.25  # in pitches


def read_h5ad(
    src: Path, *, image: str | Path | None, spot_diameter: float | None, pixel_size: float | None
) -> spatialdata.SpatialData:
    """Read an ``.h5ad`` file as SpatialData, with circular spots "spots" and table "table".

    Parameters
    ----------
    src
        The file.
    image, spot_diameter, pixel_size
        See :func:`napari_srast.io.convert.importer.import_slide`.

    Raises
    ------
    InputError
        The file or the image cannot be used.
    """
    import anndata
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    check_h5ad(src)
    try:
        source = anndata.read_h5ad(src)
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(f"'{src}' cannot be read as an .h5ad file ({first_line(error)}); write it again.") from error
    centers = _coordinates(source, "spatial", src)
    counts, notices = raw_counts(source, src.name)
    genes, gene_notices = unique_names(source.var_names, "gene names")
    spot_ids, id_notices = unique_names(source.obs_names, "spot names")
    meta = source.uns.get("meta", {})
    meta = meta if isinstance(meta, Mapping) else {}
    unit = _UNITS.get(str(meta.get("coord_unit", "")).casefold(), "unknown")
    diameter, diameter_notices = _diameter(centers, meta, unit, spot_diameter)
    notices = (*notices, *gene_notices, *id_notices, *diameter_notices)

    systems = {"global": np.eye(3)}
    images = {}
    if image is not None:
        to_spots, image_notices = _image_affine(source, centers, src, pixel_size)
        pixels = read_image_file(image)
        check_spots_on_image(
            apply_affine(np.linalg.inv(to_spots), centers),
            pixels.shape[1:],
            Path(image),
            "give the image that obsm['spatial_px'] refers to, or another pixel size",
        )
        name = element_name(Path(image).stem)
        name = f"{name}_image" if name.casefold() in (_SPOTS, _TABLE) else name
        systems[f"{name}_px"] = np.linalg.inv(to_spots)
        images[name] = multiscale_image(pixels, {"global": to_affine(to_spots), f"{name}_px": to_affine(np.eye(3))})
        notices = (*notices, *image_notices)

    obs = _storable_columns(source.obs, spot_ids)
    obs[_REGION_KEY] = pd.Categorical([_SPOTS] * len(obs))
    obs[_INSTANCE_KEY] = np.arange(len(obs))
    table = anndata.AnnData(
        counts,
        obs=obs,
        var=_storable_columns(source.var, genes),
        obsm={"spatial": centers},
        uns={SLIDE_KEY: {"unit": unit, "source": src.name, **({"notices": list(notices)} if notices else {})}},
    )
    plain = {str(k): v for k, v in meta.items() if isinstance(v, str | int | float | np.number) and "/" not in str(k)}
    if plain:
        table.uns["meta"] = plain
    return spatialdata.SpatialData(
        images=images,
        shapes={
            _SPOTS: ShapesModel.parse(centers, geometry=0, radius=diameter / 2, transformations=to_affines(systems)),
        },
        tables={_TABLE: TableModel.parse(table, region=_SPOTS, region_key=_REGION_KEY, instance_key=_INSTANCE_KEY)},
    )


def _coordinates(source: anndata.AnnData, key: str, src: Path) -> np.ndarray:
    """Return the coordinates (x, y) of the spots in ``obsm[key]``, shape (N, 2)."""
    if key not in source.obsm:
        raise InputError(f"'{src}' has no obsm['{key}']; put the spot centers there, one row (x, y) for each spot.")
    try:
        points = np.asarray(source.obsm[key])
        points = points.astype(float, casting="same_kind" if points.dtype.kind == "c" else "unsafe")
    except (TypeError, ValueError):  # text, complex numbers, a sparse matrix
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points[:, :2]).all():
        raise InputError(
            f"obsm['{key}'] of '{src}' must contain finite coordinates; write one row (x, y) for each spot."
        )
    return points[:, :2].copy()


def _diameter(
    centers: np.ndarray, meta: Mapping[str, Any], unit: str, option: float | None
) -> tuple[float, tuple[str, ...]]:
    """Return the spot diameter: that of the option, else of the metadata, else a default with a notice."""
    keys = ("spot_diameter", "spot_diameter_um") if unit == "um" else ("spot_diameter",)
    stated = option if option is not None else next((meta[key] for key in keys if meta.get(key) is not None), None)
    if stated is not None:
        try:
            diameter = float(stated)
        except (TypeError, ValueError):
            diameter = float("nan")
        if not is_valid_length(diameter):
            raise InputError(
                f"uns['meta'] states a spot diameter of {stated!s}, which is no length; give it with --spot-diameter."
            )
        return diameter, ()
    diameter = _DEFAULT_DIAMETER * detect_lattice(centers).pitch
    return diameter, (
        f"The diameter of the spots is not stated; {_DEFAULT_DIAMETER} of their pitch, {diameter:.4g}, "
        "was used (set it with --spot-diameter when importing).",
    )


def _image_affine(
    source: anndata.AnnData, centers: np.ndarray, src: Path, pixel_size: float | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the (3, 3) matrix from image pixels to the coordinates of the spots, and notices."""
    if "spatial_px" not in source.obsm:
        if pixel_size is None:
            raise InputError(
                f"'{src}' does not contain the positions of its spots on the image; add obsm['spatial_px'] (the spots "
                "in image pixels), or give --pixel-size if both have the same origin."
            )
        return np.diag([pixel_size, pixel_size, 1.0]), ()
    matrix, misfit = fit_affine(_coordinates(source, "spatial_px", src), centers)
    misfit_in_pitches = misfit / detect_lattice(centers).pitch
    if misfit_in_pitches > _MAX_MISFIT:
        raise InputError(
            f"obsm['spatial_px'] of '{src}' fits obsm['spatial'] only to {misfit_in_pitches:.2g} pitches; "
            "check that both list the same spots in the same order, as (x, y)."
        )
    if misfit_in_pitches > _NOTABLE_MISFIT:
        return matrix, (
            f"The image deviates from the spots by {misfit_in_pitches:.2g} pitches on average, which no affine "
            "transformation can correct.",
        )
    return matrix, ()


def _storable_columns(frame: pd.DataFrame, index: np.ndarray) -> pd.DataFrame:
    """Return the columns that a SpatialData table can store, under valid names."""
    columns: dict[str, Any] = {}
    for column, values in frame.items():
        name = element_name(str(column))
        if name.casefold() in {_REGION_KEY, _INSTANCE_KEY, "_index", *(k.casefold() for k in columns)}:
            continue
        if isinstance(values.dtype, pd.CategoricalDtype):
            columns[name] = pd.Categorical(values.astype(str).where(values.notna()))
        elif types.is_bool_dtype(values) or types.is_numeric_dtype(values):
            if isinstance(values.dtype, np.dtype):
                columns[name] = values.to_numpy()
        elif values.map(lambda value: isinstance(value, str)).all():
            columns[name] = values.astype(str).to_numpy()
    return pd.DataFrame(columns, index=pd.Index(index))
