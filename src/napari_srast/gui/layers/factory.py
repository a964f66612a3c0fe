"""Create the layers of a slide and a result, and position them in world coordinates.

The center of pixel [0, 0] has the coordinates (0.5, 0.5) in spatialdata and (0, 0) in napari, and napari's world axes
are (y, x). Only :func:`image_affine` and :func:`swap_axes` convert between the two conventions. World coordinates are
those of the slide's chosen coordinate system. ``layer.metadata["napari_srast"]`` marks the layers of this plugin.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import LayerList
from napari.layers import Image, Layer, Points

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.spot_image import blank_colors, image_data, plain_colormap
from napari_srast.gui.runtime.layer_batches import batch_changes, batch_removals
from napari_srast.gui.state.gene_values import COUNTS_UNIT
from napari_srast.gui.state.spot_grid import MAX_POINTS, SpotGrid, spot_grid

__all__ = [
    "HELPER_ROLES",
    "KEY",
    "REGION_ROLES",
    "black_layer",
    "dimmer_extent",
    "gene_layer_kwargs",
    "gene_of",
    "has_length_unit",
    "image_affine",
    "measured_layer",
    "pixel_matrix",
    "points_transform",
    "remove_layers",
    "role_of",
    "set_units",
    "set_visible",
    "slide_layer_data",
    "slide_title",
    "spot_size",
    "swap_axes",
    "update_transforms",
    "world_extent",
    "world_units",
]

KEY = "napari_srast"
HELPER_ROLES = frozenset({"color_bar", "dimmer", "measured", "neighbor", "region_halo", "side_by_side", "unused"})
"""Roles of layers that a user does not handle one by one."""
REGION_ROLES = frozenset({"region", "region_halo"})
"""Roles of the layers that show a region."""
_MIN_BATCH = 4
_UNITS = {"um": "micrometer", "µm": "micrometer", "nm": "nanometer", "mm": "millimeter"}
_SWAP = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_HALF_PIXEL = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])


def swap_axes(matrix: np.ndarray) -> np.ndarray:
    """Convert a (3, 3) affine between (x, y) and (y, x) order."""
    return _SWAP @ matrix @ _SWAP


def image_affine(matrix: np.ndarray) -> np.ndarray:
    """Convert a (3, 3) affine of continuous pixel coordinates, (x, y), to the affine of a napari image, (y, x)."""
    return swap_axes(matrix @ _HALF_PIXEL)


def pixel_matrix(layer: Layer) -> np.ndarray:
    """Return the (3, 3) affine from the continuous pixel coordinates of a flat image layer to the world, (x, y)."""
    origin, down, right = (np.array(layer.data_to_world(point))[-2:] for point in ((0, 0), (1, 0), (0, 1)))
    matrix = np.eye(3)
    matrix[:2] = np.column_stack([(right - origin)[::-1], (down - origin)[::-1], origin[::-1]])
    return matrix @ np.linalg.inv(_HALF_PIXEL)


def has_length_unit(slide: Slide) -> bool:
    """Return whether lengths in the chosen coordinate system have a unit that napari's scale bar can show."""
    return slide.cs_unit in _UNITS


def world_units(slide: Slide) -> tuple[str, str]:
    """Return the units of the two world axes for napari: "micrometer", or "pixel" if the unit of length is unknown."""
    unit = _UNITS.get(slide.cs_unit, "pixel")
    return unit, unit


def set_units(layer: Layer, units: tuple[str, str]) -> None:
    """Set the units of a layer unless it has them already, because napari would redraw."""
    if layer.ndim == 2 and tuple(map(str, layer.units)) != units:
        layer.units = units


def role_of(layer: Layer) -> str | None:
    """Return the role of a layer ("histology", "spots", "region", "gene", ...); None for layers of other plugins."""
    entry = layer.metadata.get(KEY)
    return entry.get("role") if isinstance(entry, dict) else None


def gene_of(layer: Layer) -> str | None:
    """Return the gene that a gene layer shows; None for other layers."""
    entry = layer.metadata.get(KEY)
    return entry.get("gene") if isinstance(entry, dict) and entry.get("role") == "gene" else None


def set_visible(layers: LayerList, visible: Mapping[Layer, bool]) -> None:
    """Show or hide layers of a list; layers that already have the state are skipped, because napari would redraw."""
    changed = {layer: on for layer, on in visible.items() if bool(layer.visible) != on}
    # Each batch makes the next full garbage collection come earlier, so a few layers are changed without one.
    with batch_changes(layers) if len(changed) >= _MIN_BATCH else contextlib.nullcontext():
        for layer, on in changed.items():
            layer.visible = on


def remove_layers(layers: LayerList, removed: Sequence[Layer]) -> None:
    """Remove layers from a list in one batch; layers that are not in the list are skipped."""
    present = [layer for layer in removed if layer in layers]
    if present:
        with batch_removals(layers):
            for layer in present:
                layers.remove(layer)


def slide_title(slide: Slide) -> str:
    """Return the short name of a slide in the window."""
    name = Path(slide.source.path).name.removesuffix(".zarr") if slide.source.path else "slide"
    return "Synthetic slide" if slide.source.synthetic else name


def slide_layer_data(slide: Slide) -> list[tuple[Any, dict[str, Any], str]]:
    """Return the histology and the spots of a slide as napari layer data, bottom first; images stay lazy."""
    data = [] if slide.image is None else _histology(slide, slide.image)
    return [*data, _spots(slide)]


def _histology(slide: Slide, image: SlideImage) -> list[tuple[Any, dict[str, Any], str]]:
    n_channels = image.levels[0].shape[0]
    multiscale = len(image.levels) > 1
    common = {
        "affine": image_affine(slide.to_cs @ image.to_intrinsic[0]),
        "units": world_units(slide),
        "multiscale": multiscale,
        "metadata": {KEY: {"role": "histology", "slide": slide, "to_intrinsic": image.to_intrinsic[0]}},
    }
    if image.is_color:
        levels = [np.moveaxis(level, 0, -1) for level in image.levels]  # NumPy's dispatch keeps Dask arrays lazy
        kwargs = {**common, "name": f"{slide_title(slide)} histology", "rgb": True}
        return [(levels if multiscale else levels[0], kwargs, "image")]
    channels = []
    for i in range(n_channels):
        levels = [level[i] for level in image.levels]
        name = image.channels[i] if i < len(image.channels) else str(i)
        kwargs = {
            **common,
            "name": f"{slide_title(slide)} {name}",
            "blending": "additive" if i else "translucent_no_depth",
            "visible": i < 3,
        }
        channels.append((levels if multiscale else levels[0], kwargs, "image"))
    return channels


def _spots(slide: Slide) -> tuple[Any, dict[str, Any], str]:
    opacity = 0.5 if slide.image is None else 0.12
    metadata = {KEY: {"role": "spots", "slide": slide}}
    common = {"name": f"{slide_title(slide)} spots", "units": world_units(slide), "metadata": metadata}
    grid = spot_grid(slide)
    if grid is not None:
        kwargs = {
            **common,
            **image_data(grid.levels(np.ones(slide.n_spots))),
            "affine": image_affine(slide.to_cs @ grid.to_intrinsic),
            "colormap": plain_colormap(opacity),
            "contrast_limits": (0.0, 1.0),
            "blending": "translucent_no_depth",
        }
        metadata[KEY]["to_intrinsic"] = grid.to_intrinsic
        return kwargs.pop("data"), kwargs, "image"
    kwargs = {
        **common,
        **points_transform(slide),
        "size": spot_size(slide),
        "symbol": "square" if slide.spot_shape == "square" else "disc",
        "face_color": [1.0, 1.0, 1.0, opacity],
        "border_color": "#00a5e0",  # differs from hematoxylin, eosin and blank glass
        "border_width": 0.08,
    }
    return slide.centers[:, ::-1], kwargs, "points"


def points_transform(slide: Slide) -> dict[str, Any]:
    """Return scale and affine of a points layer; the affine has no scale, because napari ignores it for point sizes."""
    scale = slide.cs_scale
    return {"scale": (scale, scale), "affine": swap_axes(slide.to_cs @ np.diag([1 / scale, 1 / scale, 1.0]))}


def spot_size(slide: Slide) -> float:
    """Return the drawn size of spots: their diameter, or half a typical spacing if it is unknown."""
    if slide.spot_diameter:
        return float(slide.spot_diameter)
    span = np.ptp(slide.centers, axis=0)
    return float(np.sqrt(max(np.prod(span), span.max() ** 2 / 100, 1e-12) / slide.n_spots)) / 2


def update_transforms(layers: list[Layer], slide: Slide) -> None:
    """Set the transforms of layers of a slide and its result to the slide's chosen coordinate system."""
    for layer in layers:
        entry = layer.metadata.get(KEY)
        if not isinstance(entry, dict):
            continue
        if "to_intrinsic" in entry:
            layer.affine = image_affine(slide.to_cs @ entry["to_intrinsic"])
        elif entry.get("role") in ("spots", "measured"):
            for name, value in points_transform(slide).items():
                setattr(layer, name, value)
        set_units(layer, world_units(slide))
        if "slide" in entry:
            entry["slide"] = slide


def black_layer(name: str, slide: Slide, matrix: np.ndarray, opacity: float, metadata: dict[str, Any]) -> Image:
    """Create a black image.

    Parameters
    ----------
    name
        Name of the layer.
    slide
        The slide, for the unit of the world.
    matrix
        (3, 3) affine, (x, y) order, from the unit square to the world.
    opacity
        Opacity, 0 to 1.
    metadata
        Entry of the layer's metadata below :data:`KEY`.
    """
    return Image(
        np.zeros((1, 1), dtype=np.uint8),
        name=name,
        affine=image_affine(matrix),
        units=world_units(slide),
        opacity=opacity,
        contrast_limits=(0, 1),
        blending="translucent_no_depth",
        metadata={KEY: metadata},
    )


def dimmer_extent(slide: Slide, result: UpsampleResult) -> np.ndarray:
    """Return the (3, 3) affine from the unit square to the histology, or to the raster if there is no histology."""
    if slide.image is not None:
        rows, cols = slide.image.levels[0].shape[-2:]
        return slide.image.to_intrinsic[0] @ np.diag([float(cols), float(rows), 1.0])
    rows, cols = result.raster.shape
    return result.raster.affine @ np.diag([float(cols), float(rows), 1.0])


def gene_layer_kwargs(result: UpsampleResult, unit: str = COUNTS_UNIT) -> dict[str, Any]:
    """Return the options that all gene layers of a result have in common, with the name and unit of their values."""
    entry = {"role": "gene", "run": result.run, "result": result, "unit": unit, "to_intrinsic": result.raster.affine}
    return {
        "affine": image_affine(result.slide.to_cs @ result.raster.affine),
        "units": world_units(result.slide),
        "blending": "additive",
        "metadata": {KEY: entry},
    }


def measured_layer(slide: Slide, spots: np.ndarray | None = None) -> Points | Image:
    """Create a hidden layer of spots, all or those with the given indices, for the colors of measured counts."""
    grid = _measured_grid(slide, spots)
    metadata = {"role": "measured"}
    common = {"name": "SRast measured spots", "units": world_units(slide), "blending": "additive", "visible": False}
    if grid is not None:
        affine = image_affine(slide.to_cs @ grid.to_intrinsic)
        entry = metadata | {"to_intrinsic": grid.to_intrinsic, "grid": grid}
        return Image(rgb=True, **image_data(blank_colors(grid)), affine=affine, metadata={KEY: entry}, **common)
    return Points(
        (slide.centers if spots is None else slide.centers[spots])[:, ::-1],
        **points_transform(slide),
        size=spot_size(slide),
        symbol="square" if slide.spot_shape == "square" else "disc",
        face_color="black",  # with additive blending, as for the genes, a spot without counts shows the histology
        border_width=0,
        metadata={KEY: metadata},
        **common,
    )


def _measured_grid(slide: Slide, spots: np.ndarray | None) -> SpotGrid | None:
    """Return the grid of some spots; None if they are drawn as points."""
    grid = spot_grid(slide)
    if grid is None or spots is None:
        return grid
    return grid.select(spots) if grid.owner is None or len(spots) > MAX_POINTS else None


def world_extent(slide: Slide, spots: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest (x, y) of the spot centers, all or of ``spots``, in world coordinates."""
    points = apply_affine(slide.to_cs, slide.centers if spots is None else slide.centers[spots])
    return points.min(axis=0), points.max(axis=0)
