"""Read tables of samples: slides and regions of them, with their donors and groups."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast._utils.text import read_text, reading_failure
from napari_srast.cli.parsing import parse_region
from napari_srast.errors import InputError, RegionError

if TYPE_CHECKING:
    from napari_srast.core.region import Region

__all__ = ["SAMPLE_TABLE_SUFFIXES", "SampleRow", "SampleTable", "read_sample_table"]

SAMPLE_TABLE_SUFFIXES = (".csv", ".tsv")
_REQUIRED = ("slide", "donor", "group")
_OPTIONAL = ("region", "class")


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """A row of a table of samples.

    Parameters
    ----------
    number
        Line of the row in the file, from 1.
    slide
        Path of the slide.
    donor, group
        Names of the donor and of the group.
    region
        Path of a GeoJSON file, or a well-known text (WKT); empty for the whole slide.
    classification
        Class of the annotations in the GeoJSON file that form the region; empty for all annotations.
    """

    number: int
    slide: Path
    donor: str
    group: str
    region: str = ""
    classification: str = ""

    def read_region(self, coordinate_system: str) -> Region | None:
        """Return the region; None for the whole slide.

        Parameters
        ----------
        coordinate_system
            Coordinate system of a region that names none.

        Raises
        ------
        RegionError
            The region cannot be read, or has no annotation of the class.
        """
        if not self.region:
            return None
        if not self.classification:
            return parse_region(self.region, coordinate_system)
        from napari_srast.core.region import Region
        from napari_srast.io.annotations import read_annotations

        annotations = read_annotations(Path(self.region))
        chosen = [one.region for one in annotations if one.classification == self.classification]
        systems = {one.coordinate_system for one in chosen}
        if len(systems) > 1:
            raise RegionError(
                f"The annotations of class '{self.classification}' in '{self.region}' are in several coordinate "
                f"systems ({', '.join(sorted(systems))}); save those of one coordinate system."
            )
        region = Region.from_geometries([one.geometry for one in chosen], next(iter(systems), "") or coordinate_system)
        if region is None:
            known = sorted({one.classification for one in annotations} - {""})
            hint = f"choose from {', '.join(known)}" if known else "none of them has a class"
            raise RegionError(f"'{self.region}' has no annotation of class '{self.classification}'; {hint}.")
        return region


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """A table of samples.

    Parameters
    ----------
    path
        The file.
    rows
        The rows; those of the same slide follow each other.
    unused
        Names of further columns.
    """

    path: Path
    rows: tuple[SampleRow, ...]
    unused: tuple[str, ...]


def read_sample_table(path: Path) -> SampleTable:
    """Read a table with the columns ``slide``, ``donor``, ``group`` and, if needed, ``region`` and ``class``.

    Parameters
    ----------
    path
        File of values that are separated by commas, semicolons or tabs, with a header. Paths in it are relative to its
        folder.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column or rows, or a row has no slide, donor or group, or a class without a
        GeoJSON file.
    """
    try:
        text = read_text(path)
        lines = [line for line in text.splitlines() if line.strip()]
        delimiter = max(",;\t", key=(lines[0] if lines else "").count)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"The table of samples '{path}' cannot be read ({reading_failure(error)}); check the path, and save it as "
            "CSV text."
        ) from error
    filled = [(number, row) for number, row in cells if any(row) and not row[0].startswith("#")]
    header = [name.casefold() for name in filled[0][1]] if filled else []
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        raise InputError(
            f"The table of samples '{path}' has no column {' and no column '.join(map(repr, missing))}; its columns "
            "are slide, donor, group and, for parts of slides, region and class."
        )
    twice = [name for name in (*_REQUIRED, *_OPTIONAL) if header.count(name) > 1]
    if twice:
        raise InputError(f"The table of samples '{path}' has several columns '{twice[0]}'; remove all but one.")
    if len(filled) < 2:
        raise InputError(f"The table of samples '{path}' has no row below its header; add a row for each sample.")
    rows = [_row(path, number, header, row) for number, row in filled[1:]]
    order = {slide: i for i, slide in reversed(list(enumerate(row.slide for row in rows)))}  # first row of each slide
    return SampleTable(
        path=path,
        rows=tuple(sorted(rows, key=lambda row: order[row.slide])),
        unused=tuple(name for name in filled[0][1] if name and name.casefold() not in (*_REQUIRED, *_OPTIONAL)),
    )


def _row(path: Path, number: int, header: Sequence[str], row: Sequence[str]) -> SampleRow:
    if len(row) > len(header):
        raise InputError(
            f"Line {number} of '{path}' has more fields than its header; write text that contains commas in quotes."
        )
    values: Mapping[str, str] = dict(zip(header, row, strict=False))
    for name in _REQUIRED:
        if not values.get(name):
            raise InputError(f"Line {number} of '{path}' has no {name}; complete it.")
    region, classification = values.get("region", ""), values.get("class", "")
    is_text = "(" in region and not os.path.exists(path.parent / region)
    if classification and (not region or is_text):
        raise InputError(
            f"Line {number} of '{path}' has the class '{classification}', but no GeoJSON file with it; name the file "
            "in the column region."
        )
    return SampleRow(
        number=number,
        slide=Path(os.path.realpath(path.parent / values["slide"])),  # links to a slide are the same slide
        donor=values["donor"],
        group=values["group"],
        region=region if not region or is_text else str(path.parent / region),
        classification=classification,
    )
