"""Implement ``napari-srast colocalization``: describe which genes are high in the same spots."""

from __future__ import annotations

from pathlib import Path

from napari_srast.cli.output import progress_bar, save_and_show
from napari_srast.cli.parsing import check_exists, check_output, parse_genes
from napari_srast.errors import SettingsError


def run(source: Path, output: Path | None, *, genes: str, block: float, seed: int) -> None:
    """Compare all pairs of the genes, write the table, and print its first rows."""
    check_exists(source, "slide")
    if output is not None:
        check_output(output, (".csv", ".csv.gz"), inputs=(source,))
    names = parse_genes(genes)
    if names is None:
        raise SettingsError("All genes of a slide have too many pairs; name the genes to compare, such as A,B.")
    from napari_srast.analysis.structure import colocalization
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.slide_source import open_slide_source

    slide = read_slide(open_slide_source(source), image=None)
    with progress_bar() as report:
        table = colocalization(slide, names, block=block, seed=seed, progress=report)
    save_and_show(table, output, table.attrs["note"])
