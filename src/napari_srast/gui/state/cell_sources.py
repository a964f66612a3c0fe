"""Cells that the window can use: elements of the slide, files, and layers that another plugin or the user made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from napari.layers import Labels, Layer, Shapes

from napari_srast.core.cells import Cells
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.drawn_regions import closed_shapes
from napari_srast.gui.layers.factory import image_affine, pixel_matrix, role_of
from napari_srast.gui.state.slide_session import SlideSession

__all__ = ["CellSource", "cell_sources", "file_source", "layer_source"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CellSource:
    """Segmented cells that have not been read.

    Parameters
    ----------
    key
        What identifies them while layers and slides change.
    title
        Name in the list of choices.
    prepare
        Called in the GUI thread; returns the function that reads the cells, for the background.
    """

    key: Hashable
    title: str
    prepare: Callable[[], Callable[[], Cells]]


def cell_sources(session: SlideSession, layers: Iterable[Layer]) -> list[CellSource]:
    """Return the cells that a slide and the layers of the viewer offer.

    Parameters
    ----------
    session
        The current slide.
    layers
        The layers of the viewer. Those of this plugin, and those that show an element of the slide, are left out.
    """
    found = [_element_source(session, name) for name in session.loaded.choices.cells]
    for layer in layers:
        if role_of(layer) is not None or layer in session.external_layers or layer.ndim != 2:
            continue
        if isinstance(layer, Labels) or (isinstance(layer, Shapes) and len(layer.data)):
            found.append(layer_source(layer, session.slide))
    return found


def file_source(path: Path, slide: Slide, coordinate_system: str | None = None) -> CellSource:
    """Return the cells of a file; see :func:`napari_srast.io.cell_reader.read_cell_file`."""

    def read() -> Cells:
        from napari_srast.io.cell_reader import read_cell_file

        return read_cell_file(path, slide, coordinate_system)

    return CellSource(key=("file", str(path)), title=f"file: {path.name}", prepare=lambda: read)


def layer_source(layer: Labels | Shapes, slide: Slide) -> CellSource:
    """Return the cells of a layer, as it is when they are read."""

    def prepare() -> Callable[[], Cells]:
        to_intrinsic, name = np.linalg.inv(slide.to_cs), str(layer.name)
        if isinstance(layer, Labels):
            notices = _place_on_histology(layer, slide)
            return _labels_reader(layer, to_intrinsic, name, notices)
        shapes = closed_shapes(layer)
        return lambda: _cells_of_shapes(shapes, to_intrinsic, name)

    return CellSource(key=("layer", id(layer)), title=f"layer: {layer.name}", prepare=prepare)


def _element_source(session: SlideSession, name: str) -> CellSource:
    source, slide = session.loaded.source, session.slide

    def read() -> Cells:
        from napari_srast.io.cell_reader import read_cell_element, read_cells

        if isinstance(source, str | Path):
            return read_cells(name, slide, source)
        return read_cell_element(source, name, slide)

    return CellSource(key=("element", name), title=name, prepare=lambda: read)


def _place_on_histology(layer: Labels, slide: Slide) -> tuple[str, ...]:
    """Move labels with the pixels of the histology, but without its position, to where it is; return a notice.

    Plugins for segmentation often leave out the transformation of the image that they segment.
    """
    matrix, rows_and_columns = pixel_matrix(layer), tuple((layer.data[0] if layer.multiscale else layer.data).shape)
    if slide.image is None or not np.allclose(matrix[:2, :2], np.eye(2)) or not np.allclose(matrix[:2, 2], -0.5):
        return ()
    for level, to_intrinsic in zip(slide.image.levels, slide.image.to_intrinsic, strict=True):
        affine = image_affine(slide.to_cs @ to_intrinsic)
        if rows_and_columns == tuple(level.shape[-2:]) and not np.allclose(affine, np.eye(3)):
            layer.affine = affine
            return (f"'{layer.name}' has the pixels of the histology and no position, so it was moved onto it.",)
    return ()


def _labels_reader(layer: Labels, to_intrinsic: np.ndarray, name: str, notices: tuple[str, ...]) -> Callable[[], Cells]:
    image: Any = layer.data[0] if layer.multiscale else layer.data
    matrix = to_intrinsic @ pixel_matrix(layer)

    def read() -> Cells:
        from napari_srast.io.cell_reader import encode_labels

        return dataclasses.replace(encode_labels(image, name, matrix), notices=notices)

    return read


def _cells_of_shapes(shapes: dict[int, np.ndarray], to_intrinsic: np.ndarray, name: str) -> Cells:
    """Return cells from closed shapes, polygons (x, y) in world coordinates by their index."""
    from napari_srast.io.cell_reader import polygon_cells

    usable = {index: corners for index, corners in shapes.items() if len(corners) > 2}
    if not usable:
        raise InputError(f"The layer '{name}' has no closed shape; draw the cells as polygons.")
    polygons = [shapely.Polygon(apply_affine(to_intrinsic, corners)) for corners in usable.values()]
    return polygon_cells(name, np.array(list(usable)) + 1, np.array(polygons, dtype=object))
