"""Suggest names for files about a slide, and complete the names that a user gives."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from napari_srast.core.slide import Slide

__all__ = ["complete_suffix", "suggested_path"]

_UNUSUAL = re.compile(r"[^\w.+-]+")
_MAX_NAME = 80  # characters


def suggested_path(slide: Slide, title: str, *words: str, suffix: str) -> str:
    """Return a path for a file about a slide: in the folder of its store, else in the home folder.

    Parameters
    ----------
    slide
        The slide.
    title
        Name of the slide in the window.
    *words
        What the file has; characters that are unusual in names are replaced.
    suffix
        Ending with its dot.
    """
    source = slide.source
    folder = Path.home()
    if source.path is not None and not source.synthetic:
        parent = Path(source.path).absolute().parent
        folder = parent if os.access(parent, os.W_OK) else folder
    name = "_".join(_UNUSUAL.sub("_", word).strip("_") for word in (title, *words))
    return str(folder / f"{name[:_MAX_NAME]}{suffix}")


def complete_suffix(path: str, chosen_filter: str, suffixes: Sequence[str]) -> Path:
    """Return the path that a user has given, with the ending of the chosen kind if it has none of the known ones.

    Parameters
    ----------
    path
        Path of the file dialog.
    chosen_filter
        Kind that was chosen in the dialog, such as "PDF (*.pdf)".
    suffixes
        Known endings with their dots; the first one is used if no kind was chosen.
    """
    given = Path(path)
    if given.name.casefold().endswith(tuple(suffixes)):
        return given
    suffix = next((one for one in suffixes if f"*{one}" in chosen_filter), suffixes[0])
    return given.with_name(f"{given.name}{suffix}")
