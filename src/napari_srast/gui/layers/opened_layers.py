"""Layers that napari opened through the plugin's reader, before the panel adopts them.

The reader returns plain layers, which are useful without the panel, too. The layer of the spots, which napari adds
last, carries the slide with all that was loaded, so that the panel does not read it again. Images of genes are
previews: the panel replaces them by its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import KEY, set_units, swap_axes, world_units
from napari_srast.gui.state.slide_loading import LoadedSlide

__all__ = ["LOADED", "PREVIEW_OF", "SYSTEM", "loaded_of", "place_regions", "superseded_layers"]

LOADED = "loaded"
"""Entry of the metadata of a layer of spots: the :class:`LoadedSlide`."""
PREVIEW_OF = "preview_of"
"""Entry of the metadata of a preview: the slide."""
SYSTEM = "coordinate_system"
"""Entry of the metadata of regions of a file: the coordinate system that the file names."""


def loaded_of(layer: Layer) -> LoadedSlide | None:
    """Return what the reader loaded with the spots that a layer shows; None for other layers."""
    loaded = _entry(layer).get(LOADED)
    return loaded if isinstance(loaded, LoadedSlide) else None


def superseded_layers(layers: Iterable[Layer], slide: Slide, *, is_shown: bool) -> list[Layer]:
    """Return the layers of an opened slide that the panel replaces.

    Parameters
    ----------
    layers
        The layers of the viewer.
    slide
        The slide that the reader has opened.
    is_shown
        Whether the panel adopted its layers; if not, the slide was open before, and all are superseded.
    """
    return [
        layer
        for layer in layers
        if _entry(layer).get(PREVIEW_OF) is slide or (not is_shown and _entry(layer).get("slide") is slide)
    ]


def place_regions(layers: Iterable[Layer], slide: Slide | None) -> None:
    """Move regions that a file gives in a named coordinate system to where they are on a slide, once.

    Parameters
    ----------
    layers
        Layers of the viewer; only those with regions of a file are moved.
    slide
        The current slide; None if there is none.
    """
    for layer in layers if slide is not None else ():
        entry = _entry(layer)
        if slide is None or entry.get("role") != "regions" or entry.get(SYSTEM) not in slide.transforms:
            continue
        system = entry.pop(SYSTEM)
        layer.affine = swap_axes(slide.to_cs @ np.linalg.inv(slide.transforms[system]))
        set_units(layer, world_units(slide))


def _entry(layer: Layer) -> dict[str, Any]:
    entry = layer.metadata.get(KEY)
    return entry if isinstance(entry, dict) else {}
