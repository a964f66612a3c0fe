"""Implement ``napari-srast export``: write a result in the format of another program."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer

from napari_srast.cli.output import note, progress_bar
from napari_srast.cli.parsing import check_exists, check_output, parse_genes
from napari_srast.core.result import Layer


def run(source: Path, output: Path, *, run_name: str | None, genes: str | None, layer: str, objects: str) -> None:
    """Export a result after the request was checked."""
    check_exists(source, "result")
    from napari_srast.io.export.exporter import EXPORT_SUFFIXES, export
    from napari_srast.io.export.qupath import Objects

    check_output(output, EXPORT_SUFFIXES, inputs=(source,))
    from napari_srast.io.result_reader import read_result

    result = read_result(source, run_name)
    names = parse_genes(genes) if genes is not None else None
    if genes is not None and names is None:
        names = [str(gene) for gene in result.genes]
    with progress_bar() as report:
        export(
            result,
            output,
            genes=names,
            layer=cast(Layer, layer),
            objects=cast(Objects, objects),
            progress=report,
        )
    if output.name.casefold().endswith((".ome.tif", ".ome.tiff")) and result.slide.unit != "um":
        note("Note: The slide is not in micrometers, so the image does not state the size of a pixel.")
    typer.echo(f"Wrote {output}")
