"""Read slides, results and regions as napari layers: the reader that napari calls for opened and dropped files.

The layers are complete without the panel. When they are in a viewer with a window, the panel opens by itself and adopts
them. In a window, the panel converts a table or a Space Ranger folder, and asks for the histology image. Everything
else, such as OME-Zarr, is left to other readers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.errors import ChoiceError, SrastError
from napari_srast.io.file_kinds import file_kind

if TYPE_CHECKING:
    from napari_srast.gui.state.slide_loading import LoadedSlide

__all__ = ["LayerTuple", "get_reader", "read_layers"]

LayerTuple = tuple[Any, dict[str, Any], str]
"""Data, options and type of a napari layer."""

_NO_LAYERS: Any = (None,)  # napari adds no layer, and shows no error
_REGION_EDGE = 1 / 250  # width of outlines, in extents of the regions
_N_GENES = 6  # each layer takes a moment to draw


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerTuple]] | None:
    """Return the function that reads a path; None if this package does not open it.

    Parameters
    ----------
    path
        File or folder, or several of them; all must be of known kinds.
    """
    paths = _paths(path)
    return read_layers if paths and all(file_kind(one) is not None for one in paths) else None


def read_layers(path: str | Sequence[str]) -> list[LayerTuple]:
    """Read slides, results and regions as layer data, bottom first; leave one file that must be converted to the panel.

    Parameters
    ----------
    path
        File or folder, or several of them.

    Raises
    ------
    SrastError
        A file cannot be used; the message names the next step.
    """
    from napari_srast.gui.widgets.option_names import name_controls

    try:
        return _read_layers(_paths(path))
    except SrastError as error:
        error.args = (name_controls(str(error)),)  # napari shows the text
        raise


def _read_layers(paths: list[str]) -> list[LayerTuple]:
    from napari_srast.gui.plugin.panel import import_in_panel, open_panel_with
    from napari_srast.gui.state.slide_import import needs_import

    if len(paths) == 1 and needs_import(Path(paths[0])) and import_in_panel(Path(paths[0])):
        return [_NO_LAYERS]
    layers: list[LayerTuple] = []
    for one in paths:
        if file_kind(one) == "geojson":
            layers += _region_layers(Path(one))
            continue
        loaded = _load(one)
        layers += _slide_layers(loaded, Path(one))
        open_panel_with(loaded.slide)
    return layers


def _paths(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else [str(one) for one in path]


def _load(path: str) -> LoadedSlide:
    """Read a slide or a result, and ask in the window which part of it, if several match."""
    from napari_srast.gui.plugin.panel import ask_in_window
    from napari_srast.gui.state import slide_loading
    from napari_srast.io.slide_source import open_slide_source

    choices: dict[str, str] = {}
    while True:
        converted = {key: choices.get(key) for key in ("library", "counts")}
        try:
            source = open_slide_source(path, **converted)
            is_converted = not isinstance(source, Path)
            left = {key: value for key, value in choices.items() if not (is_converted and key in converted)}
            return slide_loading.load(source, **left)
        except ChoiceError as error:
            name = ask_in_window(error)
            if name is None:
                raise
            choices[error.option] = name


def _slide_layers(loaded: LoadedSlide, path: Path) -> list[LayerTuple]:
    """Return histology, genes of a result, and spots; napari adds the spots last, and the panel then adopts all."""
    from napari_srast.gui.layers.factory import KEY, slide_layer_data, slide_title
    from napari_srast.gui.layers.opened_layers import LOADED

    if loaded.slide.source.path is None:  # a converted table, whose slide has no name of its own
        loaded = dataclasses.replace(loaded, name=path.stem)
    *histology, (centers, options, kind) = slide_layer_data(loaded.slide)
    options["metadata"][KEY][LOADED] = loaded
    options["visible"] = loaded.result is None  # the rings of the spots and the pixels would cover each other
    if loaded.name is not None:
        for _, named, _ in (*histology, (centers, options, kind)):
            named["name"] = named["name"].replace(slide_title(loaded.slide), loaded.name, 1)
    return [*histology, *_gene_layers(loaded), (centers, options, kind)]


def _gene_layers(loaded: LoadedSlide) -> list[LayerTuple]:
    """Return images of a few genes, the most informative one first; only this one is visible."""
    from napari_srast.gui.layers.factory import KEY, gene_layer_kwargs
    from napari_srast.gui.layers.gene_colors import map_colormap
    from napari_srast.gui.layers.gene_layer import default_genes, render_gene
    from napari_srast.gui.layers.opened_layers import PREVIEW_OF
    from napari_srast.gui.state.gene_values import ValueView

    if loaded.result is None:
        return []
    result, values = loaded.result.result, loaded.result.values
    genes = [*default_genes(result, loaded.result.totals), *map(str, result.genes)]
    layers: list[LayerTuple] = []
    for gene in list(dict.fromkeys(genes))[:_N_GENES]:
        pixels, limits, unit = render_gene(values, gene, "after", ValueView())
        options = gene_layer_kwargs(result, unit)
        options["metadata"][KEY] |= {PREVIEW_OF: loaded.slide}
        options |= {"name": gene, "colormap": map_colormap(), "contrast_limits": limits}
        options |= {"blending": "translucent_no_depth", "visible": not layers}
        layers.append((pixels, options, "image"))
    return layers[::-1]  # the most informative gene on top


def _region_layers(path: Path) -> list[LayerTuple]:
    """Return the polygons of a GeoJSON file as one layer, with a name and a class for each."""
    from napari_srast.gui.layers.factory import KEY
    from napari_srast.gui.layers.opened_layers import SYSTEM
    from napari_srast.gui.layers.regions import without_holes
    from napari_srast.io.annotations import read_annotations

    corners, systems = [], set()
    features: dict[str, list[Any]] = {"region": [], "name": [], "classification": [], "color": []}
    for number, annotation in enumerate(read_annotations(path), start=1):
        color = "" if annotation.color is None else "#{:02x}{:02x}{:02x}".format(*annotation.color)
        for polygon in without_holes(annotation.region):
            corners.append(np.asarray(polygon.exterior.coords)[:-1, ::-1])
            row = (number, annotation.name, annotation.classification, color)
            for column, value in zip(features.values(), row, strict=True):
                column.append(value)
        systems.add(annotation.region.coordinate_system)
    points = np.concatenate(corners)
    options = {
        "name": path.stem,
        "shape_type": "polygon",
        "edge_color": "#ffd400",
        "face_color": [1.0, 0.83, 0.0, 0.08],
        "edge_width": float(np.ptp(points, axis=0).max()) * _REGION_EDGE,
        "features": features,
        "metadata": {KEY: {"role": "regions", SYSTEM: systems.pop() if len(systems) == 1 else ""}},
    }
    return [(corners, options, "shapes")]
