"""Provide a small measured slide: Visium, mouse brain with the dentate gyrus, 624 spots and 634 genes, no histology.

The counts are those of GiottoData (MIT); the source is in ``mouse_dentate_gyrus.LICENSE`` next to this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast.datasets.cache import cached_folder
from napari_srast.errors import InputError
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.slide_reader import read_slide

if TYPE_CHECKING:
    from napari_srast.core.slide import Slide

__all__ = ["mouse_dentate_gyrus", "mouse_dentate_gyrus_path"]

_TABLE = Path(__file__).with_name("mouse_dentate_gyrus.h5ad")
_VERSION = 1  # increment it whenever the table changes, so that caches are rebuilt
_STORE = "mouse_dentate_gyrus.zarr"
_N_SPOTS = 624


def mouse_dentate_gyrus() -> Slide:
    """Return the measured sample slide: Visium, mouse brain, 624 spots and 634 genes; it has no histology.

    Examples
    --------
    >>> import napari_srast as srast
    >>> srast.mouse_dentate_gyrus().n_genes
    634
    """
    return read_slide(mouse_dentate_gyrus_path())


def mouse_dentate_gyrus_path() -> Path:
    """Return the path of the sample slide in the user's cache, and write it first if it is missing or damaged."""
    folder = cached_folder(
        "mouse_dentate_gyrus", _VERSION, lambda partial: _write(partial / _STORE), lambda path: _usable(path / _STORE)
    )
    return folder / _STORE


def _write(path: Path) -> None:
    import_slide(_TABLE, path)


def _usable(path: Path) -> bool:
    """Return whether the cached slide can be read."""
    try:
        return read_slide(path).n_spots == _N_SPOTS
    except (InputError, OSError, KeyError, ValueError):
        return False
