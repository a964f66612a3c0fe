"""Parse command-line values and refuse bad requests before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast._utils.text import read_text, reading_failure
from napari_srast.core.gene_list import parse_gene_names, read_gene_names
from napari_srast.errors import InputError, OutputError, RegionError, SettingsError
from napari_srast.io.file_kinds import has_suffix, missing_path

if TYPE_CHECKING:
    from napari_srast.core.region import Region

__all__ = ["check_exists", "check_output", "parse_genes", "parse_numbers", "parse_region"]

RESULT_SUFFIXES = (".zarr", ".h5ad", ".csv", ".csv.gz")
_LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".gmt", ".grp")
_LONGEST_NAME = 200  # file systems allow 255 bytes, and the temporary name of an unfinished output is longer


def check_exists(path: Path, what: str) -> None:
    """Refuse an input path that does not exist, before slow imports."""
    if not os.path.exists(path):  # Path.exists raises if the name is longer than the system allows
        raise InputError(missing_path(path, what))


def check_output(path: Path, suffixes: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> None:
    """Refuse an output that cannot be written.

    Raises
    ------
    OutputError
        The suffix is unknown, the output exists, its folder is missing or read-only, or the output is inside an
        input.
    """
    if not has_suffix(path, *suffixes):
        raise OutputError(f"The output '{path}' has no known ending; end it in {', '.join(suffixes)}.")
    if inputs:
        from napari_srast.io.atomic import refuse_inside
    for source in inputs:
        refuse_inside(path, source)
    if os.path.lexists(path):
        raise OutputError(f"The output '{path}' exists already; remove it or choose another name.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"The folder '{folder}' of the output does not exist; make it first.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder '{folder}' cannot be written to; choose another one for the output.")
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(f"The name of the output '{path}' is too long; keep it under {_LONGEST_NAME} bytes.")


def parse_genes(text: str) -> list[str] | None:
    """Return the gene names of ``A,B``, ``@FILE`` or ``all`` (None).

    A file has one name per line, or is a table with the names in its first column; a header such as "gene" and lines
    that start with # are skipped. See :mod:`napari_srast.core.gene_list`.
    """
    if text.strip() == "all":
        return None
    if text.startswith("@"):
        return read_gene_names(Path(text[1:]))
    if text.casefold().endswith(_LIST_SUFFIXES) and os.path.isfile(text):
        raise SettingsError(f"'{text}' is a file, not a gene; write @{text} to read the genes from it.")
    return parse_gene_names(text)


def parse_region(text: str, coordinate_system: str) -> Region:
    """Return the region of a GeoJSON file or of a well-known text (WKT)."""
    from napari_srast.core.region import Region

    # os.path.exists, because Path.exists raises for text that is longer than a file's name may be.
    if ("(" in text or text.rstrip().upper().endswith("EMPTY")) and not os.path.exists(text):
        return Region.from_wkt(text, coordinate_system)
    path = Path(text)
    try:
        content = read_text(path)
    except (OSError, ValueError) as error:
        raise RegionError(
            f"The region '{path}' cannot be read ({reading_failure(error)}); give a GeoJSON file or text such as "
            "'POLYGON ((0 0, 10 0, 10 10, 0 0))'."
        ) from error
    return Region.from_geojson(content, coordinate_system)


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """Return the positive integers of a text such as ``500,1000``."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise SettingsError(f"{option} is '{text}', but must be whole numbers above 0, such as 500,1000.")
    return numbers
