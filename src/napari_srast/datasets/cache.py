"""Keep built-in slides as SpatialData stores in the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_srast.io.atomic import atomic_output

__all__ = ["cached_folder"]

_WAIT = 300.0  # seconds to wait for another process that writes the same folder


def cached_folder(name: str, version: int, write: Callable[[Path], None], is_usable: Callable[[Path], bool]) -> Path:
    """Return a folder in the user's cache, and write it first if it is missing or damaged.

    Parameters
    ----------
    name
        Name of the dataset.
    version
        Version of its content; a new version is written again.
    write
        Writes the content into an empty folder.
    is_usable
        Returns whether the content of a folder can be read.
    """
    import platformdirs

    from napari_srast._version import __version__

    cache = platformdirs.user_cache_path("napari-srast", ensure_exists=True)
    folder = cache / f"{name}_{__version__}_{version}"
    if not is_usable(folder):
        with atomic_output(folder, replace=True, wait=_WAIT) as partial:
            partial.mkdir()
            write(partial)
    return folder
