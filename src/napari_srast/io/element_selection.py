"""Select the elements of a store that form the slide: spots, table of counts, and histology image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.core.slide import is_color
from napari_srast.errors import ChoiceError, InputError, translate_memory_errors
from napari_srast.geometry.affine import apply_affine
from napari_srast.io.sections import SectionChoice
from napari_srast.io.store import element_name, full_resolution, open_store
from napari_srast.io.table_reader import RESULT_KEY
from napari_srast.io.transforms import element_matrices

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = [
    "RESULT_KEY",
    "RESULT_PREFIX",
    "SLIDE_KEY",
    "SlideChoices",
    "choose_image",
    "choose_spots",
    "result_elements",
    "result_runs",
    "slide_choices",
]

_MIN_ON_IMAGE = 0.02  # share of the spots
RESULT_PREFIX = "srast_"
"""Start of the names of all elements of results and saved regions."""
SLIDE_KEY = "napari_srast_slide"
"""Key in ``uns`` of a table for what the importer knows about the slide, such as the unit."""


@dataclass(frozen=True, kw_only=True)
class SlideChoices:
    """Valid names for the options of :func:`napari_srast.read_slide`.

    Parameters
    ----------
    spots
        Shapes and labels that a table annotates.
    tables
        Tables that annotate spots.
    images
        Two-dimensional images.
    coordinate_systems
        Coordinate systems of the store.
    contents
        Names of the spots and images with a transformation to each coordinate system.
    """

    spots: tuple[str, ...]
    tables: tuple[str, ...]
    images: tuple[str, ...]
    coordinate_systems: tuple[str, ...]
    contents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@translate_memory_errors("while reading the slide", "take a smaller one")
def slide_choices(path_or_sdata: str | Path | spatialdata.SpatialData) -> SlideChoices:
    """List the spots, tables, images and coordinate systems of a store, without results of earlier runs.

    Parameters
    ----------
    path_or_sdata
        A ``.zarr`` store or an open SpatialData object.

    Raises
    ------
    InputError
        The path is not a SpatialData store.
    """
    from spatialdata.transformations import get_transformation

    store = open_store(path_or_sdata)[0] if isinstance(path_or_sdata, str | Path) else path_or_sdata
    links = _links(store)
    results = result_elements(store)
    spots = tuple(sorted({spots for _, spots in links})) or tuple(_spot_elements(store, results))
    images = tuple(name for name in sorted(store.images) if name not in results and _is_2d(store.images[name]))
    systems = tuple(sorted(store.coordinate_systems))
    frames = {name: set(get_transformation(store[name], get_all=True)) for name in (*spots, *images)}
    return SlideChoices(
        spots=spots,
        tables=tuple(sorted({table for table, _ in links})) or tuple(_slide_tables(store)),
        images=images,
        coordinate_systems=systems,
        contents={system: tuple(name for name in frames if system in frames[name]) for system in systems},
    )


def result_elements(store: spatialdata.SpatialData) -> set[str]:
    """Return the names of the elements that runs wrote into a store, complete or not."""
    return {name for _, name, _ in store.gen_elements() if name.startswith(RESULT_PREFIX)}


def result_runs(store: spatialdata.SpatialData) -> dict[str, dict[str, Any]]:
    """Return the runs with results in an open store: table, size, method and slide, by name of the run."""
    runs = {}
    for name, table in sorted(store.tables.items()):
        provenance = table.uns.get(RESULT_KEY)
        if isinstance(provenance, Mapping) and "run" in provenance:
            source = provenance.get("input")
            runs[str(provenance["run"])] = {
                "table": name,
                "pixels": table.n_obs,
                "genes": table.n_vars,
                **{key: provenance[key] for key in ("method", "mode", "pixel_side", "unit") if key in provenance},
                "slide": source.get("path") if isinstance(source, Mapping) else None,
            }
    return runs


def _annotated_elements(table: anndata.AnnData) -> list[str]:
    """Return the names of the elements that a table annotates."""
    regions = table.uns.get("spatialdata_attrs", {}).get("region")
    if regions is None:
        return []
    return [str(regions)] if isinstance(regions, str) else [str(region) for region in regions]


def _is_2d(image: Any) -> bool:
    """Return whether an image has the dimensions channel, y and x, and no depth."""
    return tuple(full_resolution(image).dims) == ("c", "y", "x")


def choose_spots(store: spatialdata.SpatialData, spots: str | None, table: str | None) -> tuple[str, str]:
    """Select the spots and the table of their counts.

    Parameters
    ----------
    store
        The open store.
    spots, table
        Names that the user gave; None selects the only match.

    Returns
    -------
    tuple
        Name of the table, and name of the spots.

    Raises
    ------
    InputError
        A name is not in the store, nothing matches, or several elements match and none was named.
    """
    results = result_elements(store)
    elements = _spot_elements(store, set())
    if spots is not None and spots not in elements:
        raise InputError(
            f"The slide has no spots '{spots}'; {_choice('--spots', [e for e in elements if e not in results])}"
        )
    if table is not None and table not in store.tables:
        raise InputError(f"The slide has no table '{table}'; {_choice('--table', list(_slide_tables(store)))}")
    if not elements:
        raise InputError("The store has neither shapes nor labels, so it has no spots; add them or import it again.")
    if not store.tables:
        raise InputError("The store has no table, so it has no counts; add the table or import the slide again.")
    links = _links(store, named=table)
    matches = [(t, s) for t, s in links if spots in (None, s) and table in (None, t)]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        regions = sorted({s for _, s in matches})
        tables = sorted({t for t, _ in matches})
        if len(regions) > 1:
            raise ChoiceError(f"The slide has several kinds of spots; {_choice('--spots', regions)}", "spots", regions)
        raise ChoiceError(
            f"Several tables count the spots '{regions[0]}'; {_choice('--table', tables)}", "table", tables
        )
    # A table without a link to an element is used if there is only one candidate for both.
    unlinked = [t for t in _slide_tables(store) if not _annotated_elements(store.tables[t]) and table in (None, t)]
    candidates = [spots] if spots is not None else [e for e in elements if e not in results]
    if len(unlinked) == 1 and len(candidates) == 1:
        return unlinked[0], candidates[0]
    if table is not None and _annotated_elements(store.tables[table]):
        regions = _annotated_elements(store.tables[table])
        if spots is None:
            raise InputError(
                f"Table '{table}' annotates {', '.join(map(repr, regions))}, which the store lacks; "
                "choose another table with --table or add these spots."
            )
        raise InputError(
            f"Table '{table}' does not annotate the spots '{spots}' but {', '.join(map(repr, regions))}; "
            "choose matching ones with --spots and --table."
        )
    if spots is not None:
        raise InputError(f"No table annotates the spots '{spots}'; {_choice('--spots', [s for _, s in links])}")
    runs = result_runs(store)
    if runs and len(runs) == len(store.tables):
        slide = next((str(run["slide"]) for run in runs.values() if run["slide"]), None)
        raise InputError(
            f"The store is a result of napari-srast (run {', '.join(runs)}), not a slide; show it with napari-srast "
            "open, read it in Python with napari_srast.read_result, or use the slide of the run"
            f"{f' ({slide})' if slide else ''}."
        )
    raise InputError(
        "No table of the store annotates its shapes or labels; link one with "
        "spatialdata's TableModel.parse(table, region=..., region_key=..., instance_key=...)."
    )


def choose_image(
    store: spatialdata.SpatialData,
    image: str | None,
    transforms: Mapping[str, np.ndarray],
    centers: np.ndarray,
    section: SectionChoice | None = None,
) -> tuple[str | None, tuple[str, ...]]:
    """Select the histology image.

    Parameters
    ----------
    store
        The open store.
    image
        Name that the user gave; "auto" selects the largest color image under the spots; None or "none" selects none.
    transforms
        For each coordinate system of the spots the affine from the centers to it, shape (3, 3).
    centers
        Spot centers (x, y), shape (N, 2).
    section
        The chosen section; images whose names contain its name are preferred, and those with the name of another one
        are left out. None if the table has one section.

    Returns
    -------
    tuple
        Name of the image or None, and notices.

    Raises
    ------
    InputError
        The named image is missing or shares no coordinate system with the spots, or several images of the same kind
        and size match.
    """
    if image is None or image == "none":
        return None, ()
    results = result_elements(store)
    images = [name for name in sorted(store.images) if _is_2d(store.images[name])]
    aligned = [name for name in images if set(element_matrices(store.images[name], name)) & set(transforms)]
    if image != "auto":
        if image not in images:
            raise InputError(
                f"The slide has no image '{image}'; {_choice('--image', [n for n in images if n not in results])}"
            )
        if image not in aligned:
            raise InputError(
                f"Image '{image}' shares no coordinate system with the spots ({', '.join(transforms)}); "
                "set its transformation to one of them, or choose --image none."
            )
        return image, ()
    aligned = [name for name in aligned if name not in results]
    owners = {name: _owner(name, () if section is None else section.names) for name in aligned}
    if section is not None and section.name is not None and aligned:
        own = [name for name in aligned if owners[name] == section.name]
        common = [name for name in aligned if owners[name] is None]
        if not own and not common:
            return None, (
                f"The images of the store are of other sections than '{section.name}' ({', '.join(aligned)}), so none "
                "was used; choose one with --image if it shows this section.",
            )
        aligned = own or common
    if not aligned:
        unaligned = [name for name in images if name not in results]
        if not unaligned:
            return None, ()
        return None, (f"Image '{unaligned[0]}' shares no coordinate system with the spots and was left out.",)
    showing = [n for n in aligned if _share_on_image(store.images[n], n, transforms, centers) >= _MIN_ON_IMAGE]
    if not showing:
        first = max(aligned, key=lambda name: _image_rank(store.images[name], name))
        return None, (
            f"No spot is on image '{first}' by its transformation, so it was left out; set its transformation, or "
            "choose the image with --image.",
        )
    aligned = showing
    ranked = sorted(aligned, key=lambda name: _image_rank(store.images[name], name), reverse=True)
    if len(ranked) > 1 and _image_rank(store.images[ranked[0]], ranked[0]) == _image_rank(
        store.images[ranked[1]], ranked[1]
    ):
        raise ChoiceError(
            f"The slide has several images of the same kind and size; {_choice('--image', ranked)}",
            "image",
            [*sorted(ranked), "none"],
        )
    others = [name for name in images if name not in (*owners, *results)]
    merged = _images_of_sections(ranked[0], owners) if section is not None and section.name is None else ()
    return ranked[0], (*merged, *_larger_images(store, ranked[0], others))


def _share_on_image(image: Any, name: str, transforms: Mapping[str, np.ndarray], centers: np.ndarray) -> float:
    """Return the share of spots that are on an image, through the first coordinate system that both have."""
    level = full_resolution(image)
    matrices = element_matrices(level, name)
    shared = next(system for system in transforms if system in matrices)
    pixels = apply_affine(np.linalg.inv(matrices[shared]) @ transforms[shared], centers)
    rows, columns = level.shape[1:]
    return float(np.all((pixels >= 0) & (pixels <= [columns, rows]), axis=1).mean())


def _owner(image: str, sections: Sequence[str]) -> str | None:
    """Return the section whose name is a part of the name of an image; None if none is, or several are."""
    names = {section: element_name(section) for section in sections}
    found = [s for s in sections if re.search(rf"(?<![A-Za-z0-9]){re.escape(names[s])}(?![A-Za-z0-9])", image)]
    longest = [s for s in found if not any(names[s] in names[other] for other in found if other != s)]
    return longest[0] if len(longest) == 1 else None


def _images_of_sections(chosen: str, owners: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return a notice if the spots of several sections are read with the image of one of them."""
    others = [name for name, owner in owners.items() if owner not in (None, owners[chosen])]
    if owners[chosen] is None or not others:
        return ()
    return (
        f"Image '{chosen}' was used for the spots of all sections, although sections have images of their own "
        f"({', '.join(others)}); choose another one with --image, or one section with --library.",
    )


def _larger_images(store: spatialdata.SpatialData, chosen: str, unaligned: list[str]) -> tuple[str, ...]:
    """Return a notice on the largest color image that shares no coordinate system with the spots, if it is larger."""
    ranks = {name: _image_rank(store.images[name], name)[:2] for name in (chosen, *unaligned)}
    larger = [name for name in unaligned if ranks[name] > ranks[chosen]]
    if not larger:
        return ()
    largest = max(larger, key=lambda name: ranks[name])
    rows, columns = full_resolution(store.images[largest]).shape[1:]
    return (
        f"Image '{largest}' ({columns} x {rows} pixels) is larger than '{chosen}', but shares no coordinate system "
        "with the spots, so it was not used; set its transformation to one of them to use it.",
    )


def _image_rank(image: Any, name: str) -> tuple[int, int, bool]:
    """Return a sort key: color images rank highest, then those with more pixels, then those named like histology.

    The image of the CytAssist ranks below other color images: it has more pixels than some of them, and less detail.
    """
    from spatialdata.models import get_channel_names

    n_channels, rows, columns = full_resolution(image).shape
    color = is_color(n_channels, [str(channel) for channel in get_channel_names(image)])
    named_like_histology = any(part in name.casefold() for part in ("he", "h_e", "hist", "tissue", "stain"))
    return (2 if "cytassist" not in name.casefold() else 1) * color, rows * columns, named_like_histology


def _links(store: spatialdata.SpatialData, named: str | None = None) -> list[tuple[str, str]]:
    """Return the pairs of a table and spots that it annotates, by name; the table of a result only if ``named``."""
    elements = _spot_elements(store, set())
    return [
        (name, region)
        for name, table in sorted(store.tables.items())
        if RESULT_KEY not in table.uns or name == named
        for region in sorted(_annotated_elements(table))
        if region in elements
    ]


def _slide_tables(store: spatialdata.SpatialData) -> list[str]:
    return sorted(name for name, table in store.tables.items() if RESULT_KEY not in table.uns)


def _spot_elements(store: spatialdata.SpatialData, without: set[str]) -> list[str]:
    annotated = {region for table in store.tables.values() for region in _annotated_elements(table)}
    points = [name for name in store.points if name in annotated]  # such as bins of Stereo-seq
    return sorted({*store.shapes, *store.labels, *points} - without)


def _choice(option: str, names: Sequence[str]) -> str:
    """Return the next step for the user: the names that an option accepts, if there are any."""
    names = sorted(set(names))  # a store has no order, and lists its elements as the file system does
    return f"choose one with {option}: {', '.join(names)}." if names else f"leave {option} out."
