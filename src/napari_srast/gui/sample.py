"""Provide the synthetic slide as a napari sample (File > Open Sample); an open dock widget adopts its layers."""

from __future__ import annotations

from typing import Any

from napari_srast.gui.layers.factory import slide_layer_data

__all__ = ["sample_layers"]


def sample_layers() -> list[tuple[Any, dict[str, Any], str]]:
    """Return histology and spots of the built-in synthetic slide as napari layer data."""
    from napari_srast.datasets.synthetic_colon import synthetic_colon

    return slide_layer_data(synthetic_colon())
