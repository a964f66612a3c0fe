"""Read segmented cells or nuclei: an element of a store, a GeoJSON file, or a label image.

Programs write them as polygons (Space Ranger 4, Xenium Ranger, sopa, QuPath) or as label images (cellpose, StarDist).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from napari_srast._utils.text import count, first_line, read_text, reading_failure
from napari_srast.core.cells import CellLabels, CellPolygons, Cells
from napari_srast.core.geojson import GeoJsonFeature, parse_features
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, RegionError, is_memory_error, translate_memory_errors
from napari_srast.geometry.affine import apply_affine
from napari_srast.io.cell_writer import CELLS_KEY
from napari_srast.io.element_selection import result_elements
from napari_srast.io.store import full_resolution, open_store
from napari_srast.io.transforms import element_matrices

__all__ = ["cell_elements", "encode_labels", "polygon_cells", "read_cell_element", "read_cell_file", "read_cells"]

_ROWS_AT_ONCE = 1024
_LIKELY = re.compile("cell|nucle|segment|stardist|mask", re.IGNORECASE)
_GEOJSON, _TIFF = (".geojson", ".json"), (".tif", ".tiff")
_ID_KEYS = ("cell_id", "nucleus_id", "id", "label")
_POINT, _POLYGONS, _COLLECTION = 0, (3, 6), 7  # shapely's types of geometries; polygons and multipolygons


@translate_memory_errors("while reading the cells", "take fewer of them")
def read_cells(
    cells: str | Path, slide: Slide, *stores: str | Path | None, coordinate_system: str | None = None
) -> Cells:
    """Read the cells of a slide.

    Parameters
    ----------
    cells
        Name of a labels or shapes element of a store, or the path of a GeoJSON file or of a label image (.tif).
    slide
        The slide, which gives the frame.
    stores
        Stores that are searched for the element, in this order; None is skipped.
    coordinate_system
        Coordinate system of a GeoJSON file that names none; None if the slide has only one.

    Raises
    ------
    InputError
        There is no such element or file, it holds no cell, or it has no coordinate system of the slide.
    """
    path = Path(cells)
    if path.suffix.casefold() in (*_GEOJSON, *_TIFF) and path.exists():
        return read_cell_file(path, slide, coordinate_system)
    known: list[str] = []
    for store_path in dict.fromkeys(Path(store) for store in stores if store is not None):
        if not store_path.is_dir():
            continue
        store = open_store(store_path)[0]
        if str(cells) in store.labels or str(cells) in store.shapes:
            return read_cell_element(store, str(cells), slide)
        known += [*store.labels, *store.shapes]
    if path.suffix.casefold() in (*_GEOJSON, *_TIFF):
        raise InputError(f"There is no file of cells at '{path}'; check the path.")
    similar = difflib.get_close_matches(str(cells), known, n=3, cutoff=0.4) or sorted(set(known))[:5]
    hint = f"it has {', '.join(repr(name) for name in similar)}" if similar else "name the store of the slide"
    raise InputError(f"The slide has no labels or shapes '{cells}'; {hint}.")


def cell_elements(store: Any, slide: Slide) -> tuple[str, ...]:
    """Return the names of the labels and shapes of a store that may be cells, the likely ones first.

    Parameters
    ----------
    store
        The SpatialData object.
    slide
        The slide. Its spots, pixels of results, and elements in other coordinate systems are left out; cells that were
        saved with a result are last.
    """
    from spatialdata.transformations import get_transformation

    results = result_elements(store)
    saved = {name for name in results if f"{name}_table" in store.tables and _has_cells(store.tables[f"{name}_table"])}
    names = {*store.labels, *store.shapes} - {slide.source.spots} - (results - saved)
    shared = [name for name in names if set(get_transformation(store[name], get_all=True)) & set(slide.transforms)]
    return tuple(sorted(shared, key=lambda name: (name in saved, not _LIKELY.search(name), name)))


def _has_cells(table: Any) -> bool:
    return CELLS_KEY in table.uns


def read_cell_element(store: Any, name: str, slide: Slide) -> Cells:
    """Read the cells of an element of a SpatialData object; see :func:`read_cells`.

    Parameters
    ----------
    store
        The SpatialData object.
    name
        Name of the labels or shapes.
    slide
        The slide, which gives the frame.
    """
    element = store.labels[name] if name in store.labels else store.shapes[name]
    to_intrinsic = _to_intrinsic(element, name, slide)
    if name in store.labels:
        return encode_labels(full_resolution(element), name, to_intrinsic)
    ids = np.asarray(element.index)
    polygons = np.array(element.geometry, dtype=object)
    if "radius" in element:  # polygons may have it as a property
        circles = shapely.get_type_id(polygons) == _POINT
        radius = np.asarray(element["radius"], dtype=float)[circles]
        polygons[circles] = shapely.buffer(polygons[circles], radius, quad_segs=32)
    return polygon_cells(name, ids, shapely.transform(polygons, lambda points: apply_affine(to_intrinsic, points)))


def read_cell_file(path: Path, slide: Slide, coordinate_system: str | None = None) -> Cells:
    """Read a GeoJSON file of polygons, or a label image whose pixels are those of the slide's image.

    Parameters
    ----------
    path
        The file.
    slide
        The slide.
    coordinate_system
        Coordinate system of a GeoJSON file that names none; None if the slide has only one.
    """
    if path.suffix.casefold() in _TIFF:
        return _label_file(path, slide)
    try:
        features = parse_features(read_text(path))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({reading_failure(error)}); save it again as GeoJSON.") from error
    except RegionError as error:
        reason = first_line(error.__cause__ or error)
        raise InputError(f"'{path}' is not GeoJSON ({reason}); save the cells as polygons.") from error
    if not features:
        raise InputError(f"'{path}' holds no cell; save the cells as polygons.")
    to_intrinsic = np.linalg.inv(slide.transforms[_system_of_file(path, features, slide, coordinate_system)])
    key = next((key for key in _ID_KEYS if any(key in feature.properties for feature in features)), None)
    ids = [i + 1 if key is None else feature.properties.get(key) for i, feature in enumerate(features)]
    unusable = [one for one in ids if not isinstance(one, int | float | str)]
    if unusable:
        raise InputError(
            f"'{path}' has {json.dumps(unusable[0])} as the '{key}' of a cell; save ids as numbers or texts."
        )
    polygons = np.array([feature.geometry for feature in features], dtype=object)
    moved = shapely.transform(polygons, lambda points: apply_affine(to_intrinsic, points))
    return polygon_cells(path.name, np.array(ids), moved)


def _system_of_file(path: Path, features: list[GeoJsonFeature], slide: Slide, given: str | None) -> str:
    """Return the coordinate system of a GeoJSON file; the same numbers are other positions in another one."""
    named = {feature.coordinate_system for feature in features} - {""}
    if len(named) > 1:
        raise InputError(f"The cells of '{path}' are in several coordinate systems; save those of one.")
    system = next(iter(named), given)
    known = ", ".join(map(repr, slide.transforms))
    if system is None:
        first, *others = slide.transforms.values()
        if not all(np.allclose(first, other) for other in others):
            raise InputError(
                f"'{path}' names no coordinate system, and the slide has several; name that of the file, one of "
                f"{known} (Space Ranger writes pixels of the full-resolution image)."
            )
        system = slide.coordinate_system
    if system not in slide.transforms:
        raise InputError(
            f"The cells of '{path}' are in '{system}', which the slide lacks; save them in one of {known}."
        )
    return system


def _to_intrinsic(element: Any, name: str, slide: Slide) -> np.ndarray:
    """Return the transformation of an element to the intrinsic frame of the slide."""
    matrices = element_matrices(element, name)
    shared = [system for system in (slide.coordinate_system, *slide.transforms) if system in matrices]
    if not shared:
        raise InputError(
            f"'{name}' is in the coordinate systems {', '.join(map(repr, matrices))}, and the slide in "
            f"{', '.join(map(repr, slide.transforms))}; add a transformation between them to the store."
        )
    return np.asarray(np.linalg.inv(slide.transforms[shared[0]]) @ matrices[shared[0]])


def polygon_cells(name: str, ids: np.ndarray, geometry: np.ndarray) -> CellPolygons:
    """Return polygons as cells, without those that have no area; invalid ones are repaired.

    Parameters
    ----------
    name
        Name of the cells.
    ids
        Unique id of each cell, shape (C,).
    geometry
        Shapely geometries in the intrinsic frame of a slide, shape (C,).

    Raises
    ------
    InputError
        There is no cell, two have the same id, or coordinates are not numbers.
    """
    if len(ids) == 0:
        raise InputError(f"'{name}' holds no cell; choose another element, or segment the cells again.")
    values, numbers = np.unique(ids.astype(str), return_counts=True)
    if len(values) < len(ids):
        raise InputError(f"'{name}' has several cells with the id '{values[numbers > 1][0]}'; give each its own id.")
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise InputError(f"'{name}' has coordinates that are not numbers; save the cells again.")
    invalid = ~shapely.is_missing(geometry) & ~shapely.is_valid(geometry)
    repaired = geometry.copy()
    repaired[invalid] = shapely.make_valid(geometry[invalid])
    mixed = shapely.get_type_id(repaired) == _COLLECTION
    repaired[mixed] = [_polygonal(one) for one in repaired[mixed]]
    kept = np.isin(shapely.get_type_id(repaired), _POLYGONS) & (shapely.area(repaired) > 0)
    if not kept.any():
        raise InputError(f"'{name}' has no shape with an area; choose the polygons of cells.")
    notices = []
    if (invalid & kept).any():
        notices.append(f"Repaired {count(int((invalid & kept).sum()), 'invalid outline')} of '{name}'.")
    if not kept.all():
        notices.append(f"Left out {count(int((~kept).sum()), 'shape')} of '{name}' without an area.")
    return CellPolygons(name=name, ids=ids[kept], polygons=repaired[kept], notices=tuple(notices))


def _polygonal(geometry: Any) -> Any:
    """Return the polygons of a collection, without its points and lines."""
    parts = [part for part in shapely.get_parts(geometry) if shapely.get_type_id(part) in _POLYGONS]
    return shapely.union_all(parts) if parts else geometry


def _label_file(path: Path, slide: Slide) -> CellLabels:
    import tifffile

    try:
        image = np.asarray(tifffile.imread(path))
        if image.size == 0:
            raise ValueError("it has no pixels")
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(f"'{path}' cannot be read as a label image ({first_line(error)}); save it again.") from error
    levels = () if slide.image is None else slide.image.levels
    sizes = [tuple(level.shape[-2:]) for level in levels]
    if image.shape not in sizes:
        size = " x ".join(map(str, image.shape[::-1]))
        known = f"the image of the slide has {sizes[0][1]} x {sizes[0][0]}" if sizes else "the slide has no image"
        raise InputError(
            f"The label image '{path}' has {size} pixels, but {known}, so its position is unknown; add it to the "
            "store of the slide as labels."
        )
    assert slide.image is not None
    return encode_labels(image, path.name, slide.image.to_intrinsic[sizes.index(image.shape)])


def encode_labels(image: Any, name: str, to_intrinsic: np.ndarray) -> CellLabels:
    """Encode a label image as runs.

    Parameters
    ----------
    image
        Labels, integers, shape (rows, columns); 0 is the background.
    name
        Name of the labels.
    to_intrinsic
        Transformation from pixel coordinates (column, row) to the intrinsic frame, shape (3, 3).

    Raises
    ------
    InputError
        The image has other axes or no integers, holds no cell, or cannot be read.
    """
    if image.ndim != 2:
        raise InputError(f"The labels '{name}' have {image.ndim} axes; choose a label image with rows and columns.")
    if image.dtype.kind not in "iub":
        raise InputError(f"The labels '{name}' hold {image.dtype} instead of integers; save the label image again.")
    try:
        parts = list(_runs(image))
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(
            f"The labels '{name}' cannot be read ({first_line(error)}); restore them from a copy, or segment again."
        ) from error
    label, row, start, stop = (np.concatenate([part[i] for part in parts]) for i in range(4))
    if len(label) == 0:
        raise InputError(f"The labels '{name}' hold no cell, only the background 0; segment the cells again.")
    if label.min() < 0:
        raise InputError(f"The labels '{name}' have the negative value {label.min()}; use 0 for the background.")
    ids, owner = np.unique(label, return_inverse=True)
    return CellLabels(
        name=name,
        ids=ids,
        owner=owner,
        row=row,
        start=start,
        stop=stop,
        shape=(int(image.shape[0]), int(image.shape[1])),
        to_intrinsic=to_intrinsic,
    )


def _runs(image: Any) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield label, row, first column and column after the last of each run, for some rows at a time."""
    data = getattr(image, "data", image) if not isinstance(image, np.ndarray) else image
    for first in range(0, image.shape[0], _ROWS_AT_ONCE):
        block = np.asarray(data[first : first + _ROWS_AT_ONCE]).astype(np.int64)
        padded = np.pad(block, ((0, 0), (1, 1)))
        change = padded[:, 1:] != padded[:, :-1]
        row, start = np.nonzero(change & (padded[:, 1:] != 0))
        _, stop = np.nonzero(change & (padded[:, :-1] != 0))
        yield block[row, start], row + first, start, stop
    if image.shape[0] == 0:
        yield (np.empty(0, dtype=np.int64),) * 4
