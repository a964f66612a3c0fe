"""Parse command-line values and refuse bad requests before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast.errors import InputError, OutputError, RegionError, SettingsError

if TYPE_CHECKING:
    from napari_srast.core.region import Region

__all__ = ["check_exists", "check_output", "parse_genes", "parse_numbers", "parse_region"]

RESULT_SUFFIXES = (".zarr", ".h5ad", ".csv", ".csv.gz")
_LONGEST_NAME = 200  # file systems allow 255 bytes, and the temporary name of an unfinished output is longer
_LONGEST_TEXT = 50_000_000  # bytes of a list of genes or of a region
_HEADINGS = {"gene", "genes", "gene_name", "gene_names", "gene_symbol", "symbol", "feature"}


def check_exists(path: Path, what: str) -> None:
    """Refuse an input path that does not exist, before slow imports."""
    if not os.path.exists(path):  # Path.exists raises if the name is longer than the system allows
        raise InputError(f"There is no {what} at '{path}'; check the path.")


def check_output(path: Path, suffixes: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> None:
    """Refuse an output that cannot be written.

    Raises
    ------
    OutputError
        The suffix is unknown, the output exists, its folder is missing or read-only, or the output is inside an
        input.
    """
    if not path.name.endswith(suffixes):
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

    A file holds one name a line, or a table with the names in its first column; a heading such as "gene" and lines
    that start with # are left out.
    """
    if text.strip() == "all":
        return None
    if not text.startswith("@"):
        names = [name.strip() for name in text.split(",")]
        if not all(names):
            raise SettingsError(f"The gene list '{text}' has an empty name; write --genes A,B or --genes @FILE.")
        return names
    path = Path(text[1:])
    try:
        lines = _read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"The gene list '{path}' cannot be read ({_reason(error)}); give a text file with one gene a line."
        ) from error
    names = [line.replace("\t", ",").split(",")[0].strip().strip('"') for line in lines if not line.startswith("#")]
    if names and names[0].casefold() in _HEADINGS:
        names = names[1:]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"The gene list '{path}' names no gene; write one a line.")
    return names


def parse_region(text: str, coordinate_system: str) -> Region:
    """Return the region of a GeoJSON file or of a well-known text (WKT)."""
    from napari_srast.core.region import Region

    # os.path.exists, because Path.exists raises for text that is longer than a file's name may be.
    if ("(" in text or text.rstrip().upper().endswith("EMPTY")) and not os.path.exists(text):
        return Region.from_wkt(text, coordinate_system)
    path = Path(text)
    try:
        content = _read_text(path)
    except (OSError, ValueError) as error:
        raise RegionError(
            f"The region '{path}' cannot be read ({_reason(error)}); give a GeoJSON file or text such as "
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


def _read_text(path: Path) -> str:
    """Read a text file of limited size."""
    with path.open("rb") as file:
        content = file.read(_LONGEST_TEXT + 1)
    if len(content) > _LONGEST_TEXT:
        raise ValueError(f"too long, above {_LONGEST_TEXT // 10**6} MB")
    return content.decode("utf-8-sig")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "no reason given"
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
