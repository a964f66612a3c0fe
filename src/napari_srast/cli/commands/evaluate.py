"""Implement ``napari-srast evaluate``: score every method on a coarsened high-resolution slide."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_srast.cli.output import note, print_json, progress_bar, wide_console
from napari_srast.cli.parsing import check_output
from napari_srast.errors import OutputError

if TYPE_CHECKING:
    from rich.table import Table

    from napari_srast.evaluation.fine_truth import FineEvaluation

_STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class FineOptions:
    """Options of an evaluation on the held-out half of thinned counts.

    Parameters
    ----------
    spot_diameter
        Diameter of the measured discs; None for spots that measure their whole cells.
    image
        Image file of an ``.h5ad`` file, or name of the image in a store; None for no image.
    thinnings
        Number of thinnings.
    genes
        Names of the genes of the slide, a number of the most abundant genes, or None for all.
    peers
        Peers to score, keys of :data:`napari_srast.evaluation.peers.registry.PEERS`.
    mode
        Mode of the runs: "mean" or "sample".
    library
        Section of a table of several sections; None if it has one.
    """

    spot_diameter: float | None = None
    image: str | None = None
    thinnings: int = 1
    genes: list[str] | int | None = None
    peers: tuple[str, ...] = ()
    mode: Literal["mean", "sample"] = "mean"
    library: str | None = None


def run(
    truth: Path,
    *,
    pitch: float,
    lattice: Literal["square", "hex"],
    factor: float,
    model: str,
    json_path: Path | None,
    plots: Path | None,
    fine: FineOptions | None = None,
) -> None:
    """Run the evaluation and write the requested outputs; print a table unless JSON goes to standard output."""
    if json_path is not None and json_path != _STANDARD_OUTPUT:
        check_output(json_path, (".json",))
    if plots is not None and plots.exists() and not plots.is_dir():
        raise OutputError(f"'{plots}' is a file; choose a folder for --plots.")
    if plots is not None and importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("plots need matplotlib", name="matplotlib")

    from napari_srast.evaluation import fine_report, protocol, report

    evaluation: protocol.Evaluation | FineEvaluation
    tables: list[Table]
    if fine is None:
        with progress_bar() as show:
            evaluation = protocol.evaluate(
                truth, pitch=pitch, lattice=lattice, factor=factor, model=model, progress=show
            )
        tables, draw = [report.evaluation_table(evaluation)], partial(report.write_plots, evaluation)
    else:
        evaluation = _evaluate_fine(truth, fine, pitch=pitch, lattice=lattice, factor=factor, model=model)
        tables, draw = fine_report.fine_tables(evaluation), partial(fine_report.write_fine_plots, evaluation)
    if json_path == _STANDARD_OUTPUT:
        print_json(evaluation.to_dict())
    else:
        for table in tables:
            wide_console().print(table)
        if json_path is not None:
            note(f"Wrote {report.write_json(evaluation, json_path)}.")
    if plots is not None:
        note(f"Wrote {', '.join(str(path) for path in draw(plots))}.")


def _evaluate_fine(
    truth: Path, options: FineOptions, *, pitch: float, lattice: Literal["square", "hex"], factor: float, model: str
) -> FineEvaluation:
    from napari_srast.core.settings import UpsampleSettings
    from napari_srast.evaluation.fine_slide import read_fine_slide
    from napari_srast.evaluation.fine_truth import evaluate_fine_truth
    from napari_srast.evaluation.peers.registry import require_peers
    from napari_srast.evaluation.simulated_array import SimulatedArray

    require_peers(options.peers, has_image=options.image is not None)
    array = SimulatedArray(pitch=pitch, lattice=lattice, spot_diameter=options.spot_diameter)
    settings = UpsampleSettings(factor=factor, model=model, mode=options.mode)
    slide = read_fine_slide(truth, image=options.image, genes=options.genes, library=options.library)
    with progress_bar() as show:
        return evaluate_fine_truth(
            slide, array, settings=settings, thinnings=options.thinnings, peers=options.peers, progress=show
        )
