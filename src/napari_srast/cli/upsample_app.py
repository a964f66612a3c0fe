"""Declare ``upsample``; importing this module registers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_srast.cli.app import (
    Counts,
    Device,
    Image,
    Json,
    Library,
    Model,
    Seed,
    Spots,
    SpotShape,
    Table,
    app,
    example,
)

__all__ = ["app", "upsample"]


@app.command(
    short_help="Split the counts of every spot over finer pixels.",
    epilog=example("napari-srast upsample breast.zarr -o breast_4x.zarr --factor 4 --genes ERBB2,KRT19"),
)
def upsample(
    slides: Annotated[list[Path], typer.Argument(metavar="SLIDE.zarr...", help="One or more SpatialData stores.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.zarr",
            help="Output: .zarr, .h5ad, .csv or .csv.gz; a folder for several slides.",
        ),
    ],
    spots: Spots = None,
    table: Table = None,
    image: Image = "auto",
    coordinate_system: Annotated[
        str | None, typer.Option(metavar="CS", help="Coordinate system of --region and --pixel-size.")
    ] = None,
    library: Library = None,
    spot_shape: SpotShape = None,
    counts: Counts = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="FILE.geojson|WKT", help="Upsample only spots whose centers are inside this region."),
    ] = None,
    genes: Annotated[
        str, typer.Option(metavar="A,B|@FILE|all", help="Genes to upsample: names, a file, or all.")
    ] = "all",
    factor: Annotated[
        float | None,
        typer.Option(metavar="N", help="Pixels per spot pitch (default 4); 2 on square bins gives 2 x 2 pixels."),
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Side of a pixel, in units of the coordinate system; instead of --factor."),
    ] = None,
    footprint: Annotated[
        str, typer.Option(metavar="cell|spot", help="Fill the whole cell of each spot, or only its measured area.")
    ] = "cell",
    method: Annotated[
        str,
        typer.Option(metavar="srast|uniform|bilinear|pycnophylactic|gp", help="The SRast model, or an interpolation."),
    ] = "srast",
    mode: Annotated[
        str,
        typer.Option(
            metavar="mean|sample|integer",
            help="Expected counts, expected counts with standard deviation, or integer counts.",
        ),
    ] = "mean",
    expression: Annotated[
        str,
        typer.Option(
            metavar="A,B|@FILE|auto|none", help="Genes whose expression is estimated besides the conserved counts."
        ),
    ] = "auto",
    draws: Annotated[int | None, typer.Option(metavar="S", help="Number of flow samples.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="T", help="Number of flow steps.")] = None,
    model: Model = "default",
    device: Device = "auto",
    seed: Seed = 0,
    name: Annotated[
        str | None, typer.Option(metavar="RUN", help="Name of the run; date and time if it is not given.")
    ] = None,
    keep_obs: Annotated[
        str | None, typer.Option(metavar="A,B|all", help="Columns of the spots that the pixels keep.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a report of the result, with pictures.")
    ] = None,
    no_histology: Annotated[
        bool, typer.Option("--no-histology", help="Do not copy the histology image into a .zarr output.")
    ] = False,
    dask: Annotated[
        str | None, typer.Option(metavar="SCHEDULER", help="Address of a Dask scheduler, such as tcp://10.0.0.1:8786.")
    ] = None,
    json: Json = False,
) -> None:
    """Split the counts of every spot over finer pixels; the pixels of a spot sum to its counts."""
    from napari_srast.core.gene_list import parse_expression
    from napari_srast.errors import SettingsError

    if factor is not None and pixel_size is not None:
        raise SettingsError("--factor and --pixel-size both set the pixel size; give only one of them.")
    settings: dict[str, Any] = {
        "pixel_size": pixel_size,
        "footprint": footprint,
        "method": method,
        "mode": mode,
        "draws": draws,
        "steps": steps,
        "model": model,
        "device": device,
        "seed": seed,
        "expression": parse_expression(expression),
    }
    if factor is not None:
        settings["factor"] = factor
    from napari_srast.cli.commands.upsample import Saving, UpsampleOptions, run

    elements = {
        "spots": spots,
        "table": table,
        "image": image,
        "coordinate_system": coordinate_system,
        "library": library,
        "spot_shape": spot_shape,
        "counts": counts,
    }
    saving = Saving(name=name, keep_obs=keep_obs, include_histology=not no_histology, report=report)
    options = UpsampleOptions(settings=settings, elements=elements, region=region, genes=genes, saving=saving)
    run(slides, output, options, dask=dask, as_json=json)
