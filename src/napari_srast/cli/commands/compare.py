"""Implement ``napari-srast compare``: compare regions of a slide on its measured spots, or sum those of donors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from napari_srast.cli.commands.pseudobulk import run as sum_counts
from napari_srast.cli.output import progress_bar, save_and_show
from napari_srast.cli.parsing import check_exists, check_output, parse_genes, parse_region
from napari_srast.cli.sample_table import SAMPLE_TABLE_SUFFIXES
from napari_srast.errors import SettingsError
from napari_srast.io.file_kinds import has_suffix

_BLOCK = 6.0  # pitches


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """The options of the command.

    Parameters
    ----------
    regions, genes, block, coordinate_system, seed, plot
        As on the command line.
    """

    regions: tuple[str, ...]
    genes: str | None
    block: float | None
    coordinate_system: str | None
    seed: int
    plot: Path | None = None


def run(source: Path, output: Path | None, request: CompareRequest) -> None:
    """Compare the regions, write table and plot, and print the first rows; or sum the samples of a table."""
    if has_suffix(source, *SAMPLE_TABLE_SUFFIXES):
        if request.regions or any(option is not None for option in (request.genes, request.block, request.plot)):
            raise SettingsError(
                "A table of samples names the regions itself, and their counts are summed over all genes, without "
                "blocks; leave out regions, --genes, --block and --plot."
            )
        sum_counts(source, output, request.coordinate_system)
        return
    check_exists(source, "slide")
    if not request.regions:
        raise SettingsError("No region of the slide is named; write NAME=FILE.geojson, or give a table of samples.")
    if output is not None:
        check_output(output, (".csv", ".csv.gz"), inputs=(source,))
    if request.plot is not None:
        check_output(request.plot, (".png", ".pdf", ".svg"), inputs=(source,))
        from napari_srast.evaluation.plots import figure_class

        figure_class()  # refuses a missing matplotlib before the slide is read
    named = {}
    for text in request.regions:
        name, equals, region = text.partition("=")
        if not (equals and name.strip() and region.strip()) or name.strip() in named:
            raise SettingsError(f"'{text}' is not a region with a name of its own; write NAME=FILE.geojson.")
        named[name.strip()] = region.strip()
    genes = None if request.genes is None else parse_genes(request.genes)
    from napari_srast.analysis.comparison import compare_regions
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.slide_source import open_slide_source

    slide = read_slide(open_slide_source(source), image=None, coordinate_system=request.coordinate_system)
    regions = {name: parse_region(text, slide.coordinate_system) for name, text in named.items()}
    block = _BLOCK if request.block is None else request.block
    with progress_bar() as report:
        table = compare_regions(slide, regions, genes=genes, block=block, seed=request.seed, progress=report)
    sizes = (
        f"{name}: {n:,} spots in {table.attrs['blocks'][name]:,} blocks" for name, n in table.attrs["spots"].items()
    )
    save_and_show(table, output, f"{'; '.join(sizes)}. {table.attrs['note']}")
    if request.plot is not None:
        from napari_srast.analysis.volcano import plot_changes

        plot_changes(table, request.plot)
        typer.echo(f"Wrote {request.plot}")
