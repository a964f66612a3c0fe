"""Small slides in many tiles."""

from __future__ import annotations

import pytest

from napari_srast.inference import tiles

__all__ = ["use_small_tiles"]


def use_small_tiles(monkeypatch: pytest.MonkeyPatch, *, max_pixels: int = 60, min_spots: int = 1) -> None:
    """Divide slides into tiles of few pixels.

    Parameters
    ----------
    monkeypatch
        Restores the limits after the test.
    max_pixels
        Largest number of pixels of a tile.
    min_spots
        Smallest number of spots of a tile.
    """
    monkeypatch.setattr(tiles, "_MAX_PIXELS", max_pixels)
    monkeypatch.setattr(tiles, "_MIN_SPOTS", min_spots)
