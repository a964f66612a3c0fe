"""Implement ``napari-srast structure``: test which genes vary in space."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_srast.cli.output import note, print_table, progress_bar
from napari_srast.cli.parsing import check_exists, check_output, parse_genes

_SHOWN = 20


def run(source: Path, output: Path | None, *, genes: str | None, permutations: int, seed: int) -> None:
    """Test the genes, write the table, and print its first rows."""
    check_exists(source, "slide")
    if output is not None:
        check_output(output, (".csv", ".csv.gz"), inputs=(source,))
    names = None if genes is None else parse_genes(genes)
    from napari_srast.analysis.structure import spatially_variable
    from napari_srast.io.atomic import write_table
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.slide_source import open_slide_source

    slide = read_slide(open_slide_source(source), image=None)
    with progress_bar() as report:
        table = spatially_variable(slide, names, permutations=permutations, seed=seed, progress=report)
    if output is not None:
        write_table(table, output)
    print_table(list(table.columns), table.head(_SHOWN).to_numpy().tolist())
    note(f"Note: {(table['q'] <= 0.05).sum():,} of {len(table):,} genes have q at most 0.05. {table.attrs['note']}")
    if output is not None:
        typer.echo(f"Wrote {output}")
