"""SpatialData store -> :class:`~napari_srast.core.slide.Slide`: spots, counts, histology and where everything lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.core.slide import Slide, SlideImage, SlideSource
from napari_srast.errors import InputError, translate_memory_errors
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.counts import raw_counts, unique_names
from napari_srast.io.element_selection import (
    SLIDE_KEY,
    SlideChoices,
    choose_image,
    choose_spots,
    result_runs,
    slide_choices,
)
from napari_srast.io.missing_chunks import check_chunks
from napari_srast.io.spots import Spots, read_spots
from napari_srast.io.store import open_store
from napari_srast.io.transforms import element_matrices

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["SlideChoices", "SlideDescription", "describe_slide", "read_slide", "slide_choices"]

_STATED_WIDTH = 0.64, 0.66  # in pitches: 65 um of 100
_MICROMETRES = {"um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"}


@translate_memory_errors("while reading the slide", "take a smaller one")
def read_slide(
    path_or_sdata: str | Path | spatialdata.SpatialData,
    *,
    spots: str | None = None,
    table: str | None = None,
    image: str | None = "auto",
    coordinate_system: str | None = None,
) -> Slide:
    """Read a slide from a SpatialData store.

    Parameters
    ----------
    path_or_sdata
        A ``.zarr`` store or an open SpatialData object.
    spots
        Name of the spots: circles, polygons or labels. None takes those that a table annotates.
    table
        Name of the table of raw counts. None takes the one that annotates the spots.
    image
        Name of the histology image; "auto" takes the largest color image that shares a coordinate system with the
        spots; None or "none" reads no image.
    coordinate_system
        The one that regions and lengths are given in. None takes "global" where the spots have it, else the first
        that they share with the image.

    Returns
    -------
    Slide
        Only spots that have a row in the table, in the table's order. Images stay lazy.

    Raises
    ------
    InputError
        The store cannot be read, something is missing, several elements fit and none was named, or the table holds
        no raw counts.
    """
    store, skipped = open_store(path_or_sdata) if isinstance(path_or_sdata, str | Path) else (path_or_sdata, ())
    try:
        table_name, spots_name = choose_spots(store, spots, table)
    except InputError as error:  # what is missing may be what could not be read
        raise InputError("; ".join([str(error).rstrip("."), *skipped])) from None
    annotated = store.tables[table_name]
    element = store.shapes[spots_name] if spots_name in store.shapes else store.labels[spots_name]
    found = read_spots(element, spots_name)
    rows, places, match_notices = _match(annotated, table_name, found, spots_name)
    lost_notices = check_chunks(Path(store.path), table_name) if store.path is not None else ()
    counts, count_notices = raw_counts(annotated, table_name, rows)
    genes, gene_notices = unique_names(annotated.var_names, "gene names")
    spot_ids, id_notices = unique_names(annotated.obs_names[rows], "spot names")

    transforms = element_matrices(element, spots_name)
    image_name, image_notices = choose_image(store, image, list(transforms))
    image_systems = element_matrices(store.images[image_name], image_name) if image_name else {}
    system, system_notices = _choose_system(transforms, image_systems, coordinate_system)
    known = _known(annotated)
    path = path_or_sdata if isinstance(path_or_sdata, str | Path) else store.path
    return Slide(
        counts=counts,
        genes=genes,
        spot_ids=spot_ids,
        centers=found.centers[places],
        spot_diameter=found.diameter,
        spot_shape=found.shape,
        unit=_unit(annotated, spots_name in store.labels, transforms),
        transforms=transforms,
        coordinate_system=system,
        image=None if image_name is None else _read_image(store.images[image_name], image_name, transforms, system),
        source=SlideSource(
            path=None if path is None else str(Path(path).absolute()),
            spots=spots_name,
            table=table_name,
            image=image_name,
            synthetic=bool(known.get("synthetic", False)),
        ),
        notices=(
            *skipped,
            *(str(notice) for notice in np.atleast_1d(known.get("notices", ()))),
            *found.notices,
            *_width_notices(found),
            *match_notices,
            *lost_notices,
            *count_notices,
            *_content_notices(counts, found.centers[places], table_name, spots_name),
            *gene_notices,
            *id_notices,
            *image_notices,
            *system_notices,
        ),
    )


def _match(
    table: anndata.AnnData, table_name: str, spots: Spots, spots_name: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Pair rows of the table with spots by their instance ids: positions in the table, positions in the spots."""
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
    wanted = pd.Index(table.obs_names if instance_key is None else table.obs[instance_key])[rows]
    index = pd.Index(spots.ids)
    for ids, what in ((wanted, f"Table '{table_name}'"), (index, f"The spots '{spots_name}'")):
        if not ids.is_unique:
            raise InputError(
                f"{what} names the instance {_first(ids[ids.duplicated()])} more than once; give every spot its own id."
            )
    places = index.get_indexer(wanted)
    if (places < 0).all():
        places = index.astype(str).get_indexer(wanted.astype(str))  # numbers in one and text in the other
    if (places < 0).all():
        raise InputError(
            f"The ids of table '{table_name}' (such as {_first(wanted)}) and those of the spots '{spots_name}' "
            f"(such as {_first(index)}) do not match; link the table again with spatialdata's TableModel.parse."
        )
    notices = []
    known = places >= 0
    if not known.all():
        notices.append(
            f"{(~known).sum()} rows of table '{table_name}' have no spot in '{spots_name}' and were left out."
        )
    if known.sum() < len(index):
        notices.append(
            f"{len(index) - known.sum()} spots of '{spots_name}' have no row in table '{table_name}' and were left out."
        )
    return rows[known], places[known], tuple(notices)


def _first(ids: pd.Index) -> str:
    """Show the first of some ids as a user would write it."""
    return repr(ids[:1].tolist()[0])


def _content_notices(counts: sparse.csr_matrix, centers: np.ndarray, table: str, spots: str) -> tuple[str, ...]:
    """Tell of spots that are handled, but may betray a fault further up.

    Raises
    ------
    InputError
        There is not one count.
    """
    if counts.nnz == 0:
        raise InputError(f"Table '{table}' holds zeros only; export the slide again with its counts.")
    notices = []
    bare = counts.shape[0] - np.count_nonzero(np.diff(counts.indptr))
    if bare:
        notices.append(f"{bare} spots of table '{table}' hold no counts; their pixels stay zero.")
    doubled = len(centers) - len(np.unique(centers, axis=0))
    if doubled:
        notices.append(
            f"{doubled} spots of '{spots}' lie exactly where another one lies; they share the pixels of that place."
        )
    return tuple(notices)


def _width_notices(spots: Spots) -> tuple[str, ...]:
    """Tell of Visium's spots that are as wide as Space Ranger says, which is wider than they are."""
    if spots.shape != "circle" or not spots.diameter or len(spots.centers) < 3:
        return ()
    distance, _ = cKDTree(spots.centers).query(spots.centers, k=[2])
    if not _STATED_WIDTH[0] < spots.diameter / max(float(np.median(distance)), 1e-12) < _STATED_WIDTH[1]:
        return ()
    return (
        "The spots are 65 % of their distance wide, as Space Ranger states of Visium's, which measure 55 um; where "
        "their width matters (footprint 'spot', the measured share), import the folder with 'napari-srast import'.",
    )


def _choose_system(
    transforms: dict[str, np.ndarray], image_systems: dict[str, np.ndarray], wanted: str | None
) -> tuple[str, tuple[str, ...]]:
    if wanted is not None:
        if wanted not in transforms:
            raise InputError(
                f"The spots have no transformation to coordinate system '{wanted}'; choose one with "
                f"--coordinate-system: {', '.join(transforms)}."
            )
        return wanted, ()
    if "global" in transforms or len(transforms) == 1:
        return ("global" if "global" in transforms else next(iter(transforms))), ()
    plain = [s for s in transforms if np.allclose(transforms[s], np.eye(3))]
    shared = [s for s in transforms if s in image_systems]
    system = next((s for s in plain if s in shared), (plain or shared or list(transforms))[0])
    return system, (
        f"The spots lie in {len(transforms)} coordinate systems; '{system}' was chosen, "
        "another can be named with --coordinate-system.",
    )


def _known(table: anndata.AnnData) -> Mapping[str, Any]:
    """Return what the importer wrote beside the counts; nothing where somebody else wrote there."""
    known = table.uns.get(SLIDE_KEY)
    return known if isinstance(known, Mapping) else {}


def _unit(table: anndata.AnnData, labels: bool, transforms: dict[str, np.ndarray]) -> str:
    """Return the unit of the spots' own frame, where the slide says so."""
    stated = _known(table).get("unit")
    if isinstance(stated, str) and stated:
        return stated
    for system, matrix in transforms.items():
        if system.casefold() in _MICROMETRES and np.allclose(matrix, np.eye(3)):
            return "um"
    # Labels live on pixels, and so do the spots of Space Ranger (whose tables carry uns["spatial"]).
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


@dataclass(frozen=True, kw_only=True)
class SlideDescription:
    """What ``napari-srast info`` tells of a slide; every field is fit for JSON.

    Parameters
    ----------
    path
        The store.
    elements
        Names of all images, labels, points, shapes and tables.
    results
        The runs whose results the store holds, with the table, size, method and slide of each.
    usable
        Whether the slide can be upsampled as it is.
    problems
        What stands in the way, one sentence each.
    notices
        What the reader had to decide or mend.
    spots, table, image, coordinate_system
        The elements that would be used.
    coordinate_systems
        Those of the spots.
    n_spots, n_genes, median_counts
        Size of the table and its median counts in a spot.
    lattice, pitch, spot_diameter, unit
        Layout of the spots; lengths in ``unit``, in the spots' own frame.
    image_size
        Width and height of the image in pixels.
    genes
        The first gene names.
    synthetic
        Whether the slide is generated and not measured.
    """

    path: str
    elements: dict[str, list[str]]
    results: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    usable: bool = False
    problems: list[str] = dataclasses.field(default_factory=list)
    notices: list[str] = dataclasses.field(default_factory=list)
    spots: str | None = None
    table: str | None = None
    image: str | None = None
    coordinate_system: str | None = None
    coordinate_systems: list[str] = dataclasses.field(default_factory=list)
    n_spots: int = 0
    n_genes: int = 0
    median_counts: float = 0.0
    lattice: str | None = None
    pitch: float | None = None
    spot_diameter: float | None = None
    unit: str = "unknown"
    image_size: list[int] | None = None
    genes: list[str] = dataclasses.field(default_factory=list)
    synthetic: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain lists, numbers and strings."""
        return dataclasses.asdict(self)


@translate_memory_errors("while reading the slide", "take a smaller one")
def describe_slide(path: str | Path, **choices: str | None) -> SlideDescription:
    """Say what is in a store, whether it can be upsampled, and what is missing if not.

    Parameters
    ----------
    path
        The store.
    choices
        ``spots``, ``table``, ``image`` and ``coordinate_system``, as for :func:`read_slide`.

    Raises
    ------
    InputError
        There is no SpatialData store at the path. Anything wrong inside it is told in ``problems``.
    """
    store, skipped = open_store(path)
    elements: dict[str, list[str]] = {kind: [] for kind in ("images", "labels", "points", "shapes", "tables")}
    for kind, name, _ in store.gen_elements():
        elements[kind].append(name)
    results = result_runs(store)
    try:
        slide = read_slide(store, **choices)
        lattice = detect_lattice(slide.centers, slide.spot_diameter)
    except InputError as error:
        return SlideDescription(
            path=str(path), elements=elements, results=results, problems=[str(error)], notices=list(skipped)
        )
    image = slide.image
    return SlideDescription(
        path=str(path),
        elements=elements,
        results=results,
        usable=True,
        notices=[*skipped, *slide.notices],
        spots=slide.source.spots,
        table=slide.source.table,
        image=slide.source.image,
        coordinate_system=slide.coordinate_system,
        coordinate_systems=list(slide.transforms),
        n_spots=slide.n_spots,
        n_genes=slide.n_genes,
        median_counts=_median_counts(slide.counts),
        lattice=lattice.kind,
        pitch=lattice.pitch,
        spot_diameter=slide.spot_diameter,
        unit=slide.unit,
        image_size=None if image is None else [int(image.levels[0].shape[2]), int(image.levels[0].shape[1])],
        genes=[str(gene) for gene in slide.genes[:50]],
        synthetic=slide.source.synthetic,
    )


def _median_counts(counts: sparse.csr_matrix) -> float:
    return float(np.median(np.asarray(counts.sum(axis=1, dtype=np.float64))))
