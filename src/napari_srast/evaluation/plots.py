"""Import matplotlib, which is an optional dependency, and save figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_class", "save_figures"]


def figure_class() -> type[Figure]:
    """Return matplotlib's figure class, which draws without a window.

    Raises
    ------
    OutputError
        Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError("Plots need matplotlib; install it with: pip install 'napari-srast[plots]'") from error
    return Figure


def save_figures(figures: Mapping[str, Figure], directory: Path, *, dpi: int = 120) -> list[Path]:
    """Save figures in a folder.

    Parameters
    ----------
    figures
        Figures by file name.
    directory
        Folder to write to; it is created if it does not exist.
    dpi
        Resolution in dots per inch.

    Returns
    -------
    list of Path
        The written files.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(directory / name, dpi=dpi)
    except OSError as error:
        raise OutputError(f"'{directory}' cannot be written ({error.strerror}); choose another folder.") from error
    return [directory / name for name in figures]
