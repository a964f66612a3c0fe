"""One open slide in the viewer, with its region, its results and all their layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.drawn_regions import DrawnRegion
from napari_srast.gui.layers.factory import (
    KEY,
    role_of,
    set_visible,
    slide_layer_data,
    slide_title,
    update_transforms,
    world_units,
)
from napari_srast.gui.layers.gene_layer import default_genes
from napari_srast.gui.layers.layer_names import HiddenNames
from napari_srast.gui.layers.layer_stack import LayerStack
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.regions import RegionLayer
from napari_srast.gui.runtime.layer_batches import batch_removals
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.slide_loading import ExternalSlide, LoadedSlide

__all__ = ["Schedule", "SessionCallbacks", "SlideSession", "slide_of", "unique_titles"]

Schedule = Callable[[Callable[[], None]], None]
"""Runs a function after the window has been drawn."""


def slide_of(layer: Layer) -> Slide | None:
    """Return the slide that a layer of this plugin shows; None for other layers."""
    metadata = layer.metadata.get(KEY)
    return metadata.get("slide") if isinstance(metadata, dict) else None


def unique_titles(sessions: Sequence[SlideSession]) -> list[str]:
    """Return a distinct title for each open slide; equal names get section, spots, image, table or a number."""
    titles = [session.title for session in sessions]
    sources = [session.slide.source for session in sessions]
    for kind in ("library", "spots", "image", "table"):
        elements = [
            getattr(source, kind) or ("all sections" if kind == "library" else f"no {kind}") for source in sources
        ]
        same_title = [{e for t, e in zip(titles, elements, strict=True) if t == title} for title in titles]
        titles = [
            f"{title}, {element}" if len(alternatives) > 1 else title
            for title, element, alternatives in zip(titles, elements, same_title, strict=True)
        ]
    numbers = [titles[: index + 1].count(title) for index, title in enumerate(titles)]
    return [
        f"{title} ({number})" if titles.count(title) > 1 else title
        for title, number in zip(titles, numbers, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class SessionCallbacks:
    """Functions that a slide session calls.

    Parameters
    ----------
    region_changed, tool_changed, display_changed
        Called when the regions, the drawing tool, or the display of a result has changed.
    display_failed
        Called with the error when a gene layer could not be drawn.
    schedule
        Runs a function after the window has been drawn; None runs it at once.
    """

    region_changed: Callable[[], None]
    tool_changed: Callable[[], None]
    display_changed: Callable[[], None]
    display_failed: Callable[[Exception], None]
    schedule: Schedule | None = None


class SlideSession:
    """A slide with everything in the viewer that belongs to it.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    loaded
        The slide, as it was read.
    callbacks
        Receivers of changes and errors.

    Attributes
    ----------
    region_layer
        The layer in which the region is drawn.
    results
        The results of the slide, in the order in which they were added.
    result
        The displayed result; None if there is none.
    overlay
        The gene layers of the displayed result.
    layers
        Histology and spots.
    external_layers
        Layers of the slide that napari-spatialdata has added.
    """

    def __init__(self, viewer: ViewerModel, loaded: LoadedSlide, callbacks: SessionCallbacks) -> None:
        self.loaded = loaded
        self.region_layer = RegionLayer(viewer, callbacks.region_changed, callbacks.tool_changed)
        self.region_layer.units = world_units(loaded.slide)
        self.results: list[DisplayedResult] = []
        self.result: DisplayedResult | None = None
        self.overlay: Overlay | None = None
        self.layers: list[Layer] = []
        self.external_layers: tuple[Layer, ...] = ()
        self._viewer = viewer
        self._callbacks = callbacks
        self._visible: dict[Layer, bool] = {}
        self._names = HiddenNames()

    @property
    def slide(self) -> Slide:
        """The slide, in its chosen coordinate system."""
        return self.loaded.slide

    @property
    def title(self) -> str:
        """Short name of the slide."""
        return self.loaded.name or slide_title(self.slide)

    @property
    def shown_layers(self) -> list[Layer]:
        """The layers in the viewer that show the slide."""
        return [layer for layer in (*self.layers, *self.external_layers) if layer in self._viewer.layers]

    @property
    def tissue_layers(self) -> list[Layer]:
        """The layers in the viewer that show the spots, or all that show the slide: an image has wide margins."""
        shown = self.shown_layers
        return [layer for layer in shown if role_of(layer) == "spots"] or shown

    @property
    def own_layers(self) -> list[Layer]:
        """All layers that the panel has added for the slide, its region and its displayed result."""
        overlay = [] if self.overlay is None else self.overlay.layers
        return [*self.layers, *self.region_layer.layers, *overlay]

    @property
    def is_gone(self) -> bool:
        """Whether every layer that shows the slide was removed from the viewer."""
        layers = [*self.layers, *self.external_layers]
        return bool(layers) and not any(layer in self._viewer.layers for layer in layers)

    def missing_layers(self, external: ExternalSlide | None) -> list[Layer]:
        """Return the layers that must be added to show the slide; layers of it in the viewer are adopted.

        Parameters
        ----------
        external
            The slide as napari-spatialdata shows it; None if it does not.
        """
        self.layers = [layer for layer in self._viewer.layers if slide_of(layer) is self.slide]
        self.external_layers = () if external is None else external.layers
        if self.layers:
            return []
        present = {layer.metadata.get("name") for layer in self.external_layers}
        element_names = {"histology": self.slide.source.image, "spots": self.slide.source.spots}
        data = [d for d in slide_layer_data(self.slide) if element_names[d[1]["metadata"][KEY]["role"]] not in present]
        self.layers = [Layer.create(*d) for d in data]
        return list(self.layers)

    def add_run(self, run: str) -> None:
        """Record the name of a run that was saved in the SpatialData store of the slide."""
        choices = dataclasses.replace(self.loaded.choices, runs=(*self.loaded.choices.runs, run))
        self.loaded = dataclasses.replace(self.loaded, choices=choices)

    def set_coordinate_system(self, name: str) -> None:
        """Show slide, region and result in another coordinate system of the slide."""
        old = self.slide
        new = dataclasses.replace(old, coordinate_system=name)
        self.loaded = dataclasses.replace(self.loaded, slide=new)
        update_transforms(self.layers, new)
        self.region_layer.move(new.to_cs @ np.linalg.inv(old.to_cs))
        self.region_layer.units = world_units(new)
        if self.overlay is not None:
            self.overlay.set_slide(new)

    def move_image(self, shift: np.ndarray) -> None:
        """Move the histology by (x, y) in the spots' own frame; the store is not changed."""
        slide = self.slide
        assert slide.image is not None
        image = slide.image.moved_by(shift)
        moved = dataclasses.replace(slide, image=image)
        self.loaded = dataclasses.replace(self.loaded, slide=moved)
        for layer in self.layers:
            if role_of(layer) == "histology":
                layer.metadata[KEY]["to_intrinsic"] = image.to_intrinsic[0]
        update_transforms(self.layers, moved)
        if self.overlay is not None:
            self.overlay.set_slide(moved)

    # -------------------------------------------------------------- results

    def add_result(self, displayed: DisplayedResult) -> None:
        """Add a result and display it."""
        self.results.append(displayed)
        self.choose_result(displayed)

    def choose_result(self, displayed: DisplayedResult) -> None:
        """Display one of the results of the slide."""
        is_first = self.result is None
        if self.overlay is None:
            self.overlay = Overlay(
                self._viewer,
                displayed.values,
                self._callbacks.display_changed,
                self._callbacks.schedule,
                on_error=self._callbacks.display_failed,
                stack=LayerStack(self._viewer, lambda: self.shown_layers, lambda: self.region_layer.layers),
            )
            self.overlay.set_slide(self.slide)
        else:
            self.overlay.replace(displayed.values)
        self.result = displayed
        for layer in self.layers:
            if is_first and role_of(layer) == "spots":
                layer.visible = False  # the rings of the spots and the pixels would cover each other
                self._visible = {**self._visible, layer: False} if self._visible else {}

    def show_first_genes(self) -> None:
        """Show the genes of the displayed result that are most useful at first."""
        if self.overlay is not None and self.result is not None:
            self.overlay.show(default_genes(self.result.result, self.result.totals))

    def drop_result(self) -> None:
        """Close the displayed result, and display the previous one if there is one."""
        if self.result is None:
            return
        index = self.results.index(self.result)
        del self.results[index]
        if self.results:
            self.choose_result(self.results[max(index - 1, 0)])
            return
        self.result = None
        if self.overlay is not None:
            self.overlay.remove()
            self.overlay = None

    # --------------------------------------------------------------- window

    def hide(self) -> None:
        """Hide all layers while another slide is the current one."""
        self.region_layer.stop_drawing()
        region = [self.region_layer.layer] if self.region_layer.layer is not None else []
        layers = [*self.layers, *self.external_layers, *region]
        self._visible = {layer: bool(layer.visible) for layer in layers}
        set_visible(self._viewer.layers, dict.fromkeys(layers, False))
        if self.overlay is not None:
            self.overlay.hide()
        self._names.add_title(self.own_layers, self.title)

    def reveal(self) -> None:
        """Show the layers that were visible before :meth:`hide`."""
        self._names.restore(self.own_layers)
        set_visible(self._viewer.layers, self._visible)
        self._visible = {}
        if self.overlay is not None:
            self.overlay.reveal()

    def was_visible(self, layer: Layer) -> bool:
        """Return whether a layer is visible, or was before :meth:`hide`."""
        return self._visible.get(layer, bool(layer.visible))

    def shown_regions(self) -> list[DrawnRegion]:
        """Return the regions of the slide, unless the user has hidden their layer."""
        layer = self.region_layer.layer
        return [] if layer is None or not self.was_visible(layer) else self.region_layer.regions("")

    def remove(self) -> None:
        """Remove all layers of the slide from the viewer, except those of other plugins."""
        self.disconnect()
        with batch_removals(self._viewer.layers):
            if self.overlay is not None:
                self.overlay.remove()
            self.region_layer.remove()
            for layer in self.layers:
                if layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)
        self.results, self.result, self.overlay = [], None, None
        self.layers, self.external_layers, self._visible = [], (), {}

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        self.region_layer.disconnect()
        if self.overlay is not None:
            self.overlay.disconnect()
