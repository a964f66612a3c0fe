"""Read a :class:`~napari_srast.core.slide.Slide` from a SpatialData store: spots, counts, histology, transforms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.core.slide import Slide, SlideImage, SlideSource
from napari_srast.errors import InputError, translate_memory_errors
from napari_srast.io.counts import raw_counts, unique_names
from napari_srast.io.element_selection import SLIDE_KEY, choose_image, choose_spots
from napari_srast.io.missing_chunks import check_chunks
from napari_srast.io.sections import SectionChoice, choose_section
from napari_srast.io.spots import Spots, read_spots
from napari_srast.io.store import open_store
from napari_srast.io.transforms import element_matrices

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["read_slide"]

_NOMINAL_DIAMETER = 0.64, 0.66  # range in pitches: 65 um of 100 um
_MICROMETERS = {"um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"}


@translate_memory_errors("while reading the slide", "take a smaller one")
def read_slide(
    path_or_sdata: str | Path | spatialdata.SpatialData,
    *,
    spots: str | None = None,
    table: str | None = None,
    image: str | None = "auto",
    coordinate_system: str | None = None,
    library: str | None = None,
) -> Slide:
    """Read a slide from a SpatialData store.

    Parameters
    ----------
    path_or_sdata
        A ``.zarr`` store or an open SpatialData object.
    spots
        Name of the spots: circles, polygons or labels. None selects those that a table annotates.
    table
        Name of the table of raw counts. None selects the one that annotates the spots.
    image
        Name of the histology image; "auto" selects the largest color image that shares a coordinate system with the
        spots; None or "none" reads no image.
    coordinate_system
        Coordinate system of regions and lengths. None selects "global" if the spots have it, else the first one that
        they share with the image.
    library
        Section to read from a table of several sections, such as a value of its column ``library_id``; "all" reads
        the spots of all of them as one slide. None refuses a table whose sections overlap.

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
    store, skipped = open_store(path_or_sdata) if isinstance(path_or_sdata, str | Path) else (path_or_sdata, ())
    try:
        table_name, spots_name = choose_spots(store, spots, table)
    except InputError as error:  # the missing element may be one that was skipped
        raise InputError("; ".join([str(error).rstrip("."), *skipped])) from None
    annotated = store.tables[table_name]
    element = store.shapes[spots_name] if spots_name in store.shapes else store.labels[spots_name]
    all_spots = read_spots(element, spots_name)
    rows, spot_index, match_notices = _match(annotated, table_name, all_spots, spots_name)
    section = _choose_section(annotated, table_name, rows, spot_index, all_spots, library)
    rows, spot_index = rows[section.rows], spot_index[section.rows]
    chunk_notices = check_chunks(Path(store.path), table_name) if store.path is not None else ()
    counts, count_notices = raw_counts(annotated, table_name, rows)
    genes, gene_notices = unique_names(annotated.var_names, "gene names")
    spot_ids, id_notices = unique_names(annotated.obs_names[rows], "spot names")

    transforms = element_matrices(element, spots_name)
    image_name, image_notices = choose_image(store, image, list(transforms), section.name)
    image_systems = element_matrices(store.images[image_name], image_name) if image_name else {}
    system, system_notices = _choose_system(transforms, image_systems, coordinate_system)
    imported = _import_metadata(annotated)
    path = path_or_sdata if isinstance(path_or_sdata, str | Path) else store.path
    return Slide(
        counts=counts,
        genes=genes,
        spot_ids=spot_ids,
        centers=all_spots.centers[spot_index],
        spot_diameter=all_spots.diameter,
        spot_shape=all_spots.shape,
        unit=_unit(annotated, spots_name in store.labels, transforms),
        transforms=transforms,
        coordinate_system=system,
        image=None if image_name is None else _read_image(store.images[image_name], image_name, transforms, system),
        source=SlideSource(
            path=None if path is None else str(Path(path).absolute()),
            spots=spots_name,
            table=table_name,
            image=image_name,
            synthetic=bool(imported.get("synthetic", False)),
            library=library,
        ),
        notices=(
            *skipped,
            *(str(notice) for notice in np.atleast_1d(imported.get("notices", ()))),
            *all_spots.notices,
            *_diameter_notices(all_spots),
            *match_notices,
            *section.notices,
            *chunk_notices,
            *count_notices,
            *_content_notices(counts, all_spots.centers[spot_index], table_name, spots_name),
            *gene_notices,
            *id_notices,
            *image_notices,
            *system_notices,
        ),
    )


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


def _content_notices(counts: sparse.csr_matrix, centers: np.ndarray, table: str, spots: str) -> tuple[str, ...]:
    """Return notices on spots that can be processed, but may indicate a problem in the source of the data.

    Raises
    ------
    InputError
        All counts are zero.
    """
    if counts.nnz == 0:
        raise InputError(f"Table '{table}' holds zeros only; export the slide again with its counts.")
    notices = []
    n_empty = counts.shape[0] - np.count_nonzero(np.diff(counts.indptr))
    if n_empty:
        notices.append(f"{n_empty} spots of table '{table}' hold no counts; their pixels stay zero.")
    n_duplicates = len(centers) - len(np.unique(centers, axis=0))
    if n_duplicates:
        notices.append(
            f"{n_duplicates} spots of '{spots}' have the same center as another spot; "
            "they share the pixels of that place."
        )
    return tuple(notices)


def _diameter_notices(spots: Spots) -> tuple[str, ...]:
    """Return a notice if the spot diameter is the nominal one of Space Ranger, which exceeds that of Visium spots."""
    if spots.shape != "circle" or not spots.diameter or len(spots.centers) < 3:
        return ()
    distance, _ = cKDTree(spots.centers).query(spots.centers, k=[2])
    if not _NOMINAL_DIAMETER[0] < spots.diameter / max(float(np.median(distance)), 1e-12) < _NOMINAL_DIAMETER[1]:
        return ()
    return (
        "The spot diameter is 65 % of the pitch, which is the nominal diameter in Space Ranger; Visium spots measure "
        "55 um. If the diameter matters (footprint 'spot', measured fraction), import the folder with "
        "'napari-srast import'.",
    )


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
        if system.casefold() in _MICROMETERS and np.allclose(matrix, np.eye(3)):
            return "um"
    # Labels are in pixels, and so are the spots of Space Ranger, whose tables have uns["spatial"].
    return "px" if labels or "spatial" in table.uns else "unknown"


def _read_image(image: Any, name: str, transforms: dict[str, np.ndarray], system: str) -> SlideImage:
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
