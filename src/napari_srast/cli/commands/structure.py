"""Implement ``napari-srast structure``: test which genes vary in space."""

from __future__ import annotations

from pathlib import Path

from napari_srast.cli.output import progress_bar, save_and_show
from napari_srast.cli.parsing import check_exists, check_output, parse_genes


def run(source: Path, output: Path | None, *, genes: str | None, permutations: int, seed: int) -> None:
    """Test the genes, write the table, and print its first rows."""
    check_exists(source, "slide")
    if output is not None:
        check_output(output, (".csv", ".csv.gz"), inputs=(source,))
    names = None if genes is None else parse_genes(genes)
    from napari_srast.analysis.structure import spatially_variable
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.slide_source import open_slide_source

    slide = read_slide(open_slide_source(source), image=None)
    with progress_bar() as report:
        table = spatially_variable(slide, names, permutations=permutations, seed=seed, progress=report)
    found = f"{(table['q'] <= 0.05).sum():,} of {len(table):,} genes have q at most 0.05."
    save_and_show(table, output, f"{found} {table.attrs['note']}")
