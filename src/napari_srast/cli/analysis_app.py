"""Declare the commands of the analysis; importing this module registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_srast.cli.app import Seed, example
from napari_srast.cli.export_app import app

__all__ = ["app", "cells", "colocalization", "compare", "domains", "signatures", "structure"]

_StoredResult = Annotated[Path, typer.Argument(metavar="RESULT", help="A result, .zarr.")]
_Result = Annotated[Path, typer.Argument(metavar="RESULT", help="A result, .zarr or .h5ad.")]
_Slide = Annotated[Path, typer.Argument(metavar="SLIDE", help="A slide, .zarr or .h5ad, or a Space Ranger folder.")]
_GeneTable = Annotated[Path | None, typer.Option("--output", "-o", metavar="CSV", help="Table with a row per gene.")]
_Run = Annotated[str | None, typer.Option(metavar="NAME", help="Run, if the store holds several results.")]


@app.command(
    short_help="Find domains of similar pixels in a result.",
    epilog=example("napari-srast domains breast_4x.zarr --n-domains 7 -o markers.csv"),
)
def domains(
    result: _StoredResult,
    n_domains: Annotated[
        int | None, typer.Option("--n-domains", metavar="N", help="Number of domains; the resolution is searched.")
    ] = None,
    resolution: Annotated[
        float | None,
        typer.Option(metavar="R", help="Resolution of the Leiden algorithm (default: decided by clusters of spots)."),
    ] = None,
    genes: Annotated[
        str | None,
        typer.Option(metavar="A,B|@FILE|all", help="Genes to cluster by (default: all with expression)."),
    ] = None,
    seed: Seed = 0,
    source: Annotated[
        str | None, typer.Option("--from", metavar="NAME", help="Saved domains to change, instead of finding some.")
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Domains to merge; the first one gives its name (repeatable)."),
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="New name of a domain, after merging (repeatable).")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the domains in the result.")] = "domains",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="CSV", help="Table of the markers of each domain.")
    ] = None,
    run: _Run = None,
) -> None:
    """Cluster the pixels of a result by expression, and add the domains to it: a column and labels.

    Needs the extra napari-srast[analysis].
    """
    from napari_srast.cli.commands.domains import DomainsRequest
    from napari_srast.cli.commands.domains import run as execute

    execute(
        result,
        output,
        DomainsRequest(
            n_domains=n_domains,
            resolution=resolution,
            genes=genes,
            seed=seed,
            source=source,
            merge=tuple(merge or ()),
            rename=tuple(rename or ()),
            name=name,
            run=run,
        ),
    )


@app.command(
    short_help="Score gene sets in the pixels of a result.",
    epilog=example("napari-srast signatures breast_4x.zarr sets.gmt -o scores.csv"),
)
def signatures(
    result: _Result,
    sets: Annotated[
        str, typer.Argument(metavar="FILE|SETS", help="Gene sets: .gmt, .csv, .tsv, or text such as 'NAME: A, B'.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="CSV", help="Table of the scores of each pixel.")
    ] = None,
    seed: Seed = 0,
    run: _Run = None,
) -> None:
    """Score gene sets in every pixel by scanpy's score_genes on log-normalized expression.

    Needs the extra napari-srast[analysis].
    """
    from napari_srast.cli.commands.signatures import run as execute

    execute(result, sets, output, seed=seed, run_name=run)


@app.command(
    short_help="Share the counts of a result among segmented cells.",
    epilog=example("napari-srast cells breast_4x.zarr --cells nuclei --slide breast.zarr -o cells.h5ad"),
)
def cells(
    result: _Result,
    shapes: Annotated[
        str,
        typer.Option(
            "--cells", metavar="NAME|FILE", help="Labels or shapes of the slide, a GeoJSON file, or a label image .tif."
        ),
    ],
    slide: Annotated[
        Path | None, typer.Option(metavar="SLIDE", help="Store with the cells (default: that of the result's slide).")
    ] = None,
    coordinate_system: Annotated[
        str | None,
        typer.Option("--coordinate-system", metavar="CS", help="Coordinate system of a GeoJSON file that names none."),
    ] = None,
    density_ratio: Annotated[
        float, typer.Option("--density-ratio", metavar="R", help="Density of counts inside cells over that outside.")
    ] = 1.0,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the elements in a store.")] = "cells",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="New .zarr, .h5ad or .csv (default: into RESULT)."),
    ] = None,
    run: _Run = None,
) -> None:
    """Share the counts of each pixel among the cells that cover it, by area; what is outside cells is kept by spot."""
    from napari_srast.cli.commands.cells import CellsRequest
    from napari_srast.cli.commands.cells import run as execute

    request = CellsRequest(
        cells=shapes,
        slide=slide,
        coordinate_system=coordinate_system,
        density_ratio=density_ratio,
        name=name,
        run=run,
    )
    execute(result, output, request)


@app.command(
    short_help="Compare regions of a slide, or sum those of donors.",
    epilog=example("napari-srast compare breast.zarr tumor=tumor.geojson stroma=stroma.geojson -o changes.csv")
    + "\n  napari-srast compare samples.csv -o counts.csv",
)
def compare(
    slide: Annotated[
        Path,
        typer.Argument(
            metavar="SLIDE|SAMPLES.csv",
            help="A slide, .zarr or .h5ad, or a Space Ranger folder; or a table of samples, .csv or .tsv.",
        ),
    ],
    regions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=REGION",
            help="One or two regions of the slide: GeoJSON files or WKT.",
            show_default=False,
        ),
    ] = None,
    genes: Annotated[str | None, typer.Option(metavar="A,B|@FILE|all", help="Genes to compare (default: all).")] = None,
    block: Annotated[
        float | None, typer.Option(metavar="B", help="Side of the resampled blocks, in pitches (default: 6).")
    ] = None,
    coordinate_system: Annotated[
        str | None, typer.Option("--coordinate-system", metavar="CS", help="Coordinate system of the regions.")
    ] = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Table with a row per gene, .csv; of samples also .h5ad."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Volcano plot of the genes: .png, .pdf or .svg.")
    ] = None,
) -> None:
    """Compare the measured counts of two regions, or of one and all other spots: effect sizes with intervals.

    A table of samples has the columns slide, donor and group and, for parts of slides, region (GeoJSON file or WKT) and
    class (of annotations in the file). Their counts are summed by donor and group, for a test by PyDESeq2 or edgeR.
    """
    from napari_srast.cli.commands.compare import CompareRequest
    from napari_srast.cli.commands.compare import run as execute

    request = CompareRequest(
        regions=tuple(regions or ()),
        genes=genes,
        block=block,
        coordinate_system=coordinate_system,
        seed=seed,
        plot=plot,
    )
    execute(slide, output, request)


@app.command(
    short_help="Test which genes vary in space on a slide.",
    epilog=example("napari-srast structure breast.zarr -o structure.csv"),
)
def structure(
    slide: _Slide,
    genes: Annotated[str | None, typer.Option(metavar="A,B|@FILE|all", help="Genes to test (default: all).")] = None,
    permutations: Annotated[int, typer.Option(metavar="N", help="Permutations of the spots.")] = 199,
    seed: Seed = 0,
    output: _GeneTable = None,
) -> None:
    """Test each gene for spatial structure on the measured spots, by Moran's I and permutations."""
    from napari_srast.cli.commands.structure import run as execute

    execute(slide, output, genes=genes, permutations=permutations, seed=seed)


@app.command(
    short_help="Describe which genes are high in the same spots.",
    epilog=example("napari-srast colocalization breast.zarr ERBB2,KRT19,COL1A1 -o pairs.csv"),
)
def colocalization(
    slide: _Slide,
    genes: Annotated[str, typer.Argument(metavar="A,B|@FILE", help="At least two genes; all pairs are compared.")],
    block: Annotated[float, typer.Option(metavar="B", help="Side of the resampled blocks, in pitches.")] = 6.0,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="CSV", help="Table with a row per pair of genes.")
    ] = None,
) -> None:
    """Correlate the measured counts of genes over the spots, with intervals from blocks of spots."""
    from napari_srast.cli.commands.colocalization import run as execute

    execute(slide, output, genes=genes, block=block, seed=seed)
