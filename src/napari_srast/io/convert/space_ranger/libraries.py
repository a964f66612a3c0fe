"""Select one library of a matrix that ``spaceranger aggr`` made of several slides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from napari_srast.errors import ChoiceError, InputError
from napari_srast.io.convert.space_ranger.layout import SpaceRangerFiles, library_files
from napari_srast.io.convert.space_ranger.matrix import FeatureCounts
from napari_srast.io.convert.space_ranger.positions import Positions

__all__ = ["choose_library", "of_library"]


def choose_library(
    found: FeatureCounts, files: SpaceRangerFiles, library: str | None
) -> tuple[FeatureCounts, SpaceRangerFiles, str | None]:
    """Return the counts and the files of one library.

    Parameters
    ----------
    found
        The counts of all libraries.
    files
        The files of the folder.
    library
        Name or number of the library; it can be left out if there is only one.

    Returns
    -------
    tuple
        Counts of the library, its files, and its name; None if the matrix has one library.

    Raises
    ------
    InputError
        There are several libraries and none was named, or there is none of this name.
    """
    numbers = pd.Series(found.barcodes, dtype=str).str.extract(r"-(\d+)$", expand=False)
    suffixes = sorted(numbers.dropna().unique(), key=int)
    if len(suffixes) < 2:
        if library is not None and library not in (files.sample, *found.libraries, *suffixes):
            raise InputError(f"'{files.folder}' has no library '{library}', but a single one; leave --library out.")
        return found, files, None
    names = _names(files.aggregation, found.libraries, suffixes)
    if library is None:
        raise ChoiceError(
            f"The counts in '{files.folder}' are of {len(suffixes)} libraries, each with positions of its own; choose "
            f"one with --library: {', '.join(names)}.",
            "library",
            names,
        )
    if library not in (*names, *suffixes):
        raise InputError(f"'{files.folder}' has no library '{library}'; choose one with --library: {', '.join(names)}.")
    index = names.index(library) if library in names else suffixes.index(library)
    rows = np.flatnonzero((numbers == suffixes[index]).to_numpy())
    chosen = dataclasses.replace(found, counts=found.counts[rows], barcodes=found.barcodes[rows])
    return chosen, library_files(files, names[index]), names[index]


def of_library(positions: Positions, barcodes: np.ndarray) -> Positions:
    """Return the positions of one library: those whose barcodes end in its number, if the others end in other ones."""
    ends = pd.Series(positions.barcodes, dtype=str).str.extract(r"-(\d+)$", expand=False)
    if ends.nunique() < 2:
        return positions
    wanted = pd.Series(barcodes, dtype=str).str.extract(r"-(\d+)$", expand=False).dropna().unique()
    return positions.take(np.flatnonzero(ends.isin(wanted).to_numpy()))


def _names(aggregation: Path | None, libraries: tuple[str, ...], suffixes: list[str]) -> list[str]:
    """Return the names of the libraries in the order of their numbers."""
    if aggregation is not None:
        try:
            frame = pd.read_csv(aggregation, dtype=str)
        except (OSError, EOFError, ValueError):
            frame = pd.DataFrame()
        column = next((c for c in ("library_id", "sample_id") if c in frame), None)
        rows = [int(suffix) - 1 for suffix in suffixes]
        if column is not None and max(rows) < len(frame):
            return [str(frame[column].iloc[row]) for row in rows]
    return list(libraries) if len(libraries) == len(suffixes) else suffixes
