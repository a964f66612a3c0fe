"""Provide the built-in slides as napari samples (File > Open Sample); an open dock widget adopts their layers."""

from __future__ import annotations

from typing import Any

from napari_srast.gui.layers.factory import slide_layer_data

__all__ = ["measured_sample_layers", "sample_layers"]


def sample_layers() -> list[tuple[Any, dict[str, Any], str]]:
    """Return histology and spots of the built-in synthetic slide as napari layer data."""
    from napari_srast.datasets.synthetic_colon import synthetic_colon

    return slide_layer_data(synthetic_colon())


def measured_sample_layers() -> list[tuple[Any, dict[str, Any], str]]:
    """Return the spots of the built-in measured slide as napari layer data; it has no histology."""
    from napari_srast.datasets.mouse_dentate_gyrus import mouse_dentate_gyrus

    return slide_layer_data(mouse_dentate_gyrus())
