"""Gene sets from text and from files: GMT, CSV and TSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from napari_srast._utils.text import read_text, reading_failure
from napari_srast.core.gene_list import parse_gene_names
from napari_srast.errors import InputError, SettingsError

__all__ = ["GeneSets", "check_gene_sets", "parse_gene_sets", "read_gene_sets"]

GeneSets = Mapping[str, tuple[str, ...]]
"""Genes of each set by its name."""

_SUFFIXES = (".gmt", ".csv", ".tsv", ".txt")
_GENE_HEADERS = ("gene", "genes", "gene_name", "gene_symbol", "symbol", "feature")
_SET_HEADERS = ("set", "name", "signature", "gene_set", "geneset", "pathway", "term", "cell_type", "celltype")


def parse_gene_sets(text: str) -> dict[str, tuple[str, ...]]:
    """Parse gene sets from text: a name, a colon and genes, with semicolons or line breaks between sets.

    Raises
    ------
    SettingsError
        A set has no name or no gene, or two sets have the same name.

    Examples
    --------
    >>> parse_gene_sets("Podocyte: NPHS2, PODXL; Loop: UMOD")
    {'Podocyte': ('NPHS2', 'PODXL'), 'Loop': ('UMOD',)}
    """
    sets: list[tuple[str, list[str]]] = []
    for part in filter(str.strip, text.replace("\n", ";").split(";")):
        name, colon, genes = part.partition(":")
        if not (colon and name.strip() and genes.strip()):
            raise SettingsError(f"The gene set '{part.strip()}' has no name or no gene; write 'NAME: GENE, GENE'.")
        sets.append((name.strip(), parse_gene_names(genes)))
    if not sets:
        raise SettingsError("The text names no gene set; write 'NAME: GENE, GENE'.")
    return _collect(sets, "the text", SettingsError)


def read_gene_sets(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read gene sets from a file.

    Parameters
    ----------
    path
        ``.gmt``: per line a name, a description and genes, separated by tabs. ``.csv`` or ``.tsv``: a row per set and
        gene, with a column for each of them whose headers are such as "set" and "gene"; or a column per set, with its
        name as the header. ``.txt``: the text of :func:`parse_gene_sets`.

    Raises
    ------
    InputError
        The file cannot be read, has another ending, or a set lacks a name or genes.
    """
    path = Path(path)
    suffix = path.suffix.casefold()
    if suffix not in _SUFFIXES:
        raise InputError(f"The gene sets '{path}' have no known ending; use {', '.join(_SUFFIXES)}.")
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The gene sets '{path}' cannot be read ({reading_failure(error)}); check the path, and save them as text."
        ) from error
    if suffix == ".txt":
        try:
            return parse_gene_sets(text)
        except SettingsError as error:
            raise InputError(f"'{path}': {error}") from error
    sets = _parse_gmt(text, path) if suffix == ".gmt" else _parse_table(text, path)
    return _collect(sets, f"'{path}'", InputError)


def check_gene_sets(sets: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Return gene sets with names and distinct genes as text.

    Raises
    ------
    SettingsError
        There is no set, a set has no name or no gene, or its genes are a text instead of a list.
    """
    if not sets:
        raise SettingsError("No gene set was given; name at least one.")
    for name, genes in sets.items():
        if isinstance(genes, str):
            raise SettingsError(f"The genes of '{name}' are the text '{genes}', but must be a list of names.")
    return _collect([(str(name), [str(gene) for gene in genes]) for name, genes in sets.items()], "sets", SettingsError)


def _parse_gmt(text: str, path: Path) -> list[tuple[str, list[str]]]:
    sets = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) < 3:
            raise InputError(
                f"Line {number} of '{path}' has {len(cells)} fields separated by tabs, but a set of a GMT file has a "
                "name, a description and at least one gene; add what is missing."
            )
        sets.append((cells[0], cells[2:]))
    return sets


def _parse_table(text: str, path: Path) -> list[tuple[str, list[str]]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 2:
        raise InputError(f"'{path}' has no row below its header; write a column per set, or columns 'set' and 'gene'.")
    delimiter = max("\t;,", key=lines[0].count)
    try:  # line by line, so that a stray quote affects one line only
        rows = [[cell.strip() for row in csv.reader([line], delimiter=delimiter) for cell in row] for line in lines]
    except csv.Error as error:
        raise InputError(f"'{path}' cannot be read as a table ({error}); save it again.") from error
    header = [cell.casefold().replace(" ", "_") for cell in rows[0]]
    gene = next((i for i, name in enumerate(header) if name in _GENE_HEADERS), None)
    kind = next((i for i, name in enumerate(header) if name in _SET_HEADERS and i != gene), None)
    grouped: dict[str, list[str]] = {}
    if gene is not None and kind is not None:
        for row in rows[1:]:
            if len(row) <= max(gene, kind):
                raise InputError(f"'{path}' has the row '{delimiter.join(row)}' without a set or a gene; complete it.")
            grouped.setdefault(row[kind], []).append(row[gene])
        return list(grouped.items())
    if any(len(row) > len(header) for row in rows):
        raise InputError(f"'{path}' has rows with more fields than its header; name every column.")
    return [(name, [row[i] for row in rows[1:] if i < len(row) and row[i]]) for i, name in enumerate(rows[0])]


def _collect(
    sets: Iterable[tuple[str, list[str]]], source: str, error: type[InputError | SettingsError]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, genes in sets:
        distinct = tuple(dict.fromkeys(gene for gene in genes if gene))
        if not name:
            raise error(f"A gene set of {source} has no name; give it one.")
        if not distinct:
            raise error(f"The gene set '{name}' of {source} has no gene; add one or remove the set.")
        if name in found:
            raise error(f"Two gene sets of {source} have the name '{name}'; rename one.")
        found[name] = distinct
    if not found:
        raise error(f"There is no gene set in {source}; add one.")
    return found
