"""Read a :class:`~napari_srast.core.slide.Slide` from a SpatialData store: spots, counts, histology, transforms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_srast._utils.matrix_on_disk import move_to_disk
from napari_srast.core.slide import Slide, SlideImage, SlideSource, select_columns
from napari_srast.errors import ChoiceError, InputError, translate_memory_errors
from napari_srast.io.array_coordinates import check_no_array_coordinates
from napari_srast.io.convert.h5ad import TableOptions, convert_table
from napari_srast.io.counts import raw_counts, unique_names
from napari_srast.io.element_selection import SLIDE_KEY, choose_image, choose_spots
from napari_srast.io.genes import read_genes
from napari_srast.io.missing_chunks import check_chunks
from napari_srast.io.sections import ALL_SECTIONS, SectionChoice, choose_section
from napari_srast.io.slide_checks import (
    content_notices,
    diameter_notices,
    image_notices,
    position_notices,
    spots_in_tissue,
)
from napari_srast.io.spot_shapes import check_spot_shape, resolve_shape
from napari_srast.io.spots import Spots, read_spots
from napari_srast.io.store import open_store
from napari_srast.io.transforms import element_matrices
from napari_srast.io.units import parse_unit

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["list_sections", "read_image", "read_slide"]


@translate_memory_errors("while reading the slide", "take a smaller one")
def read_slide(
    path_or_sdata: str | Path | spatialdata.SpatialData | anndata.AnnData,
    *,
    spots: str | None = None,
    table: str | None = None,
    image: str | None = "auto",
    coordinate_system: str | None = None,
    library: str | None = None,
    counts: str | None = None,
    spot_shape: str | None = None,
) -> Slide:
    """Read a slide from a SpatialData store, or from a table in memory.

    Parameters
    ----------
    path_or_sdata
        A ``.zarr`` store, an open SpatialData object, or an AnnData table with ``obsm["spatial"]``, which is read as
        :func:`napari_srast.io.convert.importer.import_slide` reads an ``.h5ad`` file.
    spots
        Name of the spots: circles, polygons or labels. None selects those that a table annotates.
    table
        Name of the table of raw counts. None selects the one that annotates the spots.
    image
        Name of the histology image; "auto" selects the one that was given to the import, else the largest color image
        under the spots, by a coordinate system that both have; None or "none" reads no image.
    coordinate_system
        Coordinate system of regions and lengths. None selects "global" if the spots have it, else the first one that
        they share with the image.
    library
        Section to read from a table of several sections, such as a value of its column ``library_id``; "all" reads
        the spots of all of them as one slide. None refuses a table whose sections overlap.
    counts
        Matrix of the raw counts: "X", "raw" or the name of a layer. None finds it.
    spot_shape
        "circle", or "square" for bins that cover their cells. None decides by what the slide states.

    Returns
    -------
    Slide
        The spots that have a row in the table, in the order of the table. Images are lazy.

    Raises
    ------
    InputError
        The store cannot be read, an element is missing, several elements or sections match and none was named, or the
        table has no raw counts.

    Examples
    --------
    >>> import napari_srast as srast
    >>> slide = srast.read_slide("breast.zarr", image="he")  # doctest: +SKIP
    """
    check_spot_shape(spot_shape)
    store, skipped = _open(path_or_sdata, TableOptions(library=library, counts=counts, spot_shape=spot_shape))
    if not isinstance(path_or_sdata, str | Path) and store is not path_or_sdata:
        library = counts = None  # the converted table has these rows and counts only
    table_name, spots_name = _choose_spots(store, spots, table, skipped)
    annotated = store.tables[table_name]
    element = store[spots_name]
    imported = _import_metadata(annotated)
    all_spots = read_spots(element, spots_name)
    rows, spot_index, match_notices = _match(annotated, table_name, all_spots, spots_name)
    rows, spot_index, tissue_notices = spots_in_tissue(annotated, table_name, rows, spot_index)
    chosen = ALL_SECTIONS if library is None and str(imported.get("library", "")) == ALL_SECTIONS else library
    section = _choose_section(annotated, table_name, rows, spot_index, all_spots, chosen)
    rows, spot_index = rows[section.rows], spot_index[section.rows]
    chunk_notices = check_chunks(Path(store.path), table_name) if store.path is not None else ()
    found = raw_counts(annotated, table_name, rows, counts, reuse=isinstance(path_or_sdata, str | Path))
    genes = read_genes(found.var, table_name)
    matrix = select_columns(found.matrix, genes.columns)
    spot_ids, id_notices = unique_names(annotated.obs_names[rows], "spot names")

    transforms = element_matrices(element, spots_name)
    centers = all_spots.centers[spot_index]
    unit = _unit(annotated, spots_name in store.labels, transforms)
    if unit not in ("um", "array units"):
        check_no_array_coordinates(centers, annotated.obs.iloc[rows], f"The positions of the spots '{spots_name}'")
    kept_shape = spot_shape if spot_shape is not None else imported.get("spot_shape")
    shape = resolve_shape(all_spots, centers, annotated.uns, spot_ids, kept_shape)
    given = str(imported.get("image", ""))  # when the slide was imported
    wanted = given if image == "auto" and given in store.images else image
    image_name, choice_notices = choose_image(store, wanted, transforms, centers, section)
    image_systems = element_matrices(store.images[image_name], image_name) if image_name else {}
    system, system_notices = _choose_system(transforms, image_systems, coordinate_system)
    histology = None if image_name is None else read_image(store.images[image_name], image_name, transforms, system)
    path = path_or_sdata if isinstance(path_or_sdata, str | Path) else store.path
    return Slide(
        counts=move_to_disk(matrix),
        genes=genes.names,
        gene_ids=genes.ids,
        spot_ids=spot_ids,
        centers=centers,
        spot_diameter=shape.diameter,
        spot_shape=shape.shape,
        unit=unit,
        transforms=transforms,
        coordinate_system=system,
        image=histology,
        source=SlideSource(
            path=None if path is None else str(Path(path).absolute()),
            spots=spots_name,
            table=table_name,
            image=image_name,
            synthetic=bool(imported.get("synthetic", False)),
            library=library,
            counts=counts,
            spot_shape=spot_shape,
        ),
        notices=(
            *skipped,
            *(str(notice) for notice in np.atleast_1d(imported.get("notices", ()))),
            *all_spots.notices,
            *(diameter_notices(all_spots) if shape.shape == "circle" else ()),
            *shape.notices,
            *match_notices,
            *tissue_notices,
            *section.notices,
            *chunk_notices,
            *found.notices,
            *content_notices(matrix, centers, table_name, spots_name),
            *_compare_positions(annotated, rows, centers, transforms, spots_name),
            *genes.notices,
            *id_notices,
            *choice_notices,
            *image_notices(histology, centers),
            *system_notices,
        ),
    )


def list_sections(store: spatialdata.SpatialData, slide: Slide) -> tuple[str, ...]:
    """Return the names among which the section of a slide was chosen; empty if nothing had to be chosen.

    Parameters
    ----------
    store
        The store of the slide.
    slide
        The slide.
    """
    table, spots = slide.source.table, slide.source.spots
    if table is None or spots is None or table not in store.tables:
        return ()
    annotated = store.tables[table]
    if slide.source.library is None and str(_import_metadata(annotated).get("library", "")) != ALL_SECTIONS:
        return ()
    all_spots = read_spots(store[spots], spots)
    rows, spot_index, _ = spots_in_tissue(annotated, table, *_match(annotated, table, all_spots, spots)[:2])
    try:
        _choose_section(annotated, table, rows, spot_index, all_spots, None)
    except ChoiceError as error:
        return error.names
    return ()


def _open(source: Any, options: TableOptions) -> tuple[spatialdata.SpatialData, tuple[str, ...]]:
    """Open what a slide is read from, with notices on elements that were skipped."""
    import anndata
    import spatialdata

    if isinstance(source, str | Path):
        return open_store(source)
    if isinstance(source, spatialdata.SpatialData):
        return source, ()
    if isinstance(source, anndata.AnnData):
        return convert_table(source, "the table", options), ()
    raise InputError(
        f"A slide is read from a path, a SpatialData object or an AnnData table, not from {type(source).__name__}; "
        "give one of these."
    )


def _choose_spots(
    store: spatialdata.SpatialData, spots: str | None, table: str | None, skipped: tuple[str, ...]
) -> tuple[str, str]:
    """Select table and spots; an error also lists the elements that were skipped, one of which may be missing."""
    try:
        return choose_spots(store, spots, table)
    except InputError as error:
        if isinstance(error, ChoiceError) or not skipped:
            raise
        raise InputError("; ".join([str(error).rstrip("."), *skipped])) from None


def _compare_positions(
    table: anndata.AnnData, rows: np.ndarray, centers: np.ndarray, transforms: dict[str, np.ndarray], spots: str
) -> tuple[str, ...]:
    """Compare the spots with ``obsm["spatial"]``, if the table has it."""
    stated = np.asarray(table.obsm["spatial"]) if "spatial" in table.obsm else np.empty((0, 0))
    if stated.ndim != 2 or stated.shape[1] < 2 or stated.dtype.kind not in "iuf":
        return ()
    return position_notices(stated[rows, :2].astype(float), centers, transforms, spots)


def _match(
    table: anndata.AnnData, table_name: str, spots: Spots, spots_name: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Match rows of the table with spots by their instance ids.

    Returns
    -------
    tuple
        Row of each matched spot, index of each matched spot, and notices on rows and spots without a match.
    """
    link = table.uns.get("spatialdata_attrs", {})
    region_key, instance_key = link.get("region_key"), link.get("instance_key")
    for key in (region_key, instance_key):
        if key is not None and key not in table.obs:
            raise InputError(
                f"Table '{table_name}' lacks the column '{key}' that links it to the spots; link it again with "
                "spatialdata's TableModel.parse."
            )
    rows = np.arange(table.n_obs)
    if region_key is not None:
        rows = rows[(table.obs[region_key].astype(str) == spots_name).to_numpy()]
        if len(rows) == 0:
            raise InputError(
                f"No row of table '{table_name}' belongs to the spots '{spots_name}' (column '{region_key}'); "
                "choose other ones with --spots and --table."
            )
    row_ids = pd.Index(table.obs_names if instance_key is None else table.obs[instance_key])[rows]
    ids_of_spots = pd.Index(spots.ids)
    for ids, what in ((row_ids, f"Table '{table_name}'"), (ids_of_spots, f"The spots '{spots_name}'")):
        if not ids.is_unique:
            raise InputError(
                f"{what} names the instance {_first(ids[ids.duplicated()])} more than once; give every spot its own id."
            )
    spot_index = ids_of_spots.get_indexer(row_ids)
    if (spot_index < 0).all():
        spot_index = ids_of_spots.astype(str).get_indexer(row_ids.astype(str))  # numbers in one, text in the other
    if (spot_index < 0).all():
        raise InputError(
            f"The ids of table '{table_name}' (such as {_first(row_ids)}) and those of the spots '{spots_name}' "
            f"(such as {_first(ids_of_spots)}) do not match; link the table again with spatialdata's TableModel.parse."
        )
    notices = []
    matched = spot_index >= 0
    if not matched.all():
        notices.append(
            f"{(~matched).sum()} rows of table '{table_name}' have no spot in '{spots_name}' and were left out."
        )
    n_unmatched = len(ids_of_spots) - matched.sum()
    if n_unmatched > 0:
        notices.append(f"{n_unmatched} spots of '{spots_name}' have no row in table '{table_name}' and were left out.")
    return rows[matched], spot_index[matched], tuple(notices)


def _choose_section(
    table: anndata.AnnData,
    table_name: str,
    rows: np.ndarray,
    spot_index: np.ndarray,
    spots: Spots,
    library: str | None,
) -> SectionChoice:
    """Select the spots of one section among those that have a row in the table."""
    points = spots.centers[spot_index]
    stated = np.asarray(table.obsm.get("spatial", np.empty((table.n_obs, 0))))
    if spots.depth is not None:
        points = np.column_stack([points, spots.depth[spot_index]])
    elif stated.ndim == 2 and stated.shape[1] > 2:
        points = np.column_stack([points, stated[rows, 2]])
    return choose_section(table.obs.iloc[rows], table.uns, points, library, table_name)


def _first(ids: pd.Index) -> str:
    """Return the first id as Python source text."""
    return repr(ids[:1].tolist()[0])


def _choose_system(
    transforms: dict[str, np.ndarray], image_systems: dict[str, np.ndarray], option: str | None
) -> tuple[str, tuple[str, ...]]:
    """Select the coordinate system of the slide, given those of its spots and its image, with a notice if unclear."""
    if option is not None:
        if option not in transforms:
            raise InputError(
                f"The spots have no transformation to coordinate system '{option}'; choose one with "
                f"--coordinate-system: {', '.join(transforms)}."
            )
        return option, ()
    if "global" in transforms or len(transforms) == 1:
        return ("global" if "global" in transforms else next(iter(transforms))), ()
    identities = [s for s in transforms if np.allclose(transforms[s], np.eye(3))]
    shared = [s for s in transforms if s in image_systems]
    system = next((s for s in identities if s in shared), (identities or shared or list(transforms))[0])
    return system, (
        f"The spots have {len(transforms)} coordinate systems; '{system}' was chosen, "
        "another can be named with --coordinate-system.",
    )


def _import_metadata(table: anndata.AnnData) -> Mapping[str, Any]:
    """Return the metadata that the importer stored in ``uns``; empty if there are none."""
    metadata = table.uns.get(SLIDE_KEY)
    return metadata if isinstance(metadata, Mapping) else {}


def _unit(table: anndata.AnnData, labels: bool, transforms: dict[str, np.ndarray]) -> str:
    """Return the unit of the spots' intrinsic coordinates, "unknown" if the slide does not state it."""
    stated = _import_metadata(table).get("unit")
    if isinstance(stated, str) and stated:
        return stated
    for system, matrix in transforms.items():
        if parse_unit(system) == "um" and np.allclose(matrix, np.eye(3)):
            return "um"
    # Labels are in pixels, and so are the spots of Space Ranger, whose tables have uns["spatial"].
    return "px" if labels or "spatial" in table.uns else "unknown"


def read_image(image: Any, name: str, transforms: dict[str, np.ndarray], system: str) -> SlideImage:
    """Convert an image element to the histology of a slide.

    Parameters
    ----------
    image
        The element, lazy, with one or several levels.
    name
        Name of the element.
    transforms
        For each coordinate system of the spots the affine from the intrinsic frame to it.
    system
        The coordinate system through which the image is aligned, if it has it; else the first shared one.
    """
    from spatialdata.models import get_channel_names

    levels = [node["image"] for node in image.values()] if hasattr(image, "children") else [image]
    levels.sort(key=lambda level: -level.shape[1] * level.shape[2])
    affines = []
    for level in levels:
        matrices = element_matrices(level, name)
        shared = system if system in matrices else next(s for s in transforms if s in matrices)
        affines.append(np.linalg.inv(transforms[shared]) @ matrices[shared])
    return SlideImage(
        name=name,
        levels=tuple(level.data for level in levels),
        to_intrinsic=tuple(affines),
        channels=tuple(str(channel) for channel in get_channel_names(image)),
    )
