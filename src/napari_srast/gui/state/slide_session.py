"""A slide in the viewer with its region, its results and all their layers. Several may be open; one is worked on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import KEY, place_layers, role_of, set_visible, slide_layer_data, slide_title
from napari_srast.gui.layers.gene_layer import first_genes
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.regions import RegionLayer
from napari_srast.gui.runtime.layer_batches import removing
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.slide_loading import ExternalSlide, LoadedSlide

__all__ = ["SlideSession", "slide_of", "titles"]

Later = Callable[[Callable[[], None]], None]


def slide_of(layer: Layer) -> Slide | None:
    """Return the slide that a layer of ours shows."""
    mark = layer.metadata.get(KEY)
    return mark.get("slide") if isinstance(mark, dict) else None


def titles(slides: Sequence[SlideSession]) -> list[str]:
    """Return a name for each of some open slides; those called the same are told apart by image, table and number."""
    names = [slide.title for slide in slides]
    sources = [slide.slide.source for slide in slides]
    for kind in ("image", "table"):
        of_kind = [getattr(source, kind) or f"no {kind}" for source in sources]
        alike = [{k for n, k in zip(names, of_kind, strict=True) if n == name} for name in names]
        names = [
            f"{name}, {own}" if len(others) > 1 else name
            for name, own, others in zip(names, of_kind, alike, strict=True)
        ]
    seen = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [f"{name} ({number})" if names.count(name) > 1 else name for name, number in zip(names, seen, strict=True)]


class SlideSession:
    """What belongs to one slide.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    opened
        The slide, as it was read.
    region_changed, shown_changed
        Called when the region, or what is shown of a result, has changed.
    failed
        Takes the error of what cannot be shown of a result.
    later
        What runs a function once the window has drawn itself; None runs it at once.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        opened: LoadedSlide,
        *,
        region_changed: Callable[[], None],
        shown_changed: Callable[[], None],
        failed: Callable[[Exception], None],
        later: Later | None = None,
    ) -> None:
        self.opened = opened
        self.regions = RegionLayer(viewer, region_changed)
        self.results: list[DisplayedResult] = []
        self.finished: DisplayedResult | None = None
        self.overlay: Overlay | None = None
        self.layers: list[Layer] = []
        self.theirs: tuple[Layer, ...] = ()
        self._viewer = viewer
        self._shown_changed = shown_changed
        self._failed = failed
        self._later = later
        self._visible: dict[Layer, bool] = {}

    @property
    def slide(self) -> Slide:
        """The slide, in its chosen coordinate system."""
        return self.opened.slide

    @property
    def title(self) -> str:
        """Short name of the slide."""
        return slide_title(self.slide)

    @property
    def shown_layers(self) -> list[Layer]:
        """The layers in the viewer that show the slide."""
        return [layer for layer in (*self.layers, *self.theirs) if layer in self._viewer.layers]

    @property
    def is_gone(self) -> bool:
        """Whether every layer that shows the slide was removed from the viewer."""
        own = [*self.layers, *self.theirs]
        return bool(own) and not any(layer in self._viewer.layers for layer in own)

    def missing_layers(self, shown: ExternalSlide | None) -> list[Layer]:
        """Return the layers that must be added to show the slide; those of it that are in the viewer are taken over."""
        self.layers = [layer for layer in self._viewer.layers if slide_of(layer) is self.slide]
        self.theirs = () if shown is None else shown.layers
        if self.layers:
            return []
        present = {layer.metadata.get("name") for layer in self.theirs}
        name_of = {"histology": self.slide.source.image, "spots": self.slide.source.spots}
        data = [d for d in slide_layer_data(self.slide) if name_of[d[1]["metadata"][KEY]["role"]] not in present]
        self.layers = [Layer.create(*d) for d in data]
        return list(self.layers)

    def add_run(self, run: str) -> None:
        """Take note of a result that was saved in the slide's own store."""
        choices = dataclasses.replace(self.opened.choices, runs=(*self.opened.choices.runs, run))
        self.opened = dataclasses.replace(self.opened, choices=choices)

    def place(self, name: str) -> None:
        """Show slide, region and result in another coordinate system of the slide."""
        old = self.slide
        new = dataclasses.replace(old, coordinate_system=name)
        self.opened = dataclasses.replace(self.opened, slide=new)
        place_layers(self.layers, new)
        self.regions.move(new.to_cs @ np.linalg.inv(old.to_cs))
        if self.overlay is not None:
            self.overlay.place(new)

    # -------------------------------------------------------------- results

    def land(self, finished: DisplayedResult) -> None:
        """Keep a result and show it."""
        self.results.append(finished)
        self.choose_result(finished)

    def choose_result(self, finished: DisplayedResult) -> None:
        """Show one of the slide's results."""
        first = self.finished is None
        if self.overlay is None:
            self.overlay = Overlay(
                self._viewer,
                finished.result,
                finished.columns,
                self._shown_changed,
                self._later,
                failed=self._failed,
            )
            self.overlay.place(self.slide)
        else:
            self.overlay.replace(finished.result, finished.columns)
        self.finished = finished
        for layer in self.layers:
            if first and role_of(layer) == "spots":
                layer.visible = False  # rings over pixels hide both
                self._visible = {**self._visible, layer: False} if self._visible else {}

    def show_first_genes(self) -> None:
        """Show what is worth a first look of the result."""
        if self.overlay is not None and self.finished is not None:
            self.overlay.show(first_genes(self.finished.result, self.finished.totals))

    def drop_result(self) -> None:
        """Close the result on show, and show the one before it, if there is one."""
        if self.finished is None:
            return
        place = self.results.index(self.finished)
        del self.results[place]
        if self.results:
            self.choose_result(self.results[max(place - 1, 0)])
            return
        self.finished = None
        if self.overlay is not None:
            self.overlay.remove()
            self.overlay = None

    # --------------------------------------------------------------- window

    def hide(self) -> None:
        """Go out of sight while another slide is worked on."""
        self.regions.rest()
        own = [*self.layers, *self.theirs, *([self.regions.layer] if self.regions.layer is not None else [])]
        self._visible = {layer: bool(layer.visible) for layer in own}
        set_visible(self._viewer.layers, dict.fromkeys(own, False))
        if self.overlay is not None:
            self.overlay.hide()

    def reveal(self) -> None:
        """Come back into sight as it was."""
        set_visible(self._viewer.layers, self._visible)
        self._visible = {}
        if self.overlay is not None:
            self.overlay.reveal()

    def remove(self) -> None:
        """Take everything of the slide out of the viewer; layers that others made stay."""
        self.disconnect()
        with removing(self._viewer.layers):
            if self.overlay is not None:
                self.overlay.remove()
            self.regions.remove()
            for layer in self.layers:
                if layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)
        self.results, self.finished, self.overlay = [], None, None
        self.layers, self.theirs, self._visible = [], (), {}

    def disconnect(self) -> None:
        """Stop listening to the viewer."""
        self.regions.disconnect()
        if self.overlay is not None:
            self.overlay.disconnect()
