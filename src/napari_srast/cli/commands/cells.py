"""Implement ``napari-srast cells``: share the counts of a result among segmented cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from napari_srast.cli.output import note, print_figures, progress_bar
from napari_srast.cli.parsing import RESULT_SUFFIXES, check_exists, check_output
from napari_srast.errors import InputError


@dataclass(frozen=True, kw_only=True)
class CellsRequest:
    """The options of the command.

    Parameters
    ----------
    cells, slide, coordinate_system, density_ratio, name, run
        As on the command line.
    """

    cells: str
    slide: Path | None
    coordinate_system: str | None
    density_ratio: float
    name: str
    run: str | None


def run(source: Path, output: Path | None, request: CellsRequest) -> None:
    """Share the counts, write them, and print a summary."""
    check_exists(source, "result")
    if request.slide is not None:
        check_exists(request.slide, "slide")
    if output is not None:
        check_output(output, RESULT_SUFFIXES, inputs=(source,))
    elif not source.is_dir():
        raise InputError(f"'{source}' cannot store cells; name an output with -o.")
    from napari_srast.analysis.cells import cells
    from napari_srast.io.cell_reader import read_cells
    from napari_srast.io.result_reader import read_result

    result = read_result(source, request.run)
    stores = (request.slide, result.slide.source.path, source)
    shapes = read_cells(request.cells, result.slide, *stores, coordinate_system=request.coordinate_system)
    with progress_bar() as report:
        found = cells(result, shapes, density_ratio=request.density_ratio, progress=report)
    written = found.write(source if output is None else output, request.name)
    obs = found.obs
    print_figures(
        {
            "cells": len(obs),
            "counts in cells": f"{1 - found.fraction_outside:.1%}",
            "pixels per cell (median)": float(obs["n_pixels"].median()),
            "spots per cell (median)": float(obs["n_spots"].median()),
            "other cells that share these spots (median)": float(obs["n_sharing"].median()),
        }
    )
    for sentence in found.notices:
        note(f"Note: {sentence}")
    typer.echo(f"Added '{request.name}' to {source}" if output is None else f"Wrote {written}")
