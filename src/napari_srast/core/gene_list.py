"""Lists of genes: parsing of text and of files as people write them.

A list has one name per line, or all names on one line, separated by commas, semicolons, tabs or, without any of these,
spaces. A table (CSV, TSV) has the names in one of its columns. Names may be in double quotes. Blank lines, and lines
that start with ``#``, are skipped.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from napari_srast._utils.text import read_text, reading_failure
from napari_srast.core.settings import EXPRESSION_CHOICES
from napari_srast.errors import InputError, SettingsError

__all__ = [
    "GeneIndex",
    "check_is_list",
    "match_gene_list",
    "parse_expression",
    "parse_gene_names",
    "read_gene_names",
    "without_version",
]

_ENSEMBL_ID = re.compile(r"(ENS[A-Z]{0,6}G\d{5,})(?:\.\d+)?", re.IGNORECASE)
_HEADERS = {"gene", "genes", "gene_name", "gene_names", "gene_symbol", "symbol", "feature"}

Rows = list[list[str]]
T = TypeVar("T")


def check_is_list(genes: Sequence[str] | None) -> None:
    """Refuse one text as gene names, because its letters would be taken for the names.

    Raises
    ------
    SettingsError
        ``genes`` is a text.
    """
    if isinstance(genes, str):
        raise SettingsError(f"Genes are given as a list of names, not as the text '{genes}'; write ['{genes}'].")


def without_version(name: str) -> str:
    """Return an Ensembl id of a gene without its version; any other name is returned as it is.

    Examples
    --------
    >>> without_version("ENSG00000141736.14"), without_version("HLA.DRA.1")
    ('ENSG00000141736', 'HLA.DRA.1')
    """
    match = _ENSEMBL_ID.fullmatch(name)
    return match[1] if match else name


class GeneIndex:
    """Find genes of a slide by their names, by their ids, and by Ensembl ids of another version.

    Parameters
    ----------
    names
        Names of the genes.
    ids
        Second name of each gene, in the same order; None if there are none. A name of one gene counts more than the
        same id of another one.
    """

    def __init__(self, names: Iterable[str], ids: Iterable[str] | None = None) -> None:
        second = {} if ids is None else {str(name): i for i, name in enumerate(ids)}
        self.known = second | {str(name): i for i, name in enumerate(names)}
        """Position of each gene by its name and by its id."""

    @cached_property
    def _by_id(self) -> dict[str, int | None]:
        """Position of each gene by its Ensembl id without version; None for an id of several genes."""
        found: dict[str, int | None] = {}
        for name, i in self.known.items():
            plain = without_version(name)
            found[plain] = i if found.get(plain, i) == i else None
        return found

    def find(self, name: str) -> int | None:
        """Return the position of a gene; None if no gene, or more than one, has this name or id."""
        found = self.known.get(name)
        if found is None and _ENSEMBL_ID.fullmatch(str(name)):
            return self._by_id.get(without_version(name))
        return found


def parse_gene_names(text: str) -> list[str]:
    """Parse gene names from text, such as ``A,B``.

    Raises
    ------
    SettingsError
        The text contains an empty name, or no name.

    Examples
    --------
    >>> parse_gene_names("ERBB2, KRT19")
    ['ERBB2', 'KRT19']
    """
    names = [name for row in _parse_rows(text) for name in row]
    if not names or not all(names):
        raise SettingsError(f"The gene list '{text}' has an empty name; write A,B or @FILE.")
    return names


def parse_expression(text: str) -> str | tuple[str, ...]:
    """Return the setting ``expression`` for the text "auto", "none", ``A,B`` or ``@FILE``.

    Raises
    ------
    SettingsError
        The text contains an empty name, or no name.
    InputError
        The file cannot be read as text, or contains no gene.
    """
    if text.strip() in EXPRESSION_CHOICES:
        return text.strip()
    return tuple(read_gene_names(Path(text[1:])) if text.startswith("@") else parse_gene_names(text))


def read_gene_names(path: Path) -> list[str]:
    """Read the names in a file: those under a header such as "gene", else those in its first column.

    Of a ``.gmt`` file, the genes of all its sets are read.

    Raises
    ------
    InputError
        The file cannot be read as text, or contains no gene.
    """
    rows = _read_rows(path)
    column = next((i for i, name in enumerate(rows[0]) if name.casefold() in _HEADERS), None) if rows else None
    if column is not None and (column == 0 or len(rows) > 1):
        rows = [row[column : column + 1] for row in rows[1:]]
    names = [row[0] for row in _one_name_per_row(rows) if row and row[0]]
    if not names:
        raise InputError(f"The gene list '{path}' names no gene; write one name per line.")
    return names


def match_gene_list(path: Path, panel: Iterable[str], ids: Iterable[str] | None = None) -> tuple[list[str], list[str]]:
    """Read a file and match its names to a panel; of a table the column with most matches is used.

    Names that differ from a gene of the panel in case only are matched, too, and Ensembl ids that differ in their
    version only.

    Parameters
    ----------
    path
        The file.
    panel
        Gene names of the slide.
    ids
        Second name of each gene, such as its Ensembl id, in the order of ``panel``; None if there are none.

    Returns
    -------
    matched, missing
        Distinct genes of the panel that the file names, and other names in the same column, except in its first row,
        which may be a header.

    Raises
    ------
    InputError
        The file cannot be read as text, or names no gene of the panel.
    """
    rows = _one_name_per_row(_read_rows(path))
    genes = [str(gene) for gene in panel]
    second = None if ids is None else [str(name) for name in ids]
    exact = GeneIndex(genes, second)
    folded = GeneIndex(map(str.casefold, genes), None if second is None else map(str.casefold, second))

    def match(cell: str) -> str | None:
        found = exact.find(cell)
        found = folded.find(cell.casefold()) if found is None else found
        return None if found is None else genes[found]

    matches = [[match(cell) for cell in row] for row in rows]
    width = max((len(row) for row in rows), default=0)
    n_matches = [sum(gene is not None for gene in _column(matches, column)) for column in range(width)]
    if not any(n_matches):
        raise InputError(f"'{path.name}' contains no gene of this slide; check that it has one gene name per line.")
    best = n_matches.index(max(n_matches))
    names, found = _column(rows, best), _column(matches, best)
    has_first_row = len(rows[0]) > best
    missing = [
        name
        for i, (name, gene) in enumerate(zip(names, found, strict=True))
        if gene is None and name and not (i == 0 and has_first_row)
    ]
    return list(dict.fromkeys(gene for gene in found if gene is not None)), list(dict.fromkeys(missing))


def _read_rows(path: Path) -> Rows:
    try:
        text = read_text(path)
        if path.suffix.casefold() == ".gmt":  # per line the name of a set, its description, and genes
            names = (name.strip() for line in text.splitlines() for name in line.split("\t")[2:])
            return [[name] for name in dict.fromkeys(names) if name]
        return _parse_rows(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The gene list '{path}' cannot be read ({reading_failure(error)}); save it as UTF-8 text with one gene "
            "per line."
        ) from error


def _parse_rows(text: str) -> Rows:
    """Split text into rows of cells.

    Raises
    ------
    ValueError
        A line is malformed; the message contains its number.
    """
    lines = [
        (number, line)
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    delimiter = _delimiter([line for _, line in lines])
    rows = []
    for number, line in lines:
        try:
            # Line by line, so that a stray quote affects one line only.
            (row,) = csv.reader([line.strip(" ")], delimiter=delimiter, skipinitialspace=True)
        except csv.Error as error:
            raise ValueError(f"line {number}: {error}") from error
        rows.append([cell.strip() for cell in row])
    return [[cell for cell in row if cell] for row in rows] if delimiter == " " else rows


def _delimiter(lines: Sequence[str]) -> str:
    """Choose the delimiter; names may contain semicolons, or spaces, in a list that is not delimited by these."""
    if any("\t" in line.strip() for line in lines):
        return "\t"
    if lines and all(";" in line for line in lines):
        return ";"
    is_spaced = len(lines) == 1 and " " in lines[0].strip() and "," not in lines[0]
    return " " if is_spaced else ","


def _one_name_per_row(rows: Rows) -> Rows:
    """Turn a single row, which is a list of names, into a column."""
    return [[cell] for cell in rows[0]] if len(rows) == 1 else rows


def _column(rows: Sequence[Sequence[T]], column: int) -> list[T]:
    return [row[column] for row in rows if column < len(row)]
