"""Declare ``export`` and ``report``; importing this module registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_srast.cli.upsample_app import app

__all__ = ["app", "export", "report"]


@app.command(
    short_help="Write a result for other programs.",
    epilog="\b\nExample:\n  napari-srast export breast_4x.zarr breast_4x.ome.tif --genes ERBB2",
)
def export(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result, .zarr or .h5ad.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="Output: .ome.tif, .geojson (QuPath), .zarr, .h5ad, .csv or .csv.gz.")
    ],
    genes: Annotated[
        str | None, typer.Option(metavar="A,B|@FILE|all", help="Genes: names, a file, or all (default: at most 64).")
    ] = None,
    layer: Annotated[
        str,
        typer.Option(
            metavar="counts|expression|std|expression_std",
            help="Values to export; std and expression_std are standard deviations.",
        ),
    ] = "counts",
    objects: Annotated[
        str, typer.Option(metavar="pixels|region", help="For .geojson: one object per pixel, or one for the region.")
    ] = "pixels",
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Run, if the store holds several results.")] = None,
) -> None:
    """Write a result as OME-TIFF (a channel per gene), as GeoJSON objects for QuPath, or as a table."""
    from napari_srast.cli.commands.export import run as execute

    execute(result, output, run_name=run, genes=genes, layer=layer, objects=objects)


@app.command(
    short_help="Write a report of a result, with pictures.",
    epilog="\b\nExample:\n  napari-srast report breast_4x.zarr -o breast_4x.html --genes ERBB2,KRT19",
)
def report(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result, .zarr or .h5ad.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html", help="The report to write.")],
    genes: Annotated[
        str | None,
        typer.Option(metavar="A,B|@FILE|all", help="Genes with a picture (default: the six with the most counts)."),
    ] = None,
    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Heading (default: the file name of the slide).")
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Run, if the store holds several results.")] = None,
) -> None:
    """Write one HTML file: pictures, checks, the skill of each gene, domains in the store, notices and settings."""
    from napari_srast.cli.commands.report import run as execute

    execute(result, output, run_name=run, genes=genes, title=title)
