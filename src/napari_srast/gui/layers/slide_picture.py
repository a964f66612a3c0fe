"""A picture of an open slide that is not the current one: copies of its layers, moved next to the current slide.

The layers of the slide itself stay hidden at their places, so that regions and results keep their coordinates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from napari.components import ViewerModel
from napari.layers import Image, Layer, Points

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.backdrop import Backdrop
from napari_srast.gui.layers.compared_layer import ColorOptions, ComparedLayer, compared_pixels_layer
from napari_srast.gui.layers.drawn_regions import DrawnRegion
from napari_srast.gui.layers.factory import (
    KEY,
    image_affine,
    measured_layer,
    points_transform,
    remove_layers,
    set_units,
    set_visible,
    slide_layer_data,
)
from napari_srast.gui.layers.placement import Placement
from napari_srast.gui.layers.region_copies import RegionCopies
from napari_srast.gui.layers.spot_preview import CountsPicture, SpotPreview
from napari_srast.gui.runtime.layer_batches import insert_unselected
from napari_srast.gui.state.displayed_result import DisplayedResult

__all__ = ["SlidePicture"]

_ROLE = "neighbor"
_AnyLayer = TypeVar("_AnyLayer", bound=Layer)


class SlidePicture:
    """The layers of the picture of one slide.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    slide
        The slide.
    placement
        Where the slide is shown.

    Attributes
    ----------
    layers
        Layers of the picture, bottom first, without the regions.
    """

    def __init__(self, viewer: ViewerModel, slide: Slide, placement: Placement) -> None:
        self.layers: list[Layer] = []
        self._viewer = viewer
        self._slide = slide
        self._placement = placement
        *histology, spots = [Layer.create(*data) for data in slide_layer_data(slide)]
        assert isinstance(spots, Points | Image)
        self._histology = [_mark(layer) for layer in histology]
        self._spots = _mark(spots)
        self._preview = SpotPreview(self._spots)
        self._colored: CountsPicture | None = None
        self._backdrop: Backdrop | None = None
        self._displayed: DisplayedResult | None = None
        self._pixels, self._measured = ComparedLayer(), ComparedLayer()
        self._regions = RegionCopies(viewer)

    @property
    def slide(self) -> Slide:
        """The slide, at its own place."""
        return self._slide

    @property
    def is_incomplete(self) -> bool:
        """Whether the user has removed a layer of the picture from the viewer."""
        layers = list(self._viewer.layers)
        return any(layer not in layers for layer in (*self.layers, *self._regions.layers))

    def add(self) -> None:
        """Add histology and spots to the viewer."""
        self._spots.visible = False
        for layer in (*self._histology, self._spots):
            self._insert(layer)

    def move(self, placement: Placement) -> None:
        """Move the picture to another place."""
        if not placement.equals(self._placement):
            self._placement = placement
            for layer in self.layers:
                self._transform(layer)
            self._regions.move(placement)

    def show_regions(self, regions: Sequence[DrawnRegion]) -> None:
        """Show the outlines of regions of the slide, and no others; the current slide is the one to draw on."""
        self._regions.show(regions, self._placement, self._top())

    def show_histology(self, visible: bool) -> None:
        """Show or hide the histology."""
        set_visible(self._viewer.layers, dict.fromkeys(self._histology, visible))

    def show_spots(self, picture: CountsPicture | None, *, outlines: bool = False) -> None:
        """Color the spots by measured counts.

        Parameters
        ----------
        picture
            The counts; None shows no spots.
        outlines
            Whether the spots are shown without colors if there are no counts.
        """
        if picture is not None and picture is not self._colored:
            self._preview.color(picture)
        elif picture is None and outlines:
            self._preview.outline()
        self._colored = picture
        self._show_only(self._spots if picture is not None or outlines else None)

    def show_result(
        self, displayed: DisplayedResult, colors: ColorOptions, brightness: float, *, is_measured: bool
    ) -> None:
        """Show genes of a result of the slide.

        Parameters
        ----------
        displayed
            The result.
        colors
            Styles of the genes, all of which the result has.
        brightness
            Brightness of the histology, 0 (black) to 1 (unchanged).
        is_measured
            Whether the measured counts of the spots are shown instead of the pixels.
        """
        if displayed is not self._displayed:
            self._forget_result()
            self._displayed = displayed
        values, kind = displayed.values, self._measured if is_measured else self._pixels
        if self._backdrop is None:
            self._backdrop = Backdrop.of_slide(self._slide, values.result, brightness, self._histology)
            self._insert(_mark(self._backdrop.layer))
        self._backdrop.set_brightness(brightness)
        if kind.layer is None:
            new = measured_layer(self._slide) if is_measured else compared_pixels_layer(values.result, self._slide)
            kind.layer = _mark(new)
            self._insert(new)
        kind.set_colors(kind.layer, values, None if is_measured else displayed, colors)
        self._show_only(kind.layer)

    def _show_only(self, shown: Layer | None) -> None:
        """Show one of the layers above the histology."""
        backdrop = None if self._backdrop is None else self._backdrop.layer
        visible = {layer: layer is shown for layer in self.layers if layer not in self._histology}
        if backdrop is not None:
            visible[backdrop] = shown is not None and shown in (self._pixels.layer, self._measured.layer)
        set_visible(self._viewer.layers, visible)

    def _forget_result(self) -> None:
        """Remove the layers of a result, because another one is displayed."""
        backdrop = None if self._backdrop is None else self._backdrop.layer
        if self._backdrop is not None:
            self._backdrop.disconnect()
        removed = [layer for layer in (backdrop, self._pixels.layer, self._measured.layer) if layer is not None]
        self.layers = [layer for layer in self.layers if layer not in removed]
        remove_layers(self._viewer.layers, removed)
        self._backdrop, self._displayed = None, None
        self._pixels, self._measured = ComparedLayer(), ComparedLayer()

    def remove(self) -> None:
        """Remove all layers of the picture from the viewer."""
        if self._backdrop is not None:
            self._backdrop.disconnect()
        self._regions.remove()
        removed, self.layers = self.layers, []
        remove_layers(self._viewer.layers, removed)

    # ---------------------------------------------------------------- layers

    def _insert(self, layer: Layer) -> None:
        """Insert a layer above those of the picture and below all others: pictures do not overlap."""
        self._transform(layer)
        index = self._top()
        self.layers.append(layer)
        insert_unselected(self._viewer.layers, index, layer)

    def _top(self) -> int:
        """Return the index of the layer list above the layers of the picture."""
        layers = self._viewer.layers
        return max((layers.index(other) + 1 for other in self.layers if other in layers), default=0)

    def _transform(self, layer: Layer) -> None:
        slide, entry = self._slide, layer.metadata[KEY]
        to_world = self._placement.matrix @ slide.to_cs
        if "to_intrinsic" in entry:
            layer.affine = image_affine(to_world @ entry["to_intrinsic"])
        else:
            transforms = {**slide.transforms, slide.coordinate_system: to_world}
            for name, value in points_transform(dataclasses.replace(slide, transforms=transforms)).items():
                setattr(layer, name, value)
        set_units(layer, self._placement.units)


def _mark(layer: _AnyLayer) -> _AnyLayer:
    """Mark a new layer as part of a picture: it must not be mistaken for a layer of its slide."""
    entry = layer.metadata[KEY]
    layer.metadata = {KEY: {"role": _ROLE, **{key: entry[key] for key in ("to_intrinsic", "grid") if key in entry}}}
    layer.name = f"SRast copy of {layer.name}"
    return layer
