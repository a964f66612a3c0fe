"""Recognize a slide that is open already, so that it is not loaded twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_srast.core.slide import Slide
from napari_srast.gui.state.slide_import import user_path

__all__ = ["is_same_slide", "path_of"]


def path_of(source: Any) -> Path | None:
    """Return the absolute path of a source; None for a source in memory."""
    path = source if isinstance(source, str | Path) else getattr(source, "path", None)
    return None if path is None else user_path(path).resolve()


def is_same_slide(one: Slide, other: Slide) -> bool:
    """Return whether two slides were read from the same elements of the same store."""
    if one is other:
        return True
    return one.source == other.source and one.source.path is not None and one.n_spots == other.n_spots
