"""Read tables with spot centers, ``.h5ad`` files or in memory, as SpatialData."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api import types

from napari_srast._utils.text import first_line
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.errors import InputError, is_memory_error
from napari_srast.io.convert.stated_positions import spot_positions
from napari_srast.io.convert.table_images import (
    TableImages,
    factors_of_positions,
    scale_factors,
    stored_images,
    user_image,
)
from napari_srast.io.convert.table_positions import Placement, place_spots
from napari_srast.io.counts import raw_counts, unique_names
from napari_srast.io.element_selection import SLIDE_KEY
from napari_srast.io.safety_limits import check_h5ad, check_store
from napari_srast.io.sections import ALL_SECTIONS, choose_section, section_metadata
from napari_srast.io.spot_shapes import check_spot_shape
from napari_srast.io.spots import square_polygons
from napari_srast.io.store import element_name
from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["TableOptions", "convert_table", "read_h5ad"]

_SPOTS, _TABLE, _REGION_KEY, _INSTANCE_KEY = "spots", "table", "region", "instance_id"


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What the user states about a table; see :func:`napari_srast.io.convert.importer.import_slide`.

    Parameters
    ----------
    image, spot_diameter, pixel_size, library, spot_shape, counts
        As for the import.
    """

    image: str | Path | None = None
    spot_diameter: float | None = None
    pixel_size: float | None = None
    library: str | None = None
    spot_shape: str | None = None
    counts: str | None = None


def read_h5ad(src: Path, monitor: RunMonitor = NO_MONITOR, **options: Any) -> spatialdata.SpatialData:
    """Read an AnnData table as SpatialData, with spots "spots" and table "table".

    Parameters
    ----------
    src
        An ``.h5ad`` file, or a Zarr store of AnnData.
    monitor
        Receives the progress, and cancels.
    options
        Fields of :class:`TableOptions`.

    Raises
    ------
    InputError
        The file or the image cannot be used.
    """
    import anndata

    check_store(src) if src.is_dir() else check_h5ad(src)
    try:
        source = anndata.read_zarr(src) if src.is_dir() else anndata.read_h5ad(src)
    except Exception as error:
        if is_memory_error(error):
            raise
        kind = "an AnnData store" if src.is_dir() else "an .h5ad file"
        raise InputError(f"'{src}' cannot be read as {kind} ({first_line(error)}); write it again.") from error
    monitor.check_canceled()
    return convert_table(source, src.name, TableOptions(**options), monitor)


def convert_table(
    source: anndata.AnnData, name: str, options: TableOptions, monitor: RunMonitor = NO_MONITOR
) -> spatialdata.SpatialData:
    """Convert a table with spot centers in ``obsm["spatial"]`` to SpatialData, with spots "spots" and table "table".

    Parameters
    ----------
    source
        The table.
    name
        Name of the table, for messages.
    options
        What the user states.
    monitor
        Receives the progress, and cancels.

    Raises
    ------
    InputError
        The table or the image cannot be used.
    """
    check_spot_shape(options.spot_shape)
    source = source.to_memory() if source.isbacked else source
    if source.n_obs == 0:
        raise InputError(f"Table '{name}' has no spots; export the slide again with its counts.")
    located, position_notices = spot_positions(source, name)
    notices = list(position_notices)
    finite = np.isfinite(located[:, :2]).all(axis=1)
    if not finite.all():
        notices.append(
            f"{(~finite).sum()} spots of '{name}' have no finite coordinates (such as "
            f"'{source.obs_names[~finite][0]}') and were left out."
        )
    section = choose_section(source.obs[finite], source.uns, located[finite], options.library, name)
    rows = np.flatnonzero(finite)[section.rows]
    counts = raw_counts(source, name, rows, options.counts, monitor=monitor)
    source = source[rows]
    points = located[rows, :2].copy()
    library_name, library = section_metadata(source.obs, source.uns, section.name)
    notices += _unclear_section(source.uns, library, options.library)
    known_factors, factor_notices = factors_of_positions(scale_factors(library), points)
    if known_factors is None:  # nothing tells where the images are
        library_name, library = "", {}
    factors = known_factors or {}
    placement = place_spots(source, points, factors, spot_diameter=options.spot_diameter, spot_shape=options.spot_shape)
    notices += () if placement.scale is None else factor_notices
    images = _images(source, points, placement, (library_name, library, factors), options)
    monitor.check_canceled()
    genes, gene_notices = unique_names(counts.var.index, "gene names")
    spot_ids, id_notices = unique_names(source.obs_names, "spot names")
    about: dict[str, Any] = {"unit": placement.unit, "source": name}
    if placement.um_per_px is not None:
        about["um_per_full_resolution_pixel"] = placement.um_per_px
    if options.spot_shape is not None:
        about["spot_shape"] = options.spot_shape
    if images.given is not None:
        about["image"] = images.given
    if options.library == ALL_SECTIONS:
        about["library"] = ALL_SECTIONS
    notices += [*section.notices, *counts.notices, *gene_notices, *id_notices, *placement.notices, *images.notices]
    if notices:
        about["notices"] = notices
    systems = {"global": np.eye(3), **images.systems}
    if placement.scale not in (None, 1.0):
        to_pixels = np.diag([1 / placement.scale, 1 / placement.scale, 1.0])
        systems[element_name(library_name or placement.source_unit)] = to_pixels
    return _store(source, counts.matrix, (spot_ids, genes, counts.var), placement, images, systems, about)


def _unclear_section(uns: Mapping[str, Any], library: Mapping[str, Any], chosen: str | None) -> list[str]:
    """Return a notice if the images of several sections are stored, and no single one has the spots."""
    stored = uns.get("spatial")
    entries = stored.items() if isinstance(stored, Mapping) else ()
    names = [str(key) for key, content in entries if isinstance(content, Mapping) and content]
    if library or len(names) < 2:
        return []
    reason = "and no column of obs says of which one the spots are"
    if chosen is not None:
        reason = f"none of which is named '{chosen}'"
    if chosen == ALL_SECTIONS:
        reason = "and the spots of all of them were read as one slide"
    return [
        f"uns['spatial'] has images and scale factors of several sections ({', '.join(names)}), {reason}, so they were "
        "left out; choose one with --library."
    ]


def _images(
    source: anndata.AnnData,
    points: np.ndarray,
    placement: Placement,
    library: tuple[str, Mapping[str, Any], Mapping[str, float]],
    options: TableOptions,
) -> TableImages:
    """Return the images of the table and the one that the user gave."""
    if placement.scale is None:
        if options.image is not None:
            raise InputError(
                "The table has array coordinates instead of positions, so no image can be aligned with its spots; put "
                "the positions into obsm['spatial'], or leave --image out."
            )
        return TableImages({}, {})
    name, content, factors = library
    lost: tuple[str, ...] = ()
    if placement.on_array:
        if content.get("images"):
            lost = (
                f"The images in uns['spatial']['{name}'] were left out, because the positions are rows and columns of "
                "an array, not pixels.",
            )
        name, content, factors = "", {}, {}
    found = stored_images(name, content, factors, points, placement.scale)
    found = dataclasses.replace(found, notices=(*lost, *found.notices))
    if options.image is None:
        return found
    given = user_image(
        options.image,
        source,
        points,
        library=content,
        factors=factors,
        pixel_size=options.pixel_size,
        scale=placement.scale,
        taken=(_SPOTS, _TABLE, *(key.casefold() for key in found.elements)),
    )
    return TableImages(
        {**found.elements, **given.elements},
        {**found.systems, **given.systems},
        (*found.notices, *given.notices),
        given.given,
    )


def _store(
    source: anndata.AnnData,
    counts: Any,
    names: tuple[np.ndarray, np.ndarray, pd.DataFrame],
    placement: Placement,
    images: TableImages,
    systems: dict[str, np.ndarray],
    about: dict[str, Any],
) -> spatialdata.SpatialData:
    """Build the SpatialData object; ``names`` are those of spots and genes, and the columns of the genes."""
    import anndata
    import geopandas
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    spot_ids, genes, var = names
    obs = _storable_columns(source.obs, spot_ids)
    obs[_REGION_KEY] = pd.Categorical([_SPOTS] * len(obs))
    obs[_INSTANCE_KEY] = np.arange(len(obs))
    table = anndata.AnnData(
        counts,
        obs=obs,
        var=_storable_columns(var, genes),
        obsm={"spatial": placement.centers},
        uns={SLIDE_KEY: about},
    )
    meta = source.uns.get("meta", {})
    items = meta.items() if isinstance(meta, Mapping) else ()
    plain = {str(k): v for k, v in items if isinstance(v, str | int | float | np.number) and "/" not in str(k)}
    if plain:
        table.uns["meta"] = plain
    if placement.shape == "square":
        squares = square_polygons(placement.centers, placement.diameter, placement.angle)
        spots = ShapesModel.parse(geopandas.GeoDataFrame(geometry=squares), transformations=to_affines(systems))
    else:
        spots = ShapesModel.parse(
            placement.centers, geometry=0, radius=placement.diameter / 2, transformations=to_affines(systems)
        )
    return spatialdata.SpatialData(
        images=images.elements,
        shapes={_SPOTS: spots},
        tables={_TABLE: TableModel.parse(table, region=_SPOTS, region_key=_REGION_KEY, instance_key=_INSTANCE_KEY)},
    )


def _storable_columns(frame: pd.DataFrame, index: np.ndarray) -> pd.DataFrame:
    """Return the columns that a SpatialData table can store, under valid names."""
    columns: dict[str, Any] = {}
    for column, values in frame.items():
        name = element_name(str(column))
        if name.casefold() in {_REGION_KEY, _INSTANCE_KEY, "_index", *(k.casefold() for k in columns)}:
            continue
        stored = _storable(values)
        if stored is not None:
            columns[name] = stored
    return pd.DataFrame(columns, index=pd.Index(index))


def _storable(values: pd.Series) -> Any:
    """Return a column as numbers, text or categories, which all readers know; None for other values, such as lists."""
    known = values.notna()
    if types.is_numeric_dtype(values) and not types.is_bool_dtype(values):
        if isinstance(values.dtype, np.dtype):
            return values.to_numpy()
        return np.array(values.tolist()) if known.all() else values.to_numpy(dtype=float, na_value=np.nan)
    if types.is_bool_dtype(values) and known.all():
        return values.to_numpy(dtype=bool)
    is_category = isinstance(values.dtype, pd.CategoricalDtype)
    is_text = all(isinstance(value, str) for value in values[known])
    if not known.any() or not (is_category or is_text or types.is_bool_dtype(values)):
        return None
    texts = values.astype(object).where(known, None).map(str, na_action="ignore")
    return pd.Categorical(texts) if is_category or not known.all() else texts.to_numpy()
