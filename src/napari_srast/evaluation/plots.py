"""What all plots share: matplotlib, which is an extra, and writing a folder of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_class", "save_figures"]


def figure_class() -> type[Figure]:
    """Return matplotlib's figure, which draws without a window.

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
    """Write figures under their names into a folder, which is made if it is not there; returns their paths.

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
