"""The layers of a slide and of a result, each exactly where it belongs.

spatialdata puts the center of pixel [0, 0] at (0.5, 0.5), napari at (0, 0); napari's world is (y, x). Every affine here
goes through :func:`image_affine` or :func:`swap_axes`, so that the half pixel is in one place. World coordinates are
those of the slide's chosen coordinate system. Our layers are known by ``layer.metadata["napari_srast"]``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import LayerList
from napari.layers import Image, Layer, Points
from napari.utils.colormaps import Colormap

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.runtime.layer_batches import changing

__all__ = [
    "KEY",
    "PALETTE",
    "dimmer_extent",
    "dimmer_layer",
    "gene_colormap",
    "gene_layer_kwargs",
    "image_affine",
    "is_color_image",
    "measured_layer",
    "place_layers",
    "points_placing",
    "role_of",
    "set_visible",
    "slide_layer_data",
    "slide_title",
    "spot_size",
    "swap_axes",
    "world_extent",
]

KEY = "napari_srast"
_WORTH_A_BATCH = 4
# Okabe and Ito's colors, which stay apart for color-blind eyes, brightest contrasts first; green lightened for black.
PALETTE = ("#56b4e9", "#e69f00", "#cc79a7", "#00c48c", "#f0e442", "#d55e00")
_SWAP = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_HALF_PIXEL = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])


def swap_axes(matrix: np.ndarray) -> np.ndarray:
    """Turn a (3, 3) affine between (x, y) and (y, x) order."""
    return _SWAP @ matrix @ _SWAP


def image_affine(matrix: np.ndarray) -> np.ndarray:
    """Turn a (3, 3) affine from continuous pixel coordinates, (x, y), into the affine of a napari image, (y, x)."""
    return swap_axes(matrix @ _HALF_PIXEL)


def role_of(layer: Layer) -> str | None:
    """Return what a layer of ours is for ("histology", "spots", "region", "gene", ...); None for others' layers."""
    mark = layer.metadata.get(KEY)
    return mark.get("role") if isinstance(mark, dict) else None


def set_visible(layers: LayerList, visible: Mapping[Layer, bool]) -> None:
    """Show or hide layers of a list, where that changes anything: napari would draw everything anew all the same."""
    changed = {layer: on for layer, on in visible.items() if bool(layer.visible) != on}
    # After a batch Python takes all that lives for new, and looks through it the sooner: not for a layer or two.
    with changing(layers) if len(changed) >= _WORTH_A_BATCH else contextlib.nullcontext():
        for layer, on in changed.items():
            layer.visible = on


def slide_title(slide: Slide) -> str:
    """Return the short name by which a slide is known in the window."""
    name = Path(slide.source.path).name.removesuffix(".zarr") if slide.source.path else "slide"
    return "Synthetic slide" if slide.source.synthetic else name


def slide_layer_data(slide: Slide) -> list[tuple[Any, dict[str, Any], str]]:
    """Return a slide's histology and spots as napari layer data, bottom first; nothing is computed."""
    data = [] if slide.image is None else _histology(slide, slide.image)
    return [*data, _spots(slide)]


def _histology(slide: Slide, image: SlideImage) -> list[tuple[Any, dict[str, Any], str]]:
    n_channels = image.levels[0].shape[0]
    multiscale = len(image.levels) > 1
    common = {
        "affine": image_affine(slide.to_cs @ image.to_intrinsic[0]),
        "multiscale": multiscale,
        "metadata": {KEY: {"role": "histology", "slide": slide, "to_intrinsic": image.to_intrinsic[0]}},
    }
    if is_color_image(image):
        levels = [np.moveaxis(level, 0, -1) for level in image.levels]  # dask arrays stay lazy through numpy's protocol
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


def is_color_image(image: SlideImage) -> bool:
    """Tell color pictures from stacks of stains."""
    names = [str(c).casefold() for c in image.channels]
    in_color = not names or "".join(n[:1] for n in names) in ("rgb", "rgba", "012", "0123")
    return image.levels[0].shape[0] in (3, 4) and in_color


def _spots(slide: Slide) -> tuple[Any, dict[str, Any], str]:
    kwargs = {
        "name": f"{slide_title(slide)} spots",
        **points_placing(slide),
        "size": spot_size(slide),
        "symbol": "square" if slide.spot_shape == "square" else "disc",
        "face_color": [1.0, 1.0, 1.0, 0.5 if slide.image is None else 0.12],
        "border_color": "#00a5e0",  # neither hematoxylin nor eosin nor bare glass
        "border_width": 0.08,
        "metadata": {KEY: {"role": "spots", "slide": slide}},
    }
    return slide.centers[:, ::-1], kwargs, "points"


def points_placing(slide: Slide) -> dict[str, Any]:
    """Return scale and affine of points: napari sizes them by the layer's scale alone, so the affine must hold none."""
    scale = slide.cs_scale
    return {"scale": (scale, scale), "affine": swap_axes(slide.to_cs @ np.diag([1 / scale, 1 / scale, 1.0]))}


def spot_size(slide: Slide) -> float:
    """Return the size at which spots are drawn: their diameter, or half a typical spacing where it is unknown."""
    if slide.spot_diameter:
        return float(slide.spot_diameter)
    span = np.ptp(slide.centers, axis=0)
    return float(np.sqrt(max(np.prod(span), span.max() ** 2 / 100, 1e-12) / slide.n_spots)) / 2


def place_layers(layers: list[Layer], slide: Slide) -> None:
    """Move a slide's own layers and its result's to the slide's coordinate system."""
    for layer in layers:
        mark = layer.metadata.get(KEY)
        if not isinstance(mark, dict):
            continue
        if "to_intrinsic" in mark:
            layer.affine = image_affine(slide.to_cs @ mark["to_intrinsic"])
        elif mark.get("role") in ("spots", "measured"):
            for name, value in points_placing(slide).items():
                setattr(layer, name, value)
        if "slide" in mark:
            mark["slide"] = slide


def gene_colormap(color: str) -> Colormap:
    """Return a map from black to a color, for additive blending; pixels without data stay transparent."""
    return Colormap(["#000000", color], name=color, nan_color=[0.0, 0.0, 0.0, 0.0])


def dimmer_layer(slide: Slide, result: UpsampleResult, opacity: float) -> Image:
    """Return a black sheet between histology and genes: additive colors need a dark ground, in light themes too."""
    to_intrinsic = dimmer_extent(slide, result)
    return Image(
        np.zeros((1, 1), dtype=np.uint8),
        name="SRast dimmer",
        affine=image_affine(slide.to_cs @ to_intrinsic),
        opacity=opacity,
        contrast_limits=(0, 1),
        blending="translucent_no_depth",
        metadata={KEY: {"role": "dimmer", "to_intrinsic": to_intrinsic}},
    )


def dimmer_extent(slide: Slide, result: UpsampleResult) -> np.ndarray:
    """Return the (3, 3) affine from the unit square to the histology, or to the result's pixels where there is none."""
    if slide.image is not None:
        rows, cols = slide.image.levels[0].shape[-2:]
        return slide.image.to_intrinsic[0] @ np.diag([float(cols), float(rows), 1.0])
    rows, cols = result.raster.shape
    return result.raster.affine @ np.diag([float(cols), float(rows), 1.0])


def gene_layer_kwargs(result: UpsampleResult) -> dict[str, Any]:
    """Return what all gene layers of a result share."""
    return {
        "affine": image_affine(result.slide.to_cs @ result.raster.affine),
        "blending": "additive",
        "metadata": {KEY: {"role": "gene", "run": result.run, "to_intrinsic": result.raster.affine}},
    }


def measured_layer(slide: Slide, spots: np.ndarray | None = None) -> Points:
    """Return the spots (all, or those of the given indices) that show measured counts, hidden at first."""
    return Points(
        (slide.centers if spots is None else slide.centers[spots])[:, ::-1],
        name="SRast measured spots",
        **points_placing(slide),
        size=spot_size(slide),
        symbol="square" if slide.spot_shape == "square" else "disc",
        face_color="black",
        border_width=0,
        blending="additive",  # as the genes are: a spot without counts shows the tissue, not a hole
        visible=False,
        metadata={KEY: {"role": "measured"}},
    )


def world_extent(slide: Slide, spots: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest (x, y) of the spot centers (of ``spots`` only, if given) in world coordinates."""
    points = apply_affine(slide.to_cs, slide.centers if spots is None else slide.centers[spots])
    return points.min(axis=0), points.max(axis=0)
